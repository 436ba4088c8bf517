"""Pictures through a network, several at once where its device has the memory for it."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from vipa.clips.clip import Clip

Item = TypeVar("Item")
Result = TypeVar("Result")
Pictures = UInt8[np.ndarray, "n height width 3"]

AT_ONCE = 8
"""On a GPU; on a CPU more than one at a time gains nothing."""


def batch_size(device: str) -> int:
    return AT_ONCE if device.startswith("cuda") else 1


def of_frames(
    look: Callable[[Pictures], Sequence[Result]], clip: Clip, frames: Sequence[int], device: str
) -> Iterator[Result]:
    """What a network on this device, which knows no order of pictures, says of each frame of a clip (`in_batches`)."""
    return in_batches(lambda part: look(clip.frames.read(part)), list(frames), batch_size(device))


def in_batches(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], size: int
) -> Iterator[Result]:
    """The results of all items in order, of `size` at once, and of half as many from each time on that the device's
    memory does not hold them. torch.OutOfMemoryError where it does not hold one."""
    start = 0
    while start < len(items):
        part = items[start : start + size]
        try:
            done = run(part)
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
            done, size = None, len(part) // 2
        if done is None:  # outside of `except`, which keeps what the failed run had allocated
            torch.cuda.empty_cache()
            continue
        yield from done
        start += len(part)

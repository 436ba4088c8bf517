"""Pairs of question and answer on disk, in the order of their images: what a training reads of a table.

    folder/
      turns.arrow     prompt, answer, category; those about the same images lie together
      images.arrow    the images of each conversation
      starts.npy      its first row in turns.arrow

A training maps these files, so its memory does not grow with the data.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import numpy as np
import pyarrow as pa

CACHED = "turns_2"
"""The cache's folder of indices in the form below."""


class Pair(NamedTuple):
    """A question and its answer about images. category: by which questions may be balanced."""

    images: tuple[str, ...]
    prompt: str
    answer: str
    category: str = ""


TURNS = pa.schema([("prompt", pa.string()), ("answer", pa.string()), ("category", pa.string())])
IMAGES = pa.schema([("images", pa.list_(pa.string()))])
ROWS = 4096
"""Of a block that is written at once."""


class TurnIndex:
    """The files below a folder, opened where they are used (a copy in another process opens them again)."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def made(cls, folder: Path, pairs: Callable[[], Iterable[Iterable[Pair]]]) -> "TurnIndex":
        """The index in `folder`, written from `pairs` where it is not there. pairs: parts of a data set, each with
        all pairs about its images. Whole or absent; of several processes that write it one wins."""
        if not (folder / "starts.npy").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                _write(temporary, pairs())
                temporary.rename(folder)
            except OSError:
                if not (folder / "starts.npy").exists():
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return cls(folder)

    @cached_property
    def starts(self) -> np.ndarray:
        """Of the conversations, and the number of rows at the end."""
        return np.load(self.folder / "starts.npy", mmap_mode="r")

    @cached_property
    def _turns(self) -> pa.Table:
        return _mapped(self.folder / "turns.arrow")

    @cached_property
    def _images(self) -> pa.Table:
        return _mapped(self.folder / "images.arrow")

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    @property
    def conversations(self) -> int:
        return len(self.starts) - 1

    def __len__(self) -> int:
        return int(self.starts[-1])

    def of(self, row: int) -> int:
        """The conversation that a row is in."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def images(self, conversation: int) -> tuple[str, ...]:
        return tuple(self._images["images"][conversation].as_py())

    def turn(self, row: int) -> tuple[str, str]:
        """Prompt and answer."""
        return self._turns["prompt"][row].as_py(), self._turns["answer"][row].as_py()

    def categories(self) -> np.ndarray:
        """Of each row its category, as a number."""
        return self._turns["category"].combine_chunks().dictionary_encode().indices.to_numpy()


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _write(folder: Path, parts: Iterable[Iterable[Pair]]) -> None:
    starts = [np.zeros(1, np.int64)]
    with (
        pa.OSFile(str(folder / "turns.arrow"), "wb") as turn_file,
        pa.ipc.new_file(turn_file, TURNS) as turns,
        pa.OSFile(str(folder / "images.arrow"), "wb") as image_file,
        pa.ipc.new_file(image_file, IMAGES) as images,
    ):
        for block in _blocks(parts):
            keys = list(block)
            rows = [pair for key in keys for pair in block[key]]
            turns.write(pa.record_batch([pa.array(column) for column in zip(*rows)], schema=TURNS))
            images.write(pa.record_batch([pa.array([list(key) for key in keys])], schema=IMAGES))
            starts.append(starts[-1][-1] + np.cumsum([len(block[key]) for key in keys]))
    np.save(folder / "starts.npy", np.concatenate(starts))


def _blocks(parts: Iterable[Iterable[Pair]]) -> Iterator[dict[tuple[str, ...], list[tuple[str, str, str]]]]:
    """Conversations by their images, some whole parts at a time."""
    block: dict[tuple[str, ...], list[tuple[str, str, str]]] = {}
    size = 0
    for part in parts:
        for images, *turn in (Pair(*pair) for pair in part):
            block.setdefault(images, []).append((turn[0], turn[1], turn[2]))
            size += 1
        if size >= ROWS:
            yield block
            block, size = {}, 0
    if block:
        yield block

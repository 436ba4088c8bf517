"""The encoded images of a clip: in its work folder until a table has them, then in the table alone.

The stage file `frames` holds a row for each image; its array `images` has the bytes of those that no table holds, one
after another, and `sizes` how many of each: 0 where the image lies in the table `frames`.
"""

from collections.abc import Set
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from vipa.hand3d.dataset.reader import Hand3D
from vipa.io.store import StageOutput


def pack_images(rows: list[dict[str, Any]], images: list[bytes]) -> StageOutput:
    """The output of the stage `frames`. images: one a row, b"" for those that a table holds."""
    sizes = np.array([len(image) for image in images], dtype=np.int64)
    return StageOutput(rows, {"images": np.frombuffer(b"".join(images), np.uint8), "sizes": sizes})


def unpack_images(output: StageOutput) -> list[bytes]:
    """One a row of it, b"" for those that a table holds."""
    images, ends = output.arrays["images"].tobytes(), np.cumsum(output.arrays["sizes"])
    return [images[end - size : end] for size, end in zip(output.arrays["sizes"], ends)]


def all_images(output: StageOutput, tables: Hand3D | None) -> list[bytes]:
    """One a row, from the tables where these hold it. KeyError where neither does."""
    images = unpack_images(output)
    for i, row in enumerate(output.values):
        if not images[i]:
            if tables is None:
                raise KeyError(row["id"])
            images[i] = tables.encoded_image(row["id"])
    return images


def without(output: StageOutput, held: Set[str]) -> StageOutput:
    """The output without the images whose ids are held elsewhere."""
    images = unpack_images(output)
    kept = [b"" if row["id"] in held else image for row, image in zip(output.values, images)]
    return pack_images(output.values, kept)


def holds_all(file: Path) -> bool:
    """Whether a stage file `frames` needs no table for its images; a broken one does not count at all."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return bool((arrays["sizes"] > 0).all())
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return False

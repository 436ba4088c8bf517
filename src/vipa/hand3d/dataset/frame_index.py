"""Where the image of a frame is, without holding the ids of all frames in memory.

folder/
  keys.npy     64-bit hashes of frame ids, sorted
  places.npy   file, row group, row; in the same order
"""

import hashlib
import shutil
from array import array
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

Place = tuple[int, int, int]
"""File (in the order of the manifest), row group, row."""


class FrameIndex:
    """The files of a folder, mapped into memory."""

    def __init__(self, folder: Path):
        self.keys = np.load(folder / "keys.npy", mmap_mode="r")
        self.places = np.load(folder / "places.npy", mmap_mode="r")

    @classmethod
    def made(cls, folder: Path, frames: Iterable[tuple[str, Place]]) -> "FrameIndex":
        """The index in `folder`, written from `frames` where it is not there, whole or not at all. ValueError where two
        frames have one id."""
        if not (folder / "keys.npy").exists():
            hashes, found = array("Q"), array("i")  # numbers, not objects: there may be millions
            for frame, place in frames:
                hashes.append(int(_key(frame)))
                found.extend(place)
            keys, places = np.array(hashes, np.uint64), np.array(found, np.int32).reshape(-1, 3)
            order = np.argsort(keys, kind="stable")
            sorted_keys = keys[order]
            if (sorted_keys[1:] == sorted_keys[:-1]).any():
                raise ValueError(f"{folder.name}: two frames have one id; annotate again")
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                np.save(temporary / "keys.npy", sorted_keys)
                np.save(temporary / "places.npy", places[order])
                temporary.rename(folder)
            except OSError:
                if not (folder / "keys.npy").exists():
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return cls(folder)

    def __getitem__(self, frame: str) -> Place:
        """KeyError for an id that is not in the data set."""
        key = _key(frame)
        row = int(np.searchsorted(self.keys, key))
        if row == len(self.keys) or self.keys[row] != key:
            raise KeyError(frame)
        file, group, place = (int(number) for number in self.places[row])
        return file, group, place


def _key(frame: str) -> np.uint64:
    return np.frombuffer(hashlib.blake2b(frame.encode(), digest_size=8).digest(), np.uint64)[0]

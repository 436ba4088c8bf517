"""Frames of a video file or of a list of image files, decoded lazily (PyAV, PIL)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ArrayFrames:
    """Frames that are in memory already. images: (frames, height, width, 3) uint8."""

    images: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return self.images[list(indices)]

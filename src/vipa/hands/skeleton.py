"""The 21-joint hand skeleton that every part of the project uses."""

from typing import Literal

import numpy as np

FINGERS = ("thumb", "index", "middle", "ring", "little")

JOINT_NAMES: tuple[str, ...] = (
    "wrist",
    *(f"{finger}_{i}" for finger in FINGERS for i in range(4)),
)
"""Wrist, then thumb, index, middle, ring, little, each from palm (0) to tip (3)."""

WRIST = 0
TIPS = (4, 8, 12, 16, 20)
PARENTS: tuple[int, ...] = (-1, *(0 if i % 4 == 1 else i - 1 for i in range(1, 21)))
BONES: tuple[tuple[int, int], ...] = tuple((PARENTS[i], i) for i in range(1, 21))

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")

MIRROR_X = np.diag([-1.0, 1.0, 1.0])
"""Reflection of the camera frame's x axis, under which a left hand becomes a right hand."""


def mirror_joints(joints: np.ndarray) -> np.ndarray:
    """Joints (..., 3) in metres of the other side's hand, seen in the mirror x -> -x; its own inverse."""
    return np.asarray(joints) @ MIRROR_X.astype(np.asarray(joints).dtype)


def mirror_rotation(matrix: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) under the same mirror: M R M; axis-angle (a, b, c) becomes (a, -b, -c)."""
    return MIRROR_X @ np.asarray(matrix) @ MIRROR_X

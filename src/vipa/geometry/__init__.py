"""Cameras, rigid transforms, rotations and directions: pure functions; the conventions live here.

Metres, seconds, radians. Camera frame OpenCV: x right, y down, z forward. `T_a_b` maps coordinates in b to
coordinates in a. Rotations are matrices inside; quaternions are wxyz and named so where they enter or leave.
Pixels: (u, v), the origin at the centre of the top-left pixel.
"""

from vipa.geometry.cameras import Intrinsics, project, unproject, unproject_depth
from vipa.geometry.directions import DIRECTION_WORDS, direction_words, words_to_signs
from vipa.geometry.rigid import invert, rigid, transform
from vipa.geometry.rotations import (
    axis_angle_from_matrix,
    matrix_from_axis_angle,
    matrix_from_quaternion_wxyz,
    quaternion_wxyz_from_matrix,
)

__all__ = [
    "DIRECTION_WORDS",
    "Intrinsics",
    "axis_angle_from_matrix",
    "direction_words",
    "invert",
    "matrix_from_axis_angle",
    "matrix_from_quaternion_wxyz",
    "project",
    "quaternion_wxyz_from_matrix",
    "rigid",
    "transform",
    "unproject",
    "unproject_depth",
    "words_to_signs",
]

"""Rotation conversions (numpy), on scipy's implementation; any leading batch shape."""

import numpy as np
from scipy.spatial.transform import Rotation


def matrix_from_axis_angle(axis_angle: np.ndarray) -> np.ndarray:
    """(..., 3) radians times unit axis -> (..., 3, 3)."""
    axis_angle = np.asarray(axis_angle, dtype=np.float64)
    flat = Rotation.from_rotvec(axis_angle.reshape(-1, 3)).as_matrix()
    return flat.reshape(*axis_angle.shape[:-1], 3, 3)


def axis_angle_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 3), angle in [0, pi]."""
    matrix = np.asarray(matrix, dtype=np.float64)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec()
    return flat.reshape(*matrix.shape[:-2], 3)


def matrix_from_quaternion_wxyz(wxyz: np.ndarray) -> np.ndarray:
    """(..., 4) quaternions, scalar first, any norm but zero -> (..., 3, 3)."""
    wxyz = np.asarray(wxyz, dtype=np.float64)
    flat = Rotation.from_quat(wxyz.reshape(-1, 4), scalar_first=True).as_matrix()
    return flat.reshape(*wxyz.shape[:-1], 3, 3)


def quaternion_wxyz_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 4) unit quaternions, scalar first and not negative."""
    matrix = np.asarray(matrix, dtype=np.float64)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_quat(canonical=True, scalar_first=True)
    return flat.reshape(*matrix.shape[:-2], 4)

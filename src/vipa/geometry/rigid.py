"""Rigid transforms as 4x4 matrices, numpy or torch, any leading batch shape."""

from typing import Any

import numpy as np

Array = Any  # numpy array or torch tensor: these functions use only what both share


def rigid(rotation: Array, translation: Array) -> np.ndarray:
    """The 4x4 transform x -> rotation @ x + translation. rotation (..., 3, 3); translation (..., 3), metres."""
    rotation, translation = np.asarray(rotation), np.asarray(translation)
    shape = np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    T = np.zeros((*shape, 4, 4), dtype=np.result_type(rotation, translation, np.float32))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = rotation, translation, 1.0
    return T


def invert(T_a_b: Array) -> Array:
    """T_b_a of a rigid T_a_b, shape (..., 4, 4); exact (transpose), no matrix inversion."""
    out = T_a_b.clone() if hasattr(T_a_b, "clone") else np.array(T_a_b)
    R = T_a_b[..., :3, :3].mT
    out[..., :3, :3] = R
    out[..., :3, 3] = -(R @ T_a_b[..., :3, 3, None])[..., 0]
    return out


def transform(T_a_b: Array, points_b: Array) -> Array:
    """Points (..., n, 3) in frame b, expressed in frame a by T_a_b (..., 4, 4)."""
    return points_b @ T_a_b[..., :3, :3].mT + T_a_b[..., None, :3, 3]

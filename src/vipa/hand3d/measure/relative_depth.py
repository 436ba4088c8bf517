"""Depth from a network that only ranks distances: its inverse depth has an unknown factor and an unknown shift.

inverse depth in 1 / metres = factor * what the network says + shift, both of each picture's own. One factor (scale)
cannot undo a shift: hands give both where they are seen at two distances at least, and then only near these.
"""

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Clip, ClipError
from vipa.hand3d.measure.calibration import THICKNESS, sample_depth, self_visible

JOINTS = 8
"""Fewest visible joints of a picture that give its factor and shift."""

APART = 0.25
"""Least difference of the joints' inverse depths, over their middle: 0.40 m and 0.51 m. Below it, what joints err by
(1 cm) turns into the shift."""

BEYOND = 0.5
"""How far outside of the joints' range of inverse depths a depth is still told, over that range's width."""


def depth_by_hands(
    clip: Clip, frames: list[int], inverse: Float[np.ndarray, "n height width"]
) -> Float[np.ndarray, "n height width"]:
    """Metres, NaN where the hands tell nothing. inverse: larger is nearer, in the picture's own units. ClipError where
    no picture shows hands at two distances."""
    camera = clip.intrinsics.resized(inverse.shape[2], inverse.shape[1])
    out = np.full(inverse.shape, np.nan, np.float32)
    for k, frame in enumerate(frames):
        said, true = [], []
        for hand in clip.hands:
            joints = hand.joints_camera[frame]
            value = sample_depth(inverse[k], joints, camera)
            good = np.isfinite(value) & (hand.confidence[frame] > 0) & self_visible(joints, camera.matrix)
            said.append(value[good])
            true.append(1 / (joints[good, 2] - THICKNESS[good]))
        line = _line(np.concatenate(said), np.concatenate(true)) if said else None
        if line is not None:
            factor, shift, low, high = line
            z = factor * inverse[k] + shift
            out[k] = np.where((z > low) & (z < high), 1 / np.maximum(z, 1e-6), np.nan)
    if not np.isfinite(out).any():
        raise ClipError(
            clip.id,
            "depth: this network's depth is relative, with an unknown shift, and no picture shows the hands at two "
            "distances that would tell it: take a metric network (DepthPro, ZoeDepth, Depth Anything V2 metric)",
        )
    return out


def _line(said: Float[np.ndarray, "n"], true: Float[np.ndarray, "n"]) -> tuple[float, float, float, float] | None:
    """(factor, shift, lowest and highest inverse depth that they are good for) by robust least squares; None where
    joints are too few, too alike in distance, or do not agree that more is nearer."""
    if len(said) < JOINTS:
        return None
    low, high = np.quantile(true, [0.05, 0.95])
    if high - low < APART * np.median(true):
        return None
    weights = np.ones_like(true)
    a = np.stack([said, np.ones_like(said)], 1)
    factor = shift = 0.0
    for _ in range(10):
        factor, shift = np.linalg.lstsq(a * weights[:, None] ** 0.5, true * weights**0.5, rcond=None)[0]
        off = np.abs(true - a @ [factor, shift])
        weights = 1 / np.maximum(1.0, off / (1.5 * max(1.4826 * float(np.median(off)), 1e-4)))
    explained = 1 - np.average((true - a @ [factor, shift]) ** 2, weights=weights) / np.var(true)
    if factor <= 0 or explained < 0.5:
        return None
    wider = BEYOND * (high - low)
    return float(factor), float(shift), max(float(low - wider), 1e-3), float(high + wider)

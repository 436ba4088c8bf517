"""Which pixels of a depth image show a hand: bones and forearms are rows of balls of flesh."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vipa.clips.clip import Clip
from vipa.geometry import Intrinsics
from vipa.hand3d.estimators.pointmaps import AnyMaps
from vipa.hand3d.measure.calibration import THICKNESS, sample_depth
from vipa.hands.skeleton import BONES

ARM_LENGTH, ARM_RADIUS = 0.45, 0.035  # metres, with a sleeve
BONE_BALLS, ARM_BALLS = 4, 10
_PARENTS, _CHILDREN = (np.array(column) for column in zip(*BONES))
_BONE_RADII = np.repeat(1.3 * np.maximum(THICKNESS[_PARENTS], THICKNESS[_CHILDREN]), BONE_BALLS)
_BEND, _TURN = (g.ravel() for g in np.meshgrid(np.radians([15, 30, 45, 60]), np.radians(np.arange(0, 360, 30))))
_BENDS = np.array([0.0, *_BEND])
_WAYS = np.stack([np.cos(_BENDS), [0, *np.sin(_BEND) * np.cos(_TURN)], [0, *np.sin(_BEND) * np.sin(_TURN)]], -1)
_STEPS = np.linspace(0.06, 0.30, 7)[:, None]


@dataclass(frozen=True)
class Flesh:
    """Balls along the bones of the hands and along the forearms, at some frames, metres.

    centres: each frame's camera, NaN where a joint is unknown. reach: how far from a ball's centre in depth a surface
    still belongs to it.
    """

    centres: Float[np.ndarray, "frames n 3"]
    radii: Float[np.ndarray, "n"]
    reach: Float[np.ndarray, "n"]


def find_flesh(clip: Clip, maps: AnyMaps, scale: float, camera: Intrinsics) -> Flesh:
    """Of the hands of a clip at the frames of `maps`. camera: of the maps' pixels; scale: metres per unit."""
    bones, arm = np.linspace(0.0, 1.0, BONE_BALLS)[:, None], np.linspace(0.0, 1.0, ARM_BALLS)[:, None]
    centres = [np.zeros((len(maps.frames), 0, 3))]
    for hand in clip.hands:
        joints = hand.joints_camera[maps.frames]
        start, end = joints[:, _PARENTS, None], joints[:, _CHILDREN, None]
        centres.append((start * (1 - bones) + end * bones).reshape(len(joints), -1, 3))
        centres.append(joints[:, :1] + ARM_LENGTH * arm * find_arm(joints, maps.depth, scale, camera)[:, None])
    arm_radii = np.full(ARM_BALLS, 1.2 * ARM_RADIUS)
    radii = np.tile([*_BONE_RADII, *arm_radii], len(clip.hands))
    reach = np.tile([*2.5 * _BONE_RADII, *1.5 * arm_radii], len(clip.hands))
    return Flesh(np.concatenate(centres, 1), radii, reach)


def find_arm(
    joints: Float[np.ndarray, "frames 21 3"],
    depth: Float[np.ndarray, "frames height width"],
    scale: float,
    camera: Intrinsics,
) -> Float[np.ndarray, "frames 3"]:
    """Unit vectors from the wrist to the elbow: straight on from the palm, or bent at the wrist by up to 60 degrees
    to where the depth images show an arm's skin rather than what lies behind it."""
    palm = joints[:, [5, 9, 13, 17]].mean(1) - joints[:, 0]
    straight = -palm / np.maximum(np.linalg.norm(palm, axis=-1, keepdims=True), 1e-9)
    across = np.cross(straight, [0.0, 0.0, 1.0])
    across /= np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9)
    frame = np.stack([straight, across, np.cross(straight, across)], 1)
    ways = _WAYS @ frame  # (frames, ways, 3)
    along = joints[:, None, None, 0] + ways[:, :, None] * _STEPS  # (frames, ways, steps, 3)
    surface = sample_depth(depth, along.reshape(len(joints), -1, 3), camera).reshape(along.shape[:3]) * scale
    gap = along[..., 2] - ARM_RADIUS - surface
    known = surface > 0
    skin, past = (known & (np.abs(gap) < 0.03)).sum(-1), (known & (gap <= -0.03)).sum(-1)
    best = np.where(skin >= 2, skin - past - _BENDS, np.where(_BENDS == 0, -1e3, -1e9)).argmax(-1)
    return ways[np.arange(len(joints)), best]


def hand_mask(
    depth: Float[np.ndarray, "height width"],
    camera: Intrinsics,
    flesh: Flesh,
    i: int,
) -> Bool[np.ndarray, "height width"]:
    """Pixels of frame i (depth in metres) whose surface lies on flesh: near a ball's centre in the image and in
    depth."""
    height, width = depth.shape
    mask = np.zeros(depth.shape, bool)
    ahead = flesh.centres[i, :, 2] > 0.05
    (x, y, z), radii, reach = flesh.centres[i, ahead].T, flesh.radii[ahead], flesh.reach[ahead]
    u, v = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
    r = camera.fx * radii / z + 1.0
    on = (v + r > -1) & (v - r < height) & (u + r > -1) & (u - r < width)
    if not on.any():
        return mask
    u, v, z, r, reach = u[on], v[on], z[on], r[on], reach[on]
    top, left = (np.maximum(np.floor(a - r).astype(int), 0) for a in (v, u))
    bottom = np.minimum(np.ceil(v + r).astype(int), height - 1)
    right = np.minimum(np.ceil(u + r).astype(int), width - 1)
    # all pixels of all balls' squares, one after another
    wide, count = right - left + 1, (right - left + 1) * (bottom - top + 1)
    ball = np.repeat(np.arange(len(u)), count)
    number = np.arange(len(ball)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(number, wide[ball])
    row += top[ball]
    column += left[ball]
    near = (column - u[ball]) ** 2 + (row - v[ball]) ** 2 <= (r * r)[ball]
    row, column, ball = row[near], column[near], ball[near]
    fits = np.abs(depth[row, column] - z[ball]) < reach[ball]
    mask[row[fits], column[fits]] = True
    return mask

"""Scenes of the instrument, and what a regressor sees of each object in them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from vipa.geometry import Intrinsics, invert, project, transform
from vipa.models.cut3r import Cut3rModel, Cut3rOutput
from vipa.models.pixels import spatial_pixels
from vipa.worlds.chunks import render_chunks
from vipa.worlds.objects import KINDS, surface_points
from vipa.worlds.scene import scene_name
from vipa.worlds.sequences import DEPTH_UNIT
from vipa.worlds.stills import stills

MOST = 8
"""Objects in a scene."""
SEEN = 0.0016
"""Share of the picture that an object must show to be asked about."""


@dataclass(frozen=True)
class Scenes:
    """Pictures of scenes and what is true of the last frame of each; padded to MOST objects, kind -1."""

    rgb: np.ndarray  # (n, frames, H, W, 3) uint8
    depth: np.ndarray  # (n, H, W) uint16, in DEPTH_UNIT
    K: np.ndarray  # (n, 3, 3) pixels
    kind: np.ndarray  # (n, MOST) int64, index into KINDS
    box: np.ndarray  # (n, MOST, 4) pixels: left, top, right, bottom of the whole outline, cut at the border
    centre: np.ndarray  # (n, MOST, 3) metres, camera
    asked: np.ndarray  # (n, MOST) bool: enough of it is seen
    hands: np.ndarray  # (n, 2, 4) boxes of the joints of left and right hand; NaN where there is none


def read_scenes(folder: Path, seeds: range, frames: int, size: int, ambiguity: float, workers: int) -> Scenes:
    """The scenes of these seeds, rendered where `folder` lacks them."""
    render = partial(_render, frames=frames, size=size, ambiguity=ambiguity)
    name = f"{scene_name('scenes', ambiguity)}-{frames}-{size}"
    paths = render_chunks(folder, name, seeds, render, workers)
    parts = [np.load(path) for path in paths]
    return Scenes(**{field: np.concatenate([p[field] for p in parts]) for field in Scenes.__annotations__})


def _render(seeds: range, frames: int, size: int, ambiguity: float) -> dict[str, np.ndarray]:
    rows: dict[str, list[np.ndarray]] = {name: [] for name in Scenes.__annotations__}
    for seed in seeds:
        shots = stills(seed, frames, size, ambiguity)
        last = shots[-1]
        kind, box = np.full(MOST, -1), np.zeros((MOST, 4))
        centre, asked = np.zeros((MOST, 3)), np.zeros(MOST, bool)
        for i, thing in enumerate(last.objects):
            T = invert(last.T_world_camera) @ thing.T_world_object
            kind[i], centre[i] = KINDS.index(thing.kind), last.centres_camera[i]
            box[i] = _box(transform(T, surface_points(thing)), last.intrinsics)
            asked[i] = last.visible[i] >= SEEN and bool(last.intrinsics.contains(last.centres[i]))
        hands = np.full((2, 4), np.nan)
        for i, side in enumerate(("left", "right")):
            if side in last.joints_camera:
                hands[i] = _box(last.joints_camera[side], last.intrinsics)
        depth = np.round(last.depth / DEPTH_UNIT)
        values = (
            np.stack([shot.rgb for shot in shots]),
            np.where(depth < 2**16, depth, 0).astype(np.uint16),
            last.intrinsics.matrix, kind, box, centre, asked, hands,
        )  # fmt: skip
        for name, value in zip(rows, values):
            rows[name].append(value)
    return {name: np.stack(values) for name, values in rows.items()}


def _box(points_camera: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """(4,) left, top, right, bottom of points (n, 3), pixels, cut at the picture's border."""
    pixels = project(np.where(points_camera[:, 2:] > 0.05, points_camera, np.nan), intrinsics.matrix)
    if np.isnan(pixels).all():
        return np.full(4, np.nan)
    border = np.array([intrinsics.width, intrinsics.height] * 2) - 0.5
    return np.clip(np.concatenate([np.nanmin(pixels, 0), np.nanmax(pixels, 0)]), -0.5, border)


# What a regressor sees of each object


def box_features(scenes: Scenes) -> Float[np.ndarray, "n most f"]:
    """Box on the ray plane (centre, log size) and in the picture, kind, field of view: what 2D knows of an object."""
    focal, principal = scenes.K[:, :1, 0, None], scenes.K[:, None, :2, 2]
    low, high = scenes.box[..., :2], np.maximum(scenes.box[..., 2:], scenes.box[..., :2] + 0.5)
    rays = ((low + high) / 2 - principal) / focal
    extent = np.log((high - low) / focal)
    kinds = np.eye(len(KINDS) + 1)[scenes.kind]
    width = scenes.rgb.shape[3]
    lens = np.broadcast_to(np.log(focal / width), (*scenes.kind.shape, 1))
    picture = np.concatenate([low, high], -1) / width - 0.5
    return np.concatenate([rays, extent, lens, picture, kinds], -1)


def around_features(scenes: Scenes) -> Float[np.ndarray, "n 2+most f"]:
    """Of every object and hand in the picture: its box, its kind and whether it is there (the last one)."""
    boxes = np.concatenate([scenes.hands, object_boxes(scenes)], 1)
    kinds = np.concatenate([np.tile([0, 1], (len(boxes), 1)), 2 + scenes.kind], 1)
    there = np.asarray(np.isfinite(boxes).all(-1))
    focal, principal = scenes.K[:, :1, 0, None], scenes.K[:, None, :2, 2]
    low, high = boxes[..., :2], np.maximum(boxes[..., 2:], boxes[..., :2] + 0.5)
    seen = np.concatenate([((low + high) / 2 - principal) / focal, np.log((high - low) / focal)], -1)
    one_hot = np.eye(2 + len(KINDS))[np.maximum(kinds, 0)]
    return np.concatenate([np.nan_to_num(seen), one_hot, there[..., None]], -1) * there[..., None]


def object_boxes(scenes: Scenes) -> Float[np.ndarray, "n most 4"]:
    """NaN where there is no object."""
    return np.where(scenes.kind[..., None] < 0, np.nan, scenes.box)


def point_features(
    boxes: Float[np.ndarray, "n k 4"], points: Float[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n k g"]:
    """Of the points in each box: their median, quantiles of their depth in the box and in its middle, and what is
    there; zeros where a box is NaN."""
    n, height, width = points.shape[:3]
    found = np.zeros((*boxes.shape[:2], 3 + 5 + 3))
    for i in range(n):
        for k in np.flatnonzero(np.isfinite(boxes[i]).all(-1)):
            left, top, right, bottom = boxes[i, k]
            u0, v0 = max(0, int(np.floor(left + 0.5))), max(0, int(np.floor(top + 0.5)))
            u1, v1 = min(width, int(np.ceil(right + 0.5))), min(height, int(np.ceil(bottom + 0.5)))
            inside = points[i, v0 : max(v1, v0 + 1), u0 : max(u1, u0 + 1)]
            if inside.size == 0:
                continue
            h, w = inside.shape[:2]
            middle = inside[h // 4 : h - h // 4, w // 4 : w - w // 4].reshape(-1, 3)
            depths = np.log(np.maximum(inside[..., 2], 0.05))
            core = np.log(np.maximum(middle[:, 2], 0.05))
            found[i, k] = [
                *np.median(inside.reshape(-1, 3), 0),
                *np.quantile(core, [0.1, 0.5, 0.9]),
                *np.quantile(depths, [0.1, 0.9]),
                *middle[len(middle) // 2],
            ]
    return found


@torch.inference_mode()
def encoder_points(
    model: Cut3rModel, scenes: Scenes, progress: Callable[[int, int], None], batch: int = 32
) -> Float[np.ndarray, "n h w 3"]:
    """The last frame's points in its own camera, metres, after the model saw the frames before."""
    seen = []
    for start in range(0, len(scenes.rgb), batch):
        images = spatial_pixels(torch.from_numpy(scenes.rgb[start : start + batch]))
        output: Cut3rOutput = model(images, heads=("self",))
        assert output.points_self is not None
        seen.append(output.points_self[:, -1].numpy())
        progress(min(start + batch, len(scenes.rgb)), len(scenes.rgb))
    return np.concatenate(seen)


def shape_points(scenes: Scenes) -> Float[np.ndarray, "n h w 3"]:
    """The true ones but for one factor a picture, by which its median depth is 1."""
    points = depth_points(scenes)
    depth = np.where(scenes.depth > 0, points[..., 2], np.nan).reshape(len(points), -1)
    return points / np.nanmedian(depth, 1)[:, None, None, None]


def depth_points(scenes: Scenes) -> Float[np.ndarray, "n h w 3"]:
    """The true ones."""
    depth = scenes.depth.astype(np.float64) * DEPTH_UNIT
    v, u = np.mgrid[: depth.shape[1], : depth.shape[2]]
    x = (u - scenes.K[:, 0, 2, None, None]) / scenes.K[:, 0, 0, None, None]
    y = (v - scenes.K[:, 1, 2, None, None]) / scenes.K[:, 1, 1, None, None]
    return np.stack([x * depth, y * depth, depth], -1)

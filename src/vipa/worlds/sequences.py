"""Short foundation sequences with depth and camera poses, rendered once to a folder."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vipa.geometry import invert
from vipa.models.pixels import spatial_pixels
from vipa.worlds.chunks import render_chunks
from vipa.worlds.scene import scene_name
from vipa.worlds.seeds import FOUNDATION
from vipa.worlds.stills import sequence

DEPTH_UNIT = 1e-4
"""Metres of one step of the stored uint16 depth; 0 is unknown (farther than 6.5 m)."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of a few frames of one scene from a moving camera."""

    rgb: np.ndarray  # (n, frames, H, W, 3) uint8
    depth: np.ndarray  # (n, frames, H, W) uint16, in DEPTH_UNIT
    T_world_camera: np.ndarray  # (n, frames, 4, 4) float64
    K: np.ndarray  # (n, 3, 3) float64, pixels
    seeds: np.ndarray  # (n,)

    def __len__(self) -> int:
        return len(self.rgb)

    def first(self, n: int) -> "Sequences":
        return Sequences(*(array[:n] for array in (self.rgb, self.depth, self.T_world_camera, self.K, self.seeds)))


@dataclass(frozen=True)
class SequenceBatch:
    """What CUT3R is trained on and measured against; metres, the world is the first frame's camera."""

    images: Float[Tensor, "b frames 3 h w"]  # in [-1, 1]
    points_self: Float[Tensor, "b frames h w 3"]
    points_world: Float[Tensor, "b frames h w 3"]
    T_world_camera: Float[Tensor, "b frames 4 4"]
    valid: Tensor  # (b, frames, h, w) bool
    K: Float[Tensor, "b 3 3"]  # pixels


def render_sequences(
    folder: Path, seeds: range, frames: int = 4, size: int = 112, workers: int = 2, ambiguity: float = 0.0
) -> Sequences:
    """The sequences of these seeds, rendered where the folder lacks them (`render_chunks`). ambiguity: of the scenes.

    ValueError where the folder holds sequences of another size or length.
    """
    render = partial(_render, frames=frames, size=size, ambiguity=ambiguity)
    name = scene_name("sequences", ambiguity)
    parts = [np.load(path) for path in render_chunks(folder, name, seeds, render, workers)]
    names = ("depth", "T_world_camera", "K", "seeds")
    rgb = [part["rgb"] for part in parts]
    for shape in {pictures.shape[1:4] for pictures in rgb} - {(frames, size, size)}:
        raise ValueError(f"{folder} holds sequences of {shape}, not {(frames, size, size)}: choose another folder")
    rest = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return Sequences(np.concatenate(rgb), **rest)


def _render(seeds: range, frames: int, size: int, ambiguity: float) -> dict[str, np.ndarray]:
    shots = [sequence(seed, frames, size, ambiguity) for seed in seeds]
    depth = np.round(np.stack([shot.depth for shot in shots]) / DEPTH_UNIT)
    return {
        "rgb": np.stack([shot.rgb for shot in shots]),
        "depth": np.where(depth < 2**16, depth, 0).astype(np.uint16),
        "T_world_camera": np.stack([shot.T_world_camera for shot in shots]),
        "K": np.stack([shot.intrinsics.matrix for shot in shots]),
        "seeds": np.array(seeds),
    }


def batch_of(
    data: Sequences, rows: np.ndarray, order: np.ndarray | None = None, device: torch.device | str = "cpu"
) -> SequenceBatch:
    """The batch of these rows; order: frame indices in the order to show them (the first is the world)."""
    order = np.arange(data.rgb.shape[1]) if order is None else order
    images = spatial_pixels(torch.from_numpy(data.rgb[rows[:, None], order]).to(device))
    depth = torch.from_numpy(data.depth[rows[:, None], order].astype(np.int32)).to(device) * DEPTH_UNIT
    poses = data.T_world_camera[rows][:, order]
    T = torch.from_numpy((invert(poses[:, :1]) @ poses).astype(np.float32)).to(device)
    K = torch.from_numpy(data.K[rows].astype(np.float32)).to(device)
    points = _unproject(depth, K)
    world = torch.einsum("bfij,bfhwj->bfhwi", T[..., :3, :3], points) + T[..., None, None, :3, 3]
    return SequenceBatch(images, points, world, T, depth > 0, K)


def _unproject(depth: Float[Tensor, "b f h w"], K: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b f h w 3"]:
    height, width = depth.shape[-2:]
    v, u = torch.meshgrid(
        torch.arange(height, device=depth.device), torch.arange(width, device=depth.device), indexing="ij"
    )
    x = (u - K[:, 0, 2, None, None]) / K[:, 0, 0, None, None]
    y = (v - K[:, 1, 2, None, None]) / K[:, 1, 1, None, None]
    return torch.stack([x, y, torch.ones_like(x)], -1)[:, None] * depth[..., None]


FIRST_SEED = FOUNDATION.start + 1_000_000
"""Foundation sequences of the 3D encoder; lower seeds are the 2D model's pictures."""

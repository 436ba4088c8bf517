"""Errors of a CUT3R on sequences of the tabletop world, clip by clip, and of two baselines (`cut3r_benchmark`)."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vipa.benchmarks.cut3r_benchmark import MEASURES, Cut3rErrors, Cut3rReport
from vipa.models.cut3r import Cut3rModel, Cut3rOutput, camera_trajectory
from vipa.worlds.sequences import SequenceBatch, Sequences, batch_of

MOVING = (0.05, np.deg2rad(5.0))
"""A clip's camera moves when it ends this far (metres) or this turned (radians) from where it began."""


@torch.inference_mode()
def evaluate_cut3r(
    model: Cut3rModel,
    data: Sequences,
    constant_depth: float,
    batch: int = 20,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Cut3rReport:
    """The report on `data`; constant_depth in metres.

    The constant's points lie on the true rays. Without a state the world is each frame's own camera.
    """
    found: dict[str, list[dict[str, Tensor]]] = {"model": [], "reset": [], "constant": []}
    moving: list[Tensor] = []
    for start in range(0, len(data), batch):
        truth = batch_of(data, np.arange(start, min(start + batch, len(data))))
        shape = truth.images.shape[:2]
        T = truth.T_world_camera[:, -1]
        moving.append((T[:, :3, 3].norm(dim=-1) > MOVING[0]) | (rotation_angle(T[:, :3, :3]) > MOVING[1]))
        flat = truth.points_self / truth.points_self[..., 2:].clamp_min(1e-6) * constant_depth
        still = torch.eye(4).expand(*shape, 4, 4)
        for name, (self_view, world, poses) in {
            "model": _seen(model, truth.images),
            "reset": [x.reshape(*shape, *x.shape[2:]) for x in _seen(model, truth.images.flatten(0, 1)[:, None])],
            "constant": (flat, flat, still),
        }.items():
            found[name].append(errors(self_view, world, poses, truth))
        progress(start + len(truth.images), len(data))
    predictors = {
        name: Cut3rErrors(**{m: torch.cat([part[m] for part in parts]).numpy() for m in MEASURES})
        for name, parts in found.items()
    }
    return Cut3rReport(predictors, torch.cat(moving).numpy())


def errors(
    self_view: Float[Tensor, "b frames h w 3"],
    world: Float[Tensor, "b frames h w 3"],
    poses: Float[Tensor, "b frames 4 4"],
    truth: SequenceBatch,
) -> dict[str, Float[Tensor, "b"]]:
    """Per clip, by the names of `Cut3rErrors`; poses: camera -> first frame's camera."""
    valid, depth = truth.valid, truth.points_self[..., 2].clamp_min(1e-6)
    predicted = self_view[..., 2].clamp_min(1e-6)
    ratio = torch.maximum(predicted / depth, depth / predicted)
    off = (world - truth.points_world).norm(dim=-1)[:, 1:]
    T = truth.T_world_camera[:, 1:]
    turned = rotation_angle(T[..., :3, :3].mT @ poses[:, 1:, :3, :3])

    def over(values: Tensor, mask: Tensor) -> Tensor:
        return (values * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)

    return {
        "depth_abs_rel": over((predicted - depth).abs() / depth, valid),
        "depth_within_125": over((ratio < 1.25).float(), valid),
        "world_mm": 1000 * over(off, valid[:, 1:]),
        "rotation_deg": torch.rad2deg(turned).mean(1),
        "translation_mm": 1000 * (poses[:, 1:, :3, 3] - T[..., :3, 3]).norm(dim=-1).mean(1),
    }


def rotation_angle(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Radians; accurate near zero too."""
    chord = (R - torch.eye(3, dtype=R.dtype)).flatten(-2).norm(dim=-1)
    return 2 * torch.asin((chord / 8**0.5).clamp(0, 1))


def _seen(model: Cut3rModel, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Self-view points, world points, and poses relative to the first frame."""
    output: Cut3rOutput = model(images, heads=("self", "world", "pose"))
    assert output.points_self is not None and output.points_world is not None and output.camera_pose is not None
    T = torch.from_numpy(camera_trajectory(output.camera_pose)).float()
    return output.points_self, output.points_world, torch.linalg.inv(T[:, :1]) @ T

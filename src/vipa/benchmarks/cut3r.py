"""How well a CUT3R sees the tabletop world: depth and camera motion on held-out sequences, against two baselines.

python -m vipa.benchmarks.cut3r --weights runs/cut3r/final --data runs/cut3r/data
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vipa.models.cut3r import Cut3rModel, camera_trajectory
from vipa.models.cut3r.modelling import Cut3rOutput

MOVING = (0.05, np.deg2rad(5.0))
"""A clip's camera moves when it ends this far (metres) or this turned (radians) from where it began."""


@dataclass(frozen=True)
class Cut3rScores:
    """Means over clips; metric, nothing is aligned to the truth.

    world: points in the first frame's camera, frames after the first. rotation in degrees, translation in
    millimetres, of frames after the first relative to the first frame.
    """

    clips: int
    depth_abs_rel: float
    depth_delta_125: float  # fraction of pixels with max(d / d*, d* / d) < 1.25
    world_error_mm: float
    rotation_error: float
    translation_error_mm: float


@dataclass(frozen=True)
class Cut3rReport:
    """The network, the same network with its state reset at every frame, and constants; all clips and moving ones."""

    model: Cut3rScores
    model_reset: Cut3rScores
    constant: Cut3rScores  # the data's median depth, everywhere; a camera that does not move
    model_moving: Cut3rScores
    model_reset_moving: Cut3rScores
    constant_moving: Cut3rScores

    def table(self) -> str:
        """Markdown."""
        head = "| predictor | clips | depth abs-rel | delta < 1.25 | world, mm | rotation, deg | translation, mm |"
        rows = [head, "|---" * 7 + "|"]
        for name, s in ((name, getattr(self, name)) for name in self.__dataclass_fields__):
            rows.append(
                f"| {name.replace('_', ' ')} | {s.clips} | {s.depth_abs_rel:.4f} | {s.depth_delta_125:.3f} | "
                f"{s.world_error_mm:.1f} | {s.rotation_error:.2f} | {s.translation_error_mm:.1f} |"
            )
        return "\n".join(rows)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.inference_mode()
def evaluate_cut3r(model: Cut3rModel, data: Any, constant_depth: float, batch: int = 20) -> Cut3rReport:
    """The report on `data` (vipa.training.foundation.sequences.Sequences), truth from the renderer.

    constant_depth: metres, the median of training depths: what the first baseline answers at every pixel. Its world
    points are that depth's points through the true intrinsics; its camera stands still. The second baseline sees one
    frame at a time as a clip of its own: no state helps it, so its world is each frame's own camera.
    """
    per_clip: dict[str, list[dict[str, Tensor]]] = {"model": [], "model_reset": [], "constant": []}
    moving: list[Tensor] = []
    for truth in _batches(data, batch):
        clips, frames = truth.images.shape[:2]
        T = truth.T_world_camera
        turned, moved = rotation_angle(T[:, -1, :3, :3]), T[:, -1, :3, 3].norm(dim=-1)
        moving.append((moved > MOVING[0]) | (turned > MOVING[1]))
        wanted = ("self", "world", "pose")
        whole = model(truth.images, heads=wanted)
        alone = model(truth.images.flatten(0, 1)[:, None], heads=wanted)
        alone = _regrouped(alone, clips, frames)
        still = torch.eye(4).expand(clips, frames, 4, 4)
        flat = truth.points_self / truth.points_self[..., 2:].clamp_min(1e-6) * constant_depth
        for name, self_view, world, poses in (
            ("model", whole.points_self, whole.points_world, _poses(whole)),
            ("model_reset", alone.points_self, alone.points_world, _poses(alone)),
            ("constant", flat, flat, still),
        ):
            assert self_view is not None and world is not None
            per_clip[name].append(_errors(self_view, world, poses, truth))
    is_moving = torch.cat(moving)
    scores = {}
    for name, parts in per_clip.items():
        merged = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        scores[name] = _mean(merged, torch.ones_like(is_moving))
        scores[f"{name}_moving"] = _mean(merged, is_moving)
    return Cut3rReport(**scores)


def rotation_angle(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Radians; accurate near zero too."""
    chord = (R - torch.eye(3, dtype=R.dtype)).flatten(-2).norm(dim=-1)
    return 2 * torch.asin((chord / 8**0.5).clamp(0, 1))


def _batches(data: Any, batch: int) -> Iterator[Any]:
    from vipa.training.foundation.sequences import batch_of

    for start in range(0, len(data), batch):
        yield batch_of(data, np.arange(start, min(start + batch, len(data))))


def _regrouped(output: Cut3rOutput, clips: int, frames: int) -> Cut3rOutput:
    """Outputs of clips of one frame as outputs of clips of several."""
    maps = {k: v.reshape(clips, frames, *v.shape[2:]) for k, v in output.items() if isinstance(v, Tensor)}
    return Cut3rOutput(**maps)  # type: ignore[arg-type]


def _poses(output: Cut3rOutput) -> Float[Tensor, "b frames 4 4"]:
    assert output.camera_pose is not None
    T = torch.from_numpy(camera_trajectory(output.camera_pose)).float()
    return torch.linalg.inv(T[:, :1]) @ T


def _errors(self_view: Tensor, world: Tensor, poses: Tensor, truth: Any) -> dict[str, Tensor]:
    """Per clip."""
    valid, depth = truth.valid, truth.points_self[..., 2]
    predicted = self_view[..., 2].clamp_min(1e-6)
    relative = (predicted - depth).abs() / depth.clamp_min(1e-6)
    ratio = torch.maximum(predicted / depth.clamp_min(1e-6), depth / predicted)
    off = (world - truth.points_world).norm(dim=-1)[:, 1:]
    T = truth.T_world_camera[:, 1:]
    turned = rotation_angle(T[..., :3, :3].mT @ poses[:, 1:, :3, :3])

    def over(values: Tensor, mask: Tensor) -> Tensor:
        return (values * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)

    return {
        "depth_abs_rel": over(relative, valid),
        "depth_delta_125": over((ratio < 1.25).float(), valid),
        "world_error_mm": 1000 * over(off, valid[:, 1:]),
        "rotation_error": torch.rad2deg(turned).mean(1),
        "translation_error_mm": 1000 * (poses[:, 1:, :3, 3] - T[..., :3, 3]).norm(dim=-1).mean(1),
    }


def _mean(values: dict[str, Tensor], keep: Tensor) -> Cut3rScores:
    return Cut3rScores(int(keep.sum()), **{name: float(v[keep].mean()) for name, v in values.items()})


def report(weights: Path, data: Path, clips: int = 300, out: Path | None = None) -> Cut3rReport:
    """The report of the weights in a folder on the first `clips` test sequences, rendered to `data` where it lacks
    them; printed, and written to `out` as JSON."""
    from vipa.training.foundation.chunks import CHUNK
    from vipa.training.foundation.cut3r import FIRST_SEED
    from vipa.training.foundation.sequences import DEPTH_UNIT, render_sequences
    from vipa.worlds.seeds import TEST

    chunks = -(-clips // CHUNK) * CHUNK
    held = render_sequences(data, TEST[:chunks]).first(clips)
    train = render_sequences(data, range(FIRST_SEED, FIRST_SEED + CHUNK))
    constant = float(np.median(train.depth)) * DEPTH_UNIT
    result = evaluate_cut3r(Cut3rModel.from_pretrained(weights).eval(), held, constant)
    print(result.table())
    if out is not None:
        out.write_text(json.dumps(result.to_dict(), indent=1) + "\n")
    return result


if __name__ == "__main__":
    import tyro

    tyro.cli(report)

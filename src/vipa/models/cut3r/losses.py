"""The training losses of CUT3R: point maps weighted by confidence, and camera poses."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

if TYPE_CHECKING:
    from vipa.models.cut3r.modeling_cut3r import Cut3rOutput

ALPHA = 0.2
"""Price of doubt: confidence c minimises c * error - ALPHA * log c at c = ALPHA / error."""


def quaternion_wxyz(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternions, w >= 0, of rotations less than half a turn (differentiable nowhere needed: truth only)."""
    r = rotation
    trace = r.diagonal(dim1=-2, dim2=-1)
    x, y, z = trace.unbind(-1)
    squares = torch.stack([1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z], -1).clamp_min(0)
    sizes = squares.sqrt() / 2
    signs = torch.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1
    )
    return torch.cat([sizes[..., :1], torch.copysign(sizes[..., 1:], signs)], -1)


def mean_distance(
    points: Float[Tensor, "b frames h w 3"], valid: Bool[Tensor, "b frames h w"]
) -> Float[Tensor, "b"]:
    """The scale of a clip: mean distance of its valid points from the origin."""
    weights = valid.to(points.dtype)
    total = (points.norm(dim=-1) * weights).flatten(1).sum(1)
    return (total / weights.flatten(1).sum(1).clamp_min(1)).clamp_min(1e-6)


def confident_regression(
    predicted: Float[Tensor, "b frames h w 3"],
    confidence: Float[Tensor, "b frames h w"],
    truth: Float[Tensor, "b frames h w 3"],
    valid: Bool[Tensor, "b frames h w"],
    scale: Float[Tensor, "b"],
) -> Float[Tensor, ""]:
    """Mean over valid pixels of c * |predicted - truth| / scale - ALPHA * log c."""
    difference = torch.where(valid[..., None], predicted - truth, 0.0)  # where invalid the truth may be NaN
    distance = difference.norm(dim=-1) / scale[:, None, None, None]
    return ((confidence * distance - ALPHA * confidence.log()) * valid).sum() / valid.sum()


def cut3r_loss(
    output: "Cut3rOutput",
    points_self: Float[Tensor, "b frames h w 3"],
    points_world: Float[Tensor, "b frames h w 3"],
    camera_pose: Float[Tensor, "b frames 7"],
    valid: Bool[Tensor, "b frames h w"],
    metric: bool = True,
) -> dict[str, Float[Tensor, ""]]:
    """The published recipe: `loss` and its terms `points_self`, `points_world`, `translation`, `rotation`.

    Truth in metres; camera_pose as the model gives it (translation, quaternion wxyz; camera -> first frame).
    Distances are in units of the truth's mean distance in the world; with metric=False (truth known up to scale)
    the prediction is first brought to the truth's scale, so that only shape counts. ValueError for clips without a
    valid pixel.
    """
    if not bool(valid.flatten(1).any(1).all()):
        raise ValueError("cut3r_loss: a clip has no valid pixel; leave it out of the batch")
    assert output.points_self is not None and output.points_world is not None and output.camera_pose is not None
    scale = mean_distance(points_world, valid)
    resize = torch.ones_like(scale) if metric else scale / mean_distance(output.points_world, valid)
    wide = resize[:, None, None, None, None]

    def regression(predicted: Tensor, confidence: Tensor, truth: Tensor) -> Tensor:
        return confident_regression(predicted if metric else predicted * wide, confidence, truth, valid, scale)

    moved = output.camera_pose[..., :3] * resize[:, None, None] - camera_pose[..., :3]
    terms = {
        "points_self": regression(output.points_self, output.conf_self, points_self),
        "points_world": regression(output.points_world, output.conf_world, points_world),
        "translation": (moved / scale[:, None, None]).norm(dim=-1).mean(),
        "rotation": (output.camera_pose[..., 3:] - camera_pose[..., 3:]).norm(dim=-1).mean(),
    }
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}

"""Geometry out of CUT3R's outputs: focal length, camera trajectory, the point cloud of a clip."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vipa.geometry import Intrinsics, matrix_from_quaternion_wxyz, rigid
from vipa.io.files import atomic_write
from vipa.models.cut3r.modeling_cut3r import Cut3rOutput


def estimate_focal(
    points_self: Float[Tensor, "*b h w 3"], weights: Float[Tensor, "*b h w"] | None = None, iterations: int = 10
) -> Float[Tensor, "*b"]:
    """Focal length in pixels of each map of self-view points: square pixels, principal point at the centre.

    Minimises the sum of |pixel - f (x/z, y/z)|, not of its square (Weiszfeld's iteration), so that a minority of wrong
    points does not pull. Points with z <= 0 or not finite do not count. ValueError where none is left.
    """
    height, width = points_self.shape[-3:-1]
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centred = torch.stack([u - (width - 1) / 2, v - (height - 1) / 2], -1).to(points_self).double()
    points = points_self.double()
    good = points.isfinite().all(-1) & (points[..., 2] > 0)
    if not bool(good.flatten(-2).any(-1).all()):
        raise ValueError("estimate_focal: no point lies in front of the camera")
    rays = torch.where(good[..., None], points[..., :2] / points[..., 2:].where(good[..., None], 1.0), 0.0)
    trust = good.double() if weights is None else torch.where(good, weights.double(), 0.0)
    along, square = (rays * centred).sum(-1), (rays * rays).sum(-1)
    focal = (trust * along).sum((-2, -1)) / (trust * square).sum((-2, -1))
    for _ in range(iterations):
        misses = (centred - focal[..., None, None, None] * rays).norm(dim=-1).clamp_min(1e-6)
        w = trust / misses
        focal = (w * along).sum((-2, -1)) / (w * square).sum((-2, -1))
    return focal.to(points_self.dtype)


def estimated_intrinsics(points_self: Float[Tensor, "frames h w 3"]) -> Intrinsics:
    """One camera for the frames of a clip: the median of their focal lengths."""
    height, width = points_self.shape[-3:-1]
    focal = float(estimate_focal(points_self).median())
    return Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height, "estimated")


def camera_trajectory(camera_pose: Float[Tensor, "*b 7"]) -> Float[np.ndarray, "*b 4 4"]:
    """T_world_camera of each frame from `camera_pose`; the world is the first frame's camera.

    Surprising: the first frame's own pose is a prediction too, near the identity but not exactly it.
    """
    pose = camera_pose.detach().double().cpu().numpy()
    return rigid(matrix_from_quaternion_wxyz(pose[..., 3:]), pose[..., :3])


@dataclass(frozen=True)
class PointCloud:
    """Points of a clip in its first frame's camera."""

    points: Float[np.ndarray, "n 3"]  # metres where the model is metric
    colours: UInt8[np.ndarray, "n 3"]
    confidence: Float[np.ndarray, "n"]


def fused_cloud(
    output: Cut3rOutput, images: Float[Tensor, "batch frames 3 h w"], clip: int = 0, drop: float = 0.3
) -> PointCloud:
    """The cross-view points of all frames of one clip of a batch, coloured by `images` ([-1, 1]).

    drop: fraction of the least confident points left out. ValueError without cross-view points (head "world").
    """
    if output.points_world is None or output.conf_world is None:
        raise ValueError("fused_cloud: the output has no points_world; run the model with the head 'world'")
    points = output.points_world[clip].reshape(-1, 3).float().cpu().numpy()
    confidence = output.conf_world[clip].reshape(-1).float().cpu().numpy()
    colours = ((images[clip].permute(0, 2, 3, 1).reshape(-1, 3) + 1) * 127.5).round().clamp(0, 255)
    keep = np.isfinite(points).all(1) & (confidence >= np.quantile(confidence, drop))
    return PointCloud(points[keep], colours.byte().cpu().numpy()[keep], confidence[keep])


def write_ply(cloud: PointCloud, path: Path) -> None:
    """Binary PLY with x, y, z, red, green, blue and confidence: opened by MeshLab, CloudCompare, Blender."""
    rows = np.empty(
        len(cloud.points),
        dtype=[(n, "<f4") for n in "xyz"]
        + [(n, "u1") for n in ("red", "green", "blue")]
        + [("confidence", "<f4")],
    )
    for i, (axis, colour) in enumerate(zip("xyz", ("red", "green", "blue"))):
        rows[axis], rows[colour] = cloud.points[:, i], cloud.colours[:, i]
    rows["confidence"] = cloud.confidence
    kinds = {"<f4": "float", "|u1": "uchar"}
    properties = "".join(f"property {kinds[field[1]]} {field[0]}\n" for field in rows.dtype.descr)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{properties}end_header\n"
    atomic_write(path, header.encode() + rows.tobytes())

"""The fused point cloud of a clip or a video, by CUT3R."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vipa.clips.video import VideoFrames
from vipa.hand3d.dataset.reader import Hand3D
from vipa.models.cut3r import Cut3rModel, Cut3rProcessor, PointCloud, camera_trajectory, fused_cloud
from vipa.models.loading import load_model

MOST_FRAMES = 32


@dataclass(frozen=True)
class FusedCloud:
    """cloud: in the first frame's camera, in the network's unit (metres where its training was metric).
    T_world_camera: of each frame, in the same unit; the world is the first frame's camera."""

    cloud: PointCloud
    T_world_camera: Float[np.ndarray, "n 4 4"]


def fuse(images: Sequence[UInt8[np.ndarray, "height width 3"]], weights: str | Path) -> FusedCloud:
    """All frames' points in one cloud. images: RGB, in order, of one size; weights: a folder or a hub name.

    ValueError for no images or images of several sizes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(Cut3rModel, weights, expected="cut3r")
    torch.nn.Module.to(model, device)
    batch = Cut3rProcessor.for_model(model.config)(images)["images"].to(device)
    with torch.inference_mode():
        out = model(batch, heads=("world", "pose"))
    assert out.camera_pose is not None
    return FusedCloud(fused_cloud(out, batch), camera_trajectory(out.camera_pose[0]))


def clip_images(path: str | Path, clip_id: str) -> list[np.ndarray]:
    """The stored frames of a clip of a data set, in order, at most MOST_FRAMES evenly spread.

    ValueError for a clip that is not there.
    """
    data = Hand3D(path)
    frames = sorted((f for f in data.frames() if f.clip_id == clip_id), key=lambda frame: frame.index)
    if not frames:
        raise ValueError(f"clip {clip_id!r} has no frames in {path}; known clips are in `vipa view {path}`")
    return [data.image(frames[i].id) for i in _spread(len(frames))]


def video_images(path: str | Path) -> list[np.ndarray]:
    """At most MOST_FRAMES frames of a video file, evenly spread. ValueError for a file that is no video."""
    frames = VideoFrames(Path(path))
    return list(frames.read(_spread(len(frames))))


def _spread(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, MOST_FRAMES)).round().astype(int)).tolist()

"""Point maps: a 3D point for every pixel, from a depth image or a network; one Protocol, one class each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Int

from vipa.clips.clip import Clip
from vipa.geometry import Intrinsics, unproject_depth
from vipa.hand3d.config import PointsConfig


@dataclass(frozen=True)
class PointMaps:
    """Points of some frames of a clip, each in its own frame's camera (OpenCV).

    All points of a clip share one unknown unit unless `metric` (metres). The map may be smaller than the image.
    T_world_camera: poses that came with the points, in the same unit; None where the estimator gives none. What
    the estimator's own configuration says of its errors, None where it says nothing: unit_error, of one that was
    trained in metres, the relative standard deviation of its unit from clip to clip; edge, of one that runs hands
    into what lies behind them, the quantile of joint depth / surface depth that is the scale, and the relative
    error of that.
    """

    frames: Int[np.ndarray, "n"]
    points: Float32[np.ndarray, "n height width 3"]  # NaN where unknown
    confidence: Float[np.ndarray, "n height width"] | None
    metric: bool
    T_world_camera: Float[np.ndarray, "n 4 4"] | None = None
    unit_error: float | None = None
    edge: tuple[float, float] | None = None

    @property
    def depth(self) -> Float32[np.ndarray, "n height width"]:
        """Along the optical axis; NaN where unknown."""
        return self.points[..., 2]

    def crop(self, i: int, rows: slice, columns: slice) -> Float[np.ndarray, "h w 3"]:
        """Points of a part of map i; slices may have steps."""
        return self.points[i, rows, columns]


@dataclass(frozen=True)
class DepthMaps:
    """Point maps of a pinhole's depth images, as `PointMaps`; points are made of the pixels that are asked for."""

    frames: Int[np.ndarray, "n"]
    depth: Float32[np.ndarray, "n height width"]  # not positive or NaN where unknown
    intrinsics: Intrinsics  # of the depth images
    metric: bool
    confidence: None = None
    T_world_camera: None = None
    unit_error: None = None
    edge: None = None

    @property
    def points(self) -> Float32[np.ndarray, "n height width 3"]:
        """All of them: three times the memory of the depth images."""
        return unproject_depth(np.where(self.depth > 0, self.depth, np.nan), self.intrinsics.matrix)

    def crop(self, i: int, rows: slice, columns: slice) -> Float[np.ndarray, "h w 3"]:
        """Points of a part of map i; slices may have steps."""
        depth, K = self.depth[i, rows, columns], self.intrinsics
        z = np.where(depth > 0, depth, np.nan)
        height, width = self.depth.shape[1:]
        v, u = np.arange(*rows.indices(height))[:, None], np.arange(*columns.indices(width))
        return np.stack([(u - K.cx) / K.fx * z, (v - K.cy) / K.fy * z, z], -1)


AnyMaps = PointMaps | DepthMaps


class PointMapEstimator(Protocol):
    """Points of frames of a clip; None where this estimator has nothing for this clip.

    One that holds a network has also `content: str`, which changes with whatever decides its results
    (`content.network_content`); else the name of its weights stands for them.
    """

    cached: bool  # whether the result is worth a file: a network's is, a sensor's is one already

    def __call__(self, clip: Clip, frames: Sequence[int]) -> AnyMaps | None: ...


class DepthPoints:
    """The clip's own depth images: a sensor's, or the truth of a rendered world."""

    cached = False

    def __call__(self, clip: Clip, frames: Sequence[int]) -> DepthMaps | None:
        if clip.depth is None:
            return None
        depth = np.asarray(clip.depth.read(frames), dtype=np.float32)
        camera = clip.intrinsics.resized(depth.shape[2], depth.shape[1])
        return DepthMaps(np.asarray(frames), depth, camera, clip.depth_is_metric)


def _depth(config: PointsConfig) -> PointMapEstimator:
    return DepthPoints()


def _cut3r(config: PointsConfig) -> PointMapEstimator:
    from vipa.hand3d.estimators.cut3r_points import Cut3rPoints  # loads torch only where it is asked for

    if config.weights is None:
        raise ValueError("points: the cut3r estimator needs weights (a folder or a hub name)")
    return Cut3rPoints(config.weights)


def _transformers(config: PointsConfig) -> PointMapEstimator:
    from vipa.hand3d.estimators.transformers_depth import TransformersDepth

    if config.weights is None:
        raise ValueError("points: the transformers estimator needs weights (a folder or a hub name)")
    return TransformersDepth(config.weights)


ESTIMATORS: dict[str, Callable[[PointsConfig], PointMapEstimator]] = {
    "depth": _depth,
    "cut3r": _cut3r,
    "transformers": _transformers,
}
"""By name; a program that brings another puts its maker here."""


def make_estimator(config: PointsConfig) -> PointMapEstimator:
    """The estimator a configuration names. ValueError listing the known ones."""
    if config.estimator not in ESTIMATORS:
        known = ", ".join(sorted(ESTIMATORS))
        raise ValueError(f"point map estimator {config.estimator!r} is unknown; known: {known}")
    return ESTIMATORS[config.estimator](config)

"""What positions of objects are made from when clips of the tabletop are annotated: the truth, or what real data has.

The same clips with better and worse labels: how wrong each is (`vipa evaluate annotation`), and what a model that
learned from it answers (`vipa ablate`, arms `depth-labels` and below).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Clip
from vipa.hand3d.config import AnnotateConfig, ObjectsConfig, PointsConfig, ScaleConfig

TRUTH = "truth"


@dataclass(frozen=True)
class Labels:
    """One way to annotate the tabletop's clips; hands, cameras and 2D boxes are the true ones in all of them.

    what: in words. config: of the annotation. depth: which depth images the clip has: the true ones, a sensor's, none.
    """

    what: str
    config: AnnotateConfig
    depth: Literal["truth", "sensor", "none"] = "truth"

    @property
    def network(self) -> bool:
        """Whether the 3D encoder's weights decide them."""
        return self.config.points.estimator == "cut3r"

    def known(self, clip: Clip) -> Clip:
        """The clip with the depth that is known of it."""
        if self.depth == "none":
            return replace(clip, depth=None)
        if self.depth == "sensor":
            return replace(clip, depth=SensorDepth(clip), depth_is_metric=False)
        return clip


def labels_of(weights: str) -> dict[str, Labels]:
    """All kinds. weights: of the 3D encoder that makes point maps, a folder or hub name."""
    boxes = AnnotateConfig(objects=ObjectsConfig(positions="points"))
    network = replace(boxes, points=PointsConfig("cut3r", weights))
    median = replace(network, scale=ScaleConfig(method="median"))
    return {
        TRUTH: Labels("true geometry", AnnotateConfig()),
        "depth": Labels("boxes and true depth", boxes),
        "sensor": Labels("boxes and sensor depth, unknown unit", boxes, "sensor"),
        "cut3r": Labels("boxes and CUT3R", network, "none"),
        "cut3r-median": Labels("boxes and CUT3R, plain median", median, "none"),
    }


class SensorDepth:
    """A clip's true depth as a sensor of unknown unit gives it (`clips.DepthFrames`): 0.5 % noise per pixel, 0.5 % slow
    drift over the image, flying pixels at edges, 1 mm steps, 3 % missing.

    scale: metres per unit, any between 0.2 and 5 m. The same clip has the same noise whenever a frame is read.
    """

    def __init__(self, clip: Clip):
        assert clip.depth is not None
        self.truth, self.seed = clip.depth, int(clip.id.rsplit("_", 1)[1])
        rng = np.random.default_rng(self.seed)
        self.scale = float(np.exp(rng.uniform(np.log(0.2), np.log(5.0))))

    def __len__(self) -> int:
        return len(self.truth)

    def read(self, indices: Sequence[int]) -> Float[np.ndarray, "n h w"]:
        """Units of the sensor; NaN where nothing was measured."""
        sensed = self.truth.read(indices).astype(np.float64)
        for index, depth in zip(indices, sensed):
            depth[:] = _sensed(depth, np.random.default_rng([self.seed, int(index)]))
        return (sensed / self.scale).astype(np.float32)


def _sensed(depth: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    shifted = np.stack([np.roll(depth, step, axis) for axis in (0, 1) for step in (-1, 1)])
    flying = (np.ptp(shifted, axis=0) > 0.05) & (rng.random(depth.shape) < 0.5)
    depth = np.where(flying, 0.5 * (shifted.min(0) + shifted.max(0)), depth)
    rows, columns = (np.linspace(0, 3, side) for side in depth.shape)
    drift = _bilinear(rng.normal(size=(4, 4)) * 0.005, rows, columns)
    depth = np.round(depth * (1 + drift + rng.normal(size=depth.shape) * 0.005), 3)
    depth[rng.random(depth.shape) < 0.03] = np.nan
    return depth


def _bilinear(grid: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    across = np.stack([np.interp(columns, np.arange(grid.shape[1]), row) for row in grid])
    return np.stack([np.interp(rows, np.arange(grid.shape[0]), column) for column in across.T], 1)

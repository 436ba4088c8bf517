"""Point maps from the clip's own depth images: a sensor's, or the truth of a rendered world."""

from collections.abc import Sequence

import numpy as np

from vipa.clips.clip import Clip
from vipa.hand3d.config import PointsConfig
from vipa.hand3d.estimators.pointmaps import DepthMaps

NETWORK = False


class DepthPoints:
    """The clip's depth images; nothing for a clip without."""

    cached, metric = False, None

    def __call__(self, clip: Clip, frames: Sequence[int]) -> DepthMaps | None:
        if clip.depth is None:
            return None
        depth = np.asarray(clip.depth.read(frames), dtype=np.float32)
        camera = clip.intrinsics.resized(depth.shape[2], depth.shape[1])
        return DepthMaps(np.asarray(frames), depth, camera, clip.depth_is_metric)


def open_points(config: PointsConfig) -> DepthPoints:
    return DepthPoints()

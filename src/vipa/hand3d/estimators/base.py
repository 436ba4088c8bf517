"""The parts of annotation that may hold a network, and which frames they see."""

from dataclasses import dataclass

import numpy as np

from vipa.clips.clip import Clip
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators.endpoint import Endpoint
from vipa.hand3d.estimators.pointmaps import PointMapEstimator, make_estimator
from vipa.hand3d.measure.positions import DETECTORS, BoxDetector


@dataclass(frozen=True)
class Estimators:
    """The parts that may hold a network: made once per process, used for every clip."""

    points: PointMapEstimator
    boxes: BoxDetector
    endpoint: Endpoint | None  # a vision-language model, where one is configured

    @classmethod
    def of(cls, config: AnnotateConfig) -> "Estimators":
        """ValueError for a name that is not known, listing those that are, and for an endpoint that is needed and
        not given."""
        for what, name, known in (
            ("object names", config.objects.names, ("clip", "endpoint")),
            ("boxes", config.objects.boxes, tuple(DETECTORS)),
        ):
            if name not in known:
                raise ValueError(f"{what}: {name!r} is unknown; known: {', '.join(sorted(known))}")
        asked = "endpoint" in (config.objects.names, config.words.texts) or config.words.reworded > 0
        endpoint = Endpoint(config.endpoint) if asked else None
        return cls(make_estimator(config.points), DETECTORS[config.objects.boxes](config.objects), endpoint)


def sample_frames(clip: Clip, rate: float) -> np.ndarray:
    """Indices of the frames nearest to 0, 1/rate, 2/rate ... seconds; of a clip that is shorter than 1/rate the
    first and the last."""
    times = clip.timestamps - clip.timestamps[0]
    wanted = np.arange(0.0, times[-1] + 1e-6, 1.0 / rate)
    if len(wanted) == 1:
        wanted = times[[0, -1]]
    return np.unique(np.abs(times[None] - wanted[:, None]).argmin(1))


def content_at(estimator: object, name: str | None) -> str | None:
    """Of the network that an estimator has loaded (`content`); of one that does not say, the name it was loaded by."""
    return getattr(estimator, "content", name)

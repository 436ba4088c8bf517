"""The parts of annotation that look at pictures, each chosen by its name in the configuration.

They are files of this folder, or entry points of other packages (here "theirs" is the name):

    points  theirs_points.py  group `vipa.points`  open_points(PointsConfig) -> PointMapEstimator
    boxes   theirs_boxes.py   group `vipa.boxes`   open_boxes(ObjectsConfig) -> BoxDetector
    names   theirs_names.py   group `vipa.names`   open_names(Endpoint | None) -> Namer
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Clip
from vipa.hand3d.config import AnnotateConfig, ObjectsConfig, PointsConfig
from vipa.hand3d.estimators.endpoint import Endpoint
from vipa.hand3d.estimators.pointmaps import AnyMaps
from vipa.io.plugins import Plugins

_FOLDER = "vipa.hand3d.estimators"
POINTS = Plugins("point map estimator", _FOLDER, "vipa.points", suffix="_points")
BOXES = Plugins("boxes:", _FOLDER, "vipa.boxes", suffix="_boxes")
NAMES = Plugins("object names:", _FOLDER, "vipa.names", suffix="_names")


class PointMapEstimator(Protocol):
    """Points of frames of a clip; None where this estimator has nothing for this clip.

    One that holds a network has also `content: str`, which changes with whatever decides its results
    (`hashing.network_content`); else the name of its weights stands for them.
    """

    cached: bool  # whether the result is worth a file: a network's is, a sensor's is one already
    metric: bool | None  # whether its depth is in metres; None: it is with some clips, and each map says so

    def __call__(self, clip: Clip, frames: Sequence[int]) -> AnyMaps | None: ...


class BoxDetector(Protocol):
    """Boxes of named objects on frames of a clip. One that holds a network has `content`, as `PointMapEstimator`."""

    def __call__(
        self, clip: Clip, frames: Sequence[int], names: Sequence[str]
    ) -> tuple[Float[np.ndarray, "names n 4"], Float[np.ndarray, "names n"]]:
        """Pixels left, top, right, bottom (NaN: not found) and scores 0 ... 1."""
        ...


class Namer(Protocol):
    """Names of the objects of a clip; its own where it brings any. One that holds a network has `content` too."""

    def __call__(self, clip: Clip) -> list[str]: ...


@dataclass(frozen=True)
class Estimators:
    """All that may hold a network: made once per process, used for every clip."""

    points: PointMapEstimator
    boxes: BoxDetector
    names: Namer
    endpoint: Endpoint | None  # a vision-language model, where one is configured

    @classmethod
    def of(
        cls,
        config: AnnotateConfig,
        points: PointMapEstimator | None = None,
        boxes: BoxDetector | None = None,
    ) -> "Estimators":
        """points, boxes: stand for those of the configuration, which are not opened then (`Elsewhere`).

        ValueError for a name that is not known, listing those that are, and for an endpoint that is needed and not
        given."""
        check_names(config)
        asked = "endpoint" in (config.objects.names, config.words.texts) or config.words.reworded > 0
        endpoint = Endpoint(config.endpoint) if asked else None
        names = NAMES.load(config.objects.names).open_names(endpoint)
        points = open_points(config.points) if points is None else points
        return cls(points, open_boxes(config.objects) if boxes is None else boxes, names, endpoint)


@dataclass
class Elsewhere:
    """Stands for an estimator whose network another process holds: what stages must know of it where its results are
    read from their files."""

    content: str | None = None
    cached: bool = True
    metric: bool | None = None

    @classmethod
    def of(cls, points: PointMapEstimator, config: AnnotateConfig) -> "Elsewhere":
        return cls(content_at(points, config.points.weights), points.cached, points.metric)

    def __call__(self, *given: Any, **named: Any) -> Any:
        raise RuntimeError("this network is held by another process, which should have left its result in a file")


def check_names(config: AnnotateConfig) -> None:
    """ValueError for a name that is not known, listing those that are; nothing is loaded."""
    for plugins, name in (
        (NAMES, config.objects.names),
        (BOXES, config.objects.boxes),
        (POINTS, config.points.estimator),
    ):
        plugins.check(name)


def has_network(config: PointsConfig) -> bool:
    """Whether point maps may come from a network. A module whose estimator has none says NETWORK = False."""
    return getattr(POINTS.load(config.estimator), "NETWORK", True)


def open_points(config: PointsConfig) -> PointMapEstimator:
    """The estimator that a configuration names. ValueError listing the known ones."""
    return POINTS.load(config.estimator).open_points(config)


def open_boxes(config: ObjectsConfig) -> BoxDetector:
    """The detector that a configuration names. ValueError listing the known ones."""
    return BOXES.load(config.boxes).open_boxes(config)


def content_at(estimator: object, name: str | None) -> str | None:
    """Of the network that an estimator has loaded (`content`); of one that does not say, the name it was loaded by."""
    return getattr(estimator, "content", name)


def sample_frames(clip: Clip, rate: float) -> np.ndarray:
    """Indices of the frames nearest to 0, 1/rate, 2/rate ... seconds; of a clip that is shorter than 1/rate the
    first and the last."""
    times = clip.timestamps - clip.timestamps[0]
    wanted = np.arange(0.0, times[-1] + 1e-6, 1.0 / rate)
    if len(wanted) == 1:
        wanted = times[[0, -1]]
    return np.unique(np.abs(times[None] - wanted[:, None]).argmin(1))

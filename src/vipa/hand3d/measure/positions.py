"""Objects of a clip in 3D: names, boxes, and positions from poses or from a calibrated point map."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Clip
from vipa.hand3d.config import ObjectsConfig
from vipa.hand3d.measure.visibility import Sight


@dataclass(frozen=True)
class LocatedObject:
    """One object at the sampled frames of a clip.

    centres: metres, each frame's camera, NaN where not known or not seen. confidence: 0 ... 1. method: poses or
    points.
    """

    name: str
    centres: Float[np.ndarray, "n 3"]
    boxes: Float[np.ndarray, "n 4"]
    confidence: Float[np.ndarray, "n"]
    extent: Float[np.ndarray, "3"] | None
    method: str


class BoxDetector(Protocol):
    """Boxes of named objects on frames of a clip. One that holds a network has `content`, as `PointMapEstimator`."""

    def __call__(
        self, clip: Clip, frames: Sequence[int], names: Sequence[str]
    ) -> tuple[Float[np.ndarray, "names n 4"], Float[np.ndarray, "names n"]]:
        """Pixels left, top, right, bottom (NaN: not found) and scores 0 ... 1."""
        ...


class ClipBoxes:
    """The boxes that came with the clip."""

    def __call__(self, clip, frames, names):
        boxes = np.full((len(names), len(frames), 4), np.nan)
        tracks = {track.name: track for track in clip.objects or ()}
        for i, name in enumerate(names):
            if name in tracks and tracks[name].boxes is not None:
                boxes[i] = tracks[name].boxes[list(frames)]
        return boxes, np.isfinite(boxes).all(-1).astype(float)


def clip_names(clip: Clip) -> list[str]:
    """The names that came with the clip."""
    return [track.name for track in clip.objects or ()]


def from_poses(clip: Clip, sight: Sight, least_confidence: float) -> list[LocatedObject]:
    """Objects whose poses the clip has, at the frames that are looked at; none without camera poses.

    The confidence is the share of the object that the picture shows, 0 where its centre is outside. The centre is
    known from `least_confidence` on. Boxes are the data set's, else around the object's outline.
    """
    found = []
    for track in clip.objects or ():
        if track.T_world_object is None or clip.T_world_camera is None:
            continue
        centres = sight.centres(track)
        confidence, boxes = sight.outlines(track)
        confidence[~sight.inside(centres)] = 0.0
        if track.boxes is not None:
            boxes = track.boxes[sight.frames]
            confidence[~np.isfinite(boxes).all(-1)] = 0.0
        seen = (confidence > 0) & (confidence >= least_confidence)
        centres = np.where(seen[:, None], centres, np.nan)
        found.append(LocatedObject(track.name, centres, boxes, confidence, track.extent, "poses"))
    return found


def _grounding_dino(config: ObjectsConfig) -> BoxDetector:
    from vipa.hand3d.estimators.grounding_dino import GroundingDino  # loads torch only where it is asked for

    return GroundingDino(config)


Namer = Callable[[Clip], list[str]]

DETECTORS: dict[str, Callable[[ObjectsConfig], BoxDetector]] = {
    "clip": lambda config: ClipBoxes(),
    "grounding-dino": _grounding_dino,
}
"""Makers by name; a program that brings another puts it here."""

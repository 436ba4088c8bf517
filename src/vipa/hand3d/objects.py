"""Objects of a clip in 3D: names, boxes, and positions from poses or from a calibrated point map."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Clip
from vipa.geometry import invert, transform
from vipa.hand3d.config import ObjectsConfig


@dataclass(frozen=True)
class LocatedObject:
    """One object at the sampled frames of a clip.

    centres: metres, each frame's camera, NaN where not known. confidence: 0 ... 1. method: poses or points.
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


def from_poses(clip: Clip, frames: Sequence[int], T_world_camera: np.ndarray) -> list[LocatedObject]:
    """Objects whose poses the clip has: the origin of the object's own frame is its centre."""
    found = []
    for track in clip.objects or ():
        if track.T_world_object is None:
            continue
        world = track.T_world_object[list(frames), :3, 3]
        centres = transform(invert(T_world_camera), world[:, None])[:, 0]
        boxes = np.full((len(frames), 4), np.nan) if track.boxes is None else track.boxes[list(frames)]
        seen = np.isfinite(centres).all(-1) & (np.isfinite(boxes).all(-1) | (track.boxes is None))
        found.append(LocatedObject(track.name, centres, boxes, seen.astype(float), track.extent, "poses"))
    return found


def _grounding_dino(config: ObjectsConfig) -> BoxDetector:
    from vipa.hand3d.grounding_dino import GroundingDino  # loads torch only where it is asked for

    return GroundingDino(config)


Namer = Callable[[Clip], list[str]]

DETECTORS: dict[str, Callable[[ObjectsConfig], BoxDetector]] = {
    "clip": lambda config: ClipBoxes(),
    "grounding-dino": _grounding_dino,
}
"""Makers by name; a program that brings another puts it here."""

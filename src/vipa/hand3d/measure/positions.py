"""Objects of a clip in 3D: names, boxes, and positions from poses or from a calibrated point map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Clip
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

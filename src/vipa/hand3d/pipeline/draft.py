"""What is known of a clip while its stages run."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from vipa.clips.camera_motion import CameraMotion
from vipa.clips.clip import Clip
from vipa.clips.inventory import Inventory, Poses, what_is_there
from vipa.clips.raw_video import TRACKED
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators.base import Estimators, sample_frames
from vipa.hand3d.estimators.pointmaps import AnyMaps
from vipa.hand3d.measure.calibration import ScaleEstimate
from vipa.hand3d.measure.relating import ClipGeometry
from vipa.hands.trackers import distance_error
from vipa.io.store import StageOutput

Measured = Future[tuple[StageOutput, float]]
"""A worker's: what the stage `camera` makes, and the processor seconds that it took."""

KEPT = "template; "
"""Begins the `wording` of a question that was to be reworded and kept its template; the reason follows."""


@dataclass
class Draft:
    """A clip, the configuration, and what the stages so far have made of the clip, each its own part.

    relations, motions: rows of the tables `visual` and `action`, and counts of what was left out, by reason.
    """

    clip: Clip  # as its source gives it; with a still camera's poses, contacts and texts from their stages on
    config: AnnotateConfig
    estimators: Estimators
    camera: CameraMotion | None = None  # as its pictures show it, where the clip did not say
    names: list[str] = field(default_factory=list)  # of objects
    maps: Callable[[], AnyMaps | None] = lambda: None  # of the sampled frames; read where they are needed
    scale: ScaleEstimate | None = None  # None where there is no point map
    geometry: ClipGeometry | None = None
    relations: dict[str, Any] = field(default_factory=dict)
    motions: dict[str, Any] = field(default_factory=dict)
    measured: Measured | None = None  # the camera, where a worker measures it
    worker_seconds: float = 0.0  # of a processor, that workers took

    @property
    def clip_id(self) -> str:
        """Unique over sources."""
        return f"{self.clip.source}/{self.clip.id}"

    def frame_id(self, frame: int) -> str:
        """Of a frame's image in the table `frames`."""
        return f"{self.clip_id}/{frame:06d}"

    @cached_property
    def frames(self) -> Int[np.ndarray, "n"]:
        """Indices of the sampled frames."""
        return sample_frames(self.clip, self.config.frames.rate)

    @property
    def distance_error(self) -> float:
        """Of hands that a tracker placed, as a share of their distance; 0 of others."""
        said = self.clip.notes.get("hands", "")
        return distance_error(said.removeprefix(TRACKED)) if said.startswith(TRACKED) else 0.0

    @property
    def unplaced(self) -> list[str]:
        """Names of the objects to be located by the point map."""
        positions, known = self.config.objects.positions, set()
        if positions == "poses":
            return []
        if positions == "auto" and self.clip.T_world_camera is not None:
            known = {t.name for t in self.clip.objects or () if t.T_world_object is not None}
        return [name for name in self.names if name not in known]

    @property
    def needs_points(self) -> bool:
        """Whether anything is left that only a point map can tell."""
        return bool(self.unplaced) or self.clip.T_world_camera is None

    @property
    def placed(self) -> ClipGeometry:
        """What the stage `objects` found."""
        assert self.geometry is not None
        return self.geometry

    def inventory(self, questions: dict[str, int] | None = None) -> Inventory:
        """What the clip brought and what was found of it so far."""
        poses: Poses = ""
        found = None if self.geometry is None else self.geometry.T_world_camera
        if found is not None:
            poses = "places" if np.isfinite(found[:, :3, 3]).any() else "turns"
        maps = self.config.points.estimator if self.estimators.points.cached else None
        located = None if self.geometry is None else len(self.geometry.objects)
        return what_is_there(self.clip, poses, maps, located, questions)

    @property
    def notes(self) -> dict[str, str]:
        """The clip's, and how many questions the endpoint was to reword and did not, with the commonest reason."""
        wordings = [row["wording"] for row in self.relations["rows"]]
        reasons = Counter(wording.removeprefix(KEPT) for wording in wordings if wording.startswith(KEPT))
        if not reasons:
            return self.clip.notes
        reason = reasons.most_common(1)[0][0]
        return self.clip.notes | {
            "wording": f"{reasons.total()} questions kept their template, most often: {reason}"
        }

"""The table of stages: what annotation makes of a clip, in order, each step from what those before it left.

    clip -> camera -> contacts -> words -> points -> scale -> objects -> relations -> motion -> frames -> records

To add a stage, write its function and put an entry here; a stage whose results change gets the next version.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from vipa.clips.clip import Clip
from vipa.clips.raw_video import TRACKED
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators.base import Estimators, content_at
from vipa.hand3d.pipeline import (
    stage_camera,
    stage_contacts,
    stage_frames,
    stage_motion,
    stage_objects,
    stage_points,
    stage_relations,
    stage_scale,
    stage_words,
)
from vipa.hand3d.pipeline.draft import Draft
from vipa.io.hashing import content_of, digest
from vipa.io.store import ClipStore, StageOutput


@dataclass(frozen=True)
class Stage:
    """One step of annotation, which leaves a file per clip.

    version: raised when its results change, so that old files count as out of date. parts: what it is made from
    besides the clip: its part of the configuration, networks by their content. after: the stages that it builds on.
    make: the draft -> what its file holds. take: puts that into the draft; None for a clip that it leaves no file of.
    concerns: whether it has to do with a clip at all; else nothing of it is in the keys of other stages.
    needed: whether a clip gets such a file. network: whether it is worth a GPU, where an engine has some.
    """

    name: str
    version: int
    does: str
    parts: Callable[[AnnotateConfig, Estimators], tuple[Any, ...]]
    after: tuple[str, ...]
    make: Callable[[Draft], StageOutput]
    take: Callable[[Draft, StageOutput | None], None]
    concerns: Callable[[Clip], bool] = lambda clip: True
    needed: Callable[[Draft], bool] = lambda draft: True
    network: bool = False


def _endpoint(config: AnnotateConfig, estimators: Estimators) -> tuple[str, int] | None:
    return None if estimators.endpoint is None else (config.endpoint.model, config.endpoint.longer_side)


def _boxes(config: AnnotateConfig, estimators: Estimators) -> dict[str, Any]:
    network = content_at(estimators.boxes, config.objects.detector)
    return asdict(replace(config.objects, detector="")) | {"network": network}


def _points(config: AnnotateConfig, estimators: Estimators) -> tuple[str, str | None]:
    return config.points.estimator, content_at(estimators.points, config.points.weights)


STAGES = (
    Stage(
        "camera", 3, "how the camera moves, and its field of view, of your own videos that do not say it",
        lambda c, e: (c.frames.rate, stage_camera.installed()), (),
        stage_camera.make, stage_camera.take, concerns=stage_camera.unknown,
    ),
    Stage(
        "contacts", 1, "which hand holds which object, of clips with poses and no contacts",
        lambda c, e: (asdict(c.contacts),), ("camera",),
        stage_contacts.make, stage_contacts.take, needed=stage_contacts.missing,
    ),
    Stage(
        "words", 4, "object names and texts: the clip's, an endpoint's, from contacts by template, or without words",
        lambda c, e: (asdict(c.words), asdict(c.hands), content_at(e.names, c.objects.names), _endpoint(c, e)),
        ("contacts",),
        stage_words.make, stage_words.take,
    ),
    Stage(
        "points", 3, "point maps: the clip's depth, or a network's",
        lambda c, e: (_points(c, e), c.objects.positions, c.objects.names, c.frames.rate), ("words",),
        stage_points.make, stage_points.take, needed=stage_points.by_network, network=True,
    ),
    Stage(
        "scale", 4, "metres per unit, from hands",
        lambda c, e: (asdict(c.scale),), ("points",),
        stage_scale.make, stage_scale.take,
    ),
    Stage(
        "objects", 4, "camera poses, boxes, 3D positions",
        lambda c, e: (_boxes(c, e), asdict(c.hands)), ("scale",),
        stage_objects.make, stage_objects.take,
    ),
    Stage(
        "relations", 6, "the four categories, and their questions and answers",
        lambda c, e: (asdict(c.relations),), ("objects", "contacts", "words"),
        stage_relations.make, stage_relations.take,
    ),
    Stage(
        "motion", 3, "wrist trajectories and the three tasks",
        lambda c, e: (asdict(c.motion), asdict(c.hands)), ("words",),
        stage_motion.make, stage_motion.take,
    ),
    Stage(
        "frames", 1, "images, and what is known of each",
        lambda c, e: (asdict(c.frames),), ("objects", "motion"),
        stage_frames.make, stage_frames.take,
    ),
)  # fmt: skip


def stage_keys(
    clip: Clip, config: AnnotateConfig, estimators: Estimators, until: str | None = None
) -> dict[str, str]:
    """What each stage's file must have been made from, up to the stage `until`. Networks count by their content, not by
    where it lies; of the clip everything, the files of its pictures and depth images included, but its notes, of which
    stages read only who tracked its hands."""
    keys: dict[str, str] = {}
    fingerprint = content_of(replace(clip, notes={}))
    if clip.notes.get("hands", "").startswith(TRACKED):
        fingerprint += clip.notes["hands"]
    for stage in STAGES:
        if not stage.concerns(clip):
            continue
        made_of = [*stage.parts(config, estimators), *(keys[name] for name in stage.after if name in keys)]
        keys[stage.name] = digest(f"{stage.name} {stage.version} {fingerprint} {made_of}")
        if stage.name == until:
            break
    return keys


def run_stages(draft: Draft, keys: dict[str, str], store: ClipStore) -> Iterator[tuple[Stage, bool]]:
    """Fills the draft stage by stage: what a run left under the same key is read, the rest computed and written.

    Yields each stage when it is done, and whether it was computed now.
    """
    for stage in STAGES:
        computed, output = False, None
        if stage.name in keys and stage.needed(draft):
            output = store.read(stage.name, keys[stage.name])
            if computed := output is None:
                output = stage.make(draft)
                store.write(stage.name, keys[stage.name], output)
        stage.take(draft, output)
        yield stage, computed

"""The records of the Hand3D data set: the one place that says what each column is (section 3.2.1).

A column's type is that of its field. What it is made of is said beside it: a path of attributes, from what the stage
has found (`stage_relations.Asked`, `stage_motion.Told`, `stage_frames.Shown`, `draft.Draft`), or a function of that; ""
where the path is the column's name. Columns without are known when the tables are written (`tables`).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa

from vipa.hand3d.measure.relations import AnyRelation, CameraMovement, Category, GoalKind, Relation

FORMAT_VERSION = 2
MANIFEST = "hand3d.json"
SPLITS = ("train", "validation", "test")

_path, _small = pa.list_(pa.list_(pa.float32())), pa.list_(pa.float32())
_object = pa.struct({"name": pa.string(), "centre": _small, "box": _small, "confidence": pa.float32()})
_said = pa.struct({"text": pa.string(), "start": pa.float64(), "end": pa.float64(), "hand": pa.string()})


@dataclass(frozen=True)
class Column:
    """says: what it is. made: of what (see above). arrow: its type where that of the field does not tell."""

    says: str
    made: str | Callable[[Any], Any] | None = None
    arrow: pa.DataType | None = None


@dataclass(frozen=True)
class VisualRecord:
    """One question about 1-4 frames (two for movements), its answer, and the relation both were made from."""

    id: Annotated[str, Column("of this question", "")]
    clip_id: Annotated[str, Column("source/clip")]
    source: Annotated[str, Column("data set")]
    source_video: Annotated[str, Column("recording; a split never divides one")]
    split: Annotated[str, Column("train, validation or test")]
    category: Annotated[Category, Column("what is asked about", "found.relation.category")]
    frame_ids: Annotated[list[str], Column("of the table `frames`, in time order", "")]
    question: Annotated[str, Column("in words", lambda asked: asked.worded[0])]
    answer: Annotated[str, Column("in words", "")]
    hand: Annotated[Literal["left", "right"] | None, Column("that is asked about", "relation.hand")]
    object: Annotated[str | None, Column("that is asked about", "relation.object")]
    task: Annotated[str | None, Column("task_completion only: what is to be done", "relation.task")]
    goal: Annotated[GoalKind | None, Column("what happens where the task takes the hand", "relation.goal")]
    displacement: Annotated[
        list[float],
        Column(
            "metres, the first frame's camera (OpenCV)",
            lambda asked: asked.relation.displacement if asked.relation else asked.movement.translation,
        ),
    ]
    distance: Annotated[float, Column("metres", "found.relation.distance")]
    directions: Annotated[
        list[str], Column("words of the displacement, or of a turn", "found.relation.directions")
    ]
    contact: Annotated[bool | None, Column("of hand and object; null: not known", "relation.contact")]
    rotation: Annotated[list[float] | None, Column("camera movements: axis-angle, radians", "movement.rotation")]
    degrees: Annotated[float | None, Column("camera movements: of the turn", "movement.degrees")]
    aspect: Annotated[Literal["rotation", "translation"] | None, Column("of a camera movement", "movement.aspect")]
    gamma: Annotated[float, Column("threshold of the direction words", "found.relation.gamma")]
    hand_confidence: Annotated[float | None, Column("0 ... 1", "found.hand_confidence")]
    object_confidence: Annotated[float | None, Column("0 ... 1", "found.object_confidence")]
    scale: Annotated[
        float | None, Column("metres per unit of the point map; null: none was used", "draft.scale.scale")
    ]
    scale_spread: Annotated[float | None, Column("of the frames' scales, relative", "draft.scale.spread")]
    method: Annotated[str | None, Column("how the object was located", "")]
    wording: Annotated[
        str,
        Column(
            'template; the model that worded the question; or "template; " and why its words did not do',
            lambda asked: asked.worded[1],
        ),
    ]
    version: Annotated[str, Column("of the program that made it")]
    config: Annotated[str, Column("hash of the configuration")]

    @property
    def relation(self) -> AnyRelation:
        """What the question is about."""
        if self.category == "camera_movement":
            assert self.rotation is not None
            assert self.aspect is not None
            return CameraMovement(np.array(self.rotation), np.array(self.displacement), self.aspect, self.gamma)
        assert self.hand is not None
        return Relation(
            self.category,
            np.array(self.displacement),
            self.hand,
            self.object,
            self.task,
            self.contact,
            self.gamma,
            self.goal,
        )


@dataclass(frozen=True)
class ActionRecord:
    """One observation image with a wrist motion: instruction to motion, motion to motion, or motion to text."""

    id: Annotated[str, Column("of this motion and task", "")]
    clip_id: Annotated[str, Column("source/clip")]
    source: Annotated[str, Column("data set")]
    source_video: Annotated[str, Column("recording; a split never divides one")]
    split: Annotated[str, Column("train, validation or test")]
    frame_id: Annotated[str, Column("of the table `frames`", "")]
    task: Annotated[str, Column("one of `motion.MOTION_TASKS`", "")]
    prompt: Annotated[str, Column("with motion tokens where a motion is given", "")]
    response: Annotated[str, Column("motion tokens, or a sentence", "")]
    text: Annotated[str, Column("what is done, in words", "motion.text")]
    rate: Annotated[float, Column("waypoints per second", "motion.rate")]
    left: Annotated[
        list[list[float]] | None,
        Column(
            "future wrist, (k, 3) metres, the frame's camera; null: not in this motion",
            lambda told: told.motion.future.get("left"),
            _path,
        ),
    ]
    right: Annotated[list[list[float]] | None, Column("same", lambda told: told.motion.future.get("right"), _path)]
    past_left: Annotated[
        list[list[float]] | None,
        Column("up to and with the image", lambda told: told.motion.past.get("left"), _path),
    ]
    past_right: Annotated[
        list[list[float]] | None, Column("same", lambda told: told.motion.past.get("right"), _path)
    ]
    outside: Annotated[
        float, Column("share of waypoints outside the codec's volume, clipped in the text", "motion.outside")
    ]
    version: Annotated[str, Column("of the program that made it")]
    config: Annotated[str, Column("hash of the configuration")]

    @property
    def trajectories(self) -> dict[str, np.ndarray]:
        """Future wrist points (k, 3) in metres per hand."""
        return {s: np.array(p) for s, p in (("left", self.left), ("right", self.right)) if p is not None}


@dataclass(frozen=True)
class FrameRecord:
    """One image with what was known about it. The pixels (column `image`) are read with `Hand3D.image`."""

    id: Annotated[str, Column("of this image", "")]
    clip_id: Annotated[str, Column("source/clip")]
    source: Annotated[str, Column("data set")]
    split: Annotated[str, Column("train, validation or test")]
    index: Annotated[int, Column("frame of the clip", "frame")]
    time: Annotated[float, Column("seconds since the clip's first frame", "")]
    intrinsics: Annotated[list[float], Column("fx, fy, cx, cy, width, height of the stored image", "")]
    T_world_camera: Annotated[list[float] | None, Column("16 numbers, row by row", "pose")]
    left_joints: Annotated[
        list[float] | None,
        Column("63 numbers, metres, this frame's camera; NaN unknown", lambda shown: shown.joints("left"), _small),
    ]
    right_joints: Annotated[list[float] | None, Column("same", lambda shown: shown.joints("right"), _small)]
    objects: Annotated[
        list[dict],
        Column(
            "name, centre [3] (metres, this frame's camera), box [4] (pixels), confidence", "", pa.list_(_object)
        ),
    ]


@dataclass(frozen=True)
class ClipRecord:
    """One clip and how well its geometry is known."""

    id: Annotated[str, Column("source/clip", "clip_id")]
    source: Annotated[str, Column("data set", "clip.source")]
    source_video: Annotated[str, Column("recording; a split never divides one", "clip.source_video")]
    split: Annotated[str, Column("train, validation or test", "clip.split")]
    licence: Annotated[str, Column("of the data set", "clip.licence")]
    seconds: Annotated[float, Column("its length", "clip.seconds")]
    num_frames: Annotated[int, Column("of the video", lambda draft: len(draft.clip))]
    rate: Annotated[float, Column("frames per second", "clip.rate")]
    intrinsics_origin: Annotated[str, Column("where the intrinsics are from", "clip.intrinsics.origin")]
    texts: Annotated[
        list[dict],
        Column(
            "text, start, end, hand", lambda draft: [asdict(text) for text in draft.clip.texts], pa.list_(_said)
        ),
    ]
    object_names: Annotated[
        list[str], Column("of those that were located", lambda draft: [o.name for o in draft.placed.objects])
    ]
    points: Annotated[
        str | None,
        Column("point map estimator", lambda draft: draft.config.points.estimator if draft.scale else None),
    ]
    scale: Annotated[float | None, Column("metres per unit of the point map", "scale.scale")]
    scale_low: Annotated[float | None, Column("of its 95 % interval", "scale.low")]
    scale_high: Annotated[float | None, Column("of its 95 % interval", "scale.high")]
    scale_spread: Annotated[float | None, Column("of the frames' scales, relative", "scale.spread")]
    scale_joints: Annotated[int | None, Column("that support it", "scale.joints")]
    scale_plain_median: Annotated[
        float | None, Column("the paper's estimate, for comparison", "scale.plain_median")
    ]
    notes: Annotated[str, Column("JSON", "")]
    version: Annotated[str, Column("of the program that made it")]
    config: Annotated[str, Column("hash of the configuration")]


RECORDS = {"visual": VisualRecord, "action": ActionRecord, "frames": FrameRecord, "clips": ClipRecord}
TABLES = tuple(RECORDS)


def make_row(record: type, thing: Any) -> dict[str, Any]:
    """The columns of a record that are made of `thing`, as plain values."""
    return {name: _made(c.made, name, thing) for name, c, _ in columns(record) if c.made is not None}


@cache
def columns(record: type) -> list[tuple[str, Column, pa.DataType]]:
    """(name, what is said of it, Arrow type) of each column, in order."""
    hints = get_type_hints(record, include_extras=True).items()
    said = [(name, *get_args(hint)) for name, hint in hints]
    return [(name, column, column.arrow or _arrow_type(kind)) for name, kind, column in said]


def _made(made: str | Callable[[Any], Any], name: str, thing: Any) -> Any:
    if isinstance(made, str):
        value = thing
        for step in (made or name).split("."):
            value = None if value is None else getattr(value, step)
    else:
        value = made(thing)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def columns_text(table: str) -> str:
    """The columns of a table and what they are, as a Markdown table."""
    rows = [f"| `{name}` | {kind} | {column.says} |" for name, column, kind in columns(RECORDS[table])]
    return "\n".join(["| column | type | what it is |", "| --- | --- | --- |", *rows])


def plain_schema(table: str) -> pa.Schema:
    """Arrow schema of a table."""
    types = {name: kind for name, _, kind in columns(RECORDS[table])}
    if table == "frames":
        types["image"] = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.schema(list(types.items()))


def schema(table: str) -> pa.Schema:
    """The same, with what `datasets` needs to know the image column."""
    from datasets import Features, Image

    plain = plain_schema(table)
    features = Features.from_arrow_schema(plain)
    if "image" in features:
        features["image"] = Image()
    return pa.schema(plain, metadata=features.arrow_schema.metadata)


_PLAIN = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}


def _arrow_type(hint: Any) -> pa.DataType:
    """Of a plain type, a Literal of words, a list of either, or one of these or None."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    if get_origin(hint) is Literal:
        return pa.string()
    (inner,) = (part for part in get_args(hint) if part is not NoneType)
    return pa.list_(_arrow_type(inner)) if get_origin(hint) is list else _arrow_type(inner)

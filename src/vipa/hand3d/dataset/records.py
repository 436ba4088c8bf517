"""The records of the Hand3D data set: the one place that says what each column is (section 3.2.1)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from vipa.hand3d.measure.relations import AnyRelation, CameraMovement, Category, GoalKind, Relation

FORMAT_VERSION = 2


@dataclass(frozen=True)
class VisualRecord:
    """One question about 1-4 frames (two for movements), its answer, and the relation both were made from."""

    id: str
    clip_id: str  # source/clip
    source: str
    source_video: str
    split: str
    category: Category
    frame_ids: list[str]  # of the table `frames`, in time order
    question: str
    answer: str
    hand: Literal["left", "right"] | None
    object: str | None
    task: str | None
    goal: GoalKind | None  # what happens where the task takes the hand: task_completion only
    displacement: list[float]  # metres, the first frame's camera (OpenCV)
    distance: float  # metres
    directions: list[str]
    contact: bool | None
    rotation: list[float] | None  # axis-angle, radians: camera movements only
    degrees: float | None
    aspect: Literal["rotation", "translation"] | None
    gamma: float
    hand_confidence: float | None
    object_confidence: float | None
    scale: float | None  # metres per unit of the point map, None where none was used
    scale_spread: float | None
    method: str | None  # how the object was located
    wording: (
        str  # template; the model that worded the question; or "template; " and why the model's words did not do
    )
    version: str  # of the program that made it
    config: str  # hash of the configuration

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

    id: str
    clip_id: str
    source: str
    source_video: str
    split: str
    frame_id: str
    task: str  # one of motion.MOTION_TASKS
    prompt: str
    response: str
    text: str  # what is done, in words
    rate: float  # waypoints per second
    left: list[list[float]] | None  # future wrist, (k, 3) metres, the frame's camera; None: not in this motion
    right: list[list[float]] | None
    past_left: list[list[float]] | None  # up to and with the image
    past_right: list[list[float]] | None
    outside: float  # share of waypoints outside the codec's volume (clipped in the text)
    version: str
    config: str

    @property
    def trajectories(self) -> dict[str, np.ndarray]:
        """Future wrist points (k, 3) in metres per hand."""
        return {s: np.array(p) for s, p in (("left", self.left), ("right", self.right)) if p is not None}


@dataclass(frozen=True)
class FrameRecord:
    """One image with what was known about it. The pixels are read with `Hand3D.image`."""

    id: str
    clip_id: str
    source: str
    split: str
    index: int  # frame of the clip
    time: float  # seconds since the clip's first frame
    intrinsics: list[float]  # fx, fy, cx, cy, width, height of the stored image
    T_world_camera: list[float] | None  # 16 numbers, row by row
    left_joints: list[float] | None  # 63 numbers, metres, this frame's camera; NaN unknown
    right_joints: list[float] | None
    objects: list[dict]  # name, centre [3] (metres, this frame's camera), box [4] (pixels), confidence


@dataclass(frozen=True)
class ClipRecord:
    """One clip and how well its geometry is known."""

    id: str
    source: str
    source_video: str
    split: str
    licence: str
    seconds: float
    num_frames: int
    rate: float
    intrinsics_origin: str
    texts: list[dict]  # text, start, end, hand
    object_names: list[str]
    points: str | None  # point map estimator
    scale: float | None
    scale_low: float | None
    scale_high: float | None
    scale_spread: float | None
    scale_joints: int | None
    scale_plain_median: float | None
    notes: str  # JSON
    version: str
    config: str


_text, _real, _texts, _reals = pa.string(), pa.float64(), pa.list_(pa.string()), pa.list_(pa.float64())
_path = pa.list_(pa.list_(pa.float32()))
_object = pa.struct(
    {"name": _text, "centre": pa.list_(pa.float32()), "box": pa.list_(pa.float32()), "confidence": pa.float32()}
)
_said = pa.struct({"text": _text, "start": _real, "end": _real, "hand": _text})

_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "visual": {
        **dict.fromkeys(("id", "clip_id", "source", "source_video", "split", "category"), _text),
        "frame_ids": _texts,
        **dict.fromkeys(("question", "answer", "hand", "object", "task", "goal"), _text),
        "displacement": _reals, "distance": _real, "directions": _texts, "contact": pa.bool_(),
        "rotation": _reals, "degrees": _real, "aspect": _text,
        **dict.fromkeys(("gamma", "hand_confidence", "object_confidence", "scale", "scale_spread"), _real),
        **dict.fromkeys(("method", "wording", "version", "config"), _text),
    },
    "action": {
        **dict.fromkeys(("id", "clip_id", "source", "source_video", "split", "frame_id"), _text),
        **dict.fromkeys(("task", "prompt", "response", "text"), _text),
        "rate": _real, "left": _path, "right": _path, "past_left": _path, "past_right": _path, "outside": _real,
        "version": _text, "config": _text,
    },
    "frames": {
        **dict.fromkeys(("id", "clip_id", "source", "split"), _text),
        "index": pa.int64(), "time": _real, "intrinsics": _reals, "T_world_camera": _reals,
        "left_joints": pa.list_(pa.float32()), "right_joints": pa.list_(pa.float32()),
        "objects": pa.list_(_object),
        "image": pa.struct({"bytes": pa.binary(), "path": _text}),
    },
    "clips": {
        **dict.fromkeys(("id", "source", "source_video", "split", "licence"), _text),
        "seconds": _real, "num_frames": pa.int64(), "rate": _real, "intrinsics_origin": _text,
        "texts": pa.list_(_said), "object_names": _texts, "points": _text,
        **dict.fromkeys(("scale", "scale_low", "scale_high", "scale_spread"), _real),
        "scale_joints": pa.int64(), "scale_plain_median": _real,
        **dict.fromkeys(("notes", "version", "config"), _text),
    },
}  # fmt: skip

TABLES = tuple(_COLUMNS)
RECORDS = {"visual": VisualRecord, "action": ActionRecord, "frames": FrameRecord, "clips": ClipRecord}


def schema(table: str) -> pa.Schema:
    """Arrow schema of a table, with what `datasets` needs to know the image column."""
    from datasets import Features, Image

    plain = pa.schema(list(_COLUMNS[table].items()))
    features = Features.from_arrow_schema(plain)
    if "image" in features:
        features["image"] = Image()
    return pa.schema(plain, metadata=features.arrow_schema.metadata)

"""Clip: the one typed record of a human video. Whatever a source does not know is None, never made up."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from vipa.clips.field_of_view import FieldOfView
from vipa.geometry import Intrinsics, transform
from vipa.hands.skeleton import Side
from vipa.io.frame_times import end_of

Split = Literal["train", "validation", "test"]
ActingHand = Literal["left", "right", "both"]


class ClipError(ValueError):
    """A clip that cannot be used; its message names the clip and says why and what to do."""

    def __init__(self, clip_id: str, reason: str):
        super().__init__(f"clip {clip_id!r}: {reason}")
        self.clip_id, self.reason = clip_id, reason


class Frames(Protocol):
    """Lazily decoded images of a clip: only what is asked for is decoded."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n height width 3"]:
        """RGB images of these frames in the order asked for. ValueError where the video is broken."""
        ...


class DepthFrames(Protocol):
    """Lazily read depth images, aligned with the frames pixel by pixel."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Float32[np.ndarray, "n height width"]:
        """z in metres along the optical axis; NaN where the sensor saw nothing."""
        ...


@dataclass(frozen=True)
class Mano:
    """MANO parameters of one hand over a clip (docs/hands.md).

    pose is absolute: the model's mean pose is already added. A left hand has left-hand parameters as the
    official left model reads them; `hands` holds the one mirror function.
    """

    global_orientation_camera: Float[np.ndarray, "frames 3 3"]
    pose: Float[np.ndarray, "frames 15 3 3"]
    betas: Float[np.ndarray, "10"]
    wrist_camera: Float[np.ndarray, "frames 3"]  # metres


@dataclass(frozen=True)
class Hand:
    """One hand over the whole clip, in each frame's own camera."""

    side: Side
    joints_camera: Float[np.ndarray, "frames 21 3"]  # metres, OpenCV; NaN where unknown
    confidence: Float[np.ndarray, "frames 21"]  # 0: unknown ... 1: certain
    mano: Mano | None = None


@dataclass(frozen=True)
class ObjectTrack:
    """One named object over the clip. Poses map the object's own frame to the world.

    An object with a hinge: `moving` marks the points of `surface` that turn, T_object_moving maps them from where
    they are in `surface` (closed) to where they are in a frame; `centre` and `extent` are of the object closed.
    """

    name: str
    T_world_object: Float[np.ndarray, "frames 4 4"] | None = None  # NaN where unknown
    boxes: Float[np.ndarray, "frames 4"] | None = None  # pixels left, top, right, bottom; NaN: not seen
    extent: Float[np.ndarray, "3"] | None = None  # metres, full size along the object's axes
    mesh: str | None = None
    centre: Float[np.ndarray, "3"] | None = None  # geometric centre in the object's own frame; None: its origin
    surface: Float[np.ndarray, "points 3"] | None = None  # metres, own frame, spread over the mesh; None: no mesh
    moving: Bool[np.ndarray, "points"] | None = None
    T_object_moving: Float[np.ndarray, "frames 4 4"] | None = None

    def surface_at(self, frame: int) -> Float[np.ndarray, "points 3"] | None:
        """The surface in the object's own frame, metres, as it is in this frame of the clip."""
        if self.surface is None or self.moving is None or self.T_object_moving is None:
            return self.surface
        moved = transform(self.T_object_moving[frame], self.surface)
        return np.where(self.moving[:, None], moved, self.surface)

    def centre_at(self, frame: int) -> Float[np.ndarray, "3"]:
        """The geometric centre in the object's own frame, metres, in this frame of the clip."""
        if self.T_object_moving is not None and (surface := self.surface_at(frame)) is not None:
            return (surface.min(0) + surface.max(0)) / 2
        return np.zeros(3) if self.centre is None else self.centre

    @property
    def centres_world(self) -> Float[np.ndarray, "frames 3"]:
        """The geometric centre, metres, world; NaN where the pose is unknown. ValueError without poses."""
        if self.T_world_object is None:
            raise ValueError(f"object {self.name!r} has no poses")
        own = np.array([self.centre_at(i) for i in range(len(self.T_world_object))])
        return transform(self.T_world_object, own[:, None])[:, 0]


@dataclass(frozen=True)
class Text:
    """What happens between two times, in words.

    start, end: seconds since the clip's first frame; before it, or after the clip's last, where the clip is cut out of
    a recording and shows a part of what the text says. hand: whose doing it is, as the source or else the words say
    ("with the right hand"); None where neither does.
    """

    text: str
    start: float
    end: float
    hand: ActingHand | None = None

    def __post_init__(self) -> None:
        if self.hand is None:
            object.__setattr__(self, "hand", acting_hand(self.text))


_HAND = re.compile(
    r"(?P<before>\b(?:on|onto|around|over|off|of|to|into|from)\s+)?(?:(?:the|your|his|her|their|my|its)\s+)?"
    r"\b(?P<side>left|right)(?:[ -]hand(?!ed)s?\b(?!'s|[ -](?:side|edge|corner|half|end|part|drawer|door|page))"
    r"|(?=\s+and\s+(?:the\s+|your\s+)?(?:left|right)[ -]hands?\b))"
)
_BOTH = re.compile(r"\b(?:both|two) (?:of (?:the|your|his|her|their) )?hands\b|\bbimanual")


def acting_hand(sentence: str) -> ActingHand | None:
    """Which hand a sentence says is at work; None where it names none or one as a thing ("a ring on the left hand")."""
    lower = sentence.lower()
    if _BOTH.search(lower):
        return "both"
    found = list(_HAND.finditer(lower))
    sides = {m["side"] for m in found}
    if len(sides) == 2:
        return "both"
    acting = {m["side"] for m in found if m["before"] is None}
    return cast(ActingHand, acting.pop()) if acting else None


@dataclass(frozen=True)
class Clip:
    """A human video with whatever its source knows about it.

    Arrays over frames have one row per frame of `frames`, checked here: ValueError (ClipError) where a length
    or a shape is wrong, naming the clip and the field.
    """

    id: str  # unique in its source, stable, usable as a file name
    source: str
    source_video: str  # clips cut from one recording share this: splits never divide it
    frames: Frames
    timestamps: Float[np.ndarray, "frames"]  # seconds, increasing
    intrinsics: Intrinsics  # of the frames as `frames.read` gives them
    T_world_camera: Float[np.ndarray, "frames 4 4"] | None
    hands: tuple[Hand, ...]
    depth: DepthFrames | None = None
    depth_is_metric: bool = True
    objects: tuple[ObjectTrack, ...] | None = None
    contacts: dict[tuple[Side, str], Bool[np.ndarray, "frames"] | Float[np.ndarray, "frames"]] | None = None
    """By (hand, object name): True or 1 touches, False or 0 does not, NaN not known."""
    texts: tuple[Text, ...] = ()
    split: Split | None = None
    licence: str = "unknown"
    field_of_view: FieldOfView | None = None  # how well the intrinsics are known; None: calibrated, or not said
    notes: dict[str, str] = field(default_factory=dict)  # what a reader found where the format is unsure

    def __post_init__(self) -> None:
        n = len(self.frames)
        if n == 0:
            raise ClipError(self.id, "the video has no frames")

        def check(name: str, array: np.ndarray | None, shape: tuple[int, ...]) -> None:
            if array is not None and array.shape != shape:
                raise ClipError(self.id, f"{name} has shape {array.shape}, the video needs {shape}")

        check("timestamps", self.timestamps, (n,))
        if not (np.isfinite(self.timestamps).all() and (np.diff(self.timestamps) > 0).all()):
            raise ClipError(self.id, "timestamps must be finite and increase")
        check("T_world_camera", self.T_world_camera, (n, 4, 4))
        for hand in self.hands:
            check(f"{hand.side} hand joints_camera", hand.joints_camera, (n, 21, 3))
            check(f"{hand.side} hand confidence", hand.confidence, (n, 21))
        if len({hand.side for hand in self.hands}) != len(self.hands):
            raise ClipError(self.id, "two hands of the same side")
        for track in self.objects or ():
            check(f"object {track.name!r} T_world_object", track.T_world_object, (n, 4, 4))
            check(f"object {track.name!r} boxes", track.boxes, (n, 4))
            check(f"object {track.name!r} T_object_moving", track.T_object_moving, (n, 4, 4))
            for name in ("extent", "centre"):
                check(f"object {track.name!r} {name}", getattr(track, name), (3,))
        for (side, name), touch in (self.contacts or {}).items():
            check(f"contacts of the {side} hand with {name!r}", touch, (n,))
        if self.depth is not None and len(self.depth) != n:
            raise ClipError(self.id, f"depth has {len(self.depth)} frames, the video has {n}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def rate(self) -> float:
        """Frames per second (median): to say it, not to count with; a phone's rate falls in the dark."""
        return 1.0 if len(self) < 2 else float(1.0 / np.median(np.diff(self.timestamps)))

    @property
    def end(self) -> float:
        """When the last frame is over, on the clock of `timestamps`."""
        return end_of(self.timestamps)

    @property
    def seconds(self) -> float:
        """How long the clip lasts, its last frame included."""
        return self.end - float(self.timestamps[0])

    def hand(self, side: Side) -> Hand | None:
        return next((hand for hand in self.hands if hand.side == side), None)

"""EgoDex: egocentric video recorded with Apple Vision Pro, with its own hand tracking."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import h5py
import numpy as np

from vipa.clips.clip import ActingHand, Clip, ClipError, Hand, ObjectTrack, Split, Text
from vipa.clips.mano_hands import fitted_mano
from vipa.clips.reading import chunks, files_below, make_hand, read_each, rows
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics, invert
from vipa.hands.skeleton import Side
from vipa.io.frame_times import end_of

OPTIONS = ("mano", "seconds")
LICENCE = "CC BY-NC-ND 4.0"
DOWNLOAD = "github.com/apple/ml-egodex: part1 ... part5, test, extra"
LAYOUT = """\
ROOT/
  part1/ ... part5/  test/  extra/
    <task>/
      0.hdf5  0.mp4  1.hdf5  1.mp4 ...
"""

_SEGMENTS = ("Knuckle", "IntermediateBase", "IntermediateTip", "Tip")
_FINGERS = ("Thumb", "IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger")


def joint_names(side: Side) -> list[str]:
    """The 21 of the 25 transforms of a hand that are our joints, in our order; the metacarpals are left out."""
    return [f"{side}Hand", *(f"{side}{finger}{segment}" for finger in _FINGERS for segment in _SEGMENTS)]


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = Path(root)
    root, files = files_below(root.with_suffix(".hdf5") if root.suffix == ".mp4" else root, {".hdf5"})
    found = [("_".join(p.relative_to(root).with_suffix("").parts), p) for p in files]
    return read_each("egodex", root, LAYOUT, found, lambda name, path: _read(name, root, path, options))


def _read(name: str, root: Path, path: Path, options: SourceOptions) -> Iterator[Clip | ClipError]:
    video = VideoFrames(path.with_suffix(".mp4"))
    n = len(video)
    with h5py.File(path, "r") as file:
        K = np.asarray(file["camera/intrinsic"], dtype=np.float64)
        transforms = file["transforms"]
        T_world_camera = rows(transforms["camera"][()], n, "transforms/camera", (4, 4))  # camera to world
        T_camera_world = invert(T_world_camera)
        found = [_hand(side, file, n, T_camera_world) for side in ("left", "right")]
        attributes = {key: clean(value) for key, value in file.attrs.items()}
    hands = tuple(h for h in found if h is not None)
    notes = {"texts": "written by a language model; some are wrong"}
    if options.mano is not None:
        hands = tuple(fitted_mano(hand, options.mano, "smplx") for hand in hands)
        notes |= {"mano": "fitted to the joints"} if any(hand.mano for hand in hands) else {}
    relative = path.relative_to(root)
    clip = Clip(
        id=name,
        source="egodex",
        source_video=str(relative.with_suffix("")),
        frames=video,
        timestamps=video.timestamps,
        intrinsics=Intrinsics.from_recorded(K, (1920, 1080), video.size, "calibrated"),
        T_world_camera=T_world_camera,
        hands=hands,
        objects=_objects(attributes),
        texts=_texts(attributes, end_of(video.timestamps)),
        split=_split(path),
        licence=LICENCE,
        notes=notes,
    )
    if not clip.hands:
        raise ValueError("no hand transforms in this file")
    yield from chunks(clip, options.seconds)


def _hand(side: Side, file: h5py.File, n: int, T_camera_world: np.ndarray) -> Hand | None:
    """transforms/<joint>: the joint's pose in the world. Joints out of view are there too, at low confidence."""
    names = joint_names(side)
    transforms, confidences = file["transforms"], file.get("confidences")
    if names[0] not in transforms:
        return None
    missing = [joint for joint in names if joint not in transforms]
    if missing:
        raise ValueError(f"transforms/{missing[0]} is missing")
    world = np.stack([rows(transforms[j][()], n, f"transforms/{j}", (4, 4))[:, :3, 3] for j in names], 1)
    joints = world @ T_camera_world[:, :3, :3].mT + T_camera_world[:, None, :3, 3]
    confidence = None
    if confidences is not None:
        one = np.ones(n)
        confidence = np.stack(
            [rows(confidences[j][()], n, f"confidences/{j}", ()) if j in confidences else one for j in names], 1
        )
    return make_hand(side, joints, confidence)


def clean(value: object) -> object:
    """An attribute as text, without the NUL characters that some strings end in; lists as lists of text."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return value.replace("\0", "").strip()
    if isinstance(value, (np.ndarray, list, tuple)):
        return [clean(v) for v in np.asarray(value).ravel().tolist()]
    return value


def _texts(attributes: dict, end: float) -> tuple[Text, ...]:
    """Reversible tasks have two descriptions; which one holds is a string, '1' or '2'."""
    second = attributes.get("llm_type") == "reversible" and str(attributes.get("which_llm_description")) == "2"
    text = attributes.get("llm_description2" if second else "llm_description") or attributes.get("description")
    return (Text(str(text), 0.0, end, _hand_said(attributes)),) if text else ()


def _hand_said(attributes: dict) -> ActingHand | None:
    """Some recordings name the hand among "key:value, ..." of the scene or the object: "table:metal, hand:right"."""
    for key in ("environment", "object"):
        for name, value in re.findall(r"([^,:]+):([^,:]+)", str(attributes.get(key, "")).lower()):
            if name.strip(" _").removesuffix("s") in ("hand", "acting_hand", "active_hand"):
                sides = set(re.findall(r"left|right|both|two", value))
                if sides in ({"left"}, {"right"}):
                    return cast(ActingHand, sides.pop())
                if sides:
                    return "both"
    return None


def _objects(attributes: dict) -> tuple[ObjectTrack, ...] | None:
    names = attributes.get("llm_objects") or attributes.get("object")
    if isinstance(names, str):
        names = [part.strip(" '\"[]") for part in names.split(",")]
    names = [str(x) for x in names or () if str(x)]
    return tuple(ObjectTrack(name) for name in dict.fromkeys(names)) or None


def _split(path: Path) -> Split | None:
    part = path.parent.parent.name
    return "test" if part == "test" else "train" if part.startswith(("part", "extra")) else None

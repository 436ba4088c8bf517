"""FPHA: first-person hand actions with magnetic sensors on the right hand (guiggh/hand_pose_action)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, ObjectTrack, Text
from vipa.clips.depth import RegisteredDepth, depth_images
from vipa.clips.mano_hands import fitted_mano
from vipa.clips.meshes import add_shapes
from vipa.clips.reading import chunks, existing_root, make_hand, read_each, sound_images
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import ImageFrames
from vipa.geometry import Intrinsics, project, transform

OPTIONS = ("mano", "seconds")
LICENCE = "academic use only, no redistribution"
DOWNLOAD = (
    "guiggh.github.io/publications/first-person-hands (form): Video_files, Hand_pose_annotation_v1, Object_6D_pose"
)
LAYOUT = """\
ROOT/
  Video_files/Subject_1/<action>/<repetition>/color/color_0000.jpeg  depth/depth_0000.png
  Hand_pose_annotation_v1/Subject_1/<action>/<repetition>/skeleton.txt
  Object_6D_pose_annotation_v1/Subject_1/<action>/<repetition>/object_pose.txt
"""

RATE = 30.0
COLOR = Intrinsics(1395.749023, 1395.749268, 935.732544, 540.681030, 1920, 1080, "calibrated")
DEPTH = Intrinsics(475.065948, 475.065857, 315.944855, 245.287079, 640, 480, "calibrated")
T_COLOR_WORLD = np.array(
    [
        [0.999988496304, -0.00468848412856, 0.000982563360594, 0.0257],
        [0.00469115935266, 0.999985218048, -0.00273845880292, 0.00122],
        [-0.000969709653873, 0.00274303671904, 0.99999576807, 0.003902],
        [0, 0, 0, 1],
    ]
)
"""One calibration for the whole data set. The 'world' of the annotation is the depth camera; metres."""

ORDER = (0, 1, 6, 7, 8, 2, 9, 10, 11, 3, 12, 13, 14, 4, 15, 16, 17, 5, 18, 19, 20)
"""Our joint -> place in the file, which has the wrist, the five knuckles, then three a finger."""

DROPPED = {("Subject_2", "close_milk", "4"), ("Subject_2", "put_tea_bag", "2"), ("Subject_4", "flip_sponge", "2")}
"""Sequences that the data set's authors advise to leave out."""

_WORDS = {"dish soap": "liquid soap", "read paper": "read letter", "use spray": "use flash"}
"""What some folder names say -> what the action's own list says."""

_SENTENCES = {
    "charge cell phone": "charge the cell phone",
    "clean glasses": "clean the glasses",
    "drink mug": "drink from the mug",
    "flip pages": "flip the pages",
    "give card": "give the card",
    "give coin": "give the coin",
    "handshake": "shake hands",
    "high five": "give a high five",
    "light candle": "light the candle",
    "pour juice bottle": "pour juice from the bottle",
    "pour liquid soap": "pour liquid soap",
    "pour milk": "pour milk",
    "pour wine": "pour wine",
    "prick": "prick with the fork",
    "put salt": "put salt in",
    "put sugar": "put sugar in",
    "put tea bag": "put the tea bag in",
    "scoop spoon": "scoop with the spoon",
    "scratch sponge": "scratch with the sponge",
    "sprinkle": "sprinkle",
    "stir": "stir",
    "take letter from enveloppe": "take the letter from the envelope",
    "tear paper": "tear the paper",
    "toast wine": "toast with the wine glass",
    "write": "write",
}
"""The actions that are more than a verb and its object."""

_MODELS = {"juice": "juice_bottle", "soap": "liquid_soap", "milk": "milk", "salt": "salt"}
"""A word of the action -> the object whose pose is annotated."""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    skeletons = sorted(root.glob("Hand_pose_annotation_v1*/Subject_*/*/*/skeleton.txt"))
    found = [("_".join(p.parts[-4:-1]), p) for p in skeletons if p.parts[-4:-1] not in DROPPED]
    return read_each("fpha", root, LAYOUT, found, lambda name, path: _read(name, root, path, options))


def _read(name: str, root: Path, path: Path, options: SourceOptions) -> Iterator[Clip | ClipError]:
    inside = Path(*path.parts[-4:-1])
    folder = root / "Video_files" / inside
    images = {int(p.stem.split("_")[-1]): p for p in sorted((folder / "color").glob("color_*.jpeg"))}
    notes = {"world": "none: the annotation's world is the depth camera, which moves with the head"}
    skeleton = read_table(path, 64, notes)
    shown = [t for t in sorted(images) if t in skeleton]
    if not shown:
        raise ValueError(f"{folder / 'color'}: no image of the {len(skeleton)} annotated frames")
    sound, size = sound_images([images[t] for t in shown], notes)
    shown = [shown[i] for i in sound]
    camera = COLOR.for_size(*size)
    joints_world = np.stack([skeleton[t].reshape(21, 3)[list(ORDER)] for t in shown]) * 1e-3
    hand = make_hand("right", transform(T_COLOR_WORLD, joints_world))
    if hand is not None and options.mano is not None:
        hand = fitted_mano(hand, options.mano, "smplx")
        notes |= {"mano": "fitted to the joints"} if hand.mano else {}
    depth_paths = [folder / "depth" / f"depth_{t:04d}.png" for t in shown]
    sensor = depth_images(depth_paths, 1e-3, (DEPTH.width, DEPTH.height), notes)
    depth = None if sensor is None else RegisteredDepth(sensor, DEPTH, T_COLOR_WORLD, camera)
    action = inside.parts[1]
    clip = Clip(
        id=name,
        source="fpha",
        source_video=str(inside),
        frames=ImageFrames(tuple(images[t] for t in shown)),
        timestamps=(np.array(shown) - shown[0]) / RATE,
        intrinsics=camera,
        T_world_camera=None,  # the head-worn camera is not tracked
        hands=(hand,) if hand else (),
        depth=depth,
        objects=_objects(root, inside, shown, camera, notes),
        texts=(Text(sentence(action), 0.0, (shown[-1] - shown[0] + 1) / RATE, "right"),),
        split="train" if inside.parts[0] in ("Subject_1", "Subject_3", "Subject_4") else "test",
        licence=LICENCE,
        notes=notes,
    )
    if not clip.hands:
        raise ValueError(f"{path}: no joint is known in any frame")
    yield from chunks(clip, options.seconds)


def sentence(action: str) -> str:
    """'open_milk' -> 'open the milk', with the data set's own renamings."""
    text = action.replace("_", " ")
    for folder, word in _WORDS.items():
        text = text.replace(folder, word)
    verb, _, thing = text.partition(" ")
    return _SENTENCES.get(text) or (f"{verb} the {thing}" if thing else verb)


def read_object_poses(path: Path, shown: list[int], notes: dict[str, str] | None = None) -> np.ndarray:
    """T_color_object (frames, 4, 4), NaN where not annotated. object_pose.txt is column by column, millimetres."""
    table = read_table(path, 17, notes)
    out = np.full((len(shown), 4, 4), np.nan)
    for row, t in enumerate(shown):
        if t in table:
            T_world_object = table[t].reshape(4, 4).T.copy()
            T_world_object[:3, 3] *= 1e-3
            out[row] = T_COLOR_WORLD @ T_world_object
    return out


def _objects(
    root: Path, inside: Path, shown: list[int], camera: Intrinsics, notes: dict[str, str]
) -> tuple[ObjectTrack, ...] | None:
    """The object as boxes on the image: there is no world for its pose, since the head camera is not tracked.
    The mesh is in metres."""
    name = next((model for word, model in _MODELS.items() if word in inside.parts[1]), None)
    if name is None:
        return None
    paths = sorted(root.glob(f"Object_6D_pose_annotation_v1*/{inside}/object_pose.txt"))
    mesh = root / "Object_models" / f"{name}_model" / f"{name}_model.ply"
    (track,) = add_shapes([ObjectTrack(name.replace("_", " "))], [mesh], notes)
    if track.surface is not None and paths:
        T_camera_object = read_object_poses(paths[0], shown, notes)
        pixels = project(transform(T_camera_object, track.surface), camera.matrix)
        track = replace(track, boxes=np.concatenate([pixels.min(1), pixels.max(1)], -1))
    return (track,)


def read_table(path: Path, count: int, notes: dict[str, str] | None = None) -> dict[int, np.ndarray]:
    """frame number -> the other `count` - 1 numbers of its line. A line that is not so is an unknown frame and a
    note under the file's name; ValueError, the first line's, where none is."""
    out, faults = {}, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        values = line.split()
        try:
            if values and len(values) != count:
                raise ValueError(f"{count} numbers expected, it has {len(values)}")
            if values:
                out[int(float(values[0]))] = np.array(values[1:], dtype=np.float64)
        except ValueError as error:
            faults.append(f"{path}, line {number}: {error}")
    if faults and not out:
        raise ValueError(faults[0])
    if faults and notes is not None:
        notes[path.name] = f"{len(faults)} lines cannot be read, their frames are unknown: {faults[0]}"
    return out

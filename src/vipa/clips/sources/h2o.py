"""H2O: two hands and objects, five cameras, one of them worn (taeinkwon/h2odataset, h2oplayer)."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Split, Text
from vipa.clips.depth import depth_images
from vipa.clips.mano_hands import have_mano, mano_hand, mano_layer
from vipa.clips.meshes import add_shapes
from vipa.clips.reading import chunks, each_file, existing_root, make_hand, numbers, read_each, runs, sound_images
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import ImageFrames
from vipa.geometry import Intrinsics, invert, matrix_from_axis_angle, transform
from vipa.hands.skeleton import Side

OPTIONS = ("mano", "view", "seconds")
LICENCE = "H2O: on request, non-commercial research"
DOWNLOAD = "h2odataset.ethz.ch (registration), script of github.com/taeinkwon/h2odataset, mode 'ego' or 'all'"
LAYOUT = """\
ROOT/
  subject1_ego/ or subject1/ ...
    h1/ h2/ k1/ k2/ o1/ o2/
      0/ 1/ ...
        cam4/                      the worn camera (view cam0 ... cam3: the fixed ones)
          cam_intrinsics.txt
          rgb/000000.png ...       or rgb256/
          depth/ cam_pose/ hand_pose/ hand_pose_mano/ obj_pose/ obj_pose_RT/ action_label/
  object/book/book.ply (or .obj) ...   meshes, where they are unpacked too
"""

RATE = 30.0
OBJECTS = ("", "book", "espresso", "lotion", "spray", "milk", "cocoa", "chips", "cappuccino")
MESHES = ("", "book", "espresso", "lotion", "lotion_spray", "milk", "ovomaltine", "pringles", "starbucks")
"""The same by the names of their mesh files."""
_GRABBED = OBJECTS[1:]
ACTIONS = (
    "",
    *(f"grab the {o}" for o in _GRABBED),
    *(f"place the {o}" for o in _GRABBED),
    *(f"{verb} the {o}" for verb in ("open", "close") for o in ("lotion", "milk", "chips")),
    "pour the milk",
    *(f"take the {o} out" for o in ("espresso", "cocoa", "chips", "cappuccino")),
    *(f"put the {o} in" for o in ("espresso", "cocoa", "cappuccino")),
    *("apply the lotion", "apply the spray", "read the book", "read the espresso box"),
    *("spray with the spray", "squeeze the lotion"),
)
"""The 37 action labels in words, in the data set's order ('grab book', 'put in cocoa', ...); 0 is background."""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    view = options.view or "cam4"
    cameras = [p.parent for p in sorted(root.rglob("cam_intrinsics.txt")) if p.parent.name == view]
    found = [("_".join(camera.relative_to(root).parts), camera) for camera in cameras]
    return read_each("h2o", root, LAYOUT, found, lambda name, camera: _read(name, root, camera, options))


def _read(name: str, root: Path, camera: Path, options: SourceOptions) -> Iterator[Clip | ClipError]:
    fx, fy, cx, cy, width, height = numbers(camera / "cam_intrinsics.txt", 6)
    intrinsics = Intrinsics(fx, fy, cx, cy, int(width), int(height), "calibrated")
    images = sorted((camera / "rgb").glob("*.png")) or sorted((camera / "rgb256").glob("*.*"))
    if not images:
        raise ValueError(f"{camera}: no images in rgb/ or rgb256/")
    notes: dict[str, str] = {}
    shown, (wide, high) = sound_images(images, notes)
    images = [images[i] for i in shown]
    frames = ImageFrames(tuple(images))
    small = (wide, high) != (intrinsics.width, intrinsics.height)
    intrinsics = intrinsics.for_size(wide, high)
    stems = [p.stem for p in images]
    times = (np.array([int(s) for s in stems]) - int(stems[0])) / RATE

    T_world_camera = _labels(camera / "cam_pose", stems, 16, notes).reshape(-1, 4, 4)  # camera to world
    if np.isnan(T_world_camera).all():
        raise FileNotFoundError(f"{camera / 'cam_pose'}: no camera pose of any frame")
    depth = None
    if not small:  # the depth is aligned with the large pictures only
        depth = depth_images([camera / "depth" / f"{s}.png" for s in stems], 1e-3, (wide, high), notes)
    hands = [_hand(side, camera, stems, options, notes) for side in ("left", "right")]
    subject, task = _place(camera)
    clip = Clip(
        id=name,
        source="h2o",
        source_video="/".join(camera.relative_to(root).parts[:-1]) or name,
        frames=frames,
        timestamps=times,
        intrinsics=intrinsics,
        T_world_camera=T_world_camera,
        hands=tuple(h for h in hands if h is not None),
        depth=depth,
        objects=_objects(root, camera, stems, T_world_camera, notes),
        texts=_texts(camera, stems, times, notes),
        split=_split(subject, task),
        licence=LICENCE,
        notes=notes,
    )
    if not clip.hands:
        raise ValueError("no hand is annotated in any frame")
    yield from chunks(clip, options.seconds)


def _labels(folder: Path, stems: list[str], count: int, notes: dict[str, str]) -> np.ndarray:
    """(frames, count); rows of NaN where a file is not there or cannot be read."""
    values = each_file([folder / f"{s}.txt" for s in stems], lambda path: numbers(path, count), notes)
    return np.stack([np.full(count, np.nan) if row is None else row for row in values])


def _hand(
    side: Side, camera: Path, stems: list[str], options: SourceOptions, notes: dict[str, str]
) -> Hand | None:
    """hand_pose: 64 numbers a hand, left first. hand_pose_mano: 62 a hand (the README's 59 is an error)."""
    data = _labels(camera / "hand_pose", stems, 128, notes)[:, (0 if side == "left" else 64) :][:, :64]
    known = data[:, 0] == 1  # rows of an unannotated hand are zeros
    joints = np.where(known[:, None, None], data[:, 1:].reshape(-1, 21, 3), np.nan)
    folder = next((f for f in (camera / "hand_pose_mano", camera / "hand_pose_MANO") if f.is_dir()), None)
    if folder is None or not have_mano(options.mano):
        return make_hand(side, joints)
    mano = _labels(folder, stems, 124, notes)[:, (0 if side == "left" else 62) :][:, :62]
    return mano_hand(
        mano_layer(side, options.mano, True),
        orientation=matrix_from_axis_angle(np.nan_to_num(mano[:, 4:7])),
        pose=mano[:, 7:52],
        form="axis_angle",
        add_mean=False,
        betas=mano[:, 52:62],
        translation=mano[:, 1:4],
        tips="manopth",
        known=known,
        joints_camera=joints,
    )


def _objects(
    root: Path, camera: Path, stems: list[str], T_world_camera: np.ndarray, notes: dict[str, str]
) -> tuple[ObjectTrack, ...] | None:
    """Poses from obj_pose_RT; centre and size from the mesh, else from obj_pose: a class, then 21 points in the
    camera (metres), the centre, 8 corners and the middles of 12 edges."""
    if not (camera / "obj_pose_RT").is_dir():
        return None
    data = _labels(camera / "obj_pose_RT", stems, 17, notes)
    T_camera_object = data[:, 1:].reshape(-1, 4, 4)
    boxes = _labels(camera / "obj_pose", stems, 64, notes)
    tracks, meshes = [], []
    for k in (int(k) for k in np.unique(np.nan_to_num(data[:, 0])) if 0 < k < len(OBJECTS)):
        here = data[:, 0] == k
        track = ObjectTrack(OBJECTS[k], np.where(here[:, None, None], T_world_camera @ T_camera_object, np.nan))
        if (both := here & (boxes[:, 0] == k)).any():
            own = transform(invert(T_camera_object[both]), boxes[both, 1:].reshape(-1, 21, 3))
            low, high = np.median(own[:, 1:9].min(1), 0), np.median(own[:, 1:9].max(1), 0)
            track = replace(track, centre=np.median(own[:, 0], 0), extent=high - low)
        tracks.append(track)
        files = [
            root / top / MESHES[k] / f"{MESHES[k]}.{e}" for top in ("object", "objects") for e in ("ply", "obj")
        ]
        meshes.append(next((path for path in files if path.is_file()), None))
    return add_shapes(tracks, meshes, notes)


def _texts(camera: Path, stems: list[str], times: np.ndarray, notes: dict[str, str]) -> tuple[Text, ...]:
    if not (camera / "action_label").is_dir():
        return ()
    labels = np.nan_to_num(_labels(camera / "action_label", stems, 1, notes)[:, 0]).astype(int).tolist()
    return tuple(
        Text(ACTIONS[label], float(times[start]), float(times[stop - 1] + 1 / RATE))
        for start, stop, label in runs(labels)
        if 0 < label < len(ACTIONS)
    )


def _place(camera: Path) -> tuple[int | None, str | None]:
    match = re.search(r"subject(\d)", str(camera))
    task = next((part for part in camera.parts if part in ("h1", "h2", "k1", "k2", "o1", "o2")), None)
    return (int(match.group(1)) if match else None), task


def _split(subject: int | None, task: str | None) -> Split | None:
    if subject is None or task is None:
        return None
    if subject == 4:
        return "test"
    return "validation" if subject == 3 and task in ("k2", "o1", "o2") else "train"

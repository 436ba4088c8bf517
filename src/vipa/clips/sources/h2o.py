"""H2O: two hands and objects, five cameras, one of them worn (taeinkwon/h2odataset, h2oplayer)."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Side, Split, Text
from vipa.clips.depth import DepthImages
from vipa.clips.mano_hands import have_mano, mano_hand, mano_layer
from vipa.clips.reading import chunks, existing_root, make_hand, numbers, read_each, rows, runs
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import ImageFrames
from vipa.geometry import Intrinsics, matrix_from_axis_angle

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
          depth/ cam_pose/ hand_pose/ hand_pose_mano/ obj_pose_RT/ action_label/
"""

RATE = 30.0
OBJECTS = ("", "book", "espresso", "lotion", "spray", "milk", "cocoa", "chips", "cappuccino")
_GRABBED = OBJECTS[1:]
ACTIONS = (
    "",
    *(f"grab {o}" for o in _GRABBED),
    *(f"place {o}" for o in _GRABBED),
    *("open lotion", "open milk", "open chips", "close lotion", "close milk", "close chips", "pour milk"),
    *(f"take out {o}" for o in ("espresso", "cocoa", "chips", "cappuccino")),
    *(f"put in {o}" for o in ("espresso", "cocoa", "cappuccino")),
    *("apply lotion", "apply spray", "read book", "read espresso", "spray spray", "squeeze lotion"),
)
"""The 37 action labels, in the data set's order; 0 is background."""


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
    frames = ImageFrames(tuple(images))
    high, wide = frames.read([0]).shape[1:3]
    small = (wide, high) != (intrinsics.width, intrinsics.height)
    intrinsics = intrinsics.resized(wide, high) if small else intrinsics
    n, stems = len(images), [p.stem for p in images]
    times = (np.array([int(s) for s in stems]) - int(stems[0])) / RATE

    poses = np.stack([numbers(camera / "cam_pose" / f"{s}.txt", 16) for s in stems])  # camera to world
    T_world_camera = rows(poses, n, "cam_pose", (4, 4))
    depth = DepthImages(tuple(camera / "depth" / f"{s}.png" for s in stems), 1e-3, (wide, high))
    hands = [_hand(side, camera, stems, options) for side in ("left", "right")]
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
        depth=depth if not small and (camera / "depth").is_dir() else None,
        objects=_objects(camera, stems, T_world_camera),
        texts=_texts(camera, stems, times),
        split=_split(subject, task),
        licence=LICENCE,
    )
    if not clip.hands:
        raise ValueError("no hand is annotated in any frame")
    yield from chunks(clip, options.seconds)


def _labels(folder: Path, stems: list[str], count: int) -> np.ndarray:
    """(frames, count); rows of NaN where a file is not there."""
    paths = [folder / f"{s}.txt" for s in stems]
    missing = np.full(count, np.nan)
    return np.stack([numbers(p, count) if p.is_file() else missing for p in paths])


def _hand(side: Side, camera: Path, stems: list[str], options: SourceOptions) -> Hand | None:
    """hand_pose: 64 numbers a hand, left first. hand_pose_mano: 62 a hand (the README's 59 is an error)."""
    data = _labels(camera / "hand_pose", stems, 128)[:, (0 if side == "left" else 64) :][:, :64]
    known = data[:, 0] == 1  # rows of an unannotated hand are zeros
    joints = np.where(known[:, None, None], data[:, 1:].reshape(-1, 21, 3), np.nan)
    folder = next((f for f in (camera / "hand_pose_mano", camera / "hand_pose_MANO") if f.is_dir()), None)
    if folder is None or not have_mano(options.mano):
        return make_hand(side, joints)
    mano = _labels(folder, stems, 124)[:, (0 if side == "left" else 62) :][:, :62]
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


def _objects(camera: Path, stems: list[str], T_world_camera: np.ndarray) -> tuple[ObjectTrack, ...] | None:
    if not (camera / "obj_pose_RT").is_dir():
        return None
    data = _labels(camera / "obj_pose_RT", stems, 17)
    T_world_object = T_world_camera @ data[:, 1:].reshape(-1, 4, 4)
    kinds = [int(k) for k in np.unique(np.nan_to_num(data[:, 0])) if 0 < k < len(OBJECTS)]
    return tuple(
        ObjectTrack(OBJECTS[k], np.where((data[:, 0] == k)[:, None, None], T_world_object, np.nan)) for k in kinds
    )


def _texts(camera: Path, stems: list[str], times: np.ndarray) -> tuple[Text, ...]:
    if not (camera / "action_label").is_dir():
        return ()
    labels = np.nan_to_num(_labels(camera / "action_label", stems, 1)[:, 0]).astype(int).tolist()
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

"""TACO: two hands, a tool and a target; one worn and twelve fixed cameras (leolyliu/TACO-Instructions)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Split, Text
from vipa.clips.depth import depth_video
from vipa.clips.mano_hands import mano_hand, mano_layer
from vipa.clips.meshes import add_shapes
from vipa.clips.reading import chunks, existing_root, numbers, read_each, rows
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics, invert, matrix_from_axis_angle
from vipa.hands.skeleton import Side
from vipa.io.frame_times import end_of
from vipa.io.json_files import read_json
from vipa.io.safe_pickle import load_npy, load_pickle

OPTIONS = ("mano", "view", "seconds")
LICENCE = "CC BY 4.0"
DOWNLOAD = "taco2024.github.io: the modalities below; MANO model files"
LAYOUT = """\
ROOT/
  Egocentric_RGB_Videos/(verb, tool, target)/YYYYMMDD_nnn/color.mp4
  Egocentric_Depth_Videos/.../egocentric_depth.avi
  Egocentric_Camera_Parameters/.../egocentric_intrinsic.txt  egocentric_frame_extrinsic.npy
  Hand_Poses/.../left_hand.pkl  right_hand.pkl  left_hand_shape.pkl  right_hand_shape.pkl
  Object_Poses/.../tool_<id>.npy  target_<id>.npy
  Object_Models/<id>_cm.obj
  Allocentric_RGB_Videos/.../<serial>.mp4  Allocentric_Camera_Parameters/....json   (option view: a serial)
  v1_overall_data_train_test_split.txt   (from data_lists/ of the repository; anywhere below ROOT)
"""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    found = [
        (f"{_triplet(folder.parent.name)[3]}_{folder.name}", folder)
        for folder in sorted((root / "Hand_Poses").glob("*/*"))
        if folder.is_dir()
    ]
    splits = _splits(root)
    return read_each("taco", root, LAYOUT, found, lambda name, folder: _read(name, root, folder, splits, options))


def _triplet(folder: str) -> tuple[str, str, str, str]:
    """(verb, tool, target, the three as a file name) of '(verb, tool, target)'."""
    parts = [p.strip() for p in folder.strip("()").split(",")]
    if len(parts) != 3:
        return "", "", "", folder.replace(" ", "-")
    return parts[0], parts[1], parts[2], "-".join(p.replace(" ", "-") for p in parts)


WORDINGS = {
    "brush": "brush {target} with {tool}",
    "cut": "cut something {at} {target} with {tool}",
    "dust": "dust {target} with {tool}",
    "empty": "empty {tool} {to} {target}",
    "hit": "hit {target} with {tool}",
    "measure": "measure {target} with {tool}",
    "pour in some": "pour some of what is {tool_at} {tool} {to} {target}",
    "put in": "put something {to} {target} with {tool}",
    "put out": "take something {off} {target} with {tool}",
    "scrape off": "scrape something off {target} with {tool}",
    "screw": "turn a screw on {target} with {tool}",
    "skim off": "skim something off {target} with {tool}",
    "smear": "smear something on {target} with {tool}",
    "stir": "stir what is {at} {target} with {tool}",
    "stir-fry": "stir-fry what is {at} {target} with {tool}",
}
"""TACO's 15 actions -> what is said of (verb, tool, target). With `empty` and `pour in some` things move from the tool
to the target; the others are done to the target with the tool."""


def wording(verb: str, tool: str, target: str) -> tuple[str | None, dict[str, str]]:
    """What is done, in words, and what tool and target are called; no sentence for an unknown action.

    Two of one kind are told apart: `one bowl` and `the other bowl`, called bowl and other bowl.
    """
    names = {"tool": tool, "target": target}
    template = WORDINGS.get(" ".join(verb.lower().split()))
    if template is None or not (tool and target):
        return None, names
    said = {role: f"the {name}" for role, name in names.items()}
    if tool == target:
        first, second = sorted(names, key=lambda role: template.index(f"{{{role}}}"))
        said = {first: f"one {tool}", second: f"the other {tool}"}
        names[second] = f"other {tool}"
    flat = target == "plate"  # things lie on it; they are in all the others
    words = {"at": "on", "to": "onto", "off": "off"} if flat else {"at": "in", "to": "into", "off": "out of"}
    return template.format(**said, **words, tool_at="on" if tool == "plate" else "in"), names


def _read(
    name: str, root: Path, folder: Path, splits: dict[str, Split], options: SourceOptions
) -> Iterator[Clip | ClipError]:
    inside = Path(folder.parent.name) / folder.name
    verb, tool, target, _ = _triplet(folder.parent.name)
    ego = options.view in (None, "ego")
    if ego:
        video = VideoFrames(root / "Egocentric_RGB_Videos" / inside / "color.mp4")
    else:
        video = VideoFrames(root / "Allocentric_RGB_Videos" / inside / f"{options.view}.mp4")
    n = len(video)
    intrinsics, T_camera_world = (_ego if ego else _allocentric)(root, inside, video, options.view)
    files = sorted((root / "Object_Poses" / inside).glob("*.npy"))
    object_poses = {p.stem: np.asarray(load_npy(p), dtype=np.float64) for p in files}
    for stem, poses in object_poses.items():
        if len(poses) != n:
            raise ValueError(f"losing frames: {stem}.npy has {len(poses)} poses, the video has {n} frames")
    notes: dict[str, str] = {}
    hands = [_hand(side, folder, n, T_camera_world, options, notes) for side in ("left", "right")]
    depth = root / "Egocentric_Depth_Videos" / inside / "egocentric_depth.avi"
    text, names = wording(verb, tool, target)
    if text is None:
        notes["texts"] = f"none: no wording for the action {folder.parent.name}"
    tracks = [_track(stem, poses, names, n) for stem, poses in object_poses.items()]
    meshes = [root / "Object_Models" / f"{stem.partition('_')[2]}_cm.obj" for stem in object_poses]
    clip = Clip(
        id=name,
        source="taco",
        source_video=str(inside),
        frames=video,
        timestamps=video.timestamps,
        intrinsics=intrinsics,
        T_world_camera=invert(T_camera_world),
        hands=tuple(h for h in hands if h is not None),
        depth=depth_video(depth, 1 / 4000, video.size, n, notes) if ego else None,
        objects=add_shapes(tracks, meshes, notes, 0.01) or None,
        texts=(Text(text, 0.0, end_of(video.timestamps)),) if text else (),
        split=splits.get(folder.name),
        licence=LICENCE,
        notes=notes,
    )
    if not clip.hands:
        raise ValueError(f"{folder}: no left_hand.pkl or right_hand.pkl")
    yield from chunks(clip, options.seconds)


def _ego(root: Path, inside: Path, video: VideoFrames, view: str | None) -> tuple[Intrinsics, np.ndarray]:
    folder = root / "Egocentric_Camera_Parameters" / inside
    K = numbers(folder / "egocentric_intrinsic.txt", 9).reshape(3, 3)
    T_camera_world = rows(
        load_npy(folder / "egocentric_frame_extrinsic.npy"), len(video), "egocentric_frame_extrinsic", (4, 4)
    )
    return Intrinsics.from_recorded(K, (1920, 1080), video.size, "calibrated"), T_camera_world


def _allocentric(root: Path, inside: Path, video: VideoFrames, view: str | None) -> tuple[Intrinsics, np.ndarray]:
    folder = root / "Allocentric_Camera_Parameters" / inside.parent
    paths = [*sorted((folder / inside.name).glob("*.json")), folder / f"{inside.name}.json"]
    camera = read_json(next((p for p in paths if p.is_file()), paths[-1]))[str(view)]
    T = np.eye(4)
    T[:3, :3] = np.array(camera["R"], dtype=np.float64).reshape(3, 3)
    T[:3, 3] = np.array(camera["T"], dtype=np.float64).reshape(3)
    K = np.array(camera["K"], dtype=np.float64).reshape(3, 3)
    width, height = (int(x) for x in camera["imgSize"])
    intrinsics = Intrinsics.from_matrix(K, width, height, "calibrated")
    return intrinsics.for_size(*video.size), np.repeat(T[None], len(video), 0)


def _hand(
    side: Side, folder: Path, n: int, T_camera_world: np.ndarray, options: SourceOptions, notes: dict[str, str]
) -> Hand | None:
    """World frame; manopth with centre_idx=0 and a flat mean: hand_trans is the wrist."""
    path = folder / f"{side}_hand.pkl"
    if not path.is_file():
        return None
    data = load_pickle(path)
    shape = load_pickle(folder / f"{side}_hand_shape.pkl")["hand_shape"]
    pose, wrist, known = np.zeros((n, 48)), np.zeros((n, 3)), np.zeros(n, bool)
    keys = sorted(data, key=int)
    first = 0 if len(keys) == n else int(any(int(k) == n for k in keys))  # numbering from 1, with gaps
    for k, key in enumerate(keys):
        row = k if len(keys) == n else int(key) - first
        if not 0 <= row < n:
            raise ValueError(f"{path}: frame {key} of a video of {n} frames")
        try:
            pose[row] = np.asarray(data[key]["hand_pose"], dtype=np.float64).reshape(48)
            wrist[row] = np.asarray(data[key]["hand_trans"], dtype=np.float64).reshape(3)
        except (KeyError, TypeError, ValueError) as error:
            notes[path.name] = f"frame {key} is unknown, its entry is damaged ({error})"
            continue
        known[row] = np.isfinite(pose[row]).all() and np.isfinite(wrist[row]).all()
    return mano_hand(
        mano_layer(side, options.mano, True),
        orientation=matrix_from_axis_angle(np.nan_to_num(pose[:, :3])),
        pose=pose[:, 3:],
        form="axis_angle",
        add_mean=False,
        betas=np.asarray(shape, dtype=np.float64).reshape(10),
        wrist=wrist,
        tips="manopth",
        T_camera_source=T_camera_world,
        known=known,
    )


def _track(stem: str, poses: np.ndarray, names: dict[str, str], n: int) -> ObjectTrack:
    return ObjectTrack(names.get(stem.partition("_")[0]) or stem, rows(poses, n, f"{stem}.npy", (4, 4)))


def _splits(root: Path) -> dict[str, Split]:
    """Lines 'sequence,train' or 'sequence,test_k'."""
    out: dict[str, Split] = {}
    for path in sorted(root.glob("*train_test_split.txt")) or sorted(root.glob("*/*train_test_split.txt")):
        for line in path.read_text().splitlines():
            sequence, _, split = line.partition(",")
            if split.strip():
                out[sequence.strip()] = "train" if split.strip() == "train" else "test"
    return out

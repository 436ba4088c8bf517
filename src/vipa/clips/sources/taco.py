"""TACO: two hands, a tool and a target; one worn and twelve fixed cameras (leolyliu/TACO-Instructions)."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Side, Split, Text
from vipa.clips.depth import DepthVideo
from vipa.clips.mano_hands import mano_hand, mano_layer
from vipa.clips.reading import chunks, existing_root, numbers, obj_extent, read_each, rows
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics, invert, matrix_from_axis_angle
from vipa.safe_pickle import load_npy, load_pickle

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
    hands = [_hand(side, folder, n, T_camera_world, options) for side in ("left", "right")]
    names = {"tool": tool, "target": target}
    depth = root / "Egocentric_Depth_Videos" / inside / "egocentric_depth.avi"
    clip = Clip(
        id=name,
        source="taco",
        source_video=str(inside),
        frames=video,
        timestamps=video.timestamps,
        intrinsics=intrinsics,
        T_world_camera=invert(T_camera_world),
        hands=tuple(h for h in hands if h is not None),
        depth=DepthVideo(depth, 1 / 4000) if ego and depth.is_file() else None,
        objects=tuple(_track(root, stem, poses, names, n) for stem, poses in object_poses.items()) or None,
        texts=(Text(f"{verb} the {target} with the {tool}", 0.0, n / video_rate(video)),) if verb else (),
        split=splits.get(folder.name),
        licence=LICENCE,
    )
    if not clip.hands:
        raise ValueError(f"{folder}: no left_hand.pkl or right_hand.pkl")
    yield from chunks(clip, options.seconds)


def video_rate(video: VideoFrames) -> float:
    times = video.timestamps
    return (len(times) - 1) / float(times[-1]) if len(times) > 1 else 1.0


def _ego(root: Path, inside: Path, video: VideoFrames, view: str | None) -> tuple[Intrinsics, np.ndarray]:
    folder = root / "Egocentric_Camera_Parameters" / inside
    K = numbers(folder / "egocentric_intrinsic.txt", 9).reshape(3, 3)
    T_camera_world = rows(
        load_npy(folder / "egocentric_frame_extrinsic.npy"), len(video), "egocentric_frame_extrinsic", (4, 4)
    )
    return Intrinsics.from_matrix(K, *video.size, "calibrated"), T_camera_world


def _allocentric(root: Path, inside: Path, video: VideoFrames, view: str | None) -> tuple[Intrinsics, np.ndarray]:
    folder = root / "Allocentric_Camera_Parameters" / inside.parent
    paths = [*sorted((folder / inside.name).glob("*.json")), folder / f"{inside.name}.json"]
    camera = json.loads(next((p for p in paths if p.is_file()), paths[-1]).read_text())[str(view)]
    T = np.eye(4)
    T[:3, :3] = np.array(camera["R"], dtype=np.float64).reshape(3, 3)
    T[:3, 3] = np.array(camera["T"], dtype=np.float64).reshape(3)
    K = np.array(camera["K"], dtype=np.float64).reshape(3, 3)
    width, height = (int(x) for x in camera["imgSize"])
    intrinsics = Intrinsics.from_matrix(K, width, height, "calibrated")
    return intrinsics.resized(*video.size), np.repeat(T[None], len(video), 0)


def _hand(side: Side, folder: Path, n: int, T_camera_world: np.ndarray, options: SourceOptions) -> Hand | None:
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
        pose[row] = np.asarray(data[key]["hand_pose"], dtype=np.float64).reshape(48)
        wrist[row] = np.asarray(data[key]["hand_trans"], dtype=np.float64).reshape(3)
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


def _track(root: Path, stem: str, poses: np.ndarray, names: dict[str, str], n: int) -> ObjectTrack:
    role, _, number = stem.partition("_")
    mesh = root / "Object_Models" / f"{number}_cm.obj"
    return ObjectTrack(
        names.get(role) or stem,
        rows(poses, n, f"{stem}.npy", (4, 4)),
        extent=obj_extent(mesh, 0.01),
        mesh=str(mesh) if mesh.is_file() else None,
    )


def _splits(root: Path) -> dict[str, Split]:
    """Lines 'sequence,train' or 'sequence,test_k'."""
    out: dict[str, Split] = {}
    for path in sorted(root.glob("*train_test_split.txt")) or sorted(root.glob("*/*train_test_split.txt")):
        for line in path.read_text().splitlines():
            sequence, _, split = line.partition(",")
            if split.strip():
                out[sequence.strip()] = "train" if split.strip() == "train" else "test"
    return out

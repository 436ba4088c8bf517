"""HOT3D: hands and objects from Project Aria and Quest 3 headsets, fisheye cameras (facebookresearch/hot3d)."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from vipa.clips.aria_calibration import LABELS, PLACES, read_online_calibration
from vipa.clips.clip import Clip, ClipError, Frames, Hand, ObjectTrack
from vipa.clips.mano_hands import have_mano, mano_hand, mano_layer
from vipa.clips.meshes import add_shapes
from vipa.clips.reading import chunks, existing_root, make_hand, read_each, sound_images
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import AbsentFrames, ImageFrames, UndistortedEach, UndistortedFrames
from vipa.geometry import Intrinsics, invert, matrix_from_quaternion_wxyz, rigid, transform
from vipa.geometry.distortion import Fisheye624
from vipa.hands.skeleton import Side
from vipa.hands.umetrack import UmeTrackHand
from vipa.io.json_files import read_json

OPTIONS = ("mano", "view", "seconds")
LICENCE = "HOT3D licence agreement (Meta); Apache-2.0 for the repository's sample"
DOWNLOAD = "projectaria.com/datasets/hot3d (form); images exported from recording.vrs; optionally MANO model files"
LAYOUT = """\
ROOT/
  P0003_c701bd11/ ...                       (any folders below ROOT)
    headset_trajectory.csv  dynamic_objects.csv
    umetrack_hand_pose_trajectory.jsonl  umetrack_hand_user_profile.json  mano_hand_pose_trajectory.jsonl
    camera_models.json                      Quest 3; for Aria write the same from the recording's calibration
    mps/slam/online_calibration.jsonl       optional, Aria: the cameras as they were while it was recorded
    frames/<stream id>/<timestamp in ns>.jpg|png   images of a stream, exported from recording.vrs, not turned
    masks/mask_qa_pass.csv  mask_hand_pose_available.csv  mask_object_pose_available.csv
          mask_object_pose_quality.csv  mask_headset_pose_available.csv    optional: what they mark is unknown
  object_library/instance.json  <object id>.glb ...
option view: a stream id (1201-1, 214-1, ...); the first of camera_models.json by default
"""

SIDES: tuple[tuple[str, Side], ...] = (("0", "left"), ("1", "right"))
HAND_MASKS = ("qa_pass", "hand_pose_available")
OBJECT_MASKS = ("qa_pass", "object_pose_available", "object_pose_quality")
HEADSET_MASKS = ("headset_pose_available",)
"""Which of masks/mask_<name>.csv say that a pose is wrong or not there. What they mark False is unknown."""

_NEAREST = 17e6  # nanoseconds: half a frame


@dataclass(frozen=True)
class Camera:
    """One stream of a headset. size: (width, height), pixels."""

    stream: str
    lens: Fisheye624
    size: tuple[int, int]
    T_device_camera: np.ndarray

    def for_size(self, size: tuple[int, int]) -> "Camera":
        """For pictures made smaller as a whole; ValueError for another shape, such as pictures that were turned."""
        own = Intrinsics(self.lens.fx, self.lens.fy, self.lens.cx, self.lens.cy, *self.size, "calibrated")
        new = own.for_size(*size)
        return replace(self, lens=replace(self.lens, fx=new.fx, fy=new.fy, cx=new.cx, cy=new.cy), size=size)


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    found = [(p.parent.name, p.parent) for p in sorted(root.rglob("headset_trajectory.csv"))]
    return read_each("hot3d", root, LAYOUT, found, lambda name, folder: _read(name, root, folder, options))


def _read(name: str, root: Path, folder: Path, options: SourceOptions) -> Iterator[Clip | ClipError]:
    camera = read_camera(folder / "camera_models.json", options.view)
    own = camera.size  # of the calibration; the pictures may be smaller
    headset = read_poses(folder / "headset_trajectory.csv")
    trajectory = next(iter(headset.values()))
    files = _images(folder, camera.stream)
    wanted = np.array(sorted(files) if files else sorted(trajectory), dtype=np.int64)
    notes: dict[str, str] = {}
    wanted = wanted[nearest(wanted, trajectory) >= 0]
    wanted = wanted[_marked_good(folder, HEADSET_MASKS, camera.stream, wanted, notes)]
    if not len(wanted):
        raise ValueError(f"{folder}: no frame of stream {camera.stream} has a headset pose")
    if files:
        sound, size = sound_images([files[t] for t in wanted], notes)
        wanted = wanted[sound]
        camera = camera.for_size(size)
    cameras = _online(folder, camera, own, wanted, notes)
    T_world_camera = _at(trajectory, wanted) @ np.stack([c.T_device_camera for c in cameras])
    lens, (width, height) = camera.lens, camera.size
    pinhole = Intrinsics(lens.fx, lens.fy, lens.cx, lens.cy, width, height, "calibrated")
    frames: Frames = AbsentFrames(
        len(wanted),
        f"{folder}: no images; export stream {camera.stream} of recording.vrs to frames/{camera.stream}/",
    )
    if files:
        frames, lenses = ImageFrames(tuple(files[t] for t in wanted)), tuple(c.lens for c in cameras)
        if len(set(lenses)) == 1:
            frames = UndistortedFrames(frames, lenses[0], camera.size, pinhole)
        else:
            frames = UndistortedEach(frames, lenses, camera.size, pinhole)
    good = _marked_good(folder, HAND_MASKS, camera.stream, wanted, notes)
    hands, kind = _hands(folder, wanted, invert(T_world_camera), good, options)
    notes |= {"hands": kind, "images": "undistorted to a pinhole of the lens's focal length"}
    good_objects = _marked_good(folder, OBJECT_MASKS, camera.stream, wanted, notes)
    clip = Clip(
        id=f"{name}_{camera.stream}",
        source="hot3d",
        source_video=name,
        frames=frames,
        timestamps=(wanted - wanted[0]) * 1e-9,
        intrinsics=pinhole,
        T_world_camera=T_world_camera,
        hands=tuple(hands),
        objects=_objects(root, folder, wanted, good_objects, notes),
        licence=LICENCE,
        notes=notes,
    )
    if not hands:
        marks = ", ".join(f"{name} {said}" for name, said in notes.items() if name.startswith("mask_"))
        raise ValueError(
            "no hand pose in umetrack_hand_pose_trajectory.jsonl or mano_hand_pose_trajectory.jsonl"
            + (f" that masks/ leaves: {marks}" if marks else "")
        )
    yield from chunks(clip, options.seconds)


def _online(
    folder: Path, camera: Camera, own: tuple[int, int], wanted: np.ndarray, notes: dict[str, str]
) -> list[Camera]:
    """The camera of each frame: as MPS calibrated it at that time; where frames and records are timed by two clocks
    (HOT3D's tables have the timecode, MPS the device's clock), as it was halfway; without MPS as the factory did.

    own: width and height in pixels that the calibrations are of.
    """
    path = next((folder / place for place in PLACES if (folder / place).is_file()), None)
    if path is None:
        return [camera] * len(wanted)
    label = LABELS.get(camera.stream)
    if label is None:
        raise ValueError(f"{path}: stream {camera.stream} is no camera of an Aria ({', '.join(LABELS)})")
    online = read_online_calibration(path, label)
    records = online.records_at(wanted)
    notes["calibration"] = "online, by time"
    if records is None:
        notes["calibration"] = "online, of the middle of the recording: the frames are timed by another clock"
        records = np.full(len(wanted), len(online.lenses) // 2)
    scale = own[0] / camera.size[0]
    found = {}
    for r in np.unique(records):
        lens = online.lenses[r]
        if abs(lens.fx / (camera.lens.fx * scale) - 1) > 0.05:
            notes["calibration"] = f"the factory's: {path.name} is of pictures of another size"
            return [camera] * len(wanted)
        found[r] = replace(camera, lens=lens, size=own, T_device_camera=online.T_device_camera[r]).for_size(
            camera.size
        )
    return [found[r] for r in records]


def read_camera(path: Path, stream: str | None = None) -> Camera:
    """ValueError where the stream is not there or not a FISHEYE624; FileNotFoundError for the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: write it from the calibration in recording.vrs")
    cameras = read_json(path, list)
    for c in cameras:
        if stream in (None, c["stream_id"], c.get("label")):
            if "FISHEYE624" not in c["projectionModelType"]:
                raise ValueError(f"{path}: lens model {c['projectionModelType']} is not FISHEYE624")
            T = c["T_Device_Camera"]
            R = matrix_from_quaternion_wxyz(np.array(T["quaternion_wxyz"]))
            return Camera(
                c["stream_id"],
                Fisheye624.from_params(c["projectionParams"]),
                (int(c["imageWidth"]), int(c["imageHeight"])),
                rigid(R, np.array(T["translation_xyz"])),
            )
    raise ValueError(f"{path}: no stream {stream!r}; it has {', '.join(c['stream_id'] for c in cameras)}")


def read_poses(path: Path) -> dict[str, dict[int, np.ndarray]]:
    """object id -> {nanoseconds -> T_world_object (4, 4)} of a trajectory table; rows that are no pose are left out."""
    out: dict[str, dict[int, np.ndarray]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            try:
                t = [float(row[f"t_wo_{a}[m]"]) for a in "xyz"]
                q = [float(row[f"q_wo_{a}"]) for a in "wxyz"]
                key = row["object_uid"], int(row["timestamp[ns]"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {line}: not a pose ({error})") from None
            if np.isfinite([*t, *q]).all() and np.linalg.norm(q) > 0.5:
                out.setdefault(key[0], {})[key[1]] = rigid(matrix_from_quaternion_wxyz(np.array(q)), np.array(t))
    if not out:
        raise ValueError(f"{path}: no pose in it")
    return out


def nearest(wanted: np.ndarray, have: dict[int, object]) -> np.ndarray:
    """For each wanted time the index of the nearest time in sorted(have), -1 where none is within half a frame."""
    times = np.array(sorted(have), dtype=np.int64)
    if not len(times):
        return np.full(len(wanted), -1)
    after = np.searchsorted(times, wanted).clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = after.clip(max=len(times) - 1)
    best = np.where(wanted - times[before] <= times[after] - wanted, before, after)
    return np.where(np.abs(times[best] - wanted) <= _NEAREST, best, -1)


def _at(poses: dict[int, np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """(n, 4, 4), NaN where there is none."""
    stack = np.stack([*(poses[t] for t in sorted(poses)), np.full((4, 4), np.nan)])
    return stack[nearest(wanted, poses)]


def read_mask(path: Path, stream: str) -> dict[int, bool]:
    """nanoseconds -> the mark of one camera stream. ValueError naming the file and the line that is no mark."""
    out: dict[int, bool] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            mark = str(row.get("mask")).strip().lower()
            try:
                time = int(str(row["timestamp[ns]"]))
                if mark not in ("true", "false") or "stream_id" not in row:
                    raise ValueError(f"the mask is {row.get('mask')!r}")
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {line}: not a time, a stream and True or False ({error})"
                ) from None
            if row["stream_id"] == stream:
                out[time] = mark == "true"
    return out


def _marked_good(
    folder: Path, masks: tuple[str, ...], stream: str, wanted: np.ndarray, notes: dict[str, str]
) -> np.ndarray:
    """(frames,) bool: which no mask of the data set's own says False of; a frame that it says nothing of is good."""
    good = np.ones(len(wanted), bool)
    for name in masks:
        path = folder / "masks" / f"mask_{name}.csv"
        marks = read_mask(path, stream) if path.is_file() else {}
        if marks and len(wanted):
            rows, times = nearest(wanted, marks), sorted(marks)
            bad = np.array([r >= 0 and not marks[times[r]] for r in rows])
            if bad.any():
                notes[path.stem] = f"rejects {bad.sum()} of {len(bad)} frames"
            good &= ~bad
    return good


@lru_cache(maxsize=8)
def read_hands(path: Path) -> dict[str, dict[int, dict]]:
    """hand index -> {nanoseconds -> pose} of a hand trajectory, one JSON object a line."""
    out: dict[str, dict[int, dict]] = {}
    with open(path, encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            try:
                entry = json.loads(text)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {line}: {error}") from None
            for index, pose in entry.get("hand_poses", {}).items():
                out.setdefault(index, {})[int(entry["timestamp_ns"])] = pose
    return out


def wrist_pose(pose: dict) -> np.ndarray:
    """T_world_wrist (4, 4)."""
    x = pose["wrist_xform"]
    return rigid(matrix_from_quaternion_wxyz(np.array(x["q_wxyz"])), np.array(x["t_xyz"]))


def _hands(
    folder: Path, wanted: np.ndarray, T_camera_world: np.ndarray, good: np.ndarray, options: SourceOptions
) -> tuple[list[Hand], str]:
    """MANO where the user has the model, UmeTrack's own forward kinematics otherwise. good: (frames,) bool, which
    frames' hands can be believed."""
    mano = folder / "mano_hand_pose_trajectory.jsonl"
    use_mano = mano.is_file() and have_mano(options.mano)
    track = read_hands(mano if use_mano else folder / "umetrack_hand_pose_trajectory.jsonl")
    hands = []
    for index, side in SIDES:
        poses = track.get(index, {})
        rows = nearest(wanted, poses)
        known = (rows >= 0) & good
        if not known.any():
            continue
        times = sorted(poses)
        entries = [poses[times[r]] if r >= 0 else poses[times[0]] for r in rows]
        T_world_wrist = np.stack([wrist_pose(e) for e in entries])
        if use_mano:
            hand = mano_hand(
                mano_layer(side, options.mano, False),  # HOT3D repairs the left model's sign fault
                orientation=T_world_wrist[:, :3, :3],
                pose=np.array([e["pose"] for e in entries]),
                form="pca",
                add_mean=True,
                betas=np.array([e["betas"] for e in entries]),
                translation=T_world_wrist[:, :3, 3],
                tips="smplx",
                T_camera_source=T_camera_world,
                known=known,
            )
        else:
            model = UmeTrackHand.load(folder / "umetrack_hand_user_profile.json")
            joints = model.joints(side, np.array([e["joint_angles"] for e in entries]), T_world_wrist)
            joints = np.where(known[:, None, None], transform(T_camera_world, joints), np.nan)
            confidence = np.array([float(e.get("hand_confidence", 1.0)) for e in entries])
            hand = make_hand(side, joints, confidence)
        if hand is not None:
            hands.append(hand)
    return hands, "MANO" if use_mano else "UmeTrack"


def object_name(name: str) -> str:
    """'mug_white' -> 'white mug': the library puts the kind of some things before what distinguishes them."""
    if name in _NAMES:
        return _NAMES[name]
    kind, _, which = name.replace("_", " ").partition(" ")
    return f"{which} {kind}" if which and kind in _KINDS else f"{kind} {which}".strip()


_KINDS = ("bottle", "can", "carton", "holder", "mug", "plate", "spatula", "spoon")
_NAMES = {
    **dict.fromkeys(("aria_small", "aria_d1283", "aria_g1283"), "pair of smart glasses"),
    "bottle_bbq": "barbecue sauce bottle",
    "carton_oj": "orange juice carton",
    "dino_toy": "dinosaur toy",
    "dumbbell_5lb": "dumbbell",
    "dvd_remote": "remote control",
    "food_vegetables": "toy vegetables",
    "food_waffles": "toy waffles",
    "quest3": "headset",
}


def _objects(
    root: Path, folder: Path, wanted: np.ndarray, good: np.ndarray, notes: dict[str, str]
) -> tuple[ObjectTrack, ...] | None:
    path = folder / "dynamic_objects.csv"
    if not path.is_file():
        return None
    library = (
        next(iter(sorted(root.rglob("instance.json"))), None) or folder.parents[1] / "object_library/instance.json"
    )
    names = read_json(library) if library.is_file() else {}
    tracks, meshes = [], []
    for uid, poses in sorted(read_poses(path).items()):
        name = object_name(str(names.get(uid, {}).get("instance_name", uid)))
        tracks.append(ObjectTrack(name, np.where(good[:, None, None], _at(poses, wanted), np.nan)))
        meshes.append(library.with_name(f"{uid}.glb"))
    return add_shapes(tracks, meshes, notes)


def _images(folder: Path, stream: str) -> dict[int, Path]:
    return {int(p.stem): p for p in sorted((folder / "frames" / stream).glob("*.*")) if p.stem.isdigit()}

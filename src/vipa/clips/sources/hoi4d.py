"""HOI4D: egocentric RGB-D videos of one hand and one object (leolyliu/HOI4D-Instructions)."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Side, Text
from vipa.clips.depth import DepthImages, DepthVideo
from vipa.clips.mano_hands import mano_hand, mano_layer
from vipa.clips.reading import chunks, cut, existing_root, read_each
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics, matrix_from_axis_angle, rigid
from vipa.safe_pickle import load_npy, load_pickle

OPTIONS = ("mano", "seconds")
LICENCE = "CC BY-NC 4.0"
DOWNLOAD = (
    "hoi4d.github.io: HOI4D_release, HOI4D_annotations, Hand_pose and camera_params archives; MANO model files"
)
LAYOUT = """\
ROOT/
  HOI4D_release/<sequence>/align_rgb/image.mp4      <sequence>: ZY2021080000x/H*/C*/N*/S*/s*/T*
                           align_depth/depth_video.avi
  HOI4D_annotations/<sequence>/3Dseg/output.log  objpose/*.json  action/color.json
  handpose/refinehandpose_right/<sequence>/<frame>.pickle   (refinehandpose_left, where there is one)
  camera_params/ZY2021080000x/intrin.npy
"""

CATEGORIES = (
    "", "toy car", "mug", "laptop", "storage furniture", "bottle", "safe", "bowl", "bucket", "scissors", "",
    "pliers", "kettle", "knife", "trash can", "", "", "lamp", "stapler", "", "chair",
)  # fmt: skip
_PICK, _INTO, _OUT = "pick and place", "put it in the drawer", "take it out of the drawer"
TASKS = {
    1: (_PICK, "push toy car", _INTO, _OUT),
    2: (_PICK, _INTO, _OUT, "fill with water by a kettle", "pour water into another mug", f"{_PICK} (with water)"),
    3: (_PICK, "open and close the display"),
    4: ("open and close the drawer", "open and close the door", "put the drink in the door",
        "put the drink in the drawer"),
    5: (_PICK, "pour all the water into a mug", _INTO, _OUT, "reposition the bottle", f"{_PICK} (with water)"),
    6: ("open and close the door", "put something in it", "take something out of it"),
    7: (_PICK, _INTO, _OUT, "take the ball out of the bowl", "put the ball in the bowl", f"{_PICK} (with ball)"),
    8: (_PICK, "pour water into another bucket"),
    9: (_PICK, "cut something"),
    11: (_PICK, _OUT, _INTO, "clamp something"),
    12: (_PICK, "pour water into a mug"),
    13: (_PICK, _OUT, _INTO, "cut apple"),
    14: ("open and close", "throw something in it"),
    17: (_PICK, "turn and fold", "turn on and turn off"),
    18: (_PICK, "bind the paper"),
    20: (f"{_PICK} to the original position",) * 2 + (f"{_PICK} to a new position",) * 2,
}  # fmt: skip
"""Category number -> its tasks T1, T2, ... (the data set's task_definitions.csv)."""


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root = existing_root(root)
    found = []
    for video in sorted(root.rglob("align_rgb/image.mp4")):
        sequence = Path(*video.parts[-9:-2])
        if sequence.parts[0].startswith("ZY"):
            found.append(("_".join(sequence.parts), video))
    return read_each("hoi4d", root, LAYOUT, found, lambda name, video: _read(name, root, video, options))


def _read(name: str, root: Path, video_path: Path, options: SourceOptions) -> Iterator[Clip | ClipError]:
    sequence = Path(*video_path.parts[-9:-2])
    video = VideoFrames(video_path)
    n = len(video)
    K = np.asarray(load_npy(_find(root, "camera_params", Path(sequence.parts[0]) / "intrin.npy")))
    annotations = _folder(root, "HOI4D_annotations", sequence)
    log = annotations / "3Dseg" / "output.log" if annotations else None
    poses = read_log(log) if log and log.is_file() else None
    if poses is not None and len(poses) < n:
        n = len(poses)  # the video can be longer than the annotation
    hands = [_hand(side, root, sequence, n, options) for side in ("right", "left")]
    clip = Clip(
        id=name,
        source="hoi4d",
        source_video=str(sequence),
        frames=video,
        timestamps=video.timestamps,
        intrinsics=Intrinsics.from_matrix(K, *video.size, "calibrated"),
        T_world_camera=None,
        hands=(),
        depth=_depth(video_path.parent.parent / "align_depth", video),
        licence=LICENCE,
        notes={} if n == len(video) else {"frames": f"{n} of the video's {len(video)} frames have poses"},
    )
    clip = cut(clip, 0, n, name)
    category = int(sequence.parts[2][1:]) if sequence.parts[2][1:].isdigit() else 0
    fields = {
        "T_world_camera": None if poses is None else poses[:n],
        "hands": tuple(h for h in hands if h is not None),
        "objects": _objects(annotations, category, n, poses),
        "texts": _texts(annotations, category, sequence.parts[6], float(clip.timestamps[-1]) + 1 / clip.rate),
    }
    if not fields["hands"]:
        raise ValueError("no hand pose in handpose/refinehandpose_right or _left for this sequence")
    yield from chunks(clip.__class__(**{**clip.__dict__, **fields}), options.seconds)


def read_log(path: Path) -> np.ndarray:
    """T_world_camera (frames, 4, 4) of a Redwood trajectory: a header line, then four rows; camera to world.

    Surprising: Open3D's reader returns the inverse of what stands in the file.
    """
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    if not lines or len(lines) % 5 or any(len(row) != 4 for i, row in enumerate(lines) if i % 5):
        raise ValueError(f"{path}: not a trajectory of one header and four rows of four numbers a frame")
    return np.array([row for i, row in enumerate(lines) if i % 5], dtype=np.float64).reshape(-1, 4, 4)


def _folder(root: Path, tree: str, sequence: Path) -> Path | None:
    """<tree>/<sequence> below the root, at most two folders deep: archives unpack under many names."""
    tops = (root / tree, *sorted(root.glob(f"*/{tree}")), *sorted(root.glob(f"*/*/{tree}")))
    return next((top / sequence for top in tops if (top / sequence).is_dir()), None)


def _find(root: Path, tree: str, file: Path) -> Path:
    hits = [p for p in (root / tree / file, root / file, *sorted(root.glob(f"*/{file}"))) if p.is_file()]
    if not hits:
        raise FileNotFoundError(f"{root / tree / file} is missing")
    return hits[0]


def _hand(side: Side, root: Path, sequence: Path, n: int, options: SourceOptions) -> Hand | None:
    """Pickles <frame>.pickle, not zero padded, with gaps; manopth, flat mean, in the camera frame.

    `trans` is added outside the layer, whose hand is not centred: it is not the wrist.
    """
    folder = _folder(root, f"refinehandpose_{side}", sequence)
    if folder is None:
        return None
    files = {int(p.stem): p for p in folder.glob("*.pickle") if p.stem.isdigit() and int(p.stem) < n}
    known = np.zeros(n, bool)
    pose, betas, translation = np.zeros((n, 48)), np.zeros((n, 10)), np.zeros((n, 3))
    for frame, path in files.items():
        data = load_pickle(path)
        pose[frame] = np.asarray(data["poseCoeff"], dtype=np.float64).reshape(48)
        betas[frame] = np.asarray(data["beta"], dtype=np.float64).reshape(10)
        translation[frame] = np.asarray(data["trans"], dtype=np.float64).reshape(3)
        known[frame] = np.isfinite(pose[frame]).all() and np.isfinite(translation[frame]).all()
    if not known.any():
        return None
    return mano_hand(
        mano_layer(side, options.mano, True),
        orientation=matrix_from_axis_angle(np.nan_to_num(pose[:, :3])),
        pose=pose[:, 3:],
        form="axis_angle",
        add_mean=False,
        betas=betas,
        translation=translation,
        tips="manopth",
        known=known,
    )


def _depth(folder: Path, video: VideoFrames) -> DepthVideo | DepthImages | None:
    """Millimetres, aligned with the colour image: the distributed AVI, or the PNGs that it is unpacked to."""
    images = sorted(folder.glob("*.png"))
    if images:
        by_number = {int(p.stem): p for p in images if p.stem.isdigit()}
        return DepthImages(tuple(by_number.get(i) for i in range(len(video))), 1e-3, video.size)
    path = folder / "depth_video.avi"
    return DepthVideo(path, 1e-3) if path.is_file() and len(DepthVideo(path, 1e-3)) == len(video) else None


def _objects(
    annotations: Path | None, category: int, n: int, poses: np.ndarray | None
) -> tuple[ObjectTrack, ...] | None:
    """objpose/<frame>.json: centre (metres), Euler XYZ (radians), camera frame; the first is the category's."""
    name = CATEGORIES[category] if category < len(CATEGORIES) else ""
    files = sorted((annotations / "objpose").glob("*.json")) if annotations else []
    if not files or poses is None:
        return (ObjectTrack(name),) if name else None
    tracks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path in files:
        frame = int("".join(c for c in path.stem if c.isdigit()) or -1)
        if not 0 <= frame < n:
            continue
        data = json.loads(path.read_text(encoding="utf-8"))
        for k, item in enumerate(data.get("dataList") or data.get("objects") or ()):
            label = name if k == 0 and name else str(item.get("label") or f"{name or 'object'} part {k}")
            T, extent = tracks.setdefault(label, (np.full((n, 4, 4), np.nan), np.zeros(3)))
            angles = [float(item["rotation"][a]) for a in "xyz"]
            centre = [float(item["center"][a]) for a in "xyz"]
            T[frame] = poses[frame] @ rigid(Rotation.from_euler("XYZ", angles).as_matrix(), np.array(centre))
            extent[:] = [float(item["dimensions"][a]) for a in ("length", "width", "height")]
    return tuple(ObjectTrack(label, T, extent=extent) for label, (T, extent) in tracks.items())


def _texts(annotations: Path | None, category: int, task: str, end: float) -> tuple[Text, ...]:
    number = int(task[1:]) if task[1:].isdigit() else 0
    tasks = TASKS.get(category, ())
    out = []
    if 1 <= number <= len(tasks):
        subject = f"{CATEGORIES[category]}: " if CATEGORIES[category] not in tasks[number - 1] else ""
        out.append(Text(subject + tasks[number - 1], 0.0, end))
    path = annotations / "action" / "color.json" if annotations else None
    if path and path.is_file():
        for event in _events(json.loads(path.read_text(encoding="utf-8"))):
            start, stop = (_value(event, key) for key in ("start", "end"))
            label = next((event[k] for k in ("event", "label", "name", "type") if k in event), None)
            if label and start is not None and stop is not None and start < min(stop, end):
                out.append(Text(str(label).lower(), start, min(stop, end)))
    return tuple(out)


def _events(data: object) -> Iterator[dict]:
    """Every mapping with a start and an end, wherever the release put it: key spelling varies."""
    if isinstance(data, list):
        for item in data:
            yield from _events(item)
    elif isinstance(data, dict):
        if _value(data, "start") is not None:
            yield data
        else:
            for item in data.values():
                yield from _events(item)


def _value(event: dict, key: str) -> float | None:
    """The event's start or end in seconds (hdTimeStart, startTime, start, ...)."""
    return next((float(v) for k, v in event.items() if key in k.lower() and isinstance(v, (int, float))), None)

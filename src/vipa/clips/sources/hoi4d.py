"""HOI4D: egocentric RGB-D videos of one hand and one object (leolyliu/HOI4D-Instructions)."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from vipa.clips.clip import Clip, ClipError, DepthFrames, Hand, ObjectTrack, Text
from vipa.clips.depth import depth_images, depth_video
from vipa.clips.mano_hands import mano_hand, mano_layer
from vipa.clips.reading import chunks, cut, each_file, existing_root, read_each
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics, matrix_from_axis_angle, rigid
from vipa.hands.skeleton import Side
from vipa.io.json_files import read_json
from vipa.io.safe_pickle import load_npy, load_pickle

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
_PICK, _INTO, _OUT = (
    "pick up {it} and put {them} down again", "put {it} into the drawer", "take {it} out of the drawer",
)  # fmt: skip
TASKS = {
    1: (_PICK, "push {it}", _INTO, _OUT),
    2: (_PICK, _INTO, _OUT, "fill {it} with water from a kettle", "pour water from {it} into another mug",
        "pick up {it} with water in it and put {them} down again"),
    3: (_PICK, "open and close the display of {it}"),
    4: ("open and close the drawer of {it}", "open and close the door of {it}",
        "put the drink behind the door of {it}", "put the drink into the drawer of {it}"),
    5: (_PICK, "pour all the water from {it} into a mug", _INTO, _OUT, "reposition {it}",
        "pick up {it} with water in it and put {them} down again"),
    6: ("open and close the door of {it}", "put something into {it}", "take something out of {it}"),
    7: (_PICK, _INTO, _OUT, "take the ball out of {it}", "put the ball into {it}",
        "pick up {it} with the ball in it and put {them} down again"),
    8: (_PICK, "pour water from {it} into another bucket"),
    9: (_PICK, "cut something with {it}"),
    11: (_PICK, _OUT, _INTO, "clamp something with {it}"),
    12: (_PICK, "pour water from {it} into a mug"),
    13: (_PICK, _OUT, _INTO, "cut the apple with {it}"),
    14: ("open and close {it}", "throw something into {it}"),
    17: (_PICK, "turn and fold {it}", "turn {it} on and off"),
    18: (_PICK, "bind the paper with {it}"),
    20: ("pick up {it} and put {them} back to the original position",) * 2
        + ("pick up {it} and put {them} at a new position",) * 2,
}  # fmt: skip
"""Category number -> its tasks T1, T2, ... (the data set's task_definitions.csv), of `it`, the category's object."""

EVENTS = {
    "pickup": "pick up {it}", "putdown": "put {it} down", "reachout": "reach for {it}", "grasp": "grasp {it}",
    "carry": "carry {it}", "push": "push {it}", "pull": "pull {it}", "open": "open {it}", "close": "close {it}",
    "turn": "turn {it}", "rest": None, "stop": None,
}  # fmt: skip
"""Labels of action/color.json, as lower-case letters -> what is said; None: nothing is done."""


def in_words(template: str, name: str) -> str:
    """The sentence about an object of this name, of which some are plural."""
    return template.format(it=f"the {name}" if name else "the object", them="them" if name.endswith("s") else "it")


def event_in_words(label: str, name: str) -> str | None:
    """'Pickup' -> 'pick up the mug'; words of an unknown label as they are, None where nothing is done."""
    key = "".join(c for c in label.lower() if c.isalpha())
    if key in EVENTS:
        template = EVENTS[key]
        return None if template is None else in_words(template, name)
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|[_\W]+", " ", label).lower().split()) or None


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
    if poses is not None and len(poses) > n:
        raise ValueError(f"{log} has {len(poses)} poses, {video_path} shows {n} frames: a cut or another video")
    if poses is not None and len(poses) < n:
        n = len(poses)  # the video can be longer than the annotation
    notes = {} if n == len(video) else {"frames": f"{n} of the video's {len(video)} frames have poses"}
    hands = [_hand(side, root, sequence, n, options, notes) for side in ("right", "left")]
    clip = Clip(
        id=name,
        source="hoi4d",
        source_video=str(sequence),
        frames=video,
        timestamps=video.timestamps,
        intrinsics=Intrinsics.from_recorded(K, (1920, 1080), video.size, "calibrated"),
        T_world_camera=None,
        hands=(),
        depth=_depth(video_path.parent.parent / "align_depth", video, notes),
        licence=LICENCE,
        notes=notes,
    )
    clip = cut(clip, 0, n, name)
    category = int(sequence.parts[2][1:]) if sequence.parts[2][1:].isdigit() else 0
    fields = {
        "T_world_camera": None if poses is None else poses[:n],
        "hands": tuple(h for h in hands if h is not None),
        "objects": _objects(annotations, category, n, poses, notes),
        "texts": _texts(annotations, category, sequence.parts[6], clip.end),
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


def _hand(
    side: Side, root: Path, sequence: Path, n: int, options: SourceOptions, notes: dict[str, str]
) -> Hand | None:
    """Pickles <frame>.pickle, not zero padded, with gaps; manopth, flat mean, in the camera frame.

    `trans` is added outside the layer, whose hand is not centred: it is not the wrist.
    """
    folder = _folder(root, f"refinehandpose_{side}", sequence)
    if folder is None:
        return None
    files = {int(p.stem): p for p in folder.glob("*.pickle") if p.stem.isdigit() and int(p.stem) < n}
    known = np.zeros(n, bool)
    pose, betas, translation = np.zeros((n, 48)), np.zeros((n, 10)), np.zeros((n, 3))
    for frame, hand in enumerate(each_file([files.get(i) for i in range(n)], _pickle, notes)):
        if hand is not None:
            pose[frame], betas[frame], translation[frame] = hand
            known[frame] = np.isfinite(np.concatenate(hand)).all()
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


def _pickle(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """pose (48,), betas (10,), translation (3,) of one frame. ValueError naming the file and the entry."""
    data = load_pickle(path)
    out = []
    for key, count in (("poseCoeff", 48), ("beta", 10), ("trans", 3)):
        if not isinstance(data, dict) or np.size(data.get(key, ())) != count:
            raise ValueError(f"{path}: {key} must have {count} numbers")
        out.append(np.asarray(data[key], dtype=np.float64).ravel())
    return out[0], out[1], out[2]


def _depth(folder: Path, video: VideoFrames, notes: dict[str, str]) -> DepthFrames | None:
    """Millimetres, aligned with the colour image: the distributed AVI, or the PNGs that it is unpacked to."""
    images = sorted(folder.glob("*.png"))
    if images:
        by_number = {int(p.stem): p for p in images if p.stem.isdigit()}
        return depth_images([by_number.get(i) for i in range(len(video))], 1e-3, video.size, notes)
    return depth_video(folder / "depth_video.avi", 1e-3, video.size, len(video), notes)


def _objects(
    annotations: Path | None, category: int, n: int, poses: np.ndarray | None, notes: dict[str, str]
) -> tuple[ObjectTrack, ...] | None:
    """objpose/<frame>.json: centre (metres), Euler XYZ (radians), camera frame; the first is the category's."""
    name = CATEGORIES[category] if category < len(CATEGORIES) else ""
    files = sorted((annotations / "objpose").glob("*.json")) if annotations else []
    if not files or poses is None:
        return (ObjectTrack(name),) if name else None
    tracks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    by_frame = {int("".join(c for c in path.stem if c.isdigit()) or -1): path for path in files}
    for frame, items in enumerate(each_file([by_frame.get(i) for i in range(n)], _boxes, notes)):
        for k, (own, T_camera_object, size) in enumerate(items or ()):
            label = name if k == 0 and name else own or f"{name or 'object'} part {k + 1}"
            T, extent = tracks.setdefault(label, (np.full((n, 4, 4), np.nan), np.zeros(3)))
            T[frame] = poses[frame] @ T_camera_object
            extent[:] = size
    return tuple(ObjectTrack(label, T, extent=extent) for label, (T, extent) in tracks.items())


def _boxes(path: Path) -> list[tuple[str, np.ndarray, list[float]]]:
    """(label or "", T_camera_object, metres along its axes) of each object of one frame."""
    data = read_json(path)
    out = []
    for item in data.get("dataList") or data.get("objects") or ():
        angles, centre = ([float(item[key][a]) for a in "xyz"] for key in ("rotation", "center"))
        T = rigid(Rotation.from_euler("XYZ", angles).as_matrix(), np.array(centre))
        size = [float(item["dimensions"][a]) for a in ("length", "width", "height")]
        out.append((str(item.get("label") or "").lower(), T, size))
    return out


def _texts(annotations: Path | None, category: int, task: str, end: float) -> tuple[Text, ...]:
    number = int(task[1:]) if task[1:].isdigit() else 0
    tasks = TASKS.get(category, ())
    name = CATEGORIES[category] if category < len(CATEGORIES) else ""
    out = []
    if 1 <= number <= len(tasks):
        out.append(Text(in_words(tasks[number - 1], name), 0.0, end))
    path = annotations / "action" / "color.json" if annotations else None
    if path and path.is_file():
        for event in _events(read_json(path, object)):
            start, stop = (_value(event, key) for key in ("start", "end"))
            label = next((event[k] for k in ("event", "label", "name", "type") if k in event), None)
            text = event_in_words(str(label), name) if label else None
            if text and start is not None and stop is not None and start < min(stop, end):
                out.append(Text(text, start, min(stop, end)))
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

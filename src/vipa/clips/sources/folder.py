"""Any folder of videos: an mp4 each, with what is known about it in a small JSON file beside it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np

from vipa.clips.clip import Clip, ClipError, Hand, ObjectTrack, Text
from vipa.clips.depth import DepthImages, depth_images
from vipa.clips.landmarks import LandmarkFinder
from vipa.clips.raw_video import VIDEO_SUFFIXES, camera_of, landmark_finder, tracked_hands
from vipa.clips.reading import chunks, files_below, make_hand, read_each, rows
from vipa.clips.sources import NO_OPTIONS, SourceOptions
from vipa.clips.video import VideoFrames
from vipa.hands.skeleton import SIDES
from vipa.io.json_files import read_json

OPTIONS = ("fov_degrees", "tracker", "hands", "seconds", "cache")
OWN_VIDEO = True
LICENCE = "yours: 'licence' in the sidecar"
DOWNLOAD = "nothing: your own videos"
LAYOUT = """\
ROOT/                        (any folders below it; or one video)
  kitchen.mp4
  kitchen.json               optional, every field optional:
                             {"intrinsics": {"fx": 600, "fy": 600, "cx": 320, "cy": 240, "width": 640, "height": 480}
                                ("picture": "stored" where they are not of the pictures as players show them)
                                or "fov_degrees": 70 (horizontal; also as the option fov_degrees, for all videos;
                                without either, what the video's metadata tell, or a guess),
                              "static_camera": true,
                              "texts": [{"text": "pick up the cup", "start": 0.0, "end": 2.5, "hand": "right"}],
                              "objects": ["cup"], "source_video": "day 1", "split": "train", "licence": "CC BY 4.0",
                              "metres_per_depth_unit": 0.001}
  kitchen.npz                optional arrays, one row a frame: T_world_camera (n, 4, 4),
                             left_joints_camera, right_joints_camera (n, 21, 3), left_confidence, right_confidence
  kitchen.depth/000000.png   optional 16-bit depth, aligned with the frames
where kitchen.mov lies beside kitchen.mp4, what belongs to one of them has its whole name: kitchen.mov.json, ...
without joints in the .npz, hands come from MediaPipe, if it is installed, or another tracker (options tracker, hands)
"""

_KNOWN = {
    "intrinsics", "fov_degrees", "static_camera", "texts", "objects", "source_video", "split", "licence",
    "metres_per_depth_unit",
}  # fmt: skip


def read_clips(root: Path, options: SourceOptions = NO_OPTIONS) -> Iterator[Clip | ClipError]:
    root, videos = files_below(root, VIDEO_SUFFIXES)
    alike = Counter(p.with_suffix("") for p in videos)
    shared = {p for p in videos if alike[p.with_suffix("")] > 1}
    found = []
    for p in videos:
        name = "_".join(p.relative_to(root).with_suffix("").parts)
        found.append((name + p.suffix.replace(".", "_") if p in shared else name, p))
    finder = landmark_finder([p for p in videos if not _has_hands(p, p in shared)], options)
    return read_each(
        "folder", root, LAYOUT, found, lambda name, path: _read(name, root, path, path in shared, options, finder)
    )


def _beside(path: Path, suffix: str, shared: bool) -> Path:
    """What belongs to a video: kitchen.mp4.json, else kitchen.json, where no other video has that name too."""
    own, usual = path.with_name(path.name + suffix), path.with_suffix(suffix)
    if own.exists():
        return own
    if shared and usual.exists():
        others = sorted(p.name for p in path.parent.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
        others = [name for name in others if Path(name).stem == path.stem]
        raise ValueError(
            f"{usual} could be of {' or '.join(others)}: rename it to {own.name}, or rename one video"
        )
    return own if shared else usual


def _read(
    name: str, root: Path, path: Path, shared: bool, options: SourceOptions, finder: LandmarkFinder | None
) -> Iterator[Clip | ClipError]:
    """shared: another video has this one's name, with another ending."""
    video = VideoFrames(path)
    n = len(video)
    sidecar = _sidecar(_beside(path, ".json", shared))
    arrays = _arrays(_beside(path, ".npz", shared))
    notes: dict[str, str] = {}
    intrinsics, view = camera_of(video, sidecar, options, notes, guess=True)
    T_world_camera = None
    if "T_world_camera" in arrays:
        T_world_camera = rows(arrays["T_world_camera"], n, "T_world_camera", (4, 4))
    elif sidecar.get("static_camera"):
        T_world_camera = np.repeat(np.eye(4)[None], n, 0)
    hands = _hands(arrays, n)
    if not hands:
        hands = tracked_hands(name, path, video, intrinsics, options, notes, not shared, finder)
    clip = Clip(
        id=name,
        source="folder",
        source_video=str(sidecar.get("source_video") or path.relative_to(root).with_suffix("")),
        frames=video,
        timestamps=video.timestamps,
        intrinsics=intrinsics,
        T_world_camera=T_world_camera,
        hands=hands,
        depth=_depth(
            _beside(path, ".depth", shared), video, float(sidecar.get("metres_per_depth_unit", 1e-3)), notes
        ),
        objects=tuple(ObjectTrack(str(o)) for o in sidecar["objects"]) if "objects" in sidecar else None,
        texts=tuple(_text(item) for item in sidecar.get("texts", ())),
        split=sidecar.get("split"),
        licence=str(sidecar.get("licence", "unknown")),
        field_of_view=view,
        notes=notes,
    )
    yield from chunks(clip, options.seconds)


def _has_hands(path: Path, shared: bool) -> bool:
    """Whether hands lie beside a video; what is wrong with the file is said when the video is read."""
    try:
        beside = _beside(path, ".npz", shared)
        with np.load(beside, allow_pickle=False) as data:
            return any(f"{side}_joints_camera" in data for side in SIDES)
    except Exception:
        return False


def _sidecar(path: Path) -> dict:
    if not path.is_file():
        return {}
    data = read_json(path)
    if unknown := sorted(set(data) - _KNOWN):
        raise ValueError(f"{path}: unknown {unknown}; the fields are {', '.join(sorted(_KNOWN))}")
    if data.get("split") not in (None, "train", "validation", "test"):
        raise ValueError(f"{path}: split must be train, validation or test, it is {data['split']!r}")
    return data


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as data:
            return {key: data[key] for key in data}
    except Exception as error:  # numpy, zipfile and zlib raise what they like
        raise ValueError(f"{path}: damaged, or no .npz of plain arrays ({error})") from None


def _hands(arrays: dict[str, np.ndarray], n: int) -> tuple[Hand, ...]:
    out = []
    for side in SIDES:
        if f"{side}_joints_camera" in arrays:
            joints = rows(arrays[f"{side}_joints_camera"], n, f"{side}_joints_camera", (21, 3))
            confidence = arrays.get(f"{side}_confidence")
            confidence = None if confidence is None else rows(confidence, n, f"{side}_confidence")
            out.append(make_hand(side, joints, confidence))
    return tuple(hand for hand in out if hand is not None)


def _depth(folder: Path, video: VideoFrames, metres_per_unit: float, notes: dict[str, str]) -> DepthImages | None:
    if not folder.is_dir():
        return None
    files = {int(p.stem): p for p in folder.glob("*.png") if p.stem.isdigit()}
    return depth_images([files.get(i) for i in range(len(video))], metres_per_unit, video.size, notes)


def _text(item: dict) -> Text:
    names = {f.name for f in fields(Text)}
    if not isinstance(item, dict) or not {"text", "start", "end"} <= set(item) <= names:
        raise ValueError(f"texts: each needs text, start, end and may have hand; got {item}")
    if item.get("hand") not in (None, "left", "right", "both"):
        raise ValueError(f"texts: hand must be left, right or both, it is {item['hand']!r}")
    return Text(str(item["text"]), float(item["start"]), float(item["end"]), item.get("hand"))

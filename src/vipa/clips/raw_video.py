"""Videos that come without annotation: their camera, and their hands from a tracker's result files."""

import glob
from pathlib import Path

import numpy as np

from vipa.clips.clip import Hand
from vipa.clips.lerobot_frames import EncodedFrames
from vipa.clips.reading import make_hand
from vipa.clips.sources import SourceOptions, check_fov
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics
from vipa.geometry.cameras import CENTRED
from vipa.hands.repair import repair_hands
from vipa.hands.trackers import open_tracker, tracker_version
from vipa.io.hashing import content_of
from vipa.io.store import ClipStore, StageOutput

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"}

TRACKING_VERSION = 1
"""Raised when trackers' results are read or repaired otherwise: kept hands are then out of date."""


def intrinsics_of(video: VideoFrames | EncodedFrames, sidecar: dict, options: SourceOptions) -> Intrinsics:
    """From the sidecar's calibration or field of view, else the option `fov_degrees`. ValueError where nothing says it.

    A calibration is of the pictures as players show them, or, where only that fits their shape, of the pictures as
    they are stored, before the file's display matrix turns them; `"picture": "shown"` or `"stored"` says which.
    """
    given = sidecar.get("intrinsics")
    if given is not None:
        try:
            values = [float(given[key]) for key in ("fx", "fy", "cx", "cy")]
            size = [int(given.get(key, own)) for key, own in zip(("width", "height"), video.size)]
            picture, sized = given.get("picture"), "width" in given and "height" in given
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"intrinsics: fx, fy, cx, cy (and width, height) are needed ({error})") from None
        camera = Intrinsics(*values, *size, "calibrated")
        if not sized and camera.off_centre > CENTRED:
            raise ValueError(
                f"intrinsics: the principal point is far from the middle of the {size[0]} x {size[1]} pictures: give "
                "the width and height of the pictures that they are of"
            )
        return _as_shown(camera, video, picture)
    if sidecar.get("fov_degrees") is not None:
        return _from_fov(float(sidecar["fov_degrees"]), video)
    if options.fov_degrees is not None:
        return _from_fov(options.fov_degrees, video)
    raise ValueError(
        "intrinsics are missing: give them in the sidecar, or the horizontal field of view with --fov-degrees"
    )


def _as_shown(camera: Intrinsics, video: VideoFrames | EncodedFrames, picture: str | None) -> Intrinsics:
    """The camera of the frames that `video` gives. ValueError where it is of neither picture, or could be of both."""
    if picture not in (None, "shown", "stored"):
        raise ValueError(f"intrinsics: picture must be shown or stored, it is {picture!r}")
    if isinstance(video, EncodedFrames):
        return camera.for_size(*video.size)
    rotation, mirrored = video.index.rotation, video.index.mirrored
    width, height = stored = video.index.square
    if picture == "stored" or (
        picture is None and not camera.has_shape(*video.size) and camera.has_shape(*stored)
    ):
        return camera.for_size(width, height).turned(rotation, mirrored)
    shown = camera.for_size(*video.size)
    if picture is None and (rotation or mirrored) and camera.has_shape(*stored):
        turned = camera.for_size(width, height).turned(rotation, mirrored)
        if not np.allclose(turned.matrix, shown.matrix, rtol=1e-3, atol=1.0):
            raise ValueError(
                "intrinsics: the file's display matrix turns or mirrors its pictures, and the shape does not tell "
                'which they are of: add "picture": "shown" (as players show them) or "stored" to the intrinsics'
            )
    return shown


def _from_fov(degrees: float, video: VideoFrames | EncodedFrames) -> Intrinsics:
    return Intrinsics.from_fov(np.radians(check_fov(degrees)), *video.size, "estimated")


def tracked_hands(
    clip_id: str,
    path: Path,
    video: VideoFrames,
    intrinsics: Intrinsics,
    options: SourceOptions,
    one_stem: bool = True,
) -> tuple[Hand, ...]:
    """Hands that a tracker found, repaired: at most one left and one right; () where the user named no tracker.

    options.tracker: its name (`vipa.hands.trackers.tracker_names`). options.hands: its model file, or the folder
    of its results, which holds one file or folder a clip, named like the clip or, where no other video of the
    source has the same name without its ending (one_stem), like the video. options.cache: what was found in a video of
    this content, by these results or this model, is read from there and not found again.
    FileNotFoundError where this video has no results.
    """
    if options.hands is None or options.tracker is None:
        return ()
    results, times = (
        _results(Path(options.hands), (clip_id, path.stem) if one_stem else (clip_id, path.name)),
        video.timestamps,
    )

    def track() -> StageOutput:
        tracker = open_tracker(options.tracker, results)
        tracks = repair_hands(tracker(video, times, intrinsics), times).tracks
        arrays = {f"{t.side}_{k}": getattr(t, k) for t in tracks for k in ("joints_camera", "confidence")}
        return StageOutput([t.side for t in tracks], arrays)

    if options.cache is None:
        found = track()
    else:
        version = tracker_version(options.tracker)
        key = content_of([TRACKING_VERSION, options.tracker, version, intrinsics, times]) + "".join(
            map(content_of, (path, results))
        )
        store = ClipStore(Path(options.cache) / options.tracker / clip_id)
        found = store.read("hands", key)
        if found is None:
            found = track()
            store.write("hands", key, found)
    out = (make_hand(s, found.arrays[f"{s}_joints_camera"], found.arrays[f"{s}_confidence"]) for s in found.values)
    return tuple(hand for hand in out if hand is not None)


def _results(place: Path, names: tuple[str, ...]) -> Path:
    if place.is_file():
        return place  # one model file serves every video
    for name in names:
        hits = [p for p in (place / name, *sorted(place.glob(f"{glob.escape(name)}.*"))) if p.exists()]
        if hits:
            return hits[0]
    raise FileNotFoundError(f"{place}: no result of the hand tracker named {' or '.join(dict.fromkeys(names))}")

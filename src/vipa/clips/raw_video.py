"""Videos that come without annotation: their camera, and their hands from a tracker's result files."""

import glob
from pathlib import Path

import numpy as np

from vipa.clips.clip import Hand
from vipa.clips.reading import make_hand
from vipa.clips.sources import SourceOptions, check_fov
from vipa.clips.video import VideoFrames
from vipa.content import content_of
from vipa.geometry import Intrinsics
from vipa.hands.repair import repair_hands
from vipa.hands.trackers import open_tracker, tracker_version
from vipa.store import ClipStore, StageOutput

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"}

TRACKING_VERSION = 1
"""Raised when trackers' results are read or repaired otherwise: kept hands are then out of date."""


def intrinsics_of(video: VideoFrames, sidecar: dict, options: SourceOptions) -> Intrinsics:
    """From the sidecar's calibration or field of view, else the option `fov_degrees`. ValueError without."""
    given = sidecar.get("intrinsics")
    if given is not None:
        try:
            values = [float(given[key]) for key in ("fx", "fy", "cx", "cy")]
            size = [int(given.get(key, own)) for key, own in zip(("width", "height"), video.size)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"intrinsics: fx, fy, cx, cy (and width, height) are needed ({error})") from None
        return Intrinsics(*values, *size, "calibrated").resized(*video.size)
    if sidecar.get("fov_degrees") is not None:
        return _from_fov(float(sidecar["fov_degrees"]), video)
    if options.fov_degrees is not None:
        return _from_fov(options.fov_degrees, video)
    raise ValueError(
        "intrinsics are missing: give them in the sidecar, or the horizontal field of view with --fov-degrees"
    )


def _from_fov(degrees: float, video: VideoFrames) -> Intrinsics:
    return Intrinsics.from_fov(np.radians(check_fov(degrees)), *video.size, "estimated")


def tracked_hands(
    clip_id: str, path: Path, video: VideoFrames, intrinsics: Intrinsics, options: SourceOptions
) -> tuple[Hand, ...]:
    """Hands that a tracker found, repaired: at most one left and one right; () where the user named no tracker.

    options.tracker: its name (`vipa.hands.trackers.tracker_names`). options.hands: its model file, or the folder
    of its results, which holds one file or folder a clip, named like the clip or like the video. options.cache: what
    was found in a video of this content, by these results or this model, is read from there and not found again.
    FileNotFoundError where this video has no results.
    """
    if options.hands is None or options.tracker is None:
        return ()
    results, times = _results(Path(options.hands), (clip_id, path.stem)), video.timestamps

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

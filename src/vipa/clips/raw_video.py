"""Videos that come without annotation: their camera, and their hands from a tracker's result files."""

import glob
from pathlib import Path

import numpy as np

from vipa.clips.clip import Hand
from vipa.clips.reading import make_hand
from vipa.clips.sources import SourceOptions
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics
from vipa.hands.repair import repair_hands
from vipa.hands.trackers import open_tracker, tracker_names

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"}


def intrinsics_of(video: VideoFrames, sidecar: dict, options: SourceOptions) -> Intrinsics:
    """From the sidecar's calibration or field of view, else the option `fov`. ValueError where nothing says it."""
    given = sidecar.get("intrinsics")
    if given is not None:
        try:
            values = [float(given[key]) for key in ("fx", "fy", "cx", "cy")]
            size = [int(given.get(key, own)) for key, own in zip(("width", "height"), video.size)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"intrinsics: fx, fy, cx, cy (and width, height) are needed ({error})") from None
        return Intrinsics(*values, *size, "calibrated").resized(*video.size)
    if sidecar.get("fov_degrees") is not None:
        return _from_fov(np.radians(float(sidecar["fov_degrees"])), video)
    if options.fov is not None:
        return _from_fov(options.fov, video)
    raise ValueError(
        "intrinsics are missing: give them in the sidecar, or the horizontal field of view with --fov DEGREES"
    )


def _from_fov(fov: float, video: VideoFrames) -> Intrinsics:
    if not 0 < fov < np.pi:
        raise ValueError(f"fov: must be between 0 and 180 degrees, it is {np.degrees(fov):g}")
    return Intrinsics.from_fov(fov, *video.size, "estimated")


def tracked_hands(
    clip_id: str, path: Path, video: VideoFrames, intrinsics: Intrinsics, options: SourceOptions
) -> tuple[Hand, ...]:
    """Hands that a tracker found, repaired: at most one left and one right; () where the user named no tracker.

    options.tracker: its name (`vipa.hands.trackers.tracker_names`). options.hands: its model file, or the folder
    of its results, which holds one file or folder a clip, named like the clip or like the video.
    FileNotFoundError where this video has none.
    """
    if options.hands is None:
        return ()
    if options.tracker is None:
        raise ValueError(f"hands: which tracker wrote {options.hands}? Name one of {', '.join(tracker_names())}")
    results = _results(Path(options.hands), (clip_id, path.stem))
    times = video.timestamps
    seen = open_tracker(options.tracker, results)(video, times, intrinsics)
    tracks = repair_hands(seen, times).tracks
    out = (make_hand(track.side, track.joints_camera, track.confidence) for track in tracks)
    return tuple(hand for hand in out if hand is not None)


def _results(place: Path, names: tuple[str, ...]) -> Path:
    if place.is_file():
        return place  # one model file serves every video
    for name in names:
        hits = [p for p in (place / name, *sorted(place.glob(f"{glob.escape(name)}.*"))) if p.exists()]
        if hits:
            return hits[0]
    raise FileNotFoundError(f"{place}: no result of the hand tracker named {' or '.join(dict.fromkeys(names))}")

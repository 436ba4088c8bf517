"""Videos that come without annotation: their camera, and their hands from a tracker's result files."""

import glob
from pathlib import Path

import numpy as np

from vipa.clips.clip import Hand
from vipa.clips.reading import make_hand
from vipa.clips.sources import SourceOptions
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics
from vipa.geometry.cameras import CENTRED
from vipa.hands.repair import repair_hands
from vipa.hands.trackers import open_tracker, tracker_names

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"}


def intrinsics_of(video: VideoFrames, sidecar: dict, options: SourceOptions) -> Intrinsics:
    """From the sidecar's calibration or field of view, else the option `fov`. ValueError where nothing says it.

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
        return _from_fov(np.radians(float(sidecar["fov_degrees"])), video)
    if options.fov is not None:
        return _from_fov(options.fov, video)
    raise ValueError(
        "intrinsics are missing: give them in the sidecar, or the horizontal field of view with --fov DEGREES"
    )


def _as_shown(camera: Intrinsics, video: VideoFrames, picture: str | None) -> Intrinsics:
    """The camera of the frames that `video` gives. ValueError where it is of neither picture, or could be of both."""
    if picture not in (None, "shown", "stored"):
        raise ValueError(f"intrinsics: picture must be shown or stored, it is {picture!r}")
    rotation, mirrored = video.index.rotation, bool(getattr(video.index, "mirrored", False))
    width, height = stored = video.size[::-1] if rotation in (90, 270) else video.size
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


def _from_fov(fov: float, video: VideoFrames) -> Intrinsics:
    if not 0 < fov < np.pi:
        raise ValueError(f"fov: must be between 0 and 180 degrees, it is {np.degrees(fov):g}")
    return Intrinsics.from_fov(fov, *video.size, "estimated")


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
    source has the same name without its ending (one_stem), like the video.
    FileNotFoundError where this video has none.
    """
    if options.hands is None:
        return ()
    if options.tracker is None:
        raise ValueError(f"hands: which tracker wrote {options.hands}? Name one of {', '.join(tracker_names())}")
    results = _results(Path(options.hands), (clip_id, path.stem) if one_stem else (clip_id, path.name))
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

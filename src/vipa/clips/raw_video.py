"""Videos that come without annotation: their camera, and their hands from a tracker or its result files."""

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vipa.clips.camera_metadata import camera_metadata
from vipa.clips.clip import Hand
from vipa.clips.field_of_view import FieldOfView, from_metadata, given, guessed
from vipa.clips.landmarks import LandmarkFinder
from vipa.clips.lerobot_frames import EncodedFrames
from vipa.clips.reading import make_hand
from vipa.clips.sources import SourceOptions, check_fov
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics
from vipa.geometry.cameras import CENTRED
from vipa.hands.repair import repair_hands
from vipa.hands.trackers import mediapipe, open_tracker, own_model, tracker_version
from vipa.io.hashing import content_of
from vipa.io.store import ClipStore, StageOutput

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"}

TRACKING_VERSION = 3
"""Raised when trackers' results are read or repaired otherwise: kept hands are then out of date."""


def camera_of(
    video: VideoFrames | EncodedFrames,
    sidecar: dict,
    options: SourceOptions,
    notes: dict[str, str],
    guess: bool = False,
) -> tuple[Intrinsics, FieldOfView | None]:
    """The sidecar's calibration or field of view, else the option `fov_degrees`, else what the file's metadata tell,
    else, for `guess`, a guess; the field of view with its interval and origin where it is no calibration, also in
    `notes`. ValueError where nothing says it: a data set's one camera is not guessed video by video.

    A calibration is of the pictures as players show them, or, where only that fits their shape, of the pictures as
    they are stored, before the file's display matrix turns them; `"picture": "shown"` or `"stored"` says which.
    """
    own = sidecar.get("intrinsics")
    if own is not None:
        try:
            values = [float(own[key]) for key in ("fx", "fy", "cx", "cy")]
            size = [int(own.get(key, shown)) for key, shown in zip(("width", "height"), video.size)]
            picture, sized = own.get("picture"), "width" in own and "height" in own
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"intrinsics: fx, fy, cx, cy (and width, height) are needed ({error})") from None
        camera = Intrinsics(*values, *size, "calibrated")
        if not sized and camera.off_centre > CENTRED:
            raise ValueError(
                f"intrinsics: the principal point is far from the middle of the {size[0]} x {size[1]} pictures: give "
                "the width and height of the pictures that they are of"
            )
        return _as_shown(camera, video, picture), None
    degrees = options.fov_degrees if sidecar.get("fov_degrees") is None else sidecar["fov_degrees"]
    if degrees is not None:
        view = given(check_fov(float(degrees)))
    else:
        view = from_metadata(camera_metadata(video.path), video.size) if isinstance(video, VideoFrames) else None
        view = guessed(video.size) if view is None and guess else view
    if view is None:
        raise ValueError(
            "intrinsics are missing: give them in the sidecar, or the horizontal field of view with --fov-degrees"
        )
    notes["field of view"] = str(view)
    return view.intrinsics(*video.size), view


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


def tracker_of(options: SourceOptions) -> str | None:
    """The tracker that the user named, else MediaPipe's where it is installed; None: videos stay without hands."""
    if options.tracker is not None:
        return options.tracker
    return "mediapipe" if mediapipe.installed() else None


TRACKED = "tracked by "
"""Begins a clip's note on hands that a tracker placed; its name follows."""

NO_TRACKER = f"none: no tracker is named (--tracker, --hands), and MediaPipe is missing: {mediapipe.INSTALL}"


def landmark_finder(videos: Sequence[Path], options: SourceOptions) -> LandmarkFinder | None:
    """Where hands come from a landmark model: what looks for them in these videos."""
    tracker = tracker_of(options)
    if tracker is None or (own := own_model(tracker)) is None:
        return None
    model = own if options.hands is None else Path(options.hands)
    return LandmarkFinder(tracker, model, options.cache, videos) if model.is_file() else None


def tracked_hands(
    clip_id: str,
    path: Path,
    video: VideoFrames,
    intrinsics: Intrinsics,
    options: SourceOptions,
    notes: dict[str, str],
    one_stem: bool = True,
    finder: LandmarkFinder | None = None,
) -> tuple[Hand, ...]:
    """Hands that a tracker found, repaired: at most one left and one right; () where there is no tracker.

    options.tracker: its name (`vipa.hands.trackers.tracker_names`; default `tracker_of`). options.hands: its model
    file, where it is not to use its own, or the folder of its results, which holds one file or folder a clip, named
    like the clip or, where no other video of the source has the same name without its ending (one_stem), like the
    video. options.cache: what was found in a video of this content, by these results or this model, is read from there
    and not found again. notes: of the clip; they are told who tracked its hands, which says how far they are believed.
    finder: of all the source's videos, to look at several at a time.
    FileNotFoundError where this video has no results.
    """
    name = tracker_of(options)
    if name is None:
        notes["hands"] = NO_TRACKER
        return ()
    notes["hands"] = f"{TRACKED}{name}"
    times = video.timestamps
    place = own_model(name) if options.hands is None else Path(options.hands)
    assert place is not None  # SourceOptions
    results = _results(place, (clip_id, path.stem) if one_stem else (clip_id, path.name))

    def track() -> StageOutput:
        tracker = open_tracker(name, results)
        if isinstance(tracker, mediapipe.LandmarkTracker):
            find = finder or LandmarkFinder(name, results, options.cache)
            seen = tracker.place(find(path), intrinsics)
        else:
            seen = tracker(video, times, intrinsics)
        tracks = repair_hands(seen, times, getattr(tracker, "depth_cutoff", None)).tracks
        arrays = {f"{t.side}_{k}": getattr(t, k) for t in tracks for k in ("joints_camera", "confidence")}
        return StageOutput([t.side for t in tracks], arrays)

    if options.cache is None:
        found = track()
    else:
        pictures = content_of(path)
        key = content_of([TRACKING_VERSION, name, tracker_version(name), intrinsics, times])
        key += pictures + content_of(results)
        store = ClipStore(Path(options.cache) / name / "placed" / pictures)
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

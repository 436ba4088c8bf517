"""Hands from MediaPipe's hand landmarker: `pip install mediapipe`, and a model file (.task) that the user brings.

The landmarker gives 21 landmarks in pixels and 21 in metres around the hand's middle, in our joint order; the
place in the camera follows from both by `solve_pnp`. MediaPipe ships no model since version 1: get
hand_landmarker.task from https://ai.google.dev/edge/mediapipe/solutions/vision/hand_landmarker
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vipa.geometry import Intrinsics
from vipa.geometry.rigid import transform
from vipa.hands.pnp import solve_pnp
from vipa.hands.repair import chirality
from vipa.hands.skeleton import Side
from vipa.hands.trackers import Images, SeenHand, require_intrinsics

_BATCH = 32
_GOOD = 0.05  # a reprojection error of this share of the hand's extent halves the confidence


@dataclass(frozen=True)
class Landmarks:
    """One hand as a landmarker reports it."""

    side: Side
    side_confidence: float
    pixels: Float[np.ndarray, "21 2"]
    metres: Float[np.ndarray, "21 3"]  # x right, y down, z away; the origin anywhere


Landmarker = Callable[[np.ndarray, int], list[Landmarks]]
"""An RGB image and its time in milliseconds -> hands."""


@dataclass(frozen=True)
class LandmarkTracker:
    """Hands placed in the camera from pixel and metric landmarks of any landmarker.

    Surprising: hand landmarkers are trained on mirrored (selfie) pictures, and versions differ in whether they
    swap left and right back. Where a clip's fingers bend against its labels, all labels are swapped.
    """

    open_landmarker: Callable[[], Any]  # a context manager that gives a Landmarker

    def __call__(
        self, images: Images, timestamps: np.ndarray, intrinsics: Intrinsics
    ) -> list[tuple[SeenHand, ...]]:
        intrinsics = require_intrinsics(intrinsics, "hand landmarker")
        found: list[tuple[int, Landmarks]] = []
        with self.open_landmarker() as landmarker:
            for frame, image in _decode(images):
                milliseconds = round(1000 * float(timestamps[frame] - timestamps[0]))
                found += [(frame, hand) for hand in landmarker(image, milliseconds)]
        out: list[list[SeenHand]] = [[] for _ in range(len(images))]
        if not found:
            return [() for _ in out]
        metres = np.stack([hand.metres for _, hand in found])
        pixels = np.stack([hand.pixels for _, hand in found])
        T, rms = solve_pnp(metres, pixels, intrinsics.matrix)
        joints = transform(T, metres)
        labels = np.array([1.0 if hand.side == "right" else -1.0 for _, hand in found])
        swapped = float((labels * np.clip(chirality(joints) / 0.3, -1, 1)).sum()) < -0.1 * len(found)
        extent = np.ptp(pixels, axis=1).max(-1)
        trust = 1 / (1 + (rms / (_GOOD * extent)) ** 2)
        for (frame, hand), placed, confidence in zip(found, joints, trust):
            right = (hand.side == "right") != swapped
            side: Side = "right" if right else "left"
            if np.isfinite(placed).all():
                out[frame].append(SeenHand(side, hand.side_confidence, placed, np.full(21, confidence)))
        return [tuple(hands) for hands in out]


def _decode(images: Images) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(images), _BATCH):
        indices = range(start, min(start + _BATCH, len(images)))
        yield from zip(indices, images.read(list(indices)))


class _MediaPipe:
    """MediaPipe's landmarker in video mode, as a Landmarker."""

    def __init__(self, model: Path):
        self.model = model

    def __enter__(self) -> Landmarker:
        try:
            import mediapipe as module
        except ImportError:
            raise ValueError("hand tracker mediapipe: install it with `pip install mediapipe`") from None
        mediapipe: Any = module  # its names are put together at run time
        tasks = mediapipe.tasks
        try:
            self.landmarker = tasks.vision.HandLandmarker.create_from_options(
                tasks.vision.HandLandmarkerOptions(
                    base_options=tasks.BaseOptions(model_asset_path=str(self.model)),
                    running_mode=tasks.vision.RunningMode.VIDEO,
                    num_hands=2,
                )
            )
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.model}: not a hand landmarker model ({reason})") from None
        self.last = -1

        def detect(image: np.ndarray, milliseconds: int) -> list[Landmarks]:
            self.last = max(milliseconds, self.last + 1)  # MediaPipe wants times to increase
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
            result = self.landmarker.detect_for_video(picture, self.last)
            return landmarks_from_result(result, image.shape[1], image.shape[0])

        return detect

    def __exit__(self, *_: object) -> None:
        self.landmarker.close()


def landmarks_from_result(result: Any, width: int, height: int) -> list[Landmarks]:
    """The hands in a HandLandmarkerResult; its pixels are shares of the image's size, measured from its corner."""
    out = []
    for seen, world, handedness in zip(result.hand_landmarks, result.hand_world_landmarks, result.handedness):
        pixels = np.array([[p.x * width - 0.5, p.y * height - 0.5] for p in seen])
        metres = np.array([[p.x, p.y, p.z] for p in world])
        side: Side = "right" if handedness[0].category_name.lower() == "right" else "left"
        out.append(Landmarks(side, float(handedness[0].score), pixels, metres))
    return out


def version() -> str:
    try:
        return metadata.version("mediapipe")
    except metadata.PackageNotFoundError:
        return ""


def open_tracker(path: Path) -> LandmarkTracker:
    return LandmarkTracker(lambda: _MediaPipe(path))

"""Hands from MediaPipe's hand landmarker: `pip install mediapipe` (the extra `video`); its model comes along.

The landmarker gives 21 landmarks in pixels and 21 in metres around the hand's middle, in our joint order; the distance
from the camera follows from both by `solve_pnp`. The model, hand_landmarker.task (float16, version 1; Google,
Apache-2.0), is https://ai.google.dev/edge/mediapipe/solutions/vision/hand_landmarker, unchanged.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from jaxtyping import Float

from vipa.geometry import Intrinsics, unproject
from vipa.geometry.rigid import transform
from vipa.hands.pnp import solve_pnp
from vipa.hands.repair import chirality, palm_size
from vipa.hands.skeleton import Side
from vipa.hands.trackers import Images, SeenHand, require_intrinsics

MODEL = Path(__file__).resolve().parents[2] / "weights" / "mediapipe" / "hand_landmarker.task"
INSTALL = "install it with `pip install mediapipe` (the extra `video`)"
DISTANCE_ERROR = 0.3
"""Share of a hand's distance by which a movement over seconds can be off, for the distance is read from the hand's size
in the picture. On three EgoDex recordings 3 of 100 still hands seem to move by more, and none of 116 movements that do
is off by more than itself (docs/results/hand_tracking.md)."""
PALM = 0.225
"""Metres around (wrist, index base, little base) of an adult. Of three EgoDex recordings and VITRA's example it is
21.6 to 25.3 cm; MediaPipe's metric hands say 19.6 to 25.4, and not of those that are larger."""
_BYTES = 2**28  # of pictures that are read together: after each read decoding starts at a key frame again
_GOOD = 0.15  # a hand whose two sets of landmarks differ by this share of its extent has confidence one half


@dataclass(frozen=True)
class Landmarks:
    """One hand as a landmarker reports it."""

    side: Side
    side_confidence: float
    pixels: Float[np.ndarray, "21 2"]
    metres: Float[np.ndarray, "21 3"]  # x right, y down, z away; the origin anywhere
    depth: Float[np.ndarray, "21"] | None = None  # pixels, z away; the origin anywhere


Landmarker = Callable[[np.ndarray, int], list[Landmarks]]
"""An RGB image and its time in milliseconds -> hands."""


@dataclass(frozen=True)
class LandmarkTracker:
    """Hands placed in the camera from pixel and metric landmarks of any landmarker, with the size of an adult's hands.

    What is seen (`detect`) depends on the video alone, where it is (`place`) also on the camera.

    Surprising: hand landmarkers are trained on mirrored (selfie) pictures, and versions differ in whether they
    swap left and right back. Where a clip's fingers bend against most of its labels, all labels are swapped.
    """

    open_landmarker: Callable[[], Any]  # a context manager that gives a Landmarker

    depth_cutoff: float = 1.0
    """Hz. On EgoDex 0.5-s movements of the wrist are 8 cm off in the worst tenth with 6 Hz, 6 cm with 1 Hz."""

    def __call__(
        self, images: Images, timestamps: np.ndarray, intrinsics: Intrinsics
    ) -> list[tuple[SeenHand, ...]]:
        intrinsics = require_intrinsics(intrinsics, "hand landmarker")
        return self.place(self.detect(images, timestamps), intrinsics)

    def detect(self, images: Images, timestamps: np.ndarray) -> list[tuple[Landmarks, ...]]:
        """What the landmarker sees in every frame. timestamps: seconds."""
        with self.open_landmarker() as landmarker:
            times = np.rint(1000 * (np.asarray(timestamps) - timestamps[0])).astype(int)
            return [tuple(landmarker(image, int(times[frame]))) for frame, image in _decode(images)]

    def place(self, seen: Sequence[Sequence[Landmarks]], intrinsics: Intrinsics) -> list[tuple[SeenHand, ...]]:
        """Every joint on its own pixel, at the distance of the metric hand that fits the pixels best; all of a video
        farther or nearer by one factor (`_growth`)."""
        found = [(frame, hand) for frame, hands in enumerate(seen) for hand in hands]
        out: list[list[SeenHand]] = [[] for _ in seen]
        if not found:
            return [() for _ in out]
        metres = np.stack([hand.metres for _, hand in found])
        pixels = np.stack([hand.pixels for _, hand in found])
        T, _ = solve_pnp(metres, pixels, intrinsics.matrix)
        z = transform(T, metres)[..., 2]
        joints = unproject(pixels, z, intrinsics.matrix)
        bends = np.array([_bend(hand) for _, hand in found])
        labels = np.array([1.0 if hand.side == "right" else -1.0 for _, hand in found])
        swapped = float((labels * np.clip(bends / 0.3, -1, 1)).mean()) < -0.5
        trust = 1 / (1 + (_disagreement(metres, pixels) / _GOOD) ** 2)
        palms = palm_size(metres)
        joints = joints * _growth([hand for _, hand in found], z.mean(-1) / palms, intrinsics)
        for (frame, hand), placed, bend, palm, confidence in zip(found, joints, bends, palms, trust):
            right = (hand.side == "right") != swapped
            side: Side = "right" if right else "left"
            if np.isfinite(placed).all() and (placed[:, 2] > 0).all():
                out[frame].append(
                    SeenHand(side, hand.side_confidence, placed, np.full(21, confidence), float(bend), float(palm))
                )
        return [tuple(hands) for hands in out]


def _growth(hands: Sequence[Landmarks], distances: np.ndarray, intrinsics: Intrinsics) -> float:
    """How many times as far away as metric landmarks say are adults' hands whose palms look as large, in pixels and
    their depth. distances: (n,) in palms of the metric hands. 1 where no landmark has a depth.

    Surprising: from frame to frame the metric hand tells distances better than the palm in the picture; its size does
    not. On EgoDex and VITRA's example wrists come from 0.87 ... 1.57 to 1.03 ... 1.53 times the true distance.
    """
    depths = np.stack([np.full(21, np.nan) if hand.depth is None else hand.depth for hand in hands])
    seen = palm_size(np.concatenate([np.stack([hand.pixels for hand in hands]), depths[..., None]], -1))
    metres = np.median(palm_size(np.stack([hand.metres for hand in hands])))
    focal = np.sqrt(intrinsics.fx * intrinsics.fy)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.log(focal * PALM / seen / (distances * metres))
    factors = factors[np.isfinite(factors)]
    return float(np.exp(np.median(factors))) if len(factors) else 1.0


def _bend(hand: Landmarks) -> float:
    """Surprising: metric landmarks are bent to fit the label, where it is wrong; those in the picture are less so."""
    if hand.depth is None:
        return float(chirality(hand.metres))
    return float(chirality(np.concatenate([hand.pixels, hand.depth[:, None]], -1)))


def _disagreement(metres: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(n,) how far the metric hands, turned and seen from afar, are from the pixels, as a share of the extent.

    No camera's field of view is in it. The best turn of affine cameras: two rows of a matrix, made orthogonal.
    """
    X, u = metres - metres.mean(1, keepdims=True), pixels - pixels.mean(1, keepdims=True)
    A = np.linalg.solve(X.mT @ X + 1e-9 * np.eye(3), X.mT @ u).mT  # (n, 2, 3)
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    R = U @ Vh
    turned = X @ R.mT
    scale = (turned * u).sum((1, 2)) / np.maximum((turned**2).sum((1, 2)), 1e-12)
    off = np.sqrt(((u - scale[:, None, None] * turned) ** 2).sum(-1).mean(-1))
    return off / np.ptp(pixels, axis=1).max(-1)


def _decode(images: Images) -> Iterator[tuple[int, np.ndarray]]:
    if in_order := getattr(images, "in_order", None):
        yield from enumerate(in_order(range(len(images))))
        return
    start, count = 0, 8
    while start < len(images):
        indices = range(start, min(start + count, len(images)))
        pictures = images.read(list(indices))
        yield from zip(indices, pictures)
        start, count = indices.stop, max(1, min(64, _BYTES // pictures[0].nbytes))


_CHATTER = re.compile(rb"(INFO: |WARNING: Logging before|[IW]\d{4} )")


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keeps what MediaPipe's C++ says of its inner life from the user's terminal: whatever its variables for log levels
    say, it writes to the process's stderr. Its errors pass."""
    end, start = os.pipe()
    terminal = os.dup(2)
    os.dup2(start, 2)
    os.close(start)

    def pass_on() -> None:
        with os.fdopen(end, "rb") as lines:
            for line in lines:
                if not _CHATTER.match(line):
                    os.write(terminal, line)

    passing = Thread(target=pass_on, daemon=True)
    passing.start()
    try:
        yield
    finally:
        os.dup2(terminal, 2)  # closes the pipe: the thread ends
        passing.join(timeout=1.0)
        os.close(terminal)


@contextmanager
def _media_pipe(model: Path) -> Iterator[Landmarker]:
    """MediaPipe's landmarker in video mode."""
    try:
        import mediapipe as module
    except ImportError:
        raise ValueError(f"hand tracker mediapipe: {INSTALL}") from None
    mediapipe: Any = module  # its names are put together at run time
    tasks = mediapipe.tasks
    with _without_chatter():
        try:
            landmarker = tasks.vision.HandLandmarker.create_from_options(
                tasks.vision.HandLandmarkerOptions(
                    base_options=tasks.BaseOptions(model_asset_path=str(model)),
                    running_mode=tasks.vision.RunningMode.VIDEO,
                    num_hands=2,
                )
            )
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{model}: not a hand landmarker model ({reason})") from None
        last = -1

        def detect(image: np.ndarray, milliseconds: int) -> list[Landmarks]:
            nonlocal last
            last = max(milliseconds, last + 1)  # MediaPipe wants times to increase
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
            return landmarks_from_result(
                landmarker.detect_for_video(picture, last), image.shape[1], image.shape[0]
            )

        try:
            yield detect
        finally:
            landmarker.close()


def landmarks_from_result(result: Any, width: int, height: int) -> list[Landmarks]:
    """The hands in a HandLandmarkerResult; its pixels are shares of the image's size, measured from its corner."""
    out = []
    for seen, world, handedness in zip(result.hand_landmarks, result.hand_world_landmarks, result.handedness):
        pixels = np.array([[p.x * width - 0.5, p.y * height - 0.5] for p in seen])
        depth = np.array([p.z * width for p in seen])
        metres = np.array([[p.x, p.y, p.z] for p in world])
        side: Side = "right" if handedness[0].category_name.lower() == "right" else "left"
        out.append(Landmarks(side, float(handedness[0].score), pixels, metres, depth))
    return out


def installed() -> bool:
    return find_spec("mediapipe") is not None


def version() -> str:
    try:
        return metadata.version("mediapipe")
    except metadata.PackageNotFoundError:
        return ""


def open_tracker(path: Path) -> LandmarkTracker:
    return LandmarkTracker(lambda: _media_pipe(path))

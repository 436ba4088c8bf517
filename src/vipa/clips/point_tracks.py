"""Points of a video followed through key frames, hands and arms left out, and found again after they were lost.

Wants OpenCV (extra `video`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from vipa.clips.clip import Clip, Frames
from vipa.clips.video import in_order
from vipa.geometry import project

LONGER_SIDE = 960
"""Pixels of the pictures in which points are found."""

CORNERS, FEATURES, FEWEST = 400, 1000, 20
"""Points followed at once; points described to be found again; fewest that two frames must share."""

STEP, REACH = 0.2, (1, 2, 5, 12, 30)
"""Seconds between key frames; to which later key frames each is compared."""

MARGIN, ARM, WIDENING = 0.15, 0.6, 0.15
"""Of a hand's outline, and the width of its arm at the wrist, as shares of the hand's extent; by how much half of that
width grows with each pixel towards the elbow. Sleeves that move with the hands once turned a camera by 5 degrees."""

KNUCKLES = [5, 9, 13, 17]


@dataclass(frozen=True)
class Tracks:
    """Points followed through key frames: one row an observation, pixels of the clip's pictures."""

    frame: Int[np.ndarray, "m"]  # number of the key frame
    point: Int[np.ndarray, "m"]
    pixels: Float[np.ndarray, "m 2"]
    factor: float  # pixels of `LONGER_SIDE` in one of these

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """Of each key frame."""
        order = np.argsort(self.frame, kind="stable")
        return np.split(
            order, np.searchsorted(self.frame[order], np.arange(1, int(self.frame.max(initial=0)) + 1))
        )

    def every(self, nth: int) -> "Tracks":
        """Of the first key frame and each nth after it."""
        kept = self.frame % nth == 0
        return Tracks(self.frame[kept] // nth, self.point[kept], self.pixels[kept], self.factor)

    def shared(self, i: int, j: int) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
        """Pixels of the points that two key frames share."""
        if max(i, j) >= len(self.rows):
            return np.zeros((0, 2)), np.zeros((0, 2))
        a, b = self.rows[i], self.rows[j]
        _, in_a, in_b = np.intersect1d(self.point[a], self.point[b], return_indices=True)
        return self.pixels[a[in_a]], self.pixels[b[in_b]]


def key_frames(
    timestamps: Float[np.ndarray, "frames"], wanted: Sequence[int] = (), step: float = STEP
) -> np.ndarray:
    """Frames about `step` seconds apart, the first and the last one, and those that are `wanted`, each in the place of
    one that is near."""
    asked = np.unique(np.asarray(wanted, int))
    marks = np.append(np.arange(timestamps[0], timestamps[-1], step), timestamps[-1])
    key = np.unique(np.abs(timestamps[None] - marks[:, None]).argmin(1))
    if len(asked):
        near = np.abs(timestamps[key][:, None] - timestamps[asked]).min(1) <= 0.6 * step
        near[[0, -1]] = False
        key = np.union1d(key[~near], asked)
    return key


Outlines = Callable[[int], Sequence[Float[np.ndarray, "corners 2"]]]


def track_points(
    frames: Frames, key: Sequence[int], size: tuple[int, int], left_out: Outlines | None = None
) -> Tracks:
    """Points of key frames that later ones show too. size: (width, height) of the pictures; left_out: polygons
    (pixels) of a frame in which no points are looked for. ImportError without OpenCV."""
    import cv2

    factor = LONGER_SIDE / max(size)
    small = (round(size[0] * factor), round(size[1] * factor))
    orb, matcher = cv2.ORB_create(FEATURES, fastThreshold=7), cv2.BFMatcher(cv2.NORM_HAMMING)
    described: list[tuple[np.ndarray, np.ndarray | None]] = []
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    alive, places, count, before = np.zeros(0, int), np.zeros((0, 2), np.float32), 0, None
    members: list[np.ndarray] = []
    for k, image in enumerate(in_order(frames, [int(frame) for frame in key])):
        grey = cv2.cvtColor(cv2.resize(image, small, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        mask = np.full(grey.shape, 255, np.uint8)
        for corners in left_out(key[k]) if left_out else ():
            cv2.fillPoly(mask, [np.rint(corners * factor).astype(np.int32)], 0)
        if before is not None and len(alive):
            places, good = _followed(cv2, before, grey, places)
            x, y = np.clip(np.rint(places).astype(int), 0, np.array(small) - 1).T
            good &= mask[y, x] > 0
            alive, places = alive[good], places[good]
        if len(alive) < CORNERS:
            free = mask.copy()
            for x, y in places:
                cv2.circle(free, (round(float(x)), round(float(y))), 12, 0, -1)
            new = cv2.goodFeaturesToTrack(grey, CORNERS - len(alive), 0.01, 12, mask=free)
            if new is not None:
                places = np.concatenate([places, new[:, 0]])
                alive = np.concatenate([alive, count + np.arange(len(new))])
                count += len(new)
        rows.append((np.full(len(alive), k), alive, places))
        members.append(alive)
        keypoints, words = orb.detectAndCompute(grey, mask)
        described.append((np.array([p.pt for p in keypoints], np.float32).reshape(-1, 2), words))
        for i in (k - back for back in REACH if back <= k):
            if len(np.intersect1d(members[i], alive)) >= 3 * FEWEST:
                continue
            a, b = _again(matcher, described[i], described[k])
            ids = count + np.arange(len(a))
            count += len(a)
            rows += [(np.full(len(a), i), ids, a), (np.full(len(a), k), ids, b)]
        before = grey
    frame, point, pixels = (np.concatenate(column) for column in zip(*rows))
    return Tracks(frame, point, (pixels.astype(float) + 0.5) / factor - 0.5, factor)


def _followed(cv2, before: np.ndarray, grey: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places in the next picture, which of them lead back to where they came from)."""
    window = {"winSize": (21, 21), "maxLevel": 4}
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, grey, places, None, **window)
    back, again, _ = cv2.calcOpticalFlowPyrLK(grey, before, there, None, **window)
    good = (found.ravel() > 0) & (again.ravel() > 0) & (np.linalg.norm(back - places, axis=-1) < 0.7)
    inside = (there >= 0).all(-1) & (there <= np.array(grey.shape[::-1]) - 1).all(-1)
    return there, good & inside


def _again(matcher, a: tuple, b: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Places of points that look alike in two pictures."""
    (points_a, words_a), (points_b, words_b) = a, b
    if words_a is None or words_b is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    pairs = [
        m for m in matcher.knnMatch(words_a, words_b, k=2) if len(m) == 2 and m[0].distance < 0.75 * m[1].distance
    ]
    return points_a[[m[0].queryIdx for m in pairs]], points_b[[m[0].trainIdx for m in pairs]]


def hand_outlines(clip: Clip, frame: int) -> list[Float[np.ndarray, "4 2"]]:
    """Corners, in pixels, of what moves by itself: of each hand in a frame a box, wider by MARGIN, and its arm, from
    the wrist on away from the knuckles and out of the picture, ever wider."""
    out = []
    for hand in clip.hands:
        joints = hand.joints_camera[frame]
        known = np.isfinite(joints).all(-1) & (joints[:, 2] > 0.05) & (hand.confidence[frame] > 0)
        if known.sum() < 3:
            continue
        pixels = project(np.where(known[:, None], joints, np.nan), clip.intrinsics.matrix)
        low, high = np.nanmin(pixels, axis=0), np.nanmax(pixels, axis=0)
        extent = float(np.linalg.norm(high - low))
        (left, top), (right, bottom) = low - MARGIN * extent, high + MARGIN * extent
        out.append(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))
        back = pixels[0] - pixels[KNUCKLES].mean(0)
        length = float(np.linalg.norm(back))
        if length > 0.25 * extent:  # else the arm comes from behind the hand, or points at the camera
            ahead = back / length
            aside, far = np.array([-ahead[1], ahead[0]]), clip.intrinsics.width + clip.intrinsics.height
            near, wide = ARM / 2 * extent, ARM / 2 * extent + WIDENING * far
            end = pixels[0] + far * ahead
            out.append(
                np.array(
                    [pixels[0] + near * aside, end + wide * aside, end - wide * aside, pixels[0] - near * aside]
                )
            )
    return out

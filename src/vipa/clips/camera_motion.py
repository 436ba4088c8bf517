"""Whether the camera of a video moved and how it turned, from what its pictures show; no network, no metres.

Points are followed through key frames, hands and arms left out (`point_tracks`). Pairs of frames give rotations, of a
camera that only turned where that explains the points, else with the direction of its movement (essential matrix);
they are averaged (`rotation_graph`) and start a bundle adjustment of all frames and points (`bundle`), which knows how
sure it is, also of the focal length. Wants OpenCV (extra `video`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from vipa.clips.clip import Clip, ClipError
from vipa.clips.field_of_view import FieldOfView
from vipa.clips.point_tracks import FEWEST, LONGER_SIDE, REACH, Tracks, hand_outlines, key_frames, track_points
from vipa.geometry import Intrinsics, axis_angle_from_matrix
from vipa.geometry.bundle import Bundle, Observations, adjust
from vipa.geometry.rotation_graph import Link, average_rotations
from vipa.geometry.two_views import find_rotation, rays_of, refine

NOISE = 1.0
"""Standard deviation of a point, in pixels of `LONGER_SIDE`."""

STILL, STILL_SHARE = 1.0, 0.3
"""Pixels (of `LONGER_SIDE`) within which a point has not moved; share of such points from which two frames are of one
pose."""

INFLATED, FLOOR = 4.0, np.radians(0.4)
"""Points do not err independently, as a bundle adjustment believes: things move, shutters roll, lenses are no pinholes.
By how much its errors are larger, and the standard deviation (radians) below which none is; measured on head cameras
(docs/camera.md)."""

POINTS_A_FRAME = 120
"""That enter the bundle adjustment: of each frame those that are seen longest."""

POSE_ERROR = np.radians(2.0)
"""Radians by which good poses may turn otherwise than the pictures, beyond the error of these."""

UNKNOWN_FOCAL, SKIPPED = 0.15, 2
"""Relative error of a focal length from which others are tried as well, each with one of so many key frames."""


@dataclass(frozen=True)
class CameraMotion:
    """How a camera turned, at key frames. moving: None where the pictures show too little to tell; then, and between
    parts of the video that share no points, rotations are NaN and errors infinite.

    error: radians that the angle of R_i_j misses the truth by at most, in 95 % of all cases. field_of_view: what the
    pictures themselves tell, together with what was known before; None where the camera did not move.
    """

    frames: Int[np.ndarray, "n"]
    moving: bool | None
    R_world_camera: Float[np.ndarray, "n 3 3"]
    error: Float[np.ndarray, "n n"]
    agree: Float[np.ndarray, "n"]  # share of a frame's points that agree with its rotation
    points: Int[np.ndarray, "n"]
    field_of_view: FieldOfView | None

    def between(self, frame_a: int, frame_b: int) -> tuple[Float[np.ndarray, "3 3"], float]:
        """(R_a_b, its error) of two key frames by their numbers in the video. KeyError for another frame."""
        i, j = self._number(frame_a), self._number(frame_b)
        if not np.isfinite(self.error[i, j]):
            return np.full((3, 3), np.nan), float("inf")
        return self.R_world_camera[i].T @ self.R_world_camera[j], float(self.error[i, j])

    def poses(self, frames: Sequence[int]) -> Float[np.ndarray, "k 4 4"]:
        """T_world_camera of key frames, the first one's camera as the world: of a still camera whole, of a moving one
        with rotations only, its places NaN; all NaN where a frame shares no points with the first."""
        out = np.full((len(frames), 4, 4), np.nan)
        for k, frame in enumerate(frames):
            R, error = self.between(frames[0], frame)
            if np.isfinite(error):
                out[k] = np.eye(4)
                out[k, :3, :3] = R
                out[k, :3, 3] = np.nan if self.moving else 0.0
        return out

    def __str__(self) -> str:
        if self.moving is None:
            return "not known: its pictures show too few points"
        if not self.moving:
            return "measured: static"
        worst = np.degrees(np.nanmax(np.where(np.isfinite(self.error), self.error, np.nan)))
        share, points = np.median(self.agree), int(np.median(self.points))
        return (
            f"measured: moving; rotations within {worst:.1f} degrees, {share:.0%} of {points} points a frame agree"
        )

    def _number(self, frame: int) -> int:
        i = int(np.searchsorted(self.frames, frame))
        if i == len(self.frames) or self.frames[i] != frame:
            raise KeyError(f"frame {frame} is no key frame of the camera's motion")
        return i


def measure_motion(clip: Clip, view: FieldOfView, wanted: Sequence[int] = ()) -> CameraMotion:
    """Of a clip, with the camera that `view` is of; hands that the clip knows are left out. wanted: frames that are to
    be among the key frames. ImportError without OpenCV."""
    camera = clip.intrinsics
    key = key_frames(clip.timestamps, wanted)
    tracks = track_points(
        clip.frames, key, (camera.width, camera.height), lambda frame: hand_outlines(clip, frame)
    )
    return solve_motion(key, tracks, camera, view.focal_error)


def solve_motion(
    key: Int[np.ndarray, "n"], tracks: Tracks, camera: Intrinsics, focal_error: float = 0.02
) -> CameraMotion:
    """From points followed through key frames. focal_error: of the camera's focal length, relative, one standard
    deviation; where it is large, the points decide."""
    n = len(key)
    still = still_shares(tracks, n)
    if not len(still):
        unknown = np.full((n, n), np.inf)
        np.fill_diagonal(unknown, 0.0)
        return CameraMotion(key, None, np.full((n, 3, 3), np.nan), unknown, np.zeros(n), np.zeros(n, int), None)
    if float((still >= STILL_SHARE).mean()) >= 0.9:
        error = 1.96 * FLOOR * (1 - np.eye(n))
        return CameraMotion(
            key, False, np.tile(np.eye(3), (n, 1, 1)), error, np.full(n, float(np.median(still))),
            np.bincount(tracks.frame, minlength=n), None,
        )  # fmt: skip
    seen = _observations(tracks, camera)
    start = 0.0
    if focal_error > UNKNOWN_FOCAL:
        few, some = tracks.every(SKIPPED), -(-n // SKIPPED)
        seen_few = _observations(few, camera)
        tried = (_solve(some, few, seen_few, camera, focal_error, s, rounds=8)[0] for s in (0.0, -0.55, 0.4))
        start = min(tried, key=lambda bundle: bundle.cost).log_focal
    bundle, R, part = _solve(n, tracks, seen, camera, focal_error, start)
    joined = part[:, None] == part
    error = 1.96 * np.hypot(INFLATED * bundle.deviation, FLOOR * (1 - np.eye(n)))
    error = np.maximum(error, _differences(bundle.R, R))
    points = np.bincount(seen.frame, minlength=n)
    agree = np.bincount(seen.frame, bundle.misses < 3, minlength=n) / np.maximum(points, 1)
    sure = agree * points >= FEWEST
    joined &= (sure[:, None] & sure) | np.eye(n, dtype=bool)
    turned = float(np.median(_angles(bundle.R)[joined & ~np.eye(n, dtype=bool)])) if n > 1 else 0.0
    view = _focal(bundle, turned, camera, focal_error)
    return CameraMotion(key, True, bundle.R, np.where(joined, error, np.inf), agree, points, view)


def still_shares(tracks: Tracks, count: int) -> Float[np.ndarray, "pairs"]:
    """Of pairs of key frames that share enough points: which share of these has not moved."""
    out = []
    for j in range(count):
        for i in (j - back for back in REACH if back <= j):
            a, b = tracks.shared(i, j)
            if len(a) >= FEWEST:
                out.append(float((np.linalg.norm(a - b, axis=-1) < STILL / tracks.factor).mean()))
    return np.array(out)


def disagreement(
    T_world_camera: Float[np.ndarray, "frames 4 4"], motion: CameraMotion
) -> Float[np.ndarray, "pairs 2"]:
    """Of neighbouring key frames, and of those REACH apart: (radians by which poses of all frames turn otherwise than
    the pictures, the error of what the pictures tell). Pairs that either does not know are left out."""
    rows, n = [], len(motion.frames)
    R = T_world_camera[motion.frames][:, :3, :3]
    for j in range(n):
        for i in (j - back for back in REACH if back <= j):
            own, error = motion.between(int(motion.frames[i]), int(motion.frames[j]))
            if np.isfinite(error) and np.isfinite(R[[i, j]]).all():
                rows.append((np.linalg.norm(axis_angle_from_matrix(own.T @ R[i].T @ R[j])), error))
    return np.array(rows).reshape(-1, 2)


def check_poses(clip_id: str, T_world_camera: Float[np.ndarray, "frames 4 4"], motion: CameraMotion) -> None:
    """ClipError where poses (a network's) turn otherwise than the pictures do: by more than both may err, in more than
    a quarter of the pairs of frames. Says nothing of a motion that could not be measured."""
    both = disagreement(T_world_camera, motion)
    if not len(both):
        return
    off = both[:, 0] > both[:, 1] + POSE_ERROR
    if off.mean() > 0.25:
        worst, allowed = np.degrees(both[np.argmax(both[:, 0] - both[:, 1])])
        raise ClipError(
            clip_id,
            f"camera poses: {off.mean():.0%} of {len(off)} pairs of frames turn otherwise than their pictures do (one "
            f"by {worst:.0f} degrees, where the pictures are sure within {allowed:.1f}); use other weights or poses",
        )


def _solve(
    n: int,
    tracks: Tracks,
    seen: Observations,
    camera: Intrinsics,
    focal_error: float,
    log_focal: float,
    rounds: int = 40,
) -> tuple[Bundle, Float[np.ndarray, "n 3 3"], Int[np.ndarray, "n"]]:
    """(bundle, the rotations that it starts from, which frames are joined by points) of a focal length to start at."""
    k = float(np.exp(log_focal))
    links = pair_links(tracks, n, replace(camera, fx=camera.fx * k, fy=camera.fy * k))
    R, part = average_rotations(n, links)
    return adjust(R, seen, pixel_noise(camera), focal_error, log_focal, rounds), R, part


def _observations(tracks: Tracks, camera: Intrinsics) -> Observations:
    """Of the points that are seen longest in each frame."""
    length = np.bincount(tracks.point)
    kept = np.zeros(len(length), bool)
    for rows in tracks.rows:
        of_frame = tracks.point[rows]
        kept[of_frame[np.argsort(-length[of_frame], kind="stable")[:POINTS_A_FRAME]]] = True
    chosen = (kept & (length > 1))[tracks.point]
    point = np.unique(tracks.point[chosen], return_inverse=True)[1]
    return Observations(tracks.frame[chosen], point, rays_of(tracks.pixels[chosen], camera)[:, :2])


def _focal(bundle: Bundle, turned: float, camera: Intrinsics, focal_error: float) -> FieldOfView:
    """An error of the turns, twice the least one, is an error of the focal length as large, relative to how far the
    camera turned at all."""
    pictures = float(np.hypot(INFLATED * bundle.covariance[-1, -1] ** 0.5, 2 * FLOOR / max(turned, 1e-3)))
    share = focal_error**2 / (focal_error**2 + pictures**2)
    focal = camera.fx * np.exp(bundle.log_focal * share)
    error = focal_error * pictures / np.hypot(focal_error, pictures)
    return FieldOfView.from_focal(float(focal), float(error), camera.width, "measured: how its pictures turn")


def _differences(A: Float[np.ndarray, "n 3 3"], B: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n n"]:
    """Angles between the turns from frame to frame, once as A has them and once as B.

    Surprising: where few points join two parts of a video and some of them are on what moves, the bundle of least error
    may be 6 degrees off. The average of its pairs is not, so that each is only believed as far as both say the same.
    """
    a, b = (X.mT[:, None] @ X[None] for X in (A, B))
    return np.arccos(np.clip((np.einsum("ijab,ijab->ij", a, b) - 1) / 2, -1, 1))


def _angles(R: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n n"]:
    traces = np.einsum("iab,jab->ij", R, R)
    return np.arccos(np.clip((traces - 1) / 2, -1, 1))


def pair_links(tracks: Tracks, count: int, camera: Intrinsics) -> list[Link]:
    """Rotations between key frames that share enough points."""
    out = []
    for j in range(count):
        for i in (j - back for back in REACH if back <= j):
            a, b = tracks.shared(i, j)
            if len(a) >= FEWEST and (link := _turn(i, j, a, b, camera)) is not None:
                out.append(link)
    return out


def pixel_noise(camera: Intrinsics) -> float:
    """Of a point, on the plane z = 1."""
    return NOISE * max(camera.width, camera.height) / LONGER_SIDE / camera.fx


def _turn(
    i: int, j: int, pixels_i: Float[np.ndarray, "n 2"], pixels_j: Float[np.ndarray, "n 2"], camera: Intrinsics
) -> Link | None:
    """The rotation between two frames; None where too few points agree."""
    import cv2

    noise = pixel_noise(camera)
    a, b = rays_of(pixels_i, camera), rays_of(pixels_j, camera)
    R, agree = find_rotation(a, b, 3 * noise)
    t = None
    E, mask = cv2.findEssentialMat(
        b[:, :2], a[:, :2], np.eye(3), method=cv2.USAC_MAGSAC, prob=0.999, threshold=1.5 * noise
    )
    if E is not None and E.shape == (3, 3):
        both = mask.ravel() > 0
        if agree.sum() < 0.8 * both.sum():
            _, R, t, _ = cv2.recoverPose(E, b[:, :2], a[:, :2], np.eye(3), mask=mask.copy())
            t, agree = t.ravel(), both
    if agree.sum() < FEWEST:
        return None
    R, _, covariance = refine(R, t, a[agree], b[agree], noise)
    return Link(i, j, R, covariance + FLOOR**2 * np.eye(3))

"""The field of view of a camera whose poses are known, from where its pictures show the same points; no network.

Between two frames a known movement leaves each point a line to lie on, and only one focal length brings all points to
their lines (epipolar geometry; a camera that stays in its place: each to one spot). Wants OpenCV (extra `video`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from vipa.clips.camera_motion import FLOOR, INFLATED, NOISE
from vipa.clips.clip import Clip
from vipa.clips.field_of_view import FieldOfView
from vipa.clips.point_tracks import FEWEST, REACH, Tracks, hand_outlines, key_frames, track_points
from vipa.geometry import Intrinsics, axis_angle_from_matrix
from vipa.geometry.two_views import epipolar_error, rays_of, turn_error

ORIGIN = "measured: its poses and its pictures"
AGREE, WORST = 0.8, 0.12
"""Least share of points that must lie within three standard deviations of where the poses want them, and largest
relative error of a focal length that is said."""
PARTS = 5
"""Of the video's time, of which each in turn is left out to see how far they disagree."""
PINHOLE = 0.02
"""Relative error of the focal length that no agreement excludes: lenses are no pinholes."""


@dataclass(frozen=True)
class Pair:
    """Points that two frames share, in pixels, and the movement between them. t: the direction in which camera 2 lies
    from camera 1; None where it is in the same place."""

    pixels_1: Float[np.ndarray, "n 2"]
    pixels_2: Float[np.ndarray, "n 2"]
    R_1_2: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, "3"] | None

    def misses(self, camera: Intrinsics) -> Float[np.ndarray, "n"]:
        """Pixels between the points and where this camera would see them."""
        rays_1, rays_2 = rays_of(self.pixels_1, camera), rays_of(self.pixels_2, camera)
        if self.t is None:
            return camera.fx * np.linalg.norm(turn_error(self.R_1_2, rays_1, rays_2), axis=-1)
        return camera.fx * np.abs(epipolar_error(self.R_1_2, self.t, rays_1, rays_2))


def view_from_poses(clip: Clip) -> FieldOfView | None:
    """Of a clip with poses; hands that it knows are left out. None where its camera turns too little, where its
    pictures show too few points or do not fit the poses, and where many focal lengths do. Wants OpenCV."""
    T, camera = clip.T_world_camera, clip.intrinsics
    key = key_frames(clip.timestamps)
    if T is None or pose_error(T[key]) > WORST:
        return None
    size = (camera.width, camera.height)
    return fit_view(T[key], track_points(clip.frames, key, size, lambda frame: hand_outlines(clip, frame)), camera)


def fit_view(T_world_camera: Float[np.ndarray, "n 4 4"], tracks: Tracks, camera: Intrinsics) -> FieldOfView | None:
    """From the poses of key frames and the points followed through them. camera: its size and its middle count."""
    pairs = list(_pairs(T_world_camera, tracks))
    if not pairs:
        return None
    noise, longer = NOISE / tracks.factor, max(camera.width, camera.height)
    widest, narrowest = (np.log(longer / 2 / np.tan(np.radians(d) / 2)) for d in (150, 20))

    def costs(focal: np.ndarray) -> Float[np.ndarray, "pairs focal"]:
        """Robust (Cauchy's), as a bundle's."""
        cameras = [replace(camera, fx=f, fy=f) for f in np.exp(focal)]
        return np.array(
            [[2 * np.log1p((pair.misses(c) / (2 * noise)) ** 2).sum() for c in cameras] for pair in pairs]
        )

    coarse = np.linspace(widest, narrowest, 40)
    best = coarse[costs(coarse).sum(0).argmin()]
    step = coarse[1] - coarse[0]
    near = np.linspace(best - 2 * step, best + 2 * step, 33)
    near_costs = costs(near)
    middle, deviation = _lowest(near, near_costs.sum(0))
    part = np.arange(len(pairs)) * PARTS // len(pairs)
    without = [_lowest(near, near_costs[part != k].sum(0))[0] for k in range(PARTS) if (part == k).any()]
    spread = float(np.std(without) * np.sqrt(len(without) - 1)) if len(without) > 1 else np.inf  # jackknife
    parts = INFLATED * deviation, spread, pose_error(T_world_camera), PINHOLE
    error = float(np.linalg.norm(parts))
    found = replace(camera, fx=float(np.exp(middle)), fy=float(np.exp(middle)))
    agree = np.concatenate([pair.misses(found) for pair in pairs]) < 3 * noise
    if error > WORST or agree.mean() < AGREE or not widest < middle < narrowest:
        return None
    origin = f"{ORIGIN} ({agree.mean():.0%} of {len(agree)} points agree)"
    return FieldOfView.from_focal(found.fx, error, camera.width, origin)


def pose_error(T_world_camera: Float[np.ndarray, "n 4 4"]) -> float:
    """Relative error of the focal length that errors of the poses leave: large where a camera hardly turned."""
    R, n = T_world_camera[:, :3, :3], len(T_world_camera)
    turns = [R[j - back].T @ R[j] for j in range(n) for back in REACH if back <= j]
    turned = np.linalg.norm(axis_angle_from_matrix(np.array(turns).reshape(-1, 3, 3)))
    return float(FLOOR / max(turned, 1e-9))


def _pairs(T: Float[np.ndarray, "n 4 4"], tracks: Tracks) -> Iterator[Pair]:
    """In the order of the second frame."""
    for j in range(len(T)):
        for i in (j - back for back in REACH if back <= j):
            a, b = tracks.shared(i, j)
            if len(a) >= FEWEST:
                t = T[i, :3, :3].T @ (T[j, :3, 3] - T[i, :3, 3])
                length = float(np.linalg.norm(t))
                yield Pair(a, b, T[i, :3, :3].T @ T[j, :3, :3], t / length if length > 1e-9 else None)


def _lowest(at: Float[np.ndarray, "m"], cost: Float[np.ndarray, "m"]) -> tuple[float, float]:
    """(where a curve is lowest, by the parabola through the lowest value and its neighbours; the standard deviation
    that its curvature says, infinite at the ends and where it is flat)."""
    k, step = int(cost.argmin()), float(at[1] - at[0])
    if k in (0, len(at) - 1):
        return float(at[k]), np.inf
    below, middle, above = cost[k - 1 : k + 2]
    curvature = (below - 2 * middle + above) / step**2
    if curvature <= 0:
        return float(at[k]), np.inf
    return float(at[k] + (below - above) / (2 * step * curvature)), float(curvature**-0.5)

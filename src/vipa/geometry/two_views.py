"""How a camera turned between two pictures, from what both show: no network, no scale.

`R_1_2` maps directions in camera 2 to camera 1. Points of a picture are rays (x, y, 1) in their camera's own frame:
one pixel is 1 / focal length anywhere on the plane z = 1, so that errors there are errors in pixels.
"""

import numpy as np
from jaxtyping import Bool, Float

from vipa.geometry.cameras import Intrinsics
from vipa.geometry.rotations import matrix_from_axis_angle

TRIES = 300
"""Samples of two points: one of them is good with 99.8 % where one point in seven is."""

Rays = Float[np.ndarray, "n 3"]
Rotation = Float[np.ndarray, "3 3"]
Rotations = Float[np.ndarray, "*b 3 3"]


def rays_of(pixels: Float[np.ndarray, "*b n 2"], camera: Intrinsics) -> Float[np.ndarray, "*b n 3"]:
    """(x, y, 1), OpenCV axes, through these pixels."""
    x, y = (pixels[..., 0] - camera.cx) / camera.fx, (pixels[..., 1] - camera.cy) / camera.fy
    return np.stack([x, y, np.ones_like(x)], -1)


def nearest_rotation(matrix: Float[np.ndarray, "*b 3 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """The rotation nearest to a matrix (Frobenius norm)."""
    u, _, vt = np.linalg.svd(matrix)
    sign = np.ones((*matrix.shape[:-2], 3))
    sign[..., 2] = np.linalg.det(u @ vt)
    return (u * sign[..., None, :]) @ vt


def fit_rotation(rays1: Rays, rays2: Rays) -> Rotation:
    """R_1_2 that brings the directions of rays2 to those of rays1 with the least squares (Wahba's problem, by SVD)."""
    return nearest_rotation(_unit(rays1).T @ _unit(rays2))


def find_rotation(rays1: Rays, rays2: Rays, tolerance: float) -> tuple[Rotation, Bool[np.ndarray, "n"]]:
    """(R_1_2, which points agree within `tolerance`) of a camera that only turned: RANSAC over two points, then least
    squares. Needs two points at least: ValueError."""
    if len(rays1) < 2:
        raise ValueError(f"a rotation needs two points, there are {len(rays1)}")
    rng, a, b = np.random.default_rng(0), _unit(rays1), _unit(rays2)
    first = rng.integers(len(a), size=TRIES)
    second = (first + rng.integers(1, len(a), size=TRIES)) % len(a)
    tried = _axes(a[first], a[second]) @ _axes(b[first], b[second]).mT
    cosines = tried.reshape(TRIES, 9) @ (a.T[:, None] * b.T).reshape(9, -1)  # a . (R b) of all in one product
    misses = np.sqrt(np.maximum(2 - 2 * cosines, 0))
    best = int(np.minimum(misses, tolerance).sum(1).argmin())
    R_1_2, agree = tried[best], misses[best] < tolerance
    for _ in range(5):
        if agree.sum() < 2:
            break
        R_1_2 = fit_rotation(a[agree], b[agree])
        before, agree = agree, np.linalg.norm(turn_error(R_1_2, rays1, rays2), axis=-1) < tolerance
        if (before == agree).all():
            break
    return R_1_2, agree


def turn_error(R_1_2: Rotations, rays1: Rays, rays2: Rays) -> Float[np.ndarray, "*b n 2"]:
    """How far each point of picture 1 lies from where a camera that only turned would see it, on the plane z = 1."""
    turned = rays2 @ R_1_2.mT
    ahead = np.maximum(turned[..., 2:], 1e-6)
    return turned[..., :2] / ahead - rays1[:, :2]


def epipolar_error(
    R_1_2: Rotations, t: Float[np.ndarray, "*b 3"], rays1: Rays, rays2: Rays
) -> Float[np.ndarray, "*b n"]:
    """Signed distance (Sampson's, on the plane z = 1) by which both rays of a point miss a common plane with t, the
    direction of camera 2's centre in camera 1."""
    across = np.zeros((*t.shape[:-1], 3, 3))  # x @ it is t x x
    for i in range(3):
        across[..., i - 2, i - 1], across[..., i - 1, i - 2] = t[..., i], -t[..., i]
    line1 = (R_1_2.mT @ across).mT @ rays2.T
    line2 = (across @ -R_1_2).mT @ rays1.T
    slope = line1[..., 0, :] ** 2 + line1[..., 1, :] ** 2 + line2[..., 0, :] ** 2 + line2[..., 1, :] ** 2
    return np.einsum("in,...in->...n", rays1.T, line1) / np.sqrt(np.maximum(slope, 1e-18))


def refine(
    R_1_2: Rotation, t: Float[np.ndarray, "3"] | None, rays1: Rays, rays2: Rays, noise: float, steps: int = 12
) -> tuple[Rotation, Float[np.ndarray, "3"] | None, Float[np.ndarray, "3 3"]]:
    """(R_1_2, t, covariance) with the least robust error (Cauchy's) of all points; t None: the camera only turned.

    noise: standard deviation of a point on the plane z = 1. covariance: of the small rotation in camera 1 by which
    R_1_2 may err, radians^2, if points err independently; the spread of their errors counts where it exceeds the noise.
    """
    damping, best, start = 1e-3, (R_1_2, t), np.inf
    candidate, A, b, spread = best, np.eye(3), np.zeros(3), noise**2
    for _ in range(steps):
        errors = _errors(*candidate, rays1, rays2)
        cost = float(np.log1p((errors / (2 * noise)) ** 2).sum())
        if cost < start:
            done, best, start, damping = start - cost < 1e-5 * cost, candidate, cost, damping / 5
            J = _slopes(*best, rays1, rays2, errors)
            w = 1 / (1 + (errors / (2 * noise)) ** 2)
            A, b = (J * w[:, None]).T @ J, (J * w[:, None]).T @ errors
            spread = max(float((w * errors**2).sum() / max(w.sum() - J.shape[1], 1.0)), noise**2)
            if done:
                break
        elif (damping := damping * 10) > 1e3:
            break
        step = -np.linalg.solve(A + damping * np.diag(np.diag(A)) + 1e-12 * np.eye(len(A)), b)
        candidate = _moved(*best, step)
    return (*best, np.linalg.pinv(A, hermitian=True)[:3, :3] * spread)


def _errors(R: Rotations, t: np.ndarray | None, rays1: Rays, rays2: Rays) -> Float[np.ndarray, "*b m"]:
    if t is not None:
        return epipolar_error(R, t, rays1, rays2)
    return turn_error(R, rays1, rays2).reshape(*R.shape[:-2], -1)


def _slopes(R: Rotation, t: np.ndarray | None, rays1: Rays, rays2: Rays, errors: np.ndarray) -> np.ndarray:
    """Derivatives of the errors by a small rotation in camera 1 and, with a baseline, by its two angles."""
    eps = 1e-6
    moved = _moved(R, t, eps * np.eye(3 if t is None else 5))
    return ((_errors(*moved, rays1, rays2) - errors) / eps).T


def _moved(
    R: Rotation, t: np.ndarray | None, step: Float[np.ndarray, "*b k"]
) -> tuple[Rotations, np.ndarray | None]:
    turned = matrix_from_axis_angle(step[..., :3]) @ R
    if t is None:
        return turned, None
    aside = _unit(_cross(t, np.eye(3)[np.abs(t).argmin()]))
    return turned, _unit(t + step[..., 3:4] * aside + step[..., 4:5] * _cross(t, aside))


def _axes(a: Float[np.ndarray, "t 3"], b: Float[np.ndarray, "t 3"]) -> Float[np.ndarray, "t 3 3"]:
    """Orthogonal frames (columns) of pairs of directions; of two equal ones a frame that agrees with nothing."""
    middle, across = a + b, _cross(a, b)
    return np.stack([_unit(middle), _unit(across), _unit(_cross(middle, across))], -1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """NumPy's takes longer for a few vectors than all that is done with them."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]).T


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.sqrt(np.einsum("...i,...i", vectors, vectors)[..., None]), 1e-12)

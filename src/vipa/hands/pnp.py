"""Where a hand is: its metric shape and its pixels give its place in the camera (perspective-n-point)."""

import numpy as np
from jaxtyping import Float

from vipa.geometry import matrix_from_axis_angle, rigid

_ITERATIONS = 28
_CUT = 2.5  # medians of the reprojection error, from where a point counts as wrong


def solve_pnp(
    points: Float[np.ndarray, "frames n 3"],
    pixels: Float[np.ndarray, "frames n 2"],
    K: Float[np.ndarray, "3 3"],
    weights: Float[np.ndarray, "frames n"] | None = None,
) -> tuple[Float[np.ndarray, "frames 4 4"], Float[np.ndarray, "frames"]]:
    """T_camera_points of each frame, and its root-mean-square reprojection error in pixels (weighted).

    points: metres, in any frame of the hand. K: pixels. weights: 0 ... 1. At least four points with weight are
    needed, NaN otherwise. Levenberg-Marquardt, towards the end with a robust (Cauchy) loss, from several
    starts: an affine camera's closed form, that form seen from behind its plane (the ambiguity of nearly flat
    hands), and unturned; the best wins.
    """
    points, pixels = np.asarray(points, dtype=np.float64), np.asarray(pixels, dtype=np.float64)
    good = np.asarray(np.isfinite(points).all(-1) & np.isfinite(pixels).all(-1))
    w = good * (1.0 if weights is None else np.nan_to_num(np.asarray(weights, dtype=np.float64)))
    enough = (w > 0).sum(-1) >= 4
    X = np.where(good[..., None], points, 0.0)
    flat = np.where(good[..., None], (pixels - K[:2, 2]) / [K[0, 0], K[1, 1]], 0.0)
    focal = np.sqrt(K[0, 0] * K[1, 1])
    T = np.full((len(X), 4, 4), np.nan)
    rms = np.full(len(X), np.nan)
    if not enough.any():
        return T, rms
    X, flat, w = X[enough], flat[enough], w[enough]
    chosen_T, chosen_rms, best = np.zeros((len(X), 4, 4)), np.zeros(len(X)), np.full(len(X), np.inf)
    affine, depth, centre = _affine(X, flat, w)
    mean = (w[..., None] * X).sum(1) / w.sum(1)[:, None]
    behind = _seen_from_behind(affine, X - mean[:, None], w, centre)
    for R in (affine, behind, np.broadcast_to(np.eye(3), affine.shape)):
        start = np.concatenate([centre, np.ones((len(X), 1))], -1) * depth[:, None]
        R_end, t_end, cost = _refine(R, start - (R @ mean[..., None])[..., 0], X, flat, w)
        wrong = np.linalg.norm(_project(R_end, t_end, X)[0] - flat, axis=-1)
        error = focal * np.sqrt((w * wrong**2).sum(-1) / w.sum(-1))
        better = cost < best
        chosen_T[better], chosen_rms[better] = rigid(R_end, t_end)[better], error[better]
        best[better] = cost[better]
    T[enough], rms[enough] = chosen_T, chosen_rms
    return T, rms


def _affine(X: np.ndarray, flat: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation (F, 3, 3), depth (F,) and flat centre (F, 2) under scaled orthography."""
    share = (w / w.sum(-1, keepdims=True))[..., None]
    centre = (share * flat).sum(1)
    Xc, uc = X - (share * X).sum(1, keepdims=True), flat - centre[:, None]
    # least squares with a little damping: flat hands leave one direction open
    A = np.einsum("fni,fnj->fij", share * Xc, Xc)
    A += 1e-6 * np.trace(A, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    M = np.linalg.solve(A, np.einsum("fni,fnj->fij", share * Xc, uc)).swapaxes(-1, -2)  # (F, 2, 3)
    U, _, Vh = np.linalg.svd(M, full_matrices=False)
    rows = U @ Vh
    R = np.stack([rows[:, 0], rows[:, 1], np.cross(rows[:, 0], rows[:, 1])], 1)
    # the spread of both sides, where the damped direction does not shrink the scale
    turned = Xc @ R.swapaxes(-1, -2)
    size = np.sqrt((share * turned[..., :2] ** 2).sum((1, 2)))
    seen = np.sqrt((share * uc**2).sum((1, 2)))
    return R, size / np.maximum(seen, 1e-9), centre


def _seen_from_behind(R: np.ndarray, Xc: np.ndarray, w: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The other rotation under which a flat hand looks nearly the same: its plane mirrored about the view."""
    normal = np.linalg.svd(np.sqrt(w)[..., None] * Xc, full_matrices=False)[2][:, 2]
    n = (R @ normal[..., None])[..., 0]
    view = np.concatenate([centre, np.ones((len(R), 1))], -1)
    view /= np.linalg.norm(view, axis=-1, keepdims=True)
    mirrored = 2 * (n * view).sum(-1, keepdims=True) * view - n
    axis = np.cross(n, mirrored)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (n * mirrored).sum(-1, keepdims=True))
    return matrix_from_axis_angle(axis / np.maximum(sine, 1e-9) * angle) @ R


def _project(R: np.ndarray, t: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = X @ R.swapaxes(-1, -2) + t[:, None]
    z = np.maximum(p[..., 2:], 1e-3)
    return p[..., :2] / z, np.concatenate([p[..., :2], z], -1)


def _refine(
    R: np.ndarray, t: np.ndarray, X: np.ndarray, flat: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levenberg-Marquardt on rotation and translation, all frames at once."""
    damping = np.full(len(X), 1e-3)
    scale = np.full(len(X), 1e3)

    def robust(R: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        u, p = _project(R, t, X)
        r = flat - u
        length = np.linalg.norm(r, axis=-1)
        k = scale[:, None]
        square = (length / k) ** 2
        weight = w / (1 + square)
        cost = (w * k**2 * np.log1p(square)).sum(-1)
        behind = (X @ R[:, 2, :, None])[..., 0] + t[:, 2:] < 1e-3
        return r, p, weight, np.where((behind & (w > 0)).any(-1), np.inf, cost)

    for step in range(_ITERATIONS):
        if step >= _ITERATIONS // 2 and step % 4 == 0:  # nearly there: now outliers can be told
            length = np.linalg.norm(_project(R, t, X)[0] - flat, axis=-1)
            scale = np.maximum(_CUT * _weighted_median(length, w), 1e-5)
        r, p, weight, cost = robust(R, t)
        x, y, z = np.moveaxis(p, -1, 0)
        zero = np.zeros_like(x)
        du = np.stack([1 / z, zero, -x / z**2], -1)
        dv = np.stack([zero, 1 / z, -y / z**2], -1)
        turned = X @ R.swapaxes(-1, -2)
        # d(exp(a) q) = a x q, so that d u / d a = q x (du / dp)
        J = np.stack(
            [
                np.concatenate([np.cross(turned, du), du], -1),
                np.concatenate([np.cross(turned, dv), dv], -1),
            ],
            -2,
        )
        H = np.einsum("fn,fnci,fncj->fij", weight, J, J)
        g = np.einsum("fn,fnci,fnc->fi", weight, J, r)
        diagonal = np.einsum("fii->fi", H)
        D = np.einsum("fi,ij->fij", damping[:, None] * diagonal + 1e-12, np.eye(6))
        move = np.linalg.solve(H + D, g[..., None])[..., 0]
        R_new = matrix_from_axis_angle(move[:, :3]) @ R
        t_new = t + move[:, 3:]
        better = robust(R_new, t_new)[3] < cost
        R, t = np.where(better[:, None, None], R_new, R), np.where(better[:, None], t_new, t)
        damping = np.clip(np.where(better, damping * 0.2, damping * 5), 1e-9, 1e6)
    length = np.linalg.norm(_project(R, t, X)[0] - flat, axis=-1)
    k = np.maximum(_CUT * _weighted_median(length, w), 1e-5)[:, None]
    behind = ((X @ R[:, 2, :, None])[..., 0] + t[:, 2:] < 1e-3) & (w > 0)
    cost = (w * np.minimum(length, k)).sum(-1)
    return R, t, np.where(behind.any(-1), 1e6, cost)


def _weighted_median(values: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.nanmedian(np.where(w > 0, values, np.nan), -1), nan=0.0)

"""Bundle adjustment of a small video: how the camera turned and moved, where the points lie, and the focal length.

Points are homogeneous, (direction, 1 / distance) of unit length: one that is too far for parallax is as good as any for
a rotation. The unit of length is arbitrary: the camera moves by about as much as the points are away, or less.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from vipa.geometry.rotations import matrix_from_axis_angle

MOVES = 1.0
"""Prior standard deviation of a camera's place, in distances of the points: holds the unit of length."""

FREE = 0.01
"""Of a rotation: keeps the equations solvable where nothing joins two parts of the frames, and pulls nowhere."""


@dataclass(frozen=True)
class Observations:
    """Where points are seen: pixels from the principal point, divided by the focal length that is guessed."""

    frame: Int[np.ndarray, "m"]
    point: Int[np.ndarray, "m"]
    place: Float[np.ndarray, "m 2"]


@dataclass(frozen=True)
class Bundle:
    """R_world_camera and places of cameras, points, and the logarithm of (focal length / the guessed one).

    covariance: of the cameras' (small rotation in the world, place) and, last, the logarithm of the focal length; the
    first camera is the world and exact.
    """

    R: Float[np.ndarray, "n 3 3"]
    t: Float[np.ndarray, "n 3"]
    points: Float[np.ndarray, "p 4"]
    log_focal: float
    covariance: Float[np.ndarray, "6*n+1 6*n+1"]
    cost: float  # of all observations and priors
    misses: Float[np.ndarray, "m"]  # of the observations, in standard deviations

    def deviation(self, i: int, j: int) -> float:
        """Standard deviation of the angle by which R_i_j may err, radians."""
        a, b, S = slice(6 * i, 6 * i + 3), slice(6 * j, 6 * j + 3), self.covariance
        return float(np.sqrt(max(np.trace(S[a, a] + S[b, b] - S[a, b] - S[b, a]), 0.0)))


def adjust(
    R_world_camera: Float[np.ndarray, "n 3 3"],
    seen: Observations,
    noise: float,
    focal_error: float,
    log_focal: float = 0.0,
    rounds: int = 40,
) -> Bundle:
    """The bundle with the least robust error (Cauchy's), from rotations near the truth and a focal length to start at
    (the logarithm of how many times the guessed one); the rest needs no start.

    noise: standard deviation of an observation; focal_error: of the guessed focal length, relative.
    """
    count = int(seen.point.max()) + 1
    first = np.unique(seen.point, return_index=True)[1]
    rays = np.concatenate([seen.place[first] / np.exp(log_focal), np.ones((count, 1))], 1)
    rays = (R_world_camera[seen.frame[first]] @ rays[..., None])[..., 0]
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    points = np.concatenate([rays, np.ones((count, 1))], 1) / np.sqrt(2)
    n = len(R_world_camera)
    nothing = np.zeros((6 * n + 1,) * 2), 0.0, np.zeros(0)
    now = Bundle(R_world_camera.copy(), np.zeros((n, 3)), points, log_focal, *nothing)
    prior = np.concatenate([np.tile([FREE, FREE, FREE, 1, 1, 1], n) / MOVES**2, [1 / focal_error**2]])
    for coarse in (5.0, 1.0):  # first every point has its say, then outliers lose theirs
        now = _descended(now, seen, coarse * noise, prior, rounds)
    return _with_covariance(now, seen, noise, prior)


def _descended(now: Bundle, seen: Observations, noise: float, prior: np.ndarray, rounds: int) -> Bundle:
    """Levenberg-Marquardt."""
    damping, cost = 1e-3, _cost(now, seen, noise, prior)
    for _ in range(rounds):
        system = _System.of(now, seen, noise, prior)
        while damping < 1e6:
            trial = _moved(now, *system.step(damping))
            new = _cost(trial, seen, noise, prior)
            if new < cost:
                break
            damping *= 8
        else:
            break
        done, now, cost, damping = cost - new < 1e-4 * cost, trial, new, max(damping / 8, 1e-7)
        if done:
            break
    return now


def _with_covariance(now: Bundle, seen: Observations, noise: float, prior: np.ndarray) -> Bundle:
    misses = np.linalg.norm(_project(now, seen)[0] - seen.place, axis=-1) / noise
    larger = max(float(np.median(misses)) / 1.177, 1.0)  # median length of two standard normal numbers
    S = np.zeros_like(now.covariance)
    S[6:, 6:] = np.linalg.inv(_System.of(now, seen, noise * larger, prior).reduced(0.0)[0])
    return replace(now, covariance=S, cost=_cost(now, seen, noise, prior), misses=misses / larger)


def _project(b: Bundle, seen: Observations) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places of the observed points, the vectors from camera to point in the world and in the camera)."""
    h = b.points[seen.point]
    away = h[:, :3] - h[:, 3:] * b.t[seen.frame]
    y = np.einsum("mji,mj->mi", b.R[seen.frame], away)
    z = np.where(y[:, 2:] > 1e-3, y[:, 2:], 1e-3)
    return np.exp(b.log_focal) * y[:, :2] / z, away, y


def _cost(b: Bundle, seen: Observations, noise: float, prior: np.ndarray) -> float:
    misses = ((_project(b, seen)[0] - seen.place) ** 2).sum(-1) / (2 * noise) ** 2
    at = np.concatenate([np.concatenate([0 * b.t, b.t], 1).ravel(), [b.log_focal]])
    return float(2 * np.log1p(misses).sum() + 0.5 * (prior * at**2).sum())


@dataclass(frozen=True)
class _System:
    """Normal equations of one step: cameras and focal length (c), points (p)."""

    cc: np.ndarray
    cp: np.ndarray  # (c, points, 3)
    pp: np.ndarray  # (points, 3, 3)
    c: np.ndarray
    p: np.ndarray

    @classmethod
    def of(cls, b: Bundle, seen: Observations, noise: float, prior: np.ndarray) -> "_System":
        place, away, y = _project(b, seen)
        n, count, m = len(b.R), len(b.points), len(seen.frame)
        miss = place - seen.place
        weight = 1 / (1 + (miss**2).sum(-1) / (2 * noise) ** 2) / noise**2
        z = np.where(y[:, 2] > 1e-3, y[:, 2], 1e-3)
        slope = np.zeros((m, 2, 3))  # of the place by the vector in the camera
        slope[:, 0, 0] = slope[:, 1, 1] = np.exp(b.log_focal) / z
        slope[:, :, 2] = -place / z[:, None]
        world = slope @ b.R[seen.frame].mT
        h = b.points[seen.point]
        zero = np.zeros(m)
        vx, vy, vz = away.T
        skew = np.stack([zero, -vz, vy, vz, zero, -vx, -vy, vx, zero], -1).reshape(m, 3, 3)
        camera = np.concatenate([world @ skew, -world * h[:, 3, None, None]], -1)  # (m, 2, 6)
        by_point = (
            np.concatenate([world, -(world @ b.t[seen.frame][..., None])], -1) @ _tangent(b.points)[seen.point]
        )
        weighted = camera * weight[:, None, None]
        C = 6 * n + 1
        cc, cp, c = np.diag(prior).astype(float), np.zeros((C, count, 3)), np.zeros(C)
        at = np.concatenate([np.concatenate([0 * b.t, b.t], 1).ravel(), [b.log_focal]])
        c += prior * at
        blocks = _sums(seen.frame, n, weighted.mT @ camera)
        for k in range(n):
            cc[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] += blocks[k]
        c[:-1] += _sums(seen.frame, n, weighted.mT @ miss[..., None]).ravel()
        focal = _sums(seen.frame, n, weighted.mT @ place[..., None])
        cc[-1, :-1] += focal.ravel()
        cc[:-1, -1] += focal.ravel()
        cc[-1, -1] += (weight * (place**2).sum(-1)).sum()
        c[-1] += (weight * (place * miss).sum(-1)).sum()
        cross = weighted.mT @ by_point  # (m, 6, 3)
        rows = 6 * seen.frame[:, None] + np.arange(6)
        cp[rows, seen.point[:, None]] = cross
        pw = by_point * weight[:, None, None]
        cp[-1] = _sums(seen.point, count, pw.mT @ place[..., None])[..., 0]
        pp = _sums(seen.point, count, pw.mT @ by_point)
        p = _sums(seen.point, count, pw.mT @ miss[..., None])[..., 0]
        return cls(cc, cp, pp + 1e-6 * np.eye(3) / noise**2, c, p)

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cameras' equations with the points eliminated (all but the first camera), and the points' inverses."""
        inverse = np.linalg.inv(self.pp * (1 + damping * np.eye(3)))
        root, count = np.linalg.cholesky(inverse), len(self.cp) - 6
        half = (self.cp[6:].swapaxes(0, 1) @ root).swapaxes(0, 1).reshape(count, -1)
        cc = self.cc[6:, 6:] + damping * np.diag(np.diag(self.cc[6:, 6:]))
        right = half @ np.einsum("pji,pj->pi", root, self.p).ravel()
        return cc - half @ half.T, self.c[6:] - right, inverse  # a matrix by itself: half the products

    def step(self, damping: float) -> tuple[np.ndarray, np.ndarray]:
        matrix, right, inverse = self.reduced(damping)
        c = np.zeros(len(self.c))
        c[6:] = -np.linalg.solve(matrix, right)
        return c, -np.einsum("pij,pj->pi", inverse, self.p + np.einsum("cpi,c->pi", self.cp, c))


def _sums(
    owner: Int[np.ndarray, "m"], count: int, values: Float[np.ndarray, "m a b"]
) -> Float[np.ndarray, "count a b"]:
    """Of the values of each owner."""
    m = len(owner)
    belongs = csr_array((np.ones(m), (owner, np.arange(m))), shape=(count, m))
    return (belongs @ values.reshape(m, -1)).reshape(count, *values.shape[1:])


def _moved(b: Bundle, c: np.ndarray, p: np.ndarray) -> Bundle:
    cameras = c[:-1].reshape(-1, 6)
    points = b.points + (_tangent(b.points) @ p[..., None])[..., 0]
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    return replace(
        b, R=matrix_from_axis_angle(cameras[:, :3]) @ b.R, t=b.t + cameras[:, 3:], points=points,
        log_focal=b.log_focal + float(np.clip(c[-1], -0.3, 0.3)),
    )  # fmt: skip


def _tangent(points: Float[np.ndarray, "p 4"]) -> Float[np.ndarray, "p 4 3"]:
    """Three unit vectors across each unit vector (Householder's reflection of the last axis)."""
    v = points + np.where(points[:, 3:] < 0, -1.0, 1.0) * np.eye(4)[3]
    reflection = np.eye(4) - 2 * v[:, :, None] * v[:, None] / (v**2).sum(-1)[:, None, None]
    return reflection[:, :, :3]

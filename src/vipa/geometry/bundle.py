"""Bundle adjustment of a small video: how the camera turned and moved, where the points lie, and the focal length.

Points are homogeneous, (direction, 1 / distance) of unit length: one that is too far for parallax is as good as any for
a rotation. The unit of length is arbitrary: the camera moves by about as much as the points are away, or less.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from vipa.geometry.rotations import matrix_from_axis_angle

MOVES = 1.0
"""Prior standard deviation of a camera's place, in distances of the points: holds the unit of length."""

FREE = 0.01
"""Of a rotation: keeps the equations solvable where nothing joins two parts of the frames, and pulls nowhere."""

NEAREST = 1e-3
"""Least depth that a point is given: behind the camera is nowhere."""


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

    @property
    def deviation(self) -> Float[np.ndarray, "n n"]:
        """Standard deviations of the angles by which R_i_j may err, radians."""
        n = len(self.R)
        traces = np.einsum("iaja->ij", self.covariance[:-1, :-1].reshape(n, 6, n, 6)[:, :3, :, :3])
        own = np.diag(traces)
        return np.sqrt(np.maximum(own[:, None] + own - traces - traces.T, 0.0))


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
    misses = np.linalg.norm(_project(now, seen)[0] - seen.place.T, axis=0) / noise
    larger = max(float(np.median(misses)) / 1.177, 1.0)  # median length of two standard normal numbers
    S = np.zeros_like(now.covariance)
    S[6:, 6:] = np.linalg.inv(_System.of(now, seen, noise * larger, prior).reduced(0.0)[0])
    return replace(now, covariance=S, cost=_cost(now, seen, noise, prior), misses=misses / larger)


def _project(b: Bundle, seen: Observations) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places (2, m) of the observed points, the vectors (3, m) from camera to point in the world, in the camera)."""
    h = _each(b.points, seen.point)
    away = h[:3] - h[3] * _each(b.t, seen.frame)
    y = np.einsum("jim,jm->im", _each(b.R, seen.frame), away)
    return np.exp(b.log_focal) * y[:2] / np.maximum(y[2], NEAREST), away, y


def _cost(b: Bundle, seen: Observations, noise: float, prior: np.ndarray) -> float:
    misses = ((_project(b, seen)[0] - seen.place.T) ** 2).sum(0) / (2 * noise) ** 2
    return float(2 * np.log1p(misses).sum() + 0.5 * (prior * _at(b) ** 2).sum())


def _at(b: Bundle) -> Float[np.ndarray, "6*n+1"]:
    """Of what the prior knows: no rotation, the cameras' places, the focal length."""
    return np.append(np.concatenate([0 * b.t, b.t], 1), b.log_focal)


@dataclass(frozen=True)
class _System:
    """Normal equations of one step: cameras and focal length (c), points (p). Axes of observations and points are the
    last ones: a sum over short axes is then a few operations on long ones."""

    seen: Observations
    cc: np.ndarray
    op: np.ndarray  # (6, 3, m), of the observations' cameras and points
    fp: np.ndarray  # (3, points), of the focal length and the points
    pp: np.ndarray  # (3, 3, points)
    c: np.ndarray
    p: np.ndarray  # (3, points)

    @classmethod
    def of(cls, b: Bundle, seen: Observations, noise: float, prior: np.ndarray) -> "_System":
        place, away, y = _project(b, seen)
        n, count, m = len(b.R), len(b.points), len(seen.frame)
        miss = place - seen.place.T
        weight = 1 / (1 + (miss**2).sum(0) / (2 * noise) ** 2) / noise**2
        R = _each(b.R, seen.frame)
        z = np.maximum(y[2], NEAREST)
        # of the place by the vector in the world
        world = (np.exp(b.log_focal) * R[:, :2] - R[:, 2:] * place).swapaxes(0, 1) / z
        camera = np.empty((2, 6, m))
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            camera[:, i] = world[:, j] * away[k] - world[:, k] * away[j]
        camera[:, 3:] = -world * b.points[:, 3][seen.point]
        by_h = np.concatenate([world, -np.einsum("ijm,jm->im", world, _each(b.t, seen.frame))[:, None]], 1)
        by_point = np.einsum("ihm,hjm->ijm", by_h, _each(_tangent(b.points), seen.point))
        weighted, pw = camera * weight, by_point * weight
        of_frame, of_point = (lambda values: _sums(seen.frame, n, values)), (lambda v: _sums(seen.point, count, v))
        cc, c = np.diag(prior).astype(float), prior * _at(b)
        blocks = of_frame(np.einsum("iam,ibm->abm", weighted, camera))
        for k in range(n):
            cc[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] += blocks[..., k]
        c[:-1] += of_frame(np.einsum("iam,im->am", weighted, miss)).T.ravel()
        cc[-1, :-1] = cc[:-1, -1] = of_frame(np.einsum("iam,im->am", weighted, place)).T.ravel()
        cc[-1, -1] += (weight * (place**2).sum(0)).sum()
        c[-1] += (weight * (place * miss).sum(0)).sum()
        fp = of_point(np.einsum("iam,im->am", pw, place))
        pp = of_point(np.einsum("iam,ibm->abm", pw, by_point)) + 1e-6 * np.eye(3)[..., None] / noise**2
        p = of_point(np.einsum("iam,im->am", pw, miss))
        return cls(seen, cc, np.einsum("iam,ibm->abm", weighted, by_point), fp, pp, c, p)

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cameras' equations with the points eliminated (all but the first camera), and the points' inverses."""
        inverse = np.linalg.inv((self.pp * (1 + damping * np.eye(3))[..., None]).transpose(2, 0, 1))
        root = np.linalg.cholesky(inverse)
        half = np.zeros((len(self.c), *self.p.shape))
        rows = 6 * self.seen.frame + np.arange(6)[:, None]
        half[rows[:, None], np.arange(3)[:, None], self.seen.point] = np.einsum(
            "abm,bcm->acm", self.op, _each(root, self.seen.point)
        )
        half[-1] = np.einsum("bp,pbc->cp", self.fp, root)
        half = half[6:].reshape(len(self.c) - 6, -1)
        cc = self.cc[6:, 6:] + damping * np.diag(np.diag(self.cc[6:, 6:]))
        right = half @ np.einsum("pji,jp->ip", root, self.p).ravel()
        return cc - half @ half.T, self.c[6:] - right, inverse  # a matrix by itself: half the products

    def step(self, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """Of the cameras (6 n + 1) and of the points (3, points)."""
        matrix, right, inverse = self.reduced(damping)
        c = np.zeros(len(self.c))
        c[6:] = -np.linalg.solve(matrix, right)
        by_cameras = np.einsum("abm,am->bm", self.op, _each(c[:-1].reshape(-1, 6), self.seen.frame))
        pull = self.p + _sums(self.seen.point, self.p.shape[1], by_cameras) + self.fp * c[-1]
        return c, -np.einsum("pij,jp->ip", inverse, pull)


def _sums(
    owner: Int[np.ndarray, "m"], count: int, values: Float[np.ndarray, "*a m"]
) -> Float[np.ndarray, "*a count"]:
    """Of the values of each owner."""
    flat = values.reshape(-1, len(owner))
    return np.stack([np.bincount(owner, row, count) for row in flat]).reshape(*values.shape[:-1], count)


def _moved(b: Bundle, c: np.ndarray, p: np.ndarray) -> Bundle:
    cameras = c[:-1].reshape(-1, 6)
    points = b.points + np.einsum("phj,jp->ph", _tangent(b.points), p)
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    return replace(
        b, R=matrix_from_axis_angle(cameras[:, :3]) @ b.R, t=b.t + cameras[:, 3:], points=points,
        log_focal=b.log_focal + float(np.clip(c[-1], -0.3, 0.3)),
    )  # fmt: skip


def _each(values: Float[np.ndarray, "n *a"], owner: Int[np.ndarray, "m"]) -> Float[np.ndarray, "*a m"]:
    """The value of each one's owner."""
    return np.ascontiguousarray(np.moveaxis(values, 0, -1)).take(owner, -1)


def _tangent(points: Float[np.ndarray, "p 4"]) -> Float[np.ndarray, "p 4 3"]:
    """Three unit vectors across each unit vector (Householder's reflection of the last axis)."""
    v = points + np.where(points[:, 3:] < 0, -1.0, 1.0) * np.eye(4)[3]
    reflection = np.eye(4) - 2 * v[:, :, None] * v[:, None] / (v**2).sum(-1)[:, None, None]
    return reflection[:, :, :3]

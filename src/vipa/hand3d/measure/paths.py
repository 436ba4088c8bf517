"""Paths of points over time: short gaps bridged, speeds behind a smoothing window, stretches of frames."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float


def bridged(points: Float[np.ndarray, "frames *b 3"], times: np.ndarray, gap: float) -> np.ndarray:
    """Points with gaps (NaN) of at most `gap` seconds between two known frames filled linearly."""
    out = points.reshape(len(points), -1, 3).copy()
    known = np.asarray(np.isfinite(out).all(-1))
    for j in np.flatnonzero(~known.all(0)):
        for start, stop in true_runs(~known[:, j]):
            if start > 0 and stop < len(out) and times[stop] - times[start - 1] <= gap + 1e-6:
                part = (times[start:stop, None] - times[start - 1]) / (times[stop] - times[start - 1])
                out[start:stop, j] = (1 - part) * out[start - 1, j] + part * out[stop, j]
    return out.reshape(points.shape)


def speeds(points: Float[np.ndarray, "frames *b 3"], times: np.ndarray, sigma: float) -> np.ndarray:
    """(frames, *b) metres per second of paths smoothed over `sigma` seconds; NaN at and beside unknown points."""
    if len(points) < 2:
        return np.full(points.shape[:-1], np.nan)
    return np.linalg.norm(np.gradient(smoothed(points, times, sigma), times, axis=0), axis=-1)


def smoothed(points: Float[np.ndarray, "frames *b 3"], times: np.ndarray, sigma: float) -> np.ndarray:
    """Paths under a Gaussian of `sigma` seconds, each stretch of known points by itself; NaN where they are unknown."""
    paths = points.reshape(len(points), -1, 3)
    known = np.isfinite(paths).all(-1)
    out = np.full(paths.shape, np.nan)
    for pattern in np.unique(known, axis=1).T:  # points that are known at the same frames go together
        alike = np.flatnonzero((known == pattern[:, None]).all(0))
        for start, stop in true_runs(pattern):
            out[start:stop, alike] = _smoothed(paths[start:stop, alike], times[start:stop], sigma)
    return out.reshape(points.shape)


def _smoothed(paths: Float[np.ndarray, "frames points 3"], times: np.ndarray, sigma: float) -> np.ndarray:
    """At its ends a path goes on as its reflection through the end point: steady stays steady."""
    if len(paths) < 3:
        return paths
    step = float(np.median(np.diff(times)))
    reach = min(int(np.ceil(3 * sigma / step)), len(paths) - 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / sigma) ** 2)
    longer = np.pad(paths, [(reach, reach), (0, 0), (0, 0)], mode="reflect", reflect_type="odd")
    windows = np.stack([longer[k : k + len(paths)] for k in range(2 * reach + 1)])
    return np.tensordot(weights / weights.sum(), windows, 1)


def true_runs(mask: Bool[np.ndarray, "frames"]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask).astype(int), [0]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist())

"""Intervals of means over records that come in groups (the records of one clip are not independent)."""

from collections.abc import Sequence

import numpy as np


def clustered_interval(
    values: Sequence[float] | np.ndarray, clusters: Sequence[str], *, seed: int = 0, samples: int = 2000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of `values`, drawing whole clusters with replacement.

    values, clusters: one per record. ValueError for no values. With one record per cluster this is the plain
    bootstrap; with one cluster nothing is known about the spread between clusters and the interval is (-inf, inf).
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("an interval needs at least one value")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    if len(counts) == 1 and len(values) > 1:
        return -np.inf, np.inf
    draws = np.random.default_rng(seed).integers(len(counts), size=(samples, len(counts)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)

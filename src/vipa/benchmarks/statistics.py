"""Intervals that every reported figure carries, 95 % unless said otherwise, and comparisons of pairs."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from vipa.benchmarks.results import Mean


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) of a success rate by Wilson's score. ValueError unless 0 <= successes <= trials, trials > 0."""
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"wilson interval: {successes} successes in {trials} trials")
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    values: Float[np.ndarray, "n *d"],
    statistic: Callable[[np.ndarray], float] = lambda sample: float(np.mean(sample)),
    seed: int = 0,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """(low, high) by the percentile bootstrap over rows of `values`. ValueError for no rows."""
    values = np.asarray(values)
    if len(values) == 0:
        raise ValueError("bootstrap interval: there are no values")
    if len(values) == 1:  # which scipy refuses: every sample is the same
        value = float(statistic(values))
        return value, value
    found = stats.bootstrap(
        (np.arange(len(values)),),
        lambda rows: statistic(values[rows]),
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def clustered_interval(
    values: Sequence[float] | np.ndarray, clusters: Sequence[str], *, seed: int = 0, samples: int = 2000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of `values`, drawing whole clusters with replacement.

    values, clusters: one per record. ValueError for no values. With one record per cluster this is the plain
    bootstrap; with one cluster nothing is known about the spread between clusters and the interval is (-inf, inf).
    Ours, because scipy's bootstrap draws records: it has none over clusters of unequal size.
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


def clustered_mean(values: Sequence[float], clusters: Sequence[str]) -> Mean:
    """The mean over records, with its interval over clusters."""
    return Mean(float(np.mean(values)), *clustered_interval(values, clusters))


@dataclass(frozen=True)
class PairedEpisodes:
    """Two policies that played the same episodes: how many both, only one and neither solved, and the two-sided p of
    the exact McNemar test: how likely counts that far from even are if the policies are equally good."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p: float


@dataclass(frozen=True)
class Difference:
    """What is measured of one minus another: the mean over `records` that both have. p: two-sided, of no difference."""

    mean: Mean
    p: float
    records: int


def paired_difference(
    pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]], clusters: Mapping[str, str]
) -> Difference:
    """First minus second, record by record, in the pairs of models of several trainings (one: of one): would other
    trainings and other clips say so too? ValueError where not all of them share a record.

    pairs: value by record of either model. clusters: of each record.

    Student's t. The variance of the mean is that between clusters plus that between trainings (what is of both is in it
    twice, so the interval is rather too wide), its degrees of freedom are Satterthwaite's (1946): two, where of three
    trainings each says something else. With one pair other trainings are not in it; with one cluster nothing is known,
    and the interval has no ends.
    """
    common = sorted(set.intersection(*(first.keys() & second.keys() for first, second in pairs)))
    if not common:
        raise ValueError("a paired comparison needs records that both have answered")
    gaps = np.array([[first[r] - second[r] for r in common] for first, second in pairs])
    mean = float(gaps.mean())
    _, index = np.unique([clusters[r] for r in common], return_inverse=True)
    share = len(np.unique(index)) / len(common)
    error, freedom = _standard_error(share * np.stack([np.bincount(index, row - mean) for row in gaps]))
    if not np.isfinite(error):
        return Difference(Mean(mean, -np.inf, np.inf), 1.0, len(common))
    if error == 0:
        return Difference(Mean(mean, mean, mean), float(mean == 0), len(common))
    reach, p = stats.t.ppf(0.975, freedom) * error, 2 * stats.t.sf(abs(mean) / error, freedom)
    return Difference(Mean(mean, mean - float(reach), mean + float(reach)), float(p), len(common))


def _standard_error(cells: Float[np.ndarray, "trainings clusters"]) -> tuple[float, float]:
    """Of the mean of all cells, with its degrees of freedom; infinite where there is one cluster."""
    n, m = cells.shape
    if m == 1:
        return np.inf, 1.0
    of_clusters = n * cells.mean(0).var(ddof=1)
    if n == 1:
        return float(np.sqrt(of_clusters / m)), m - 1.0
    of_trainings = m * cells.mean(1).var(ddof=1)
    total = of_clusters + of_trainings
    freedom = total**2 / (of_clusters**2 / (m - 1) + of_trainings**2 / (n - 1)) if total else 1.0
    return float(np.sqrt(total / (n * m))), float(freedom)


def paired_episodes(first: Mapping[Hashable, bool], second: Mapping[Hashable, bool]) -> PairedEpisodes:
    """first, second: success by episode; the episodes that both played count. ValueError where there are none.

    Only the episodes that they end differently say which is better: under the null each of them is a fair coin (McNemar
    1947, in the exact form).
    """
    common = first.keys() & second.keys()
    if not common:
        raise ValueError("a paired comparison needs episodes that both have played")
    only_first = sum(first[e] and not second[e] for e in common)
    only_second = sum(second[e] and not first[e] for e in common)
    both = sum(first[e] and second[e] for e in common)
    differing = only_first + only_second
    p = float(stats.binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return PairedEpisodes(both, only_first, only_second, len(common) - both - differing, p)

"""Intervals and paired comparisons against scipy's, statsmodels' and counting by hand."""

import itertools

import numpy as np
import pytest
import scipy.stats

from vipa.benchmarks.statistics import (
    bootstrap_interval,
    clustered_interval,
    paired_difference,
    paired_episodes,
    wilson_interval,
)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 20), (475, 500), (1, 1)])
def test_wilson_interval_is_scipy_s(k, n):
    expected = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(k, n), [expected.low, expected.high], atol=1e-9)


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(k, n)


def test_bootstrap_interval_is_near_scipy_s_percentile_interval():
    values = np.random.default_rng(0).exponential(size=80)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1)
    ours = bootstrap_interval(values, resamples=4000)
    interval = theirs.confidence_interval
    np.testing.assert_allclose(ours, [interval.low, interval.high], atol=0.03)


def test_bootstrap_interval_depends_on_nothing_but_its_seed():
    values = np.arange(20.0)
    median = lambda x: float(np.median(x))  # noqa: E731
    assert bootstrap_interval(values, median, 3) == bootstrap_interval(values, median, 3)


def wilson_by_hand(k: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson (1927): the rates p for which |k / n - p| is z standard errors sqrt(p (1 - p) / n)."""
    low, high = sorted(np.roots([1 + z * z / n, -2 * k / n - z * z / n, (k / n) ** 2]).real)
    return low, high


@pytest.mark.parametrize(("k", "n"), [(1, 3), (3, 20), (475, 500), (44, 50)])
def test_wilson_interval_solves_its_equation(k, n):
    np.testing.assert_allclose(wilson_interval(k, n), wilson_by_hand(k, n), atol=1e-9)


def test_bootstrap_interval_is_that_of_drawing_row_by_row():
    """Recorded figures were drawn this way, with this generator: they stay what they are."""
    values = np.random.default_rng(5).normal(size=(37, 2))
    rng = np.random.default_rng(0)
    draws = [values[rng.integers(37, size=37)].mean() for _ in range(2000)]
    expected = np.quantile(draws, [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_interval(values), expected, rtol=1e-12)


def test_one_value_is_its_own_interval():
    assert bootstrap_interval(np.array([2.5])) == (2.5, 2.5)


def test_with_a_cluster_for_every_record_it_is_the_plain_bootstrap():
    values = np.random.default_rng(1).exponential(size=60)
    clustered = clustered_interval(values, [f"{i:02d}" for i in range(60)])
    np.testing.assert_allclose(clustered, bootstrap_interval(values), rtol=1e-9)


def test_no_values_have_no_interval():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval(np.zeros(0))


def outcomes(both, only_first, only_second, neither):
    pairs = [(True, True)] * both + [(True, False)] * only_first + [(False, True)] * only_second
    pairs += [(False, False)] * neither
    first = {("task", seed): a for seed, (a, _) in enumerate(pairs)}
    return first, {("task", seed): b for seed, (_, b) in enumerate(pairs)}


@pytest.mark.parametrize("counts", [(3, 0, 0, 4), (10, 1, 6, 3), (5, 8, 2, 0), (0, 4, 4, 0), (0, 9, 0, 1)])
def test_mcnemar_counts_all_ways_in_which_the_differing_episodes_could_have_gone(counts):
    found = paired_episodes(*outcomes(*counts))
    assert (found.both, found.only_first, found.only_second, found.neither) == counts
    _, b, c, _ = counts
    coins = [sum(ways) for ways in itertools.product((0, 1), repeat=b + c)]
    as_far = [abs(heads - (b + c) / 2) >= abs(b - c) / 2 for heads in coins]
    assert found.p == pytest.approx(np.mean(as_far), abs=1e-12)


def test_mcnemar_is_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    for counts in [(30, 12, 3, 5), (1, 2, 9, 40), (100, 40, 41, 19)]:
        both, b, c, neither = counts
        theirs = tables.mcnemar([[both, b], [c, neither]], exact=True).pvalue
        assert paired_episodes(*outcomes(*counts)).p == pytest.approx(theirs, rel=1e-9)


def test_a_paired_difference_is_scipys_paired_bootstrap_where_every_record_is_a_cluster():
    rng = np.random.default_rng(4)
    a = rng.exponential(size=80)
    b = a + rng.normal(0.1, 0.3, size=80)
    theirs = scipy.stats.bootstrap(
        (a, b), lambda x, y: np.mean(x - y), paired=True, vectorized=False, method="percentile",
        n_resamples=4000, rng=1,
    ).confidence_interval  # fmt: skip
    names = [f"{i:02d}" for i in range(80)]
    found, records = paired_difference(dict(zip(names, a)), dict(zip(names, b)), {n: n for n in names})
    assert records == 80
    assert found.value == pytest.approx(np.mean(a - b))
    np.testing.assert_allclose([found.low, found.high], [theirs.low, theirs.high], atol=0.015)


def test_a_paired_difference_over_clusters_is_scipys_bootstrap_of_cluster_sums():
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 9, size=40)
    names = [f"{c}/{i}" for c, size in enumerate(sizes) for i in range(size)]
    effect = rng.normal(0.05, 0.1, size=40)
    b = {n: float(rng.normal(0.3, 0.05)) for n in names}
    a = {n: b[n] + effect[int(n.split("/")[0])] + float(rng.normal(0, 0.02)) for n in names}
    sums = np.array([sum(a[n] - b[n] for n in names if n.split("/")[0] == str(c)) for c in range(40)])
    theirs = scipy.stats.bootstrap(
        (sums, sizes), lambda s, k: s.sum() / k.sum(), paired=True, vectorized=False, method="percentile",
        n_resamples=4000, rng=1,
    ).confidence_interval  # fmt: skip
    found, _ = paired_difference(a, b, {n: n.split("/")[0] for n in names})
    np.testing.assert_allclose([found.low, found.high], [theirs.low, theirs.high], atol=0.006)


def test_only_what_both_have_is_compared():
    found, records = paired_difference({"a": 1.0, "b": 3.0}, {"b": 1.0, "c": 9.0}, {"b": "clip"})
    assert (found.value, records) == (2.0, 1)
    assert paired_episodes({1: True, 2: False}, {2: True, 3: True}).only_second == 1
    with pytest.raises(ValueError, match="both"):
        paired_difference({"a": 1.0}, {"b": 1.0}, {})
    with pytest.raises(ValueError, match="both"):
        paired_episodes({1: True}, {2: True})

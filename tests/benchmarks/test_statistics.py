"""Intervals against scipy's."""

import numpy as np
import pytest
import scipy.stats

from vipa.benchmarks.statistics import bootstrap_interval, clustered_interval, wilson_interval


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

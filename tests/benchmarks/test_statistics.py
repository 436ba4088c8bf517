"""Intervals against scipy's."""

import numpy as np
import pytest
import scipy.stats

from vipa.benchmarks.statistics import bootstrap_interval, wilson_interval


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


def test_no_values_have_no_interval():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval(np.zeros(0))

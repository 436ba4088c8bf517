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


def test_only_what_both_have_is_compared():
    found = paired_difference([({"a": 1.0, "b": 3.0}, {"b": 1.0, "c": 9.0})], {"b": "clip"})
    assert (found.mean.value, found.records) == (2.0, 1)
    assert paired_episodes({1: True, 2: False}, {2: True, 3: True}).only_second == 1
    with pytest.raises(ValueError, match="both"):
        paired_difference([({"a": 1.0}, {"b": 1.0})], {})
    with pytest.raises(ValueError, match="both"):
        paired_episodes({1: True}, {2: True})


def difference(gaps, clusters):
    """Of models that differ by gaps (trainings x records)."""
    names = [str(i) for i in range(gaps.shape[1])]
    pairs = [(dict(zip(names, map(float, row))), dict.fromkeys(names, 0.0)) for row in gaps]
    return paired_difference(pairs, dict(zip(names, map(str, clusters))))


def test_one_seed_with_a_record_a_cluster_is_scipys_paired_t_test():
    gaps = np.random.default_rng(6).normal(0.2, 1, (1, 40))
    theirs, found = scipy.stats.ttest_1samp(gaps[0], 0), difference(gaps, range(40))
    interval = theirs.confidence_interval()
    np.testing.assert_allclose([found.mean.low, found.mean.high, found.p], [*interval, theirs.pvalue], rtol=1e-9)


def test_seeds_whose_records_all_agree_are_scipys_t_test_of_the_seeds():
    """Three trainings, each off by its own number everywhere: what is sampled is three numbers."""
    of_seeds = np.array([0.1, 0.5, 0.2])
    theirs, found = (
        scipy.stats.ttest_1samp(of_seeds, 0),
        difference(np.repeat(of_seeds[:, None], 30, 1), range(30)),
    )
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.mean.value == pytest.approx(of_seeds.mean())


@pytest.mark.parametrize(("of_seed", "of_clip"), [(0.0, 1.0), (0.3, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_what_differs_by_chance_alone_is_rarely_sure(of_seed, of_clip):
    """Chance of trainings, of clips and of both together, in clips of unequal size. One training cannot know."""
    rng = np.random.default_rng(7)
    three, one = [], []
    for _ in range(300):
        sizes = rng.integers(1, 9, 60)
        clips = np.repeat(np.arange(60), sizes)
        gaps = of_seed * rng.normal(size=(3, 1)) + of_clip * rng.normal(size=60)[clips]
        gaps = gaps + rng.normal(size=(3, 60))[:, clips] + 0.5 * rng.normal(size=(3, len(clips)))
        three.append(difference(gaps, clips).p < 0.05)
        one.append(difference(gaps[:1], clips).p < 0.05)
    assert np.mean(three) < 0.1
    assert np.mean(one) > (0.2 if of_seed else 0.02)


def test_what_one_seed_is_sure_of_three_need_not_be():
    gaps = np.random.default_rng(8).normal([[0.5], [-0.4], [0.1]], 0.3, (3, 80))
    assert difference(gaps[:1], range(80)).p < 1e-6
    assert difference(gaps, range(80)).p > 0.3


def test_equal_answers_differ_by_nothing_and_one_clip_says_nothing():
    same = difference(np.zeros((3, 4)), [0, 0, 1, 1])
    assert (same.mean.low, same.mean.high, same.p) == (0.0, 0.0, 1.0)
    alone = difference(np.ones((2, 4)), [0, 0, 0, 0])
    assert (alone.mean.low, alone.mean.high, alone.p) == (-np.inf, np.inf, 1.0)


def test_over_unequal_clusters_it_is_scipys_bootstrap_of_cluster_sums():
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 9, size=40)
    clusters = np.repeat(np.arange(40), sizes)
    gaps = rng.normal(0.05, 0.1, size=40)[clusters] + rng.normal(0, 0.02, size=len(clusters))
    sums = np.bincount(clusters, gaps)
    theirs = scipy.stats.bootstrap(
        (sums, sizes), lambda s, k: s.sum() / k.sum(), paired=True, vectorized=False, method="percentile",
        n_resamples=4000, rng=1,
    ).confidence_interval  # fmt: skip
    found = difference(gaps[None], clusters).mean
    np.testing.assert_allclose([found.low, found.high], [theirs.low, theirs.high], atol=0.006)


def test_its_p_is_near_that_of_all_sign_flips():
    gaps = np.random.default_rng(3).normal(0.4, 1, 36)
    clusters = np.arange(36) % 12
    sums = np.bincount(clusters, gaps)
    flips = np.array(list(itertools.product((-1, 1), repeat=12))) @ sums
    assert difference(gaps[None], clusters).p == pytest.approx(
        (abs(flips) >= abs(sums.sum()) - 1e-12).mean(), abs=0.02
    )

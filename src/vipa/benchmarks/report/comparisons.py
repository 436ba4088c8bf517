"""Arms side by side: their figures with intervals, and which is better, pair by pair where both did the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, cycle

from vipa.benchmarks.report.charts import Interval, interval_words, shortened
from vipa.benchmarks.report.contenders import SUCCESS, Arm, Measure
from vipa.benchmarks.statistics import (
    Difference,
    PairedEpisodes,
    paired_difference,
    paired_episodes,
    wilson_interval,
)

Values = dict[str, float]
"""By record or episode."""
SURE = 0.05
"""A McNemar p below this is called a difference; there is no correction for how many pairs are looked at."""


@dataclass(frozen=True)
class Verdict:
    """How an arm compares with its baselines. mark: good (better, beyond chance), part (better, not beyond chance), bad
    (not better than the best baseline)."""

    mark: str
    words: str


@dataclass(frozen=True)
class Pair:
    """Two arms that did the same. difference: first - second, over records or episodes. episodes: of a closed loop that
    each played once."""

    first: Arm
    second: Arm
    difference: Difference
    episodes: PairedEpisodes | None = None

    def better(self, measure: Measure) -> bool | None:
        """Whether the first is beyond chance better (True) or worse (False)."""
        low, high = self.difference.mean.low, self.difference.mean.high
        if self.episodes is not None and self.episodes.p >= SURE:
            return None
        if self.episodes is None and low <= 0 <= high:
            return None
        return (self.difference.mean.value < 0) == measure.less_is_better


def interval(arm: Arm, measure: Measure) -> Interval | None:
    """The figure of an arm, to be drawn."""
    mean = arm.mean(measure)
    return None if mean is None else Interval(arm.name, arm.tone, mean.value, mean.low, mean.high)


def rows(arms: Sequence[Arm], measure: Measure) -> list[Interval]:
    """The figures of arms, in order."""
    return [found for arm in arms if (found := interval(arm, measure)) is not None]


def task_rows(arms: Sequence[Arm], task: str) -> list[Interval]:
    """Success rates on one task of a closed loop; several seeds pooled."""
    found = []
    for arm in arms:
        counts = [run.result.scores[task] for run in arm.runs if task in run.result.scores]
        if counts:
            hits, trials = sum(s for s, _ in counts), sum(t for _, t in counts)
            bounds = wilson_interval(hits, trials)
            found.append(
                Interval(f"{shortened(arm.name, 18)}, {hits} of {trials}", arm.tone, hits / trials, *bounds)
            )
    return found


def pair(first: Arm, second: Arm, measure: Measure) -> Pair | None:
    """Compared record by record, or episode by episode; None where they share none, or their lines are not there."""
    runs = _side_by_side(first.by_run(measure), second.by_run(measure))
    if not runs or not set.intersection(*(a.keys() & b.keys() for a, b in runs)):
        return None
    difference = paired_difference(runs, first.clusters)
    episodes = None
    if measure is SUCCESS and len(runs) == 1:
        ((mine, theirs),) = runs
        episodes = paired_episodes({k: v > 0 for k, v in mine.items()}, {k: v > 0 for k, v in theirs.items()})
    return Pair(first, second, difference, episodes)


def _side_by_side(first: list[Values], second: list[Values]) -> list[tuple[Values, Values]]:
    """Runs in their order, as far as both go; a single one (a baseline, a model that is given) beside each of the
    other's."""
    count = max(len(first), len(second)) if 1 in (len(first), len(second)) else min(len(first), len(second))
    return [(a, b) for a, b, _ in zip(cycle(first), cycle(second), range(count))]


def pairs(arms: Sequence[Arm], measure: Measure) -> list[Pair]:
    """Of all arms, each with each that comes after it."""
    return [found for a, b in combinations(arms, 2) if (found := pair(a, b, measure)) is not None]


def compare(ours: Arm, others: Sequence[Arm], measure: Measure) -> Verdict | None:
    """Against the other arm that does best: pair by pair where both did the same, by their intervals otherwise."""
    sign = 1 if measure.less_is_better else -1
    mean = ours.mean(measure)
    known = [(value, arm) for arm in others if (value := arm.mean(measure)) is not None]
    if mean is None or not known:
        return None
    value, best = min(known, key=lambda pair: sign * pair[0].value)
    if sign * mean.value >= sign * value.value:
        return Verdict("bad", f"Not better than \u201c{best.name}\u201d.")
    found = pair(ours, best, measure)
    if found is None:
        return compare_intervals(
            interval(ours, measure), rows(others, measure), less_is_better=measure.less_is_better
        )
    what = f"on the same {found.difference.records} {'episodes' if measure is SUCCESS else 'records'}"
    if found.episodes is not None:
        how = f"p = {found.episodes.p:.2g}, exact McNemar, {what}"
    else:
        gap = found.difference.mean
        by = Interval(
            "",
            "now",
            abs(gap.value),
            *sorted(map(abs, (gap.low, gap.high))),
        )
        how = f"by {interval_words(by, measure.unit)} {what}"
    if found.better(measure):
        return Verdict("good", f"Better than \u201c{best.name}\u201d: {how}.")
    how = how if found.episodes is not None else f"the interval of the difference holds 0, {what}"
    return Verdict("part", f"Better than \u201c{best.name}\u201d, but maybe by chance: {how}.")


def compare_intervals(
    ours: Interval | None, others: Sequence[Interval], *, less_is_better: bool
) -> Verdict | None:
    """Against the baseline that does best. Intervals that only touch count as overlapping."""
    if ours is None or not others:
        return None
    sign = 1 if less_is_better else -1
    best = min(others, key=lambda b: sign * b.value)
    if sign * ours.value >= sign * best.value:
        return Verdict("bad", f"Not better than \u201c{best.name}\u201d.")
    ours_end, best_end = (ours.high, best.low) if less_is_better else (ours.low, best.high)
    if ours_end is not None and best_end is not None and sign * ours_end < sign * best_end:
        return Verdict("good", f"Better than \u201c{best.name}\u201d; the 95 % intervals do not overlap.")
    return Verdict("part", f"Better than \u201c{best.name}\u201d, but the 95 % intervals overlap.")

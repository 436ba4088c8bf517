"""Results of one set of weights side by side with the baselines they have to beat."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vipa.benchmarks.report.charts import Interval
from vipa.benchmarks.results import Hand3DResult, Mean, TrajectoryResult
from vipa.benchmarks.statistics import wilson_interval


@dataclass(frozen=True)
class Media:
    """An image or a video file, and what it shows."""

    path: Path
    caption: str = ""
    pixelated: bool = False


@dataclass(frozen=True)
class Success:
    """Closed-loop successes on one task, with the Wilson interval of the rate."""

    task: str
    policy: str
    successes: int
    trials: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.successes / self.trials


@dataclass(frozen=True)
class Column:
    """Everything the report shows of one set of weights. Results are keyed by who answered.

    hand3d: "constant", "before" (the foundation), "stage1". trajectories: "stay", "mean", "mean_from_start",
    "stage2". tabletop: policies "policy" and "blank". losses: stage -> [(step, loss)].
    """

    name: str
    tone: str  # now or shipped
    note: str = ""
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    hand3d: dict[str, Hand3DResult] = field(default_factory=dict)
    trajectories: dict[str, TrajectoryResult] = field(default_factory=dict)
    tabletop: tuple[Success, ...] = ()
    drawings: tuple[Media, ...] = ()
    rollouts: tuple[Media, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How an estimate compares with its baselines. mark: good (better, intervals apart), part (better, intervals
    overlap), bad (not better than the best baseline)."""

    mark: str
    words: str


def compare(ours: Interval, baselines: Sequence[Interval], *, less_is_better: bool) -> Verdict:
    """Against the baseline that does best. Intervals that only touch count as overlapping."""
    sign = 1 if less_is_better else -1
    best = min(baselines, key=lambda b: sign * b.value)
    if sign * ours.value >= sign * best.value:
        return Verdict("bad", f"Not better than “{best.name}”.")
    ours_end, best_end = (ours.high, best.low) if less_is_better else (ours.low, best.high)
    if ours_end is not None and best_end is not None and sign * ours_end < sign * best_end:
        others = "every baseline" if len(baselines) > 1 else f"“{best.name}”"
        return Verdict("good", f"Better than {others}; the 95 % intervals do not overlap.")
    return Verdict("part", f"Better than “{best.name}”, but the 95 % intervals overlap.")


HAND3D = {"stage1": "after stage 1", "before": "before stage 1", "constant": "constant"}
TRAJECTORIES = {
    "stage2": "after stage 2",
    "stay": "hand stays where it is",
    "mean_from_start": "mean trajectory, true start",
    "mean": "mean trajectory",
}
POLICIES = {"policy": "policy", "blank": "blank image"}
"""Who answers: key -> name, the trained model first, then what it is compared with."""


def tone(key: str, column: Column) -> str:
    """Colour class of a row."""
    if key in ("stage1", "stage2", "policy"):
        return column.tone
    return "before" if key == "before" else "base"


def distance_rows(column: Column) -> list[Interval]:
    """Distance errors, the trained model first; [] where it has no result."""
    return _rows(HAND3D, column, {k: r.all.error for k, r in column.hand3d.items()})


def direction_rows(column: Column) -> list[Interval]:
    """Direction scores, likewise."""
    return _rows(HAND3D, column, {k: r.all.direction_score for k, r in column.hand3d.items()})


def average_rows(column: Column) -> list[Interval]:
    """Average displacement errors, likewise."""
    return _rows(TRAJECTORIES, column, {k: r.average_error for k, r in column.trajectories.items()})


def final_rows(column: Column) -> list[Interval]:
    """Final displacement errors, likewise."""
    return _rows(TRAJECTORIES, column, {k: r.final_error for k, r in column.trajectories.items()})


def success_rows(column: Column) -> list[Interval]:
    """Success rates over all tasks, likewise."""
    rates = {}
    for policy in POLICIES:
        trials = sum(s.trials for s in column.tabletop if s.policy == policy)
        successes = sum(s.successes for s in column.tabletop if s.policy == policy)
        if trials:
            rates[policy] = Mean(successes / trials, *wilson_interval(successes, trials))
    return _rows(POLICIES, column, rates)


def task_rows(column: Column, task: str) -> list[Interval]:
    """Success rates on one task."""
    found = [s for s in column.tabletop if s.task == task]
    rates = {s.policy: Mean(s.rate, s.low, s.high) for s in found}
    counts = {s.policy: f"{POLICIES[s.policy]}, {s.successes} of {s.trials}" for s in found}
    return _rows(counts, column, rates)


def _rows(names: dict[str, str], column: Column, means: dict[str, Mean]) -> list[Interval]:
    if not names or next(iter(names)) not in means:
        return []
    found = [(key, name, means[key]) for key, name in names.items() if key in means]
    return [Interval(name, tone(key, column), m.value, m.low, m.high) for key, name, m in found]

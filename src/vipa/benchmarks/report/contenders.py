"""Saved results as the arms of a comparison: whoever answered or played, maybe with several seeds of its training.

An arm is one name and its runs. Arms are compared where they answered the same questions or played in the same
simulator: together they are a `Column` of the report.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vipa.benchmarks.report.curves import Curve
from vipa.benchmarks.results import Hand3DResult, Mean, TrajectoryResult, TranslationResult
from vipa.benchmarks.statistics import clustered_mean, wilson_interval
from vipa.io.json_files import read_json

TONES = ("now", "shipped", "before", "fourth", "fifth", "sixth")
"""Colours of arms, in order; a baseline has `base`."""


@dataclass(frozen=True)
class Media:
    """An image or a video file, and what it shows."""

    path: Path
    caption: str = ""
    pixelated: bool = False


@dataclass(frozen=True)
class Rollouts:
    """What a closed loop saves: protocol, (successes, trials) by task or suite and of "all", and films."""

    name: str
    protocol: dict[str, Any]
    scores: dict[str, tuple[int, int]]
    videos: tuple[Path, ...] = ()
    made: dict[str, Any] | None = None


Result = Hand3DResult | TrajectoryResult | TranslationResult | Rollouts


@dataclass(frozen=True)
class Measure:
    """One figure of a benchmark. value: of one saved line; None where the line does not count. saved: the figure as the
    result has it. unit: "m", "%" or "". best: the least that could be hoped for, or the most."""

    title: str
    unit: str
    less_is_better: bool
    value: Callable[[dict[str, Any]], float | None]
    saved: Callable[[Any], Mean | None]


def _share(result: Rollouts) -> Mean:
    successes, trials = result.scores["all"]
    return Mean(successes / trials, *wilson_interval(successes, trials))


DISTANCE = Measure(
    "Distance error",
    "m",
    True,
    lambda line: None if line["kind"] == "camera_rotation" else line["error"],
    lambda result: result.all.error,
)
DIRECTION = Measure(
    "Direction score, of 3",
    "",
    False,
    lambda line: line["direction_score"],
    lambda result: result.all.direction_score,
)
AVERAGE = Measure(
    "Average error", "m", True, lambda line: line["average_error"], lambda result: result.average_error
)
FINAL = Measure("Final error", "m", True, lambda line: line["final_error"], lambda result: result.final_error)
BEST = Measure(
    "Average error of the best sample",
    "m",
    True,
    lambda line: line.get("best_average"),
    lambda result: result.best_average,
)
ROUGE = Measure("ROUGE-L", "", False, lambda line: line["rouge_l"], lambda result: result.scores.get("rouge_l"))
SUCCESS = Measure("Success", "%", False, lambda line: float(line["success"]), _share)
MEASURES: dict[str, tuple[Measure, ...]] = {
    "hand3d": (DISTANCE, DIRECTION),
    "trajectories": (AVERAGE, FINAL),
    "translations": (ROUGE,),
    "closed_loop": (SUCCESS,),
}


@dataclass(frozen=True)
class Run:
    """One saved result. lines: its answers or episodes as they were saved; () where they are not beside it."""

    path: Path
    benchmark: str
    result: Any
    lines: tuple[dict[str, Any], ...] = ()

    def key(self, line: dict[str, Any]) -> str:
        """What tells a line's record or episode from others."""
        return f"{line['task']} {line['seed']}" if self.benchmark == "closed_loop" else line["id"]

    def cluster(self, line: dict[str, Any]) -> str:
        """What is drawn together: a clip, or an episode."""
        return self.key(line) if self.benchmark == "closed_loop" else line["clip_id"]

    @property
    def group(self) -> str:
        """Same for runs that may be compared: those of the same questions, or in the same simulator."""
        said = self.result.protocol
        if self.benchmark == "closed_loop":
            same = {"benchmark": said.get("benchmark"), "split": said.get("split")}
        else:
            hand3d = said.get("hand3d", {})
            same = {"content": hand3d.get("content"), "split": said.get("split"), "records": said.get("records")}
        return json.dumps([self.benchmark, same], sort_keys=True)


IDENTITY = ("answerer", "policy", "identity", "versions", "url", "weights", "model")
"""Of a protocol: who answers or plays."""


@dataclass(frozen=True)
class Arm:
    """Who answered or played. tone: its colour. runs: of one benchmark and group; several are seeds of its training."""

    name: str
    tone: str
    runs: tuple[Run, ...]

    @property
    def result(self) -> Any:
        """Of its first run."""
        return self.runs[0].result

    def values(self, measure: Measure) -> dict[str, float]:
        """By record or episode, averaged over the seeds that have it; {} where a run's lines are not there."""
        found: dict[str, list[float]] = defaultdict(list)
        for values in self.by_run(measure):
            for key, value in values.items():
                found[key].append(value)
        return {key: float(np.mean(values)) for key, values in found.items()}

    def by_run(self, measure: Measure) -> list[dict[str, float]]:
        """By record or episode, of every run; [] where a run's lines are not there."""
        if not all(run.lines for run in self.runs):
            return []
        return [
            {run.key(line): value for line in run.lines if (value := measure.value(line)) is not None}
            for run in self.runs
        ]

    @property
    def clusters(self) -> dict[str, str]:
        """Of each record or episode."""
        return {run.key(line): run.cluster(line) for run in self.runs for line in run.lines}

    def mean(self, measure: Measure) -> Mean | None:
        """As saved; over several seeds their mean, with the interval over clips (or episodes) of the seeds' means."""
        saved = [measure.saved(run.result) for run in self.runs]
        known = [mean for mean in saved if mean is not None]
        if len(known) < 2:
            return known[0] if known else None
        if not (values := self.values(measure)):
            return Mean(float(np.mean([mean.value for mean in known])), -np.inf, np.inf)
        clusters = self.clusters
        return clustered_mean(list(values.values()), [clusters[key] for key in values])

    def seeds(self, measure: Measure) -> list[float]:
        """The figure of each run."""
        return [mean.value for run in self.runs if (mean := measure.saved(run.result)) is not None]

    @property
    def failures(self) -> Counter[str]:
        """Of a closed loop: why episodes failed, in words, and how often."""
        lines = [line for run in self.runs for line in run.lines if "success" in line]
        return Counter(line.get("failure") or "time ran out" for line in lines if not line["success"])


@dataclass(frozen=True)
class Column:
    """Arms that may be compared, of each benchmark those that are there, the one that matters first. losses: by
    stage; drawings: predicted motions."""

    name: str
    tone: str = "now"
    note: str = ""
    losses: dict[str, Curve] = field(default_factory=dict)
    hand3d: tuple[Arm, ...] = ()
    trajectories: tuple[Arm, ...] = ()
    translations: tuple[Arm, ...] = ()
    closed_loop: tuple[Arm, ...] = ()
    drawings: tuple[Media, ...] = ()

    def arms(self, benchmark: str) -> tuple[Arm, ...]:
        return getattr(self, benchmark)


def read_run(path: Path, name: str = "") -> Run:
    """A result of any benchmark, from its JSON file or from the folder of a closed loop, with its lines where they are
    beside it. name: in place of the saved one. ValueError for a file of another form."""
    path = path / "result.json" if path.is_dir() else path
    try:
        data = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path}: not a result of `vipa evaluate` ({error})") from None
    kinds: dict[str, tuple[str, Any]] = {
        "error_edges": ("hand3d", Hand3DResult),
        "by_task": ("trajectories", TrajectoryResult),
        "silent": ("translations", TranslationResult),
    }
    for mark, (benchmark, kind) in kinds.items():
        if mark in data:
            answers = path.with_name(f"{path.stem}_answers.jsonl")
            return Run(path, benchmark, kind.load(path), _lines(answers)[1:])
    if not isinstance(data.get("scores"), dict) or "all" not in data["scores"] or "protocol" not in data:
        raise ValueError(
            f"{path}: not a result of `vipa evaluate`: give its JSON file, or the folder of a closed loop"
        )
    result = Rollouts(
        name or str(data["protocol"].get("policy", path.parent.name)),
        data["protocol"],
        {task: (score["successes"], score["trials"]) for task, score in data["scores"].items()},
        tuple(sorted((path.parent / "videos").glob("[!.]*.mp4"))),
        data.get("made"),
    )
    return Run(path, "closed_loop", result, _lines(path.with_name("episodes.jsonl")))


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in path.read_text().splitlines()) if path.exists() else ()


def find_runs(path: Path) -> Iterator[Run]:
    """The result in a file or folder, or all that are below the folder. ValueError where there is none."""
    if path.is_file() or (path / "result.json").is_file():
        yield read_run(path)
        return
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    found = 0
    for file in sorted(path.rglob("*.json")):
        if file.name in ("protocol.json", "captions.json"):
            continue
        try:
            run = read_run(file)
        except ValueError:
            continue  # another JSON file
        found += 1
        yield run
    if not found:
        raise ValueError(f"{path}: no result of `vipa evaluate` is here or below")


def columns(named: Iterable[tuple[str, Run]]) -> tuple[Column, ...]:
    """Runs by what may be compared, the arms in the order in which they come; the same name again is another seed."""
    groups: dict[str, dict[str, dict[str, list[Run]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    tones: dict[str, str] = {}
    for name, run in named:
        arms = groups[run.benchmark][run.group]
        arms[name].append(run)
        tones.setdefault(name, TONES[min(len(arms), len(TONES)) - 1])
    count = max((len(found) for found in groups.values()), default=0)
    made = []
    for number in range(count):
        parts = {}
        for benchmark, found in groups.items():
            if number < len(found):
                arms = list(found.values())[number]
                parts[benchmark] = tuple(Arm(name, tones[name], tuple(runs)) for name, runs in arms.items())
        made.append(Column(f"protocol {number + 1}" if count > 1 else "", "base", **parts))
    return tuple(made)


def differences(arms: Sequence[Arm]) -> list[str]:
    """What the protocols of arms differ in, besides who answered or played."""
    protocols = [run.result.protocol for arm in arms for run in arm.runs]
    names = {name for protocol in protocols for name in protocol if name not in IDENTITY}
    return sorted(name for name in names if any(p.get(name) != protocols[0].get(name) for p in protocols))

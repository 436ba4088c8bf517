"""What the question, trajectory and translation benchmarks save as JSON, and reading it back."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Mean:
    """A mean over records with its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3, unit: str = "") -> str:
        """`0.123 m [0.100, 0.150]`"""
        unit = f" {unit}" if unit else ""
        return f"{self.value:.{digits}f}{unit} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class KindScores:
    """Scores of one kind of question, of one source, or of all ("all"); where some are measured in metres, error and
    axes are theirs. axes: share of right signs of x, y and z; () in results before these were kept."""

    kind: str
    records: int
    unparsable: int
    error: Mean
    direction_score: Mean
    axes: tuple[Mean, ...] = ()

    @classmethod
    def load(cls, row: dict[str, Any]) -> "KindScores":
        loaded: dict[str, Any] = {name: Mean(**row[name]) for name in ("error", "direction_score")}
        loaded["axes"] = tuple(Mean(**mean) for mean in row.get("axes", ()))
        return cls(**row | loaded)


@dataclass(frozen=True)
class DistanceRange:
    """What is said where the true distance is from `low` to below `high` metres (None: beyond). bias: said - true, of
    the answers that parse. None: no such records."""

    low: float
    high: float | None
    records: int
    error: Mean | None
    bias: Mean | None

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} m" if self.high is not None else f"{self.low:g} m and more"


@dataclass(frozen=True)
class Hand3DResult:
    """What `vipa evaluate hand3d` saves; the histograms are those of Fig. 8. sources, ranges and unparsed (the answers
    that did not parse, by record) are empty, made (`io.provenance`) is None, in results before they were kept."""

    name: str
    protocol: dict[str, Any]
    scores: tuple[KindScores, ...]
    score_counts: tuple[int, int, int, int]  # records with direction score 0, 1, 2, 3
    error_edges: tuple[float, ...]  # metres
    error_counts: tuple[int, ...]  # records measured in metres; the last bin holds all larger errors
    sources: tuple[KindScores, ...] = ()
    ranges: tuple[DistanceRange, ...] = ()
    unparsed: dict[str, str] = field(default_factory=dict)
    made: dict[str, Any] | None = field(default=None, compare=False)

    @property
    def all(self) -> KindScores:
        return next(s for s in self.scores if s.kind == "all")

    def __str__(self) -> str:
        lines = [_headline(self, self.all.records, "questions", f"{self.all.unparsable} unparsable")]
        for s in (*self.scores, *(self.sources if len(self.sources) > 1 else ())):
            error = s.error.text(unit="degrees" if s.kind == "camera_rotation" else "m")
            axes = " ".join(f"{name} {mean.value:.2f}" for name, mean in zip("xyz", s.axes))
            direction = s.direction_score.text(2, "of 3")
            lines.append(
                f"  {s.kind:<20} {s.records:>6}   error {error}   direction {direction}   {axes}".rstrip()
            )
        for r in self.ranges:
            if r.error is not None:
                bias = f"   said - true {r.bias.text()}" if r.bias else ""
                lines.append(f"  {r!s:<20} {r.records:>6}   error {r.error.text(unit='m')}{bias}")
        return "\n".join(lines)

    @classmethod
    def load(cls, path: Path) -> "Hand3DResult":
        """From its JSON file. ValueError for a file of another form."""
        data = _read(path, "error_edges")
        for name in ("scores", "sources"):
            data[name] = tuple(KindScores.load(row) for row in data.get(name, ()))
        data["ranges"] = tuple(
            DistanceRange(**row | {name: _mean(row[name]) for name in ("error", "bias")})
            for row in data.get("ranges", ())
        )
        for name in ("score_counts", "error_edges", "error_counts"):
            data[name] = tuple(data[name])
        return cls(**data)


@dataclass(frozen=True)
class Horizon:
    """Errors of the motions that last so many seconds: average up to then, and then. best_*: of the best sample."""

    seconds: float
    records: int
    average_error: Mean
    final_error: Mean
    best_average: Mean
    best_final: Mean


@dataclass(frozen=True)
class TrajectoryResult:
    """What `vipa evaluate trajectories` saves; errors in metres, over all samples of a motion.

    best_average, best_final: of the nearest of `samples` samples of a motion, each by its own error; None in results
    before they were kept. unparsable: motions without a valid sample; valid: share of the samples that are motions.
    """

    name: str
    protocol: dict[str, Any]
    records: int
    unparsable: int
    average_error: Mean
    final_error: Mean
    by_task: dict[str, tuple[Mean, Mean]]  # average, final
    samples: int = 1
    valid: float | None = None
    best_average: Mean | None = None
    best_final: Mean | None = None
    horizons: tuple[Horizon, ...] = ()
    made: dict[str, Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        lines = [_headline(self, self.records, "motions", f"{self.unparsable} unparsable")]
        for name, (average, final) in {"all": (self.average_error, self.final_error), **self.by_task}.items():
            lines.append(f"  {name:<26} average {average.text(unit='m')}   final {final.text(unit='m')}")
        for h in self.horizons:
            name = f"{h.seconds:g} s, {h.records} motions"
            lines.append(
                f"  {name:<26} average {h.average_error.text(unit='m')}   final {h.final_error.text(unit='m')}"
            )
        if self.samples > 1 and self.best_average and self.best_final:
            best = f"average {self.best_average.text(unit='m')}   final {self.best_final.text(unit='m')}"
            lines.append(f"  {f'best of {self.samples}':<26} {best}   {self.valid:.1%} of the samples are motions")
        return "\n".join(lines)

    @classmethod
    def load(cls, path: Path) -> "TrajectoryResult":
        """From its JSON file. ValueError for a file of another form."""
        data = _read(path, "by_task")
        for name in ("average_error", "final_error", "best_average", "best_final"):
            data[name] = _mean(data.get(name))
        data["by_task"] = {t: (Mean(**a), Mean(**f)) for t, (a, f) in data["by_task"].items()}
        rows: list[dict[str, Any]] = list(data.get("horizons", ()))
        for row in rows:
            row |= {name: Mean(**value) for name, value in row.items() if isinstance(value, dict)}
        data["horizons"] = tuple(Horizon(**row) for row in rows)
        return cls(**data)


@dataclass(frozen=True)
class TranslationResult:
    """What `vipa evaluate translations` saves; scores by name (`translations.SCORES`), 0..1, and over how many records.

    silent: answers without a word.
    """

    name: str
    protocol: dict[str, Any]
    records: int
    silent: int
    scores: dict[str, Mean]
    counts: dict[str, int]
    made: dict[str, Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        lines = [_headline(self, self.records, "motions", f"{self.silent} answers without a word")]
        lines += [f"  {name:<8} {mean.text()}   of {self.counts[name]}" for name, mean in self.scores.items()]
        return "\n".join(lines)

    @classmethod
    def load(cls, path: Path) -> "TranslationResult":
        """From its JSON file. ValueError for a file of another form."""
        data = _read(path, "silent")
        data["scores"] = {name: Mean(**mean) for name, mean in data["scores"].items()}
        return cls(**data)


def _mean(row: dict[str, float] | None) -> Mean | None:
    return None if row is None else Mean(**row)


def _headline(result: Any, records: int, what: str, failed: str) -> str:
    return f"{result.name} on {result.protocol['split']}: {records} {what}, {failed}"


def _read(path: Path, field: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, dict) or field not in data:
        raise ValueError(f"{path}: not a result of this benchmark (no {field!r})")
    return data

"""What the question, trajectory and translation benchmarks save as JSON, and reading it back."""

import json
from dataclasses import dataclass
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
    """Scores of one kind of question, or of all ("all"; its error is over the kinds measured in metres)."""

    kind: str
    records: int
    unparsable: int
    error: Mean
    direction_score: Mean


@dataclass(frozen=True)
class Hand3DResult:
    """What `vipa evaluate hand3d` saves; the histograms are those of Fig. 8."""

    name: str
    protocol: dict[str, Any]
    scores: tuple[KindScores, ...]
    score_counts: tuple[int, int, int, int]  # records with direction score 0, 1, 2, 3
    error_edges: tuple[float, ...]  # metres
    error_counts: tuple[int, ...]  # records measured in metres; the last bin holds all larger errors

    @property
    def all(self) -> KindScores:
        return next(s for s in self.scores if s.kind == "all")

    def __str__(self) -> str:
        lines = [_headline(self, self.all.records, "questions", f"{self.all.unparsable} unparsable")]
        for s in self.scores:
            error = s.error.text(unit="degrees" if s.kind == "camera_rotation" else "m")
            direction = s.direction_score.text(2, "of 3")
            lines.append(f"  {s.kind:<20} {s.records:>6}   error {error}   direction {direction}")
        return "\n".join(lines)

    @classmethod
    def load(cls, path: Path) -> "Hand3DResult":
        """From its JSON file. ValueError for a file of another form."""
        data = _read(path, "scores")
        rows = [
            KindScores(
                row["kind"],
                row["records"],
                row["unparsable"],
                Mean(**row["error"]),
                Mean(**row["direction_score"]),
            )
            for row in data["scores"]
        ]
        counts, edges, errors = (tuple(data[k]) for k in ("score_counts", "error_edges", "error_counts"))
        return cls(data["name"], data["protocol"], tuple(rows), counts, edges, errors)


@dataclass(frozen=True)
class TrajectoryResult:
    """What `vipa evaluate trajectories` saves; errors in metres."""

    name: str
    protocol: dict[str, Any]
    records: int
    unparsable: int
    average_error: Mean
    final_error: Mean
    by_task: dict[str, tuple[Mean, Mean]]  # average, final

    def __str__(self) -> str:
        lines = [_headline(self, self.records, "motions", f"{self.unparsable} unparsable")]
        for name, (average, final) in {"all": (self.average_error, self.final_error), **self.by_task}.items():
            lines.append(f"  {name:<26} average {average.text(unit='m')}   final {final.text(unit='m')}")
        return "\n".join(lines)

    @classmethod
    def load(cls, path: Path) -> "TrajectoryResult":
        """From its JSON file. ValueError for a file of another form."""
        data = _read(path, "by_task")
        data["average_error"], data["final_error"] = Mean(**data["average_error"]), Mean(**data["final_error"])
        data["by_task"] = {t: (Mean(**a), Mean(**f)) for t, (a, f) in data["by_task"].items()}
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

"""What the arms of an ablation answered, record by record: small enough to keep, enough to make every table again."""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vipa.benchmarks.ablation.arms import Benchmark, find_arm
from vipa.benchmarks.ablation.plan import (
    Ablation,
    Planned,
    asked_job,
    clips_job,
    demonstrations_job,
    start_content,
)
from vipa.benchmarks.results import Mean
from vipa.benchmarks.statistics import clustered_mean
from vipa.io.files import atomic_write

FIGURES: dict[str, tuple[Benchmark, str, str]] = {
    "distance": ("questions", "error", "distance error, m"),
    "bias": ("questions", "bias", "said - true, m"),
    "direction": ("questions", "direction_score", "direction, of 3"),
    "average": ("motions", "average_error", "average, m"),
    "final": ("motions", "final_error", "final, m"),
    "success": ("tabletop", "success", "success"),
}
"""Name: the benchmark, the field of its rows, and what tables call it."""

METRES = ("distance", "bias")
"""Figures that only questions about distances have."""
DEGREES = "camera_rotation"
"""The kind of questions whose errors are no distances."""
DIGITS = 6
MANY = ("arms", "seeds")
"""Settings in which the answers of one table may differ."""
WHERE = ("out", "devices", "threads", "hand3d", "robot_data", "save_every", "compile", "validate_every")
"""Settings that say where and how."""


@dataclass(frozen=True)
class Values:
    """One figure of one arm: by seed, then by record; and the cluster (clip) of every record."""

    by_seed: dict[int, dict[str, float]]
    clusters: dict[str, str]

    @property
    def records(self) -> dict[str, float]:
        """Averaged over seeds, of the records that every seed has."""
        common = set.intersection(*(set(values) for values in self.by_seed.values()))
        return {r: float(np.mean([v[r] for v in self.by_seed.values()])) for r in sorted(common)}

    @property
    def mean(self) -> Mean:
        """Its interval is over clusters, with the seeds as they are."""
        records = self.records
        return clustered_mean(list(records.values()), [self.clusters[r] for r in records])

    @property
    def between_seeds(self) -> float | None:
        """Standard deviation of the seeds' means; None for one seed."""
        means = [np.mean(list(values.values())) for values in self.by_seed.values()]
        return float(np.std(means, ddof=1)) if len(means) > 1 else None


@dataclass(frozen=True)
class Answers:
    """settings: of the runs, without where they ran; seeds and arms are those of all of them. about: record -> its
    cluster (clip) and its kind, of questions. values: figure -> arm -> seed -> record -> value."""

    settings: dict[str, Any]
    about: dict[str, tuple[str, str]]
    values: dict[str, dict[str, dict[int, dict[str, float]]]]

    @classmethod
    def of(cls, run: Ablation, planned: Sequence[Planned]) -> "Answers":
        """Of a run whose jobs are all done."""
        about: dict[str, tuple[str, str]] = {}
        values: dict[str, Any] = {}
        for figure, (benchmark, field, _) in FIGURES.items():
            for p in planned:
                rows = [
                    r for job in p.evaluations.get(benchmark, ()) for r in _rows(job.folder(run.out / "store"))
                ]
                for row in rows:
                    if (value := _value(row, field)) is None:
                        continue
                    name = row.get("id") or f"{row['task']}_{row['seed']}"
                    about[name] = row.get("clip_id", name), row.get("kind", "")
                    of_arm = values.setdefault(figure, {}).setdefault(p.arm.name, {})
                    of_arm.setdefault(p.seed, {})[name] = round(value, DIGITS)
        settings = {name: value for name, value in asdict(run).items() if name not in WHERE}
        settings["start"] = start_content(run)
        if run.hand3d is not None:
            settings["hand3d"] = [job(run).settings["content"] for job in (clips_job, asked_job)]
        if run.robot_data is not None:
            settings["robot_data"] = demonstrations_job(run).settings["content"]
        return cls(json.loads(json.dumps(settings, default=str)), about, values)

    def write(self, path: Path) -> None:
        """As `read` takes it: the values of one figure, arm and seed are a list in the order of `records`."""
        record: dict[str, Any] = {"settings": self.settings, "records": {}, "values": {}}
        asked: dict[str, set[str]] = {}
        for figure, arms in self.values.items():
            names = {name for seeds in arms.values() for values in seeds.values() for name in values}
            asked.setdefault(FIGURES[figure][0], set()).update(names)
        for figure, arms in self.values.items():
            benchmark = FIGURES[figure][0]
            names = sorted(asked[benchmark])
            record["records"][benchmark] = [[name, *self.about[name]] for name in names]
            record["values"][figure] = {
                arm: {str(seed): [values.get(name) for name in names] for seed, values in seeds.items()}
                for arm, seeds in arms.items()
            }
        atomic_write(path, json.dumps(record, separators=(",", ":")) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Answers":
        """ValueError where it is not what `write` writes."""
        try:
            record = json.loads(path.read_text())
            about = {name: (clip, kind) for rows in record["records"].values() for name, clip, kind in rows}
            values: dict[str, Any] = {}
            for figure, arms in record["values"].items():
                names = [row[0] for row in record["records"][FIGURES[figure][0]]]
                values[figure] = {
                    find_arm(arm).name: {
                        int(seed): {n: v for n, v in zip(names, row, strict=True) if v is not None}
                        for seed, row in seeds.items()
                    }
                    for arm, seeds in arms.items()
                }
            return cls(dict(record["settings"]), about, values)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not the answers of an ablation ({error})") from None

    @classmethod
    def merged(cls, several: Mapping[Path, "Answers"]) -> "Answers":
        """Of runs that differ in arms and seeds alone. ValueError where they differ in more, or in the answers of one
        arm with one seed."""
        (first_path, first), *others = several.items()
        about, values = dict(first.about), deepcopy(first.values)
        settings = dict(first.settings)
        for path, other in others:
            different = sorted(
                name for name in settings.keys() | other.settings.keys()
                if name not in MANY and settings.get(name) != other.settings.get(name)
            )  # fmt: skip
            if different:
                raise ValueError(
                    f"{path}: {', '.join(different)} not as in {first_path}: one table cannot hold both"
                )
            about |= other.about
            for figure, arms in other.values.items():
                for arm, seeds in arms.items():
                    known = values.setdefault(figure, {}).setdefault(arm, {})
                    for seed in seeds:
                        if known.setdefault(seed, seeds[seed]) != seeds[seed]:
                            raise ValueError(
                                f"{path}: arm {arm}, seed {seed} has other answers before: leave one out"
                            )
        return cls(settings, about, values)

    @property
    def arms(self) -> list[str]:
        """Names, the first one that which the others are compared with."""
        return list(dict.fromkeys(arm for arms in self.values.values() for arm in arms))

    @property
    def seeds(self) -> list[int]:
        """Of all arms."""
        return sorted({seed for arms in self.values.values() for seeds in arms.values() for seed in seeds})

    @property
    def kinds(self) -> list[str]:
        """Of the questions."""
        asked = self.values.get("distance", {}).values()
        return sorted({self.about[name][1] for seeds in asked for values in seeds.values() for name in values})

    def of_arm(self, arm: str, figure: str, kind: str | None = None) -> Values | None:
        """None where it was not measured. kind: of questions, those alone (in degrees, where it is DEGREES)."""
        by_seed: dict[int, dict[str, float]] = {}
        for seed, values in self.values.get(figure, {}).get(arm, {}).items():
            by_seed[seed] = {n: v for n, v in values.items() if self._counts(n, figure, kind)}
        return (
            Values(by_seed, {name: self.about[name][0] for v in by_seed.values() for name in v})
            if by_seed
            else None
        )

    def _counts(self, name: str, figure: str, kind: str | None) -> bool:
        own = self.about[name][1]
        return own == kind if kind else not (figure in METRES and own == DEGREES)


def _value(row: dict[str, Any], field: str) -> float | None:
    """Of one record; None where it has none: an answer that names no distance has no bias."""
    if field == "bias":
        return None if row["said"] is None else float(row["said"] - row["amount"])
    return float(row[field])


def _rows(folder: Path) -> Iterable[dict[str, Any]]:
    """Of the benchmark that was kept in a folder."""
    if (folder / "episodes.jsonl").exists():
        return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    return [json.loads(line) for line in (folder / "result_answers.jsonl").read_text().splitlines()[1:]]

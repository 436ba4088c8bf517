"""The tables of an ablation: figures with intervals, and every arm against the first, pair by pair."""

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vipa.benchmarks.ablation.arms import Arm, Benchmark
from vipa.benchmarks.ablation.plan import Ablation, Planned
from vipa.benchmarks.results import Mean
from vipa.benchmarks.statistics import clustered_mean, paired_difference, paired_episodes, wilson_interval
from vipa.io.jobs import in_order

FLIPS = 10_000


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
class Difference:
    """An arm minus the first arm, over what both have answered. p: two-sided; of signs flipped at random by cluster."""

    mean: Mean
    p: float


def difference(arm: Values, first: Values) -> Difference:
    """Paired by record."""
    a, b = arm.records, first.records
    common = sorted(a.keys() & b.keys())
    gaps = np.array([a[r] - b[r] for r in common])
    clusters = [arm.clusters[r] for r in common]
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, gaps)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (FLIPS, len(sums)))
    more = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12
    mean, _ = paired_difference(a, b, arm.clusters)
    return Difference(mean, float((1 + more.sum()) / (1 + FLIPS)))


FIGURES: dict[str, tuple[Benchmark, str, str]] = {
    "distance": ("questions", "error", "distance error, m"),
    "direction": ("questions", "direction_score", "direction, of 3"),
    "average": ("motions", "average_error", "average, m"),
    "final": ("motions", "final_error", "final, m"),
    "success": ("tabletop", "success", "success"),
}
"""Name: the benchmark, the field of its rows, and what tables call it."""

DEGREES = "camera_rotation"
"""The kind of questions whose errors are no distances."""


def read_values(store: Path, planned: Sequence[Planned], figure: str, kind: str | None = None) -> Values | None:
    """One figure of an arm, from the answers of all its seeds; None where it is not measured. kind: of questions, those
    alone."""
    benchmark, field, _ = FIGURES[figure]
    by_seed: dict[int, dict[str, float]] = {}
    clusters: dict[str, str] = {}
    for p in planned:
        for job in p.evaluations.get(benchmark, ()):
            for row in _rows(job.folder(store), benchmark):
                if figure == "distance" and (row["kind"] == DEGREES or kind not in (None, row["kind"])):
                    continue
                name = row.get("id") or f"{row['task']}_{row['seed']}"
                by_seed.setdefault(p.seed, {})[name] = float(row[field])
                clusters[name] = row.get("clip_id", name)
    return Values(by_seed, clusters) if by_seed else None


def _kinds(store: Path, planned: Sequence[Planned]) -> list[str]:
    """Of the questions that were asked, those whose errors are distances."""
    jobs = [job for p in planned for job in p.evaluations.get("questions", ())]
    return sorted({row["kind"] for job in jobs for row in _rows(job.folder(store), "questions")} - {DEGREES})


def _rows(folder: Path, benchmark: Benchmark) -> list[dict[str, Any]]:
    if benchmark == "tabletop":
        return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    return [json.loads(line) for line in (folder / "result_answers.jsonl").read_text().splitlines()[1:]]


def tables(run: Ablation, planned: Sequence[Planned]) -> tuple[str, dict[str, Any]]:
    """Markdown, and the same as JSON values. Every job must be done."""
    store = run.out / "store"
    by_arm: dict[str, list[Planned]] = defaultdict(list)
    for p in planned:
        by_arm[p.arm.name].append(p)
    first = next(iter(by_arm))
    found: dict[str, dict[str, Any]] = {
        name: {figure: read_values(store, some, figure) for figure in FIGURES} for name, some in by_arm.items()
    }
    record: dict[str, Any] = {"settings": _plain(asdict(run)), "against": first, "arms": {}}
    for name, values in found.items():
        rows: dict[str, Any] = {"what": by_arm[name][0].arm.what}
        record["arms"][name] = rows
        for figure, v in values.items():
            if v is not None:
                rows[figure] = _figure(figure, v, found[first][figure] if name != first else None)
    for kind in _kinds(store, by_arm[first]):
        values = {name: read_values(store, some, "distance", kind) for name, some in by_arm.items()}
        for name, v in values.items():
            if v is not None:
                cell = _figure("distance", v, values[first] if name != first else None)
                record["arms"][name].setdefault("kinds", {})[kind] = cell
    arms = {name: some[0].arm for name, some in by_arm.items()}
    parts = [_intro(run, first), _questions(record, arms), _by_kind(record), _robot(record, arms, run), PUBLISHED]
    return "\n\n".join(part for part in parts if part) + "\n", record


def costs(run: Ablation, planned: Sequence[Planned]) -> dict[str, Any]:
    """Seconds of every job that is done, and on what."""
    jobs = in_order([job for p in planned for job in p.jobs])
    done = {job.key: job.record(run.out / "store") for job in jobs}
    return {key: {name: r[name] for name in ("seconds", "units", "device")} for key, r in done.items() if r}


def _figure(figure: str, values: Values, first: Values | None) -> dict[str, Any]:
    out: dict[str, Any] = {"records": len(values.records), "between_seeds": values.between_seeds}
    if figure == "success":
        trials = [s for seed in values.by_seed.values() for s in seed.values()]
        low, high = wilson_interval(int(sum(trials)), len(trials))
        out |= {"mean": asdict(Mean(float(np.mean(trials)), low, high)), "of": [int(sum(trials)), len(trials)]}
        out["tasks"] = _by_task(values)
        if first is not None:
            won: list[dict[Hashable, bool]] = [{e: v > 0 for e, v in _named(x).items()} for x in (values, first)]
            pair = paired_episodes(*won)
            out["against"] = {"only_this": pair.only_first, "only_first": pair.only_second, "p": pair.p}
        return out
    out["mean"] = asdict(values.mean)
    if first is not None:
        out["against"] = asdict(difference(values, first))
    return out


def _named(values: Values) -> dict[str, float]:
    """Every episode of every seed."""
    return {f"{seed}/{name}": v for seed, rows in values.by_seed.items() for name, v in rows.items()}


def _by_task(values: Values) -> dict[str, list[int]]:
    tasks: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, success in _named(values).items():
        count = tasks[name.partition("/")[2].rpartition("_")[0]]
        count[0], count[1] = count[0] + int(success), count[1] + 1
    return dict(tasks)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Without where it was done."""
    where = ("out", "devices", "threads", "hand3d", "robot_data", "save_every", "compile")
    return json.loads(json.dumps({k: v for k, v in settings.items() if k not in where}, default=str))


def _intro(run: Ablation, first: str) -> str:
    robot = "tabletop" in run.benchmarks
    asked = robot or "motions" in run.benchmarks
    steps = [("1", True, run.stage1_steps), ("2", asked, run.stage2_steps), ("3", robot, run.stage3_steps)]
    stages = ", ".join(f"{number} {count}" for number, there, count in steps if there)
    shown = f", {run.demonstrations} demonstrations with the views {', '.join(run.views)}" if robot else ""
    text = f"""\
Made by `vipa ablate`; {run.preset}, tabletop of ambiguity {run.ambiguity:g} (simulated, docs/worlds.md), split {run.split},
seeds {", ".join(map(str, run.seeds))}; {run.clips} training clips{shown}; steps of the stages: {stages}. Brackets: 95 %
intervals, over clips (of records averaged over seeds){" or Wilson's over the episodes of all seeds" if robot else ""};
"seeds": standard deviation between seeds; "against": minus the arm `{first}`, record by record, with p of signs flipped
by clip."""
    if robot:
        text += f" Of episodes: what only this arm and only `{first}` solved, with McNemar's exact p."
    return f"# Ablation\n\n{text}"


def _mean(cell: dict[str, Any] | None, digits: int = 3) -> str:
    if cell is None:
        return "-"
    spread = cell["between_seeds"]
    return Mean(**cell["mean"]).text(digits) + (f", seeds {spread:.{digits}f}" if spread is not None else "")


def _against(cell: dict[str, Any] | None) -> str:
    if cell is None or "against" not in cell:
        return "-"
    return f"{Mean(**cell['against']['mean']).text(3)}, p {cell['against']['p']:.3f}"


def _questions(record: dict[str, Any], arms: Mapping[str, Arm]) -> str:
    """Beside the paper's table of Hand3D-test."""
    figures = [
        f for f in ("distance", "direction", "average", "final") if any(f in a for a in record["arms"].values())
    ]
    if not figures:
        return ""
    heads = [cell for f in figures for cell in (FIGURES[f][2], "against")]
    lines = ["## Questions and motions", "", f"| arm | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, row in record["arms"].items():
        cells = [
            cell
            for f in figures
            for cell in (_mean(row.get(f), 2 if f == "direction" else 3), _against(row.get(f)))
        ]
        lines.append(f"| {name}: {arms[name].what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_kind(record: dict[str, Any]) -> str:
    """Distance errors of each kind of question."""
    kinds = next(iter(record["arms"].values())).get("kinds")
    if not kinds:
        return ""
    heads = [f"{kind.replace('_', ' ')} ({cell['records']})" for kind, cell in kinds.items()]
    lines = ["Distance errors by kind of question, m; below each what it is against the first arm.", ""]
    lines += [f"| arm | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, row in record["arms"].items():
        cells = [row.get("kinds", {}).get(kind) for kind in kinds]
        lines.append(f"| {name} | {' | '.join(_mean(cell) for cell in cells)} |")
        if any(cell and "against" in cell for cell in cells):
            lines.append(f"| | {' | '.join(_against(cell) for cell in cells)} |")
    return "\n".join(lines)


def _robot(record: dict[str, Any], arms: Mapping[str, Arm], run: Ablation) -> str:
    """Beside the paper's ablation on LIBERO."""
    if not any("success" in a for a in record["arms"].values()):
        return ""
    head = f"| arm | {' | '.join(run.tasks)} | all | against | the paper's on LIBERO |"
    lines = ["## The robot, closed loop", "", head, "|---" * (4 + len(run.tasks)) + "|"]
    for name, row in record["arms"].items():
        if (cell := row.get("success")) is None:
            continue
        tasks = [f"{won} of {all_}" for won, all_ in (cell["tasks"].get(task, (0, 0)) for task in run.tasks)]
        mean, (won, of) = cell["mean"], cell["of"]
        rate = f"{won} of {of}, {mean['value']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]"
        other = cell.get("against")
        against = f"{other['only_this']} : {other['only_first']}, p {other['p']:.3f}" if other else "-"
        published = arms[name].published
        shown = f"{published:g}" if published else "-"
        lines.append(f"| {name}: {arms[name].what} | {' | '.join(tasks)} | {rate} | {against} | {shown} |")
    return "\n".join(lines)


PUBLISHED = """\
The paper's own, one run each: Hand3D-test 0.12 m and 1.82 of 3 (with the data but without the 3D encoder 0.14 m and
1.75, without both 0.18 m and 1.22); LIBERO, single view, as above, in percent."""

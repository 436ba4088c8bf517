"""The tables of the report, as text: the page shows them, and Markdown has them beside it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from vipa.benchmarks.report.charts import Interval, interval_words
from vipa.benchmarks.report.comparisons import Pair, pairs, task_rows
from vipa.benchmarks.report.contenders import (
    AVERAGE,
    BEST,
    DIRECTION,
    DISTANCE,
    FINAL,
    MEASURES,
    SUCCESS,
    Arm,
    Column,
    Measure,
)
from vipa.benchmarks.results import Mean

TITLES = {
    "hand3d": "Questions about space",
    "trajectories": "Wrist motions",
    "translations": "Motions in words",
    "closed_loop": "Episodes",
}
LISTED = 20
"""Unparsable answers that are shown of an arm; its result has all."""


@dataclass(frozen=True)
class Table:
    """head: of the columns; rows: as many texts each."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def markdown(table: Table) -> str:
    """GitHub's tables."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"

    body = [line(table.head), line("---" for _ in table.head), *map(line, table.rows)]
    return "\n".join([f"### {table.title}", "", *body, *(["", table.note] if table.note else [])])


def figure(mean: Mean | None, unit: str) -> str:
    """A mean with its interval; a dash for none."""
    return "-" if mean is None else interval_words(Interval("", "now", mean.value, mean.low, mean.high), unit)


def tables(column: Column) -> list[Table]:
    """All tables of a column, in the order of the page."""
    found = [
        *hand3d_tables(column.hand3d),
        *trajectory_tables(column.trajectories),
        *translation_tables(column.translations),
        *closed_loop_tables(column.closed_loop),
    ]
    return [table for table in found if table.rows]


def hand3d_tables(arms: Sequence[Arm]) -> list[Table]:
    """Figures, axes, kinds, sources, distance ranges, and pairs."""
    if not arms:
        return []
    first = tuple(
        (
            arm.name,
            str(len(arm.runs)),
            str(arm.result.all.records),
            str(arm.result.all.unparsable),
            *(_seeds(arm, measure) for measure in (DISTANCE, DIRECTION)),
            *([f"{axis.value:.2f}" for axis in arm.result.all.axes] or ["-"] * 3),
        )
        for arm in arms
    )
    head = (
        "",
        "runs",
        "questions",
        "unparsable",
        "distance error",
        "direction, of 3",
        "x right",
        "y right",
        "z right",
    )
    note = (
        "x, y, z: share of answers whose sign on that axis is right (left or right, up or down, back or forward)."
    )
    return [
        Table("Questions about space", head, first, note),
        _by(arms, "By kind of question", [s.kind for s in arms[0].result.scores if s.kind != "all"], "scores"),
        _by(arms, "By source", [s.kind for s in arms[0].result.sources], "sources"),
        _ranges(arms),
        pair_table("Questions about space, pair by pair", arms, (DISTANCE, DIRECTION)),
    ]


def _by(arms: Sequence[Arm], title: str, names: Sequence[str], field: str) -> Table:
    """Distance error and direction score of groups of records."""
    lines = []
    for name in names:
        cells, count = [], 0
        for arm in arms:
            scores = next((s for s in getattr(arm.result, field) if s.kind == name), None)
            unit = "\u00b0" if name == "camera_rotation" else "m"
            count = scores.records if scores else count
            cells.append(
                f"{figure(scores.error, unit)}; {figure(scores.direction_score, 'of 3')}" if scores else "-"
            )
        lines.append((f"{name.replace('_', ' ')}, {count}", *cells))
    return Table(title, ("", *(arm.name for arm in arms)), tuple(lines))


def _ranges(arms: Sequence[Arm]) -> Table:
    """Calibration: error and bias by true distance."""
    lines = []
    for i, ranges in enumerate(arms[0].result.ranges):
        cells = []
        for arm in arms:
            same = arm.result.ranges[i] if i < len(arm.result.ranges) else None
            bias = f" ({same.bias.value:+.3f})" if same and same.bias else ""
            cells.append(f"{figure(same.error, 'm')}{bias}" if same and same.error else "-")
        if ranges.records:
            lines.append((f"{ranges}, {ranges.records}", *cells))
    note = "In brackets: what is said less what is true, on average, of the answers that parse."
    return Table("By true distance", ("", *(arm.name for arm in arms)), tuple(lines), note)


def trajectory_tables(arms: Sequence[Arm]) -> list[Table]:
    """Figures, horizons, and pairs."""
    first, horizons = [], []
    for arm in arms:
        result = arm.result
        valid = (
            f"{result.valid:.1%}" if result.valid is not None else f"{1 - result.unparsable / result.records:.1%}"
        )
        best = (
            (figure(result.best_average, "m"), figure(result.best_final, "m"))
            if result.samples > 1
            else ("-", "-")
        )
        count = (str(len(arm.runs)), str(result.records), valid)
        first.append((arm.name, *count, _seeds(arm, AVERAGE), _seeds(arm, FINAL), str(result.samples), *best))
        for h in result.horizons:
            best = (figure(h.best_average, "m"), figure(h.best_final, "m")) if result.samples > 1 else ("-", "-")
            both = (figure(h.average_error, "m"), figure(h.final_error, "m"))
            horizons.append((f"{h.seconds:g} s", arm.name, str(h.records), *both, *best))
    head = (
        "",
        "runs",
        "motions",
        "valid",
        "average error",
        "final error",
        "samples",
        "best average",
        "best final",
    )
    after = ("", "", "motions", "average error", "final error", "best average", "best final")
    measures = (AVERAGE, FINAL, *([BEST] if any(arm.result.samples > 1 for arm in arms) else []))
    note = "At 2 s: EgoDex's protocol reduced to wrists; its published figures also count fingertips."
    return [
        Table("Wrist motions", head, tuple(first)),
        Table("Wrist motions by horizon", after, tuple(sorted(horizons, key=lambda row: row[0])), note),
        pair_table("Wrist motions, pair by pair", arms, measures),
    ]


def translation_tables(arms: Sequence[Arm]) -> list[Table]:
    """Scores, and pairs by ROUGE-L."""
    names = list(arms[0].result.scores) if arms else []
    lines = [
        (arm.name, str(arm.result.records), *(figure(arm.result.scores.get(name), "") for name in names))
        for arm in arms
    ]
    head = ("", "motions", *(name.replace("rouge_l", "ROUGE-L") for name in names))
    return [
        Table("Motions in words", head, tuple(lines)),
        pair_table("Motions in words, pair by pair", arms, MEASURES["translations"]),
    ]


def closed_loop_tables(arms: Sequence[Arm]) -> list[Table]:
    """Success by task, failures, and pairs."""
    names = list(dict.fromkeys(task for arm in arms for task in arm.result.scores if task != "all"))
    lines = []
    for task in (*names, "all"):
        cells = []
        for arm in arms:
            found = task_rows([arm], task)
            count = found[0].name.rpartition(", ")[2] if found else ""
            cells.append(f"{count}: {interval_words(found[0], '%')}" if found else "-")
        lines.append((task, *cells))
    failures = [(arm.name, why, str(count)) for arm in arms for why, count in arm.failures.most_common(8)]
    found = pairs(arms, SUCCESS)
    compared = tuple((_names(pair), str(pair.difference.records), *_episodes(pair)) for pair in found)
    head = ("", "episodes", "both", "only the first", "only the second", "neither", "difference", "p")
    note = (
        "p: exact McNemar test, or Student's t over episodes and seeds where an arm has several, two-sided, without a "
        "correction for how many pairs are looked at."
    )
    return [
        Table("Episodes that succeed", ("", *(arm.name for arm in arms)), tuple(lines) if arms else ()),
        Table("Why episodes fail", ("", "failure", "episodes"), tuple(failures)),
        Table("The same episodes, pair by pair", head, compared, note),
    ]


def _episodes(pair: Pair) -> tuple[str, ...]:
    value, low, high = (100 * end for end in astuple(pair.difference.mean))
    difference = f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"
    if (e := pair.episodes) is None:  # several seeds of a training
        return ("-", "-", "-", "-", difference, f"{pair.difference.p:.2g}")
    return (str(e.both), str(e.only_first), str(e.only_second), str(e.neither), difference, f"{e.p:.2g}")


def pair_table(title: str, arms: Sequence[Arm], measures: Sequence[Measure]) -> Table:
    """Every pair of arms on the records that both answered."""
    found: dict[tuple[str, str], list[str]] = {}
    for measure in measures:
        for pair in pairs(arms, measure):
            d, better = pair.difference.mean, pair.better(measure)
            bounds = f" [{d.low:+.3f}, {d.high:+.3f}]" if math.isfinite(d.high - d.low) else ""
            word = {True: ", better", False: ", worse", None: ""}[better]
            cells = found.setdefault((pair.first.name, pair.second.name), [_names(pair)])
            cells.append(
                f"{d.value:+.3f} {measure.unit}".strip() + bounds + word + f" ({pair.difference.records})"
            )
    head = ("", *(measure.title.lower() for measure in measures))
    note = (
        "First less second, in brackets the records that both answered; 95 % intervals by Student's t over clips, "
        "and over seeds where an arm has several. Better, worse: the interval does not hold 0."
    )
    return Table(title, head, tuple(tuple(cells) for cells in found.values()), note)


def _names(pair: Pair) -> str:
    return f"{pair.first.name} against {pair.second.name}"


def _seeds(arm: Arm, measure: Measure) -> str:
    """The figure, with that of each seed where there are several."""
    text = figure(arm.mean(measure), measure.unit)
    if len(arm.runs) == 1:
        return text
    return f"{text}; runs: {', '.join(f'{value:.3f}' for value in arm.seeds(measure))}"


def unparsed(arms: Sequence[Arm]) -> Table:
    """Some of the answers that did not parse, with what the rules say of them."""
    lines = []
    for arm in arms:
        kinds = {line["id"]: line["kind"] for run in arm.runs for line in run.lines}
        for record, answer in list(arm.result.unparsed.items())[:LISTED]:
            lines.append((arm.name, kinds.get(record, "").replace("_", " "), answer or "(nothing)"))
    return Table("Answers that say no direction or no one amount", ("", "question", "answer"), tuple(lines))


def made_table(columns: Sequence[Column]) -> Table:
    """Protocol, seeds, trials, commit and machine of every run."""
    lines = []
    for column in columns:
        for benchmark in MEASURES:
            for arm in column.arms(benchmark):
                for run in arm.runs:
                    lines.append(
                        (arm.name, benchmark.replace("_", " "), _protocol(run.result), *_made(run.result.made))
                    )
    head = ("", "benchmark", "protocol", "commit", "machine", "made")
    return Table("How each result was made", head, tuple(lines))


def latency_table(columns: Sequence[Column]) -> Table:
    """Time of a call, where it was measured."""
    lines = []
    for column in columns:
        for benchmark in MEASURES:
            for arm in column.arms(benchmark):
                for run in arm.runs:
                    if latency := (run.result.made or {}).get("latency"):
                        times = (
                            f"{latency[name]:g}"
                            for name in ("rows_per_call", "p50_ms", "p95_ms", "p50_ms_per_row")
                        )
                        lines.append((arm.name, benchmark.replace("_", " "), f"{latency['calls']}", *times))
    head = ("", "benchmark", "calls", "asked at once", "p50, ms", "p95, ms", "p50 a record, ms")
    note = "Wall time where it was asked, with whatever else ran on the machine."
    return Table("Latency", head, tuple(lines), note)


def _protocol(result: Any) -> str:
    said = result.protocol
    parts = []
    if "records" in said:
        parts.append(f"{said['records']} records of {said.get('split', '?')}, data {said['hand3d']['content']}")
    if "scores" in vars(result) and isinstance(result.scores, dict) and "all" in result.scores:
        parts.append(f"{result.scores['all'][1]} episodes of {said.get('split') or said.get('benchmark', '?')}")
    if seeds := said.get("seeds"):
        parts.append(f"seeds {seeds[0]} to {seeds[-1]}" if isinstance(seeds, list) else f"seeds {seeds}")
    answerer = said.get("answerer") or said.get("identity") or {}
    parts += [
        f"{name} {answerer[name]}" for name in ("weights", "pictures", "spatial", "decoding") if name in answerer
    ]
    return "; ".join(parts)


def _made(made: dict[str, Any] | None) -> tuple[str, str, str]:
    if not made:
        return ("-", "-", "-")
    machine, versions = made.get("machine", {}), made.get("versions", {})
    commit = made.get("commit") or f"version {versions.get('vipa', '?')}"
    on = [machine.get("gpu"), machine.get("processor"), f"{machine.get('cores', '?')} cores"]
    return commit, ", ".join(filter(None, on)), made.get("date", "-")


def overview(columns: Sequence[Column]) -> list[Table]:
    """The headlines of each column, a table a benchmark: an arm a row, a figure a column."""
    found = []
    for column in columns:
        for benchmark, measures in MEASURES.items():
            lines = tuple(
                (arm.name, *(figure(arm.mean(measure), measure.unit) for measure in measures))
                for arm in column.arms(benchmark)
            )
            title = f"{TITLES[benchmark]}{', ' if column.name else ''}{column.name}"
            found.append(Table(title, ("", *(measure.title for measure in measures)), lines))
    return [table for table in found if table.rows]

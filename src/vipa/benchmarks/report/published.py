"""Published results beside ours: `published.json` has every figure with its source and conditions."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vipa.benchmarks.report.contenders import Column, Run
from vipa.benchmarks.report.markdown import Table

FILE = Path(__file__).parent / "published.json"
BESIDE = {
    "libero": ("libero", "libero_ablation"),
    "libero_plus": ("libero_plus",),
    "robocasa": ("robocasa",),
    "hand3d": ("hand3d",),
    "trajectories": ("egodex",),
}
"""Which published tables are shown beside a benchmark of ours."""
TRIALS = {"libero": 500, "robocasa": 50}
"""Of a suite (a task), in the published results."""


@cache
def published() -> dict[str, dict[str, Any]]:
    """By name: title, about, columns, and rows with name, values (None: not published), source and conditions."""
    return json.loads(FILE.read_text())


def published_tables(columns: Sequence[Column]) -> list[Table]:
    """Those that belong beside the results of these columns, each with how ours differ."""
    runs = [
        r
        for c in columns
        for b in ("hand3d", "trajectories", "closed_loop")
        for arm in c.arms(b)
        for r in arm.runs
    ]
    found = []
    for benchmark, names in BESIDE.items():
        ours = [run for run in runs if _benchmark(run) == benchmark]
        for name in names if ours else ():
            found.append(_table(published()[name], differences(benchmark, ours)))
    return found


def differences(benchmark: str, runs: Sequence[Run]) -> list[str]:
    """What is not the published protocol in these results, in words: as the results themselves say it (`differences` of
    their protocol), and what their protocol shows."""
    found: dict[str, None] = {}
    for run in runs:
        said = run.result.protocol
        found |= dict.fromkeys(said.get("differences", ()))
        if benchmark == "hand3d":
            sources = ", ".join(s.kind for s in run.result.sources) or "unknown"
            found[f"{said['records']} questions of other videos (source: {sources}), {said['split']} split"] = None
        if benchmark == "trajectories":
            found["wrists alone, at the rate and of the hands that the data set has"] = None
        for suite, (_, trials) in run.result.scores.items() if run.benchmark == "closed_loop" else ():
            if suite != "all" and benchmark in TRIALS and trials != TRIALS[benchmark]:
                found[f"{trials} trials of {suite}, published: {TRIALS[benchmark]}"] = None
    return list(found)


def _benchmark(run: Run) -> str:
    """The simulator of a closed loop; the benchmark otherwise."""
    if run.benchmark != "closed_loop":
        return run.benchmark
    return str(run.result.protocol.get("benchmark", "")).replace("-", "_")


def _table(table: dict[str, Any], differing: Sequence[str]) -> Table:
    rows = tuple(
        (row["name"], *("-" if v is None else f"{v:g}" for v in row["values"]), row["conditions"], row["source"])
        for row in table["rows"]
    )
    ours = f" Ours differ: {'; '.join(differing)}." if differing else ""
    head = ("", *table["columns"], "conditions", "source")
    return Table(f"Published: {table['title']}", head, rows, f"{table['about']}{ours}")

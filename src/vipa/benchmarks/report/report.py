"""Reports of results: self-contained pages (images and videos inline, no scripts, nothing from elsewhere) and Markdown.

`render` makes the demo's page of a `Report`; `render_runs` and `markdown_of` the page and the tables of any results
(`vipa report`). Both show columns of arms (`contenders`) through the same macros (`sections.html`); whatever is
missing, the page says so in its place. Nothing is computed here but shares and comparisons, so that the figures are
those of the saved results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vipa.benchmarks.report import markdown as text
from vipa.benchmarks.report.charts import (
    Series,
    bar_chart,
    interval_chart,
    interval_words,
    line_chart,
    step_chart,
)
from vipa.benchmarks.report.comparisons import compare, rows, task_rows
from vipa.benchmarks.report.contenders import (
    AVERAGE,
    DIRECTION,
    DISTANCE,
    FINAL,
    SUCCESS,
    Arm,
    Column,
    Media,
    differences,
)
from vipa.benchmarks.report.curves import Curve
from vipa.benchmarks.report.published import published_tables
from vipa.io.pages import render_page

FILMS = 12
"""Shown of an arm, failures first."""


@dataclass(frozen=True)
class Step:
    """One card of the pipeline. question and answer: where the step is about words. wide: twice the width."""

    title: str
    text: str
    media: Media | None = None
    question: str = ""
    answer: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Report:
    """The whole page of the demo. facts: (what, value) pairs of how it was made. doing: what is still being done, in
    words; reload_after: seconds after which an open page then loads itself again."""

    date: str
    pipeline: tuple[Step, ...]
    columns: tuple[Column, ...]
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()  # what went differently than planned
    doing: str = ""
    reload_after: int | None = None


def loss_series(column: Column, curve: Curve) -> list[Series]:
    """Losses over steps: learned, and held out where that is known."""
    drawn = ((column.name, column.tone, curve.learned), ("held out", "ink", curve.held_out))
    return [Series(name, tone, *zip(*points)) for name, tone, points in drawn if points]


def score_shares(arms: Sequence[Arm]) -> list[Series]:
    """Per cent of the answers with each direction score, for whoever answered."""
    return [_shares(arm, arm.result.score_counts) for arm in arms]


def error_shares(arms: Sequence[Arm]) -> list[Series]:
    """Per cent of the answers in each bin of distance error, likewise."""
    return [_shares(arm, arm.result.error_counts) for arm in arms]


def films(arm: Arm, success: bool | None = None) -> list[Media]:
    """Of an arm's episodes, by how they ended (None: all), with why they failed where it is known."""
    why = {
        run.key(line).replace("/", "_"): line.get("failure", "")
        for run in arm.runs
        for line in run.lines
        if "seed" in line
    }
    found = []
    for run in arm.runs:
        for path in run.result.videos:
            head, _, end = path.stem.rpartition("_")
            if success is None or (end == "success") == success:
                task, _, seed = head.rpartition("_")
                reason = why.get(f"{task} {seed}", "")
                found.append(Media(path, f"{task}: {end}" + (f", {reason}" if reason else "")))
    return found[:FILMS]


def _shares(arm: Arm, counts: Sequence[int]) -> Series:
    total = max(sum(counts), 1)
    return Series(arm.name, arm.tone, range(len(counts)), [100 * count / total for count in counts])


SHOWN = (
    *(compare, differences, error_shares, films, interval_words, loss_series, rows, score_shares, task_rows),
    *(bar_chart, interval_chart, line_chart, step_chart),
)
"""What the templates call."""
MEASURES = {"distance": DISTANCE, "direction": DIRECTION, "average": AVERAGE, "final": FINAL, "success": SUCCESS}


def render(report: Report) -> str:
    """The demo's page as HTML."""
    return render_page(Path(__file__).parent / "report.html", report=report, **_shown())


def render_runs(title: str, date: str, columns: Sequence[Column]) -> str:
    """The page of any results as HTML."""
    parts = {
        "title": title,
        "date": date,
        "columns": columns,
        "overviews": text.overview(columns),
        "latency": text.latency_table(columns),
        "made": text.made_table(columns),
        "published": published_tables(columns),
    }
    return render_page(Path(__file__).parent / "runs.html", **parts, **_shown())


def markdown_of(title: str, date: str, columns: Sequence[Column]) -> str:
    """All tables of any results."""
    found = text.overview(columns)
    for column in columns:
        if found_here := text.tables(column):
            found += [*found_here, text.unparsed(column.hand3d)]
    found += [text.latency_table(columns), text.made_table(columns), *published_tables(columns)]
    return "\n\n".join([f"# {title}", date, *(text.markdown(table) for table in found if table.rows)]) + "\n"


def _shown() -> dict[str, object]:
    return {
        "measures": MEASURES,
        "tables_of": {
            "hand3d": text.hand3d_tables,
            "trajectories": text.trajectory_tables,
            "translations": text.translation_tables,
            "closed_loop": text.closed_loop_tables,
        },
        "unparsed": text.unparsed,
        **{function.__name__: function for function in SHOWN},
    }

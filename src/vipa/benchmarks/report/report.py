"""The demo's report: one self-contained page (images and videos inline, no scripts, nothing from elsewhere).

`render` makes the page of a `Report` from the template report.html; whatever a report lacks, the page says so in its
place. Nothing is computed here but shares and the comparison of intervals, so that the figures are those of the saved
results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vipa.benchmarks.report.charts import (
    Series,
    bar_chart,
    interval_chart,
    interval_words,
    line_chart,
    step_chart,
)
from vipa.benchmarks.report.comparisons import (
    HAND3D,
    Column,
    Media,
    average_rows,
    compare,
    direction_rows,
    distance_rows,
    final_rows,
    success_rows,
    task_rows,
    tone,
)
from vipa.benchmarks.results import Hand3DResult
from vipa.io.pages import render_page


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
    """The whole page. facts: (what, value) pairs of how it was made. doing: what is still being done, in words;
    reload_after: seconds after which an open page then loads itself again."""

    date: str
    pipeline: tuple[Step, ...]
    columns: tuple[Column, Column]
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()  # what went differently than planned
    doing: str = ""
    reload_after: int | None = None


def loss_series(column: Column, points: Sequence[tuple[int, float]]) -> list[Series]:
    """Loss over steps."""
    return [Series(column.name, column.tone, [step for step, _ in points], [loss for _, loss in points])]


def score_shares(column: Column) -> list[Series]:
    """Per cent of the answers with each direction score, for whoever answered."""
    return [_shares(name, colour, result.score_counts) for name, colour, result in _answered(column)]


def error_shares(column: Column) -> list[Series]:
    """Per cent of the answers in each bin of `error_edges`, likewise."""
    return [_shares(name, colour, result.error_counts) for name, colour, result in _answered(column)]


def error_edges(column: Column) -> tuple[float, ...]:
    """Metres between which distance errors are counted."""
    return column.hand3d["stage1"].error_edges


def by_kind(column: Column) -> list[tuple[str, str]]:
    """Error and direction score of each kind of question, in brackets those of the constant answer."""
    base = column.hand3d.get("constant")
    others = {scores.kind: scores for scores in base.scores} if base else {}
    rows = []
    for scores in column.hand3d["stage1"].scores:
        if scores.kind == "all":
            continue
        unit = "°" if scores.kind == "camera_rotation" else " m"
        words = f"{scores.error.value:.2f}{unit}, {scores.direction_score.value:.2f} of 3"
        if other := others.get(scores.kind):
            words += f" ({other.error.value:.2f}{unit}, {other.direction_score.value:.2f})"
        rows.append((f"{scores.kind.replace('_', ' ')}, {scores.records}", words))
    return rows


def _answered(column: Column) -> list[tuple[str, str, Hand3DResult]]:
    return [(name, tone(key, column), column.hand3d[key]) for key, name in HAND3D.items() if key in column.hand3d]


def _shares(name: str, colour: str, counts: Sequence[int]) -> Series:
    total = max(sum(counts), 1)
    return Series(name, colour, range(len(counts)), [100 * count / total for count in counts])


SHOWN = (
    *(average_rows, by_kind, compare, direction_rows, distance_rows, error_edges, error_shares, final_rows),
    *(interval_words, loss_series, score_shares, success_rows, task_rows),
    *(bar_chart, interval_chart, line_chart, step_chart),
)
"""What the template calls."""


def render(report: Report) -> str:
    """The page as HTML."""
    functions = {function.__name__: function for function in SHOWN}
    return render_page(Path(__file__).parent / "report.html", report=report, **functions)

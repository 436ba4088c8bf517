"""The demo's report: one self-contained page (images and videos inline, no scripts, nothing from elsewhere).

`render` makes the page of a `Report`; whatever a report lacks, the page says so in its place. Nothing is computed
here but the comparison of intervals, so that the figures are those of the saved results.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from vipa.benchmarks.report.charts import (
    Interval,
    Series,
    bar_chart,
    interval_chart,
    interval_words,
    legend,
    line_chart,
    step_chart,
)
from vipa.benchmarks.report.comparisons import (
    HAND3D,
    Column,
    Media,
    Verdict,
    average_rows,
    compare,
    direction_rows,
    distance_rows,
    final_rows,
    success_rows,
    task_rows,
    tone,
)

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".mp4": "video/mp4"}


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


def render(report: Report) -> str:
    """The page as HTML."""
    style = (Path(__file__).parent / "report.css").read_text()
    sections: list[tuple[str, str, str]] = [
        ("At a glance", "What each stage brought, against the baselines it has to beat.", _summary(report)),
        (
            "From a video to questions and motions",
            "One held-out clip of the tabletop world on its way through annotation. Everything that follows is made "
            "of such records.",
            _pipeline(report.pipeline),
        ),
        (
            "Three stages of training",
            "Loss per step. Stage 1 teaches the fusion of both encoders to answer questions about space, stage 2 the "
            "language model to write wrist motions as tokens, stage 3 an action head to move a robot.",
            _pair(report, _losses),
        ),
        (
            "Where is it, and how far?",
            "Held-out questions after stage 1. Direction score: one point an axis, 3 is best (Fig. 8 of the paper). "
            "“Constant” gives every question of a kind the answer that fits the training clips best.",
            _pair(report, _hand3d),
        ),
        (
            "Where will the hand go?",
            "Wrist trajectories after stage 2, drawn on the only image that the model sees (Fig. 9 of the paper): "
            "green is the truth.",
            _pair(report, _trajectories),
        ),
        (
            "Does the robot do it?",
            "Closed loop after stage 3: fresh scenes, instructions in words, success judged by the simulator. The "
            "blank policy is the same one with its camera covered.",
            _pair(report, _tabletop),
        ),
        ("How this page was made", "", _facts(report)),
    ]
    body = "".join(
        f'<section><h2><span class="number">{i}</span>{escape(title)}</h2>'
        + (f'<p class="about">{escape(about)}</p>' if about else "")
        + f"{content}</section>"
        for i, (title, about, content) in enumerate(sections, 1)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{_refresh(report)}<title>VIPA: from human videos to a robot policy</title><link rel="icon" href="data:,">
<style>{style}</style></head>
<body><main>
<header><p class="kicker">VIPA demo &middot; {escape(report.date)}</p>
<h1>From human videos to a robot policy, small and real</h1>
<p class="lead">A model of a few million parameters learns 3D space from filmed hands, then moves a robot.
Orange is what the demo trained in its few minutes on this machine; blue is the same code
run for longer, as shipped.</p>{_doing(report)}</header>
{body}
<footer>Made by <code>vipa demo</code>. The model, data and world here are miniatures; none of these figures compare
with those of the paper.</footer>
</main></body></html>
"""


def _refresh(report: Report) -> str:
    return "" if report.reload_after is None else f'<meta http-equiv="refresh" content="{report.reload_after}">\n'


def _doing(report: Report) -> str:
    if not report.doing:
        return ""
    again = (
        f" This page loads itself again every {report.reload_after} s until then." if report.reload_after else ""
    )
    return _missing(f"Not finished: {report.doing}. What is missing below is still to come.{again}")


def _summary(report: Report) -> str:
    rows = [
        ("Distance error", "questions about space, after stage 1; less is better", distance_rows, "m", True),
        ("Direction score", "of 3, after stage 1; more is better", direction_rows, "", False),
        ("Trajectory error", "average over waypoints, after stage 2; less is better", average_rows, "m", True),
        ("Robot success", "all tasks together, after stage 3; more is better", success_rows, "%", False),
    ]
    lines = []
    for title, about, find, unit, less in rows:
        cells = []
        for column in report.columns:
            found = find(column)
            cell = '<span class="note">no result yet</span>'
            if found:
                ours, baselines = found[0], found[1:]
                value, _, interval = interval_words(ours, unit).partition(" [")
                cell = (
                    f'<span class="figure">{value}</span> <span class="range">[{interval}</span>'
                    if interval
                    else value
                )
                if baselines:
                    cell += "<br>" + _verdict(compare(ours, baselines, less_is_better=less))
            cells.append(f'<td data-column="{escape(column.name)}">{cell}</td>')
        lines.append(f"<tr><th>{title}<small>{about}</small></th>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{_head(column)}</th>" for column in report.columns)
    return (
        f'<div class="card table-card"><table class="summary"><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _pipeline(steps: Sequence[Step]) -> str:
    if not steps:
        return _missing("No clip was annotated in this run.")
    cards = []
    for i, step in enumerate(steps, 1):
        words = f'<b><span class="count">{i}</span>{escape(step.title)}</b>{escape(step.text)}'
        if step.question:
            answer = f'<span class="answer">{escape(step.answer)}</span>'
            words += f"<blockquote>{escape(step.question)}<br>{answer}</blockquote>"
        media = _media(step.media) if step.media else ""
        wide = " wide" if step.wide else ""
        cards.append(f'<article class="card step{wide}">{media}<div class="words">{words}</div></article>')
    return f'<div class="steps">{"".join(cards)}</div>'


def _losses(column: Column) -> str:
    charts = []
    for stage, points in sorted(column.losses.items()):
        series = Series(column.name, column.tone, [p[0] for p in points], [p[1] for p in points])
        charts.append(_chart(f"{stage}, {len(points)} logged steps", line_chart([series], "step", "loss", 170)))
    return "".join(charts) or _missing("No training log.")


def _hand3d(column: Column) -> str:
    rows = distance_rows(column)
    if not rows:
        return _missing("No Hand3D results.")
    directions = direction_rows(column)
    shown = [(n, tone(k, column), r) for k, n in HAND3D.items() if (r := column.hand3d.get(k))]
    shares = [
        Series(name, colour, range(4), [100 * c / max(sum(r.score_counts), 1) for c in r.score_counts])
        for name, colour, r in shown
    ]
    errors = [
        Series(name, colour, [], [100 * c / max(sum(r.error_counts), 1) for c in r.error_counts])
        for name, colour, r in shown
    ]
    edges = shown[0][2].error_edges
    kinds = _by_kind(column)
    ours = column.hand3d.get("stage1")
    unparsed = f"{ours.all.records} questions, {ours.all.unparsable} answers did not parse." if ours else ""
    return (
        _chart("Distance error, metres", interval_chart(rows, "m"))
        + _verdicts(rows, True)
        + _chart("Direction score, of 3", interval_chart(directions, "", 0, 3))
        + _verdicts(directions, False)
        + _chart("Direction scores, % of answers", legend(shares) + bar_chart("0123", shares, "score", "%"))
        + _chart("Distance errors, % of answers", legend(errors) + step_chart(edges, errors, "error (m)", "%"))
        + kinds
        + f'<p class="note">{unparsed}</p>'
    )


def _by_kind(column: Column) -> str:
    ours, base = column.hand3d.get("stage1"), column.hand3d.get("constant")
    if not ours:
        return ""
    rows = []
    for scores in ours.scores:
        if scores.kind == "all":
            continue
        unit = "°" if scores.kind == "camera_rotation" else " m"
        other = next((s for s in base.scores if s.kind == scores.kind), None) if base else None
        against = f" ({other.error.value:.2f}{unit}, {other.direction_score.value:.2f})" if other else ""
        rows.append(
            f"<dt>{escape(scores.kind.replace('_', ' '))}, {scores.records}</dt>"
            f"<dd>{scores.error.value:.2f}{unit}, {scores.direction_score.value:.2f} of 3{against}</dd>"
        )
    return _chart("By kind of question (in brackets: constant)", f'<dl class="facts">{"".join(rows)}</dl>')


def _trajectories(column: Column) -> str:
    rows = average_rows(column)
    if not rows:
        return _missing("No trajectory results.")
    final = final_rows(column)
    return (
        _chart("Average error, metres", interval_chart(rows, "m"))
        + _verdicts(rows, True)
        + _chart("Error at the last waypoint, metres", interval_chart(final, "m"))
        + _media_row(column.drawings)
    )


def _tabletop(column: Column) -> str:
    if not column.tabletop:
        return _missing("No closed-loop results.")
    tasks = dict.fromkeys(s.task for s in column.tabletop)
    charts = [_chart(task, interval_chart(task_rows(column, task), "%", 0, 1)) for task in tasks]
    return "".join(charts) + _verdicts(success_rows(column), False) + _media_row(column.rollouts)


def _facts(report: Report) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.facts)
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    return f'<div class="card"><dl class="facts">{facts}</dl>{notes}</div>'


def _pair(report: Report, draw: Callable[[Column], str]) -> str:
    cards = (f'<div class="card">{_head(column)}{draw(column)}</div>' for column in report.columns)
    return f'<div class="pair">{"".join(cards)}</div>'


def _head(column: Column) -> str:
    return f'<div class="column-head {column.tone}"><b>{escape(column.name)}</b>{escape(column.note)}</div>'


def _chart(title: str, drawing: str) -> str:
    return f'<div class="chart"><p class="chart-title">{escape(title)}</p>{drawing}</div>'


def _verdicts(rows: Sequence[Interval], less_is_better: bool) -> str:
    return _verdict(compare(rows[0], rows[1:], less_is_better=less_is_better)) if len(rows) > 1 else ""


def _verdict(verdict: Verdict) -> str:
    return f'<span class="verdict {verdict.mark}">{escape(verdict.words)}</span>'


def _missing(words: str) -> str:
    return f'<div class="missing">{escape(words)}</div>'


def _media_row(media: Sequence[Media]) -> str:
    if not media:
        return ""
    figures = (f"<figure>{_media(m)}<figcaption>{escape(m.caption)}</figcaption></figure>" for m in media)
    return f'<div class="chart media-row">{"".join(figures)}</div>'


def _media(media: Media) -> str:
    if not media.path.exists():
        return _missing(f"{media.path.name} is missing")
    kind = TYPES[media.path.suffix]
    data = f"data:{kind};base64,{base64.b64encode(media.path.read_bytes()).decode()}"
    if kind.startswith("video"):
        about = escape(media.caption)
        return f'<video src="{data}" autoplay muted loop playsinline controls aria-label="{about}"></video>'
    style = ' class="pixels"' if media.pixelated else ""
    return f'<img src="{data}" alt="{escape(media.caption)}"{style}>'

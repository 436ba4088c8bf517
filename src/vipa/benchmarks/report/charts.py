"""Charts as inline SVG by matplotlib: text as text in the page's font, colours from the page's style sheet.

Every chart is drawn in a box 400 units wide, so that its text stays readable at the width of a phone.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

WIDTH, HEIGHT = 400, 190
COLOURS = {
    "now": "#d9691e",
    "shipped": "#2563c9",
    "before": "#8a63b8",
    "base": "#98a0a8",
    "fourth": "#0f766e",
    "fifth": "#b0436a",
    "sixth": "#7a6a1f",
    "ink": "#1d2129",
    "soft": "#5d6673",
    "grid": "#ecebe5",
}
"""Colour variables of page.css, each with its value in light mode: drawn as this, then replaced by the name."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vipa",
    "text.parse_math": False,
    "font.size": 12.5,
    "text.color": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.edgecolor": COLOURS["soft"],
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": COLOURS["grid"],
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    **{f"axes.spines.{side}": False for side in ("left", "right", "top")},
}

UNWANTED = re.compile(
    r' id="(?!m\w{10}")[^"]*"| clip-path="[^"]*"|<defs>\s*<clipPath.*?</defs>|font-family: [^;]*; ', re.DOTALL
)
"""Of matplotlib's SVG in a page: ids (but for those of markers, which say what they hold), clipping, which refers to
ids, and fonts, which are the page's."""


@dataclass(frozen=True)
class Series:
    """Values to draw. tone: whose colour (now, shipped, before, base)."""

    name: str
    tone: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval. low and high are None, or infinite, where no interval is known."""

    name: str
    tone: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval where it is known; of a single cluster it is not."""
        if self.low is None or self.high is None or not math.isfinite(self.high - self.low):
            return None
        return self.low, self.high


@mpl.rc_context(STYLE)
def line_chart(series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Lines over a common x axis; the y axis starts at zero only where the data nearly do."""
    known = [y for s in series for x, y in zip(s.x, s.y) if math.isfinite(x) and math.isfinite(y)]
    if not known:
        return Markup()
    ax = _axes(x_label, y_label)
    for s in series:
        ax.plot(s.x, s.y, color=COLOURS[s.tone])
    if 0 < min(known) < 0.5 * max(known):
        ax.set_ylim(bottom=0)
    return _svg(ax, f"{y_label} over {x_label}")


@mpl.rc_context(STYLE)
def bar_chart(groups: Sequence[str], series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Bars side by side with their values: one group per label, one bar per series (its y, one per group)."""
    if not groups or max((y for s in series for y in s.y), default=0.0) <= 0:
        return Markup()
    ax = _axes(x_label, y_label)
    width = 0.84 / len(series)
    for i, s in enumerate(series):
        places = [j + (i + 0.5) * width - 0.42 for j in range(len(groups))]
        bars = ax.bar(places, s.y, 0.94 * width, color=COLOURS[s.tone])
        ax.bar_label(bars, fmt="%.0f", fontsize=11, color=COLOURS["soft"])
    ax.set_xticks(range(len(groups)), list(groups))
    return _svg(ax, f"{y_label} by {x_label}")


@mpl.rc_context(STYLE)
def step_chart(edges: Sequence[float], series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Histograms as outlines over common bin edges; each series has one y per bin."""
    if not series:
        return Markup()
    ax = _axes(x_label, y_label)
    for s in series:
        ax.stairs(s.y, edges, color=COLOURS[s.tone], linewidth=2)
    return _svg(ax, f"{y_label} over {x_label}")


@mpl.rc_context(STYLE)
def interval_chart(
    rows: Sequence[Interval], unit: str, low: float | None = None, high: float | None = None
) -> Markup:
    """One line per estimate: its name, a dot with whiskers, and the figures in words."""
    if not rows:
        return Markup()
    ends = [v for r in rows for v in (r.value, *(r.bounds or ()))]
    low = min(0.0, *ends) if low is None else low
    high = max(ends) * 1.05 if high is None else high
    figure = Figure(figsize=(WIDTH / 72, (38 * len(rows) + 22) / 72))
    ax = figure.add_axes((8 / WIDTH, 0, 1 - 16 / WIDTH, 1))
    ax.set(xlim=(low, high if high > low else low + 1.0), ylim=(len(rows) - 0.1, -0.7), yticks=[])
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(axis="x", pad=-14)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(axis="x")
    if unit == "%":
        ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    for i, row in enumerate(rows):
        colour = COLOURS[row.tone]
        if row.bounds is not None:
            ax.plot(row.bounds, (i, i), color=colour, alpha=0.45, linewidth=3)
        ax.plot([row.value], [i], "o", color=colour, markersize=10)
        place = {"y": i - 0.26, "transform": ax.get_yaxis_transform(), "fontsize": 13}
        ax.text(0, s=shortened(row.name, 30), **place)
        ax.text(1, s=interval_words(row, unit), ha="right", color=COLOURS["ink"], **place)
    return _svg(ax, "; ".join(f"{r.name}: {interval_words(r, unit)}" for r in rows))


def shortened(name: str, most: int) -> str:
    """A name that a drawing has no room for, cut: text in a drawing does not wrap."""
    return name if len(name) <= most else f"{name[: most - 3].rstrip()}..."


def interval_words(row: Interval, unit: str) -> str:
    """`0.102 m [0.097, 0.107]`; percentages without decimals."""
    if unit == "%":
        value, bounds = f"{100 * row.value:.0f} %", "[{:.0f}, {:.0f}]"
    else:
        value, bounds = f"{row.value:.3f} {unit}".strip(), "[{:.3f}, {:.3f}]"
    factor = 100 if unit == "%" else 1
    return value if row.bounds is None else f"{value} {bounds.format(*(factor * end for end in row.bounds))}"


def _axes(x_label: str, y_label: str) -> Axes:
    ax = Figure(figsize=(WIDTH / 72, HEIGHT / 72), layout="constrained").add_subplot()
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.locator_params(nbins=5)
    ax.grid(axis="y")
    return ax


def _svg(ax: Axes, description: str) -> Markup:
    """The drawing without what would not hold inside a page: its size in points, fonts, ids, and clipping by ids."""
    file, nothing = io.StringIO(), dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    drawing = file.getvalue()
    body = UNWANTED.sub("", drawing[drawing.index("<g ") :])
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    box = re.findall(r'viewBox="[^"]*"', drawing)[0]
    return Markup(f'<svg {box} role="img" aria-label="{escape(description)}">{body}')

"""Charts as inline SVG: no fonts, scripts or files from elsewhere; colours come from the page's style sheet.

Every chart is drawn in a box 400 units wide, so that its text stays readable at the width of a phone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 400
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 36


@dataclass(frozen=True)
class Series:
    """Values to draw. tone: CSS class of its colour (now, shipped, before, base, truth)."""

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


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers in [low, high]."""
    if not high > low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (f * step) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(series: Sequence[Series], x_label: str, y_label: str, height: int = 200) -> str:
    """Lines over a common x axis; the y axis starts at zero only where the data nearly do."""
    points = [(x, y) for s in series for x, y in zip(s.x, s.y) if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return ""
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    y_low = 0.0 if y_low > 0 and y_low < 0.5 * y_high else y_low
    frame = _Frame(x_low, x_high, y_low, y_high + 0.05 * (y_high - y_low), height)
    lines = []
    for s in series:
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(s.x, s.y) if math.isfinite(y))
        lines.append(f'<polyline class="line {s.tone}" points="{path}"><title>{escape(s.name)}</title></polyline>')
    return _svg(height, f"{y_label} over {x_label}", frame.axes(x_label, y_label) + "".join(lines))


def bar_chart(
    groups: Sequence[str], series: Sequence[Series], x_label: str, y_label: str, height: int = 200
) -> str:
    """Bars side by side: one group per label, one bar per series (its y, one per group)."""
    y_high = max((y for s in series for y in s.y), default=0.0)
    if not groups or y_high <= 0:
        return ""
    frame = _Frame(0, len(groups), 0, 1.05 * y_high, height)
    bars = []
    width = (frame.x(1) - frame.x(0)) * 0.84 / len(series)
    for i, s in enumerate(series):
        for j, y in enumerate(s.y):
            left, top = frame.x(j + 0.08) + i * width, frame.y(y)
            bars.append(
                f'<rect class="bar {s.tone}" x="{left:.1f}" y="{top:.1f}" width="{max(width - 1, 1):.1f}" '
                f'height="{frame.y(0) - top:.1f}"><title>{escape(s.name)}, {groups[j]}: {y:.3g}</title></rect>'
            )
    labels = "".join(
        f'<text class="tick middle" x="{frame.x(j + 0.5):.1f}" y="{height - BOTTOM + 14}">{escape(g)}</text>'
        for j, g in enumerate(groups)
    )
    return _svg(
        height, f"{y_label} by {x_label}", frame.axes(x_label, y_label, x_ticks=False) + labels + "".join(bars)
    )


def step_chart(
    edges: Sequence[float], series: Sequence[Series], x_label: str, y_label: str, height: int = 200
) -> str:
    """Histograms as outlines over common bin edges; each series has one y per bin."""
    outlined = []
    for s in series:
        x = [edge for edge in edges for _ in range(2)]
        y = [0.0, *(value for value in s.y for _ in range(2)), 0.0]
        outlined.append(Series(s.name, s.tone, x, y))
    return line_chart(outlined, x_label, y_label, height)


def interval_chart(
    rows: Sequence[Interval], unit: str, low: float | None = None, high: float | None = None
) -> str:
    """One line per estimate: its name, a dot with whiskers, and the figures in words."""
    if not rows:
        return ""
    ends = [v for r in rows for v in (r.value, *(r.bounds or ()))]
    low = min(0.0, *ends) if low is None else low
    high = max(ends) * 1.05 if high is None else high
    high = high if high > low else low + 1.0
    row_height = 38
    height = row_height * len(rows) + 22
    scale = (WIDTH - 16) / (high - low)
    parts = []
    for tick in ticks(low, high):
        x = 8 + (tick - low) * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 18}"/>')
        parts.append(f'<text class="tick middle" x="{x:.1f}" y="{height - 4}">{tick:g}</text>')
    for i, row in enumerate(rows):
        y = row_height * i + 27
        words = interval_words(row, unit)
        parts.append(f'<text class="label" x="8" y="{y - 12}">{escape(row.name)}</text>')
        parts.append(f'<text class="label end strong" x="{WIDTH - 8}" y="{y - 12}">{escape(words)}</text>')
        if row.bounds is not None:
            x1, x2 = (8 + (end - low) * scale for end in row.bounds)
            parts.append(f'<line class="whisker {row.tone}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot {row.tone}" cx="{8 + (row.value - low) * scale:.1f}" cy="{y}" r="5"/>')
    return _svg(height, "; ".join(f"{r.name}: {interval_words(r, unit)}" for r in rows), "".join(parts))


def interval_words(row: Interval, unit: str) -> str:
    """`0.102 m [0.097, 0.107]`; percentages without decimals."""
    if unit == "%":
        value, bounds = f"{100 * row.value:.0f} %", "[{:.0f}, {:.0f}]"
    else:
        value, bounds = f"{row.value:.3f} {unit}".strip(), "[{:.3f}, {:.3f}]"
    factor = 100 if unit == "%" else 1
    return value if row.bounds is None else f"{value} {bounds.format(*(factor * end for end in row.bounds))}"


def legend(series: Sequence[Series | Interval]) -> str:
    """Names with their colours, once each."""
    seen = {s.name: s.tone for s in series}
    items = "".join(f'<span class="key {tone}">{escape(name)}</span>' for name, tone in seen.items())
    return f'<div class="legend">{items}</div>'


@dataclass(frozen=True)
class _Frame:
    """Maps data to the drawing and draws the axes."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    height: int

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / ((self.x_high - self.x_low) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / ((self.y_high - self.y_low) or 1.0)
        return self.height - BOTTOM - share * (self.height - TOP - BOTTOM)

    def axes(self, x_label: str, y_label: str, x_ticks: bool = True) -> str:
        bottom = self.height - BOTTOM
        parts = []
        for tick in ticks(self.y_low, self.y_high):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick end" x="{LEFT - 5}" y="{y + 4:.1f}">{tick:g}</text>')
        for tick in ticks(self.x_low, self.x_high, 5) if x_ticks else ():
            parts.append(f'<text class="tick middle" x="{self.x(tick):.1f}" y="{bottom + 14}">{tick:g}</text>')
        middle, centre = (LEFT + WIDTH - RIGHT) / 2, (TOP + bottom) / 2
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
        parts.append(
            f'<text class="axis-label middle" x="{middle}" y="{self.height - 5}">{escape(x_label)}</text>'
        )
        parts.append(
            f'<text class="axis-label middle" transform="translate(11 {centre:.0f}) rotate(-90)">'
            f"{escape(y_label)}</text>"
        )
        return "".join(parts)


def _svg(height: int, description: str, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">{body}</svg>'

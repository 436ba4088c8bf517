"""What a data set is made of (the paper's Tables 1 and 2) and how good its labels are."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vipa.hand3d.config import PAPER_TABLE_1, PAPER_TABLE_2
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.measure.motion import MOTION_TASKS
from vipa.hand3d.measure.relations import CATEGORIES

PAPER_ACTION_SOURCES = {
    "egodex": 0.735, "arctic": 0.101, "taco": 0.075, "oakink2": 0.053, "hoi4d": 0.019, "h2o": 0.017,
}  # fmt: skip


def print_stats(path: str | Path) -> None:
    """Prints the composition and quality of the data set at `path`."""
    print(stats_text(Hand3D(path)))


def stats_text(data: Hand3D) -> str:
    """Composition and quality as Markdown."""
    visual = data.columns(
        "visual", ("source", "category", "directions", "distance", "hand_confidence", "object_confidence")
    )
    action = data.columns("action", ("source", "task", "outside"))
    sizes = {t: {s: data.count(t, s) for s in ("train", "validation", "test")} for t in data.manifest["tables"]}
    size_rows = [[t, *(f"{n:,}" for n in by.values()), f"{sum(by.values()):,}"] for t, by in sizes.items()]
    return "\n\n".join(
        [
            "## Size\n\n" + markdown(["table", "train", "validation", "test", "all"], size_rows),
            "## Table 1: Hand3D-visual\n\n"
            + _composition(
                _count(visual, "source", "category"),
                CATEGORIES,
                PAPER_TABLE_1.source_shares or {},
                PAPER_TABLE_1.visual_shares or {},
            ),
            "## Table 2: Hand3D-action\n\n"
            + _composition(_count(action, "source", "task"), MOTION_TASKS, PAPER_ACTION_SOURCES, PAPER_TABLE_2),
            "## Quality\n\n" + _quality(data, visual, action),
            "## Directions\n\n" + _directions(visual),
            *_left_out(data),
        ]
    )


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _count(table: pa.Table, *names: str) -> Counter:
    """How many rows have each combination of the values of these columns."""
    groups = table.group_by(list(names)).aggregate([([], "count_all")]).to_pylist()
    return Counter({tuple(group[name] for name in names): group["count_all"] for group in groups})


def _composition(
    counts: Counter, kinds: Iterable[str], paper_sources: dict[str, float], paper_kinds: dict[str, float]
) -> str:
    """Rows are sources, columns kinds; shares, and the paper's beside them."""
    kinds, total = list(kinds), max(sum(counts.values()), 1)
    sources = sorted({source for source, _ in counts})
    rows = []
    for source in sources:
        row = [counts[source, kind] for kind in kinds]
        paper = f"{paper_sources[source]:.1%}" if source in paper_sources else "-"
        rows.append([source, *(f"{n:,}" for n in row), f"{sum(row):,}", f"{sum(row) / total:.1%}", paper])
    columns = [sum(counts[source, kind] for source in sources) for kind in kinds]
    rows.append(["all", *(f"{n:,}" for n in columns), f"{sum(columns):,}", "100.0%", "100.0%"])
    rows.append(["share", *(f"{n / total:.1%}" for n in columns), "", "", ""])
    rows.append(["paper's share", *(f"{paper_kinds[kind]:.1%}" for kind in kinds), "", "", ""])
    return markdown(["source", *(kind.replace("_", " ") for kind in kinds), "all", "share", "paper"], rows)


def _quality(data: Hand3D, visual: pa.Table, action: pa.Table) -> str:
    clips = list(data.clips())
    columns: dict[str, list[float] | np.ndarray] = {
        "scale spread over a clip's frames": [c.scale_spread for c in clips if c.scale_spread],
        "half width of the scale's interval": [
            (c.scale_high - c.scale_low) / 2 / c.scale
            for c in clips
            if c.scale and c.scale_high and c.scale_low and c.scale_spread
        ],
        "plain median against the scale": [
            abs(c.scale_plain_median / c.scale - 1) for c in clips if c.scale_plain_median and c.scale
        ],
    }
    columns |= {
        f"confidence of {what}s": visual[f"{what}_confidence"].drop_null().to_numpy()
        for what in ("object", "hand")
    }
    columns["waypoints outside the volume"] = action["outside"].to_numpy()
    rows = []
    for name, values in columns.items():
        q = [f"{x:.3f}" for x in np.percentile(values, [5, 50, 95])] if len(values) else ["-"] * 3
        rows.append([name, f"{len(values):,}", *q])
    return markdown(["figure", "values", "5 %", "median", "95 %"], rows)


def _left_out(data: Hand3D) -> list[str]:
    """What the last run of annotation left out of its clips, where its report is beside the data set."""
    path = Path(data.path) / "report.json"
    counts = json.loads(path.read_text()).get("left_out", {}) if path.is_file() else {}
    rows = [[what, why, f"{n:,}"] for what, reasons in counts.items() for why, n in reasons.items()]
    return ["## Left out\n\n" + markdown(["of", "reason", "frames or moments"], rows)] if rows else []


def _directions(visual: pa.Table) -> str:
    """The most common answer of each kind, which a constant predictor would give, and typical distances."""
    rows = []
    for category in CATEGORIES:
        part = visual.filter(pc.field("category") == category)
        if not len(part):
            continue
        words = part.append_column("words", pc.call_function("binary_join", [part["directions"], " and "]))
        counts = _count(words, "words")
        (best,), count = counts.most_common(1)[0]
        low, middle, high = np.percentile(part["distance"].to_numpy(), [5, 50, 95])
        rows.append(
            [
                category.replace("_", " "),
                f"{len(counts)}",
                f"{best} ({count / len(part):.0%})",
                f"{low:.2f} / {middle:.2f} / {high:.2f}",
            ]
        )
    return markdown(["category", "directions", "most common", "metres, 5 % / median / 95 %"], rows)

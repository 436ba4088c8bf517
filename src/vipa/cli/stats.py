"""What a Hand3D data set is made of: records by source, kind and split, and how well their geometry is known."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import tyro


def stats(data: Annotated[Path, tyro.conf.Positional]) -> None:
    """Prints the composition of the data set in folder `data` (the paper's Tables 1 and 2) and quality figures."""
    import numpy as np

    from vipa.hand3d.dataset import Hand3D

    opened = Hand3D(data)
    clips, visual, action = list(opened.clips()), list(opened.visual()), list(opened.action())
    print(
        f"{data}: {len(clips)} clips, {sum(c.seconds for c in clips) / 3600:.2f} hours, {opened.count('frames')} images"
    )
    _table("clips by split", (c.split for c in clips))
    print(f"Hand3D-visual: {len(visual)} questions")
    _table("by source", (r.source for r in visual))
    _table("by category", (r.category for r in visual))
    _table("by split", (r.split for r in visual))
    distances = [r.distance for r in visual if r.aspect != "rotation"]
    if distances:
        low, middle, high = np.quantile(distances, [0.05, 0.5, 0.95])
        print(f"  distances: median {middle:.2f} m, 5 to 95 %: {low:.2f} to {high:.2f} m")
    print(f"Hand3D-action: {len(action)} motions")
    _table("by source", (r.source for r in action))
    _table("by task", (r.task for r in action))
    _table("by split", (r.split for r in action))
    spreads = [c.scale_spread for c in clips if c.scale_spread is not None]
    if spreads:
        print(f"scale of point maps: median spread {np.median(spreads):.3f}, largest {np.max(spreads):.3f}")
    if action:
        print(f"waypoints outside the tokens' volume: {100 * np.mean([r.outside for r in action]):.1f} %")


def _table(title: str, values: Iterable[str]) -> None:
    counts = Counter(values)
    total = sum(counts.values())
    if total:
        parts = ", ".join(f"{name} {n} ({100 * n / total:.1f} %)" for name, n in counts.most_common())
        print(f"  {title}: {parts}")


def main(args: list[str]) -> None:
    tyro.cli(stats, args=args, prog="vipa stats")

"""Learning curves, from the logs of trainings."""

import json
from dataclasses import dataclass
from pathlib import Path

HELD_OUT = "validation_"

Points = tuple[tuple[int, float], ...]
"""(step, loss)."""


@dataclass(frozen=True)
class Curve:
    """Losses of one training. held_out: of data of the same kind that it did not learn from; empty where it never
    looked. Of a mixture both are of the component that is held out."""

    learned: Points
    held_out: Points = ()


def read_curve(log: Path) -> Curve:
    """Of a training's log.jsonl. Held-out figures have lines of their own, which begin with the loss of the first
    component (`training.validation`)."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    held = next((name for row in rows for name in row if name.startswith(HELD_OUT)), "")
    own = f"loss_{held.removeprefix(HELD_OUT)}"
    learned = tuple((int(row["step"]), float(row.get(own, row["loss"]))) for row in rows if "loss" in row)
    return Curve(learned, tuple((int(row["step"]), float(row[held])) for row in rows if held in row))

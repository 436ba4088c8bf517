"""How long answers take, measured where they are asked for."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

Call = tuple[float, int]
"""Seconds, rows."""


class Timed:
    """An answerer or a policy with a clock: everything else is passed on."""

    def __init__(self, asked: Any):
        self._asked: Any = asked
        self._calls: list[Call] = []

    def __call__(self, rows: Sequence[Any]) -> Any:
        start = time.perf_counter()
        answer = self._asked(rows)
        self._calls.append((time.perf_counter() - start, len(rows)))
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._asked, name)

    @property
    def calls(self) -> list[Call]:
        """Of which the first, in which things are loaded and compiled, counts only where it is the only one."""
        return self._calls[1:] or self._calls

    @property
    def latency(self) -> dict[str, float] | None:
        return latency(self.calls)


def latency(calls: Sequence[Call]) -> dict[str, float] | None:
    """Milliseconds of a call, and of a row where it is asked with others; None where nothing was asked."""
    if not calls:
        return None
    seconds, rows = np.array(calls).T
    per_call, per_row = 1000 * seconds, 1000 * seconds / rows
    return {
        "calls": len(calls),
        "rows_per_call": round(float(rows.mean()), 1),
        **{f"p{q}_ms": round(float(np.percentile(per_call, q)), 2) for q in (50, 95)},
        "p50_ms_per_row": round(float(np.median(per_row)), 2),
    }

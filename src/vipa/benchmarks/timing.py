"""How long answers take, measured where they are asked for."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np


class Timed:
    """An answerer or a policy with a clock: everything else is passed on."""

    def __init__(self, asked: Any):
        self._asked, self._calls = asked, []

    def __call__(self, rows: Sequence[Any]) -> Any:
        start = time.perf_counter()
        answer = self._asked(rows)
        self._calls.append((time.perf_counter() - start, len(rows)))
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._asked, name)

    @property
    def latency(self) -> dict[str, float] | None:
        """Milliseconds of a call, and of a row where it is asked with others; None where nothing was asked. The first
        call, in which things are loaded and compiled, counts only where it is the only one."""
        calls = np.array(self._calls[1:] or self._calls)
        if not len(calls):
            return None
        per_call, per_row = 1000 * calls[:, 0], 1000 * calls[:, 0] / calls[:, 1]
        return {
            "calls": len(calls),
            "rows_per_call": round(float(calls[:, 1].mean()), 1),
            **{f"p{q}_ms": round(float(np.percentile(per_call, q)), 2) for q in (50, 95)},
            "p50_ms_per_row": round(float(np.median(per_row)), 2),
        }

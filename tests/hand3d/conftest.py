"""Touches beside the truth, for tests of contacts."""

import numpy as np
import pytest

from vipa.hand3d.measure.paths import true_runs

CLOSE = 0.2 + 1e-6
"""Seconds."""


def compare_touches(found: np.ndarray, truth: np.ndarray, times: np.ndarray) -> int:
    """How many beginnings and ends of touches were compared; all touches are found, none is made up."""
    said, edges = list(true_runs(found == 1)), 0
    for start, stop in true_runs(truth):
        (touch,) = [(a, b) for a, b in said if a < stop and b > start]
        said.remove(touch)
        if start > 0:
            assert abs(times[touch[0]] - times[start]) <= CLOSE
            edges += 1
        if stop < len(truth):
            assert abs(times[touch[1] - 1] - times[stop - 1]) <= CLOSE
            edges += 1
    assert not said
    return edges


@pytest.fixture
def compare():
    """`compare_touches`."""
    return compare_touches

"""Touches beside the truth, for tests of contacts; small videos of a moving camera."""

from pathlib import Path

import numpy as np
import pytest

from vipa.clips.example import example_clip
from vipa.hand3d.measure.paths import true_runs
from vipa.worlds.fixtures.writing import write_video

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


@pytest.fixture
def videos(tmp_path) -> Path:
    """Three times two seconds of random patches that move to the left ever faster, and the joints of a hand beside."""
    (tmp_path / "videos").mkdir()
    wall = np.random.default_rng(0).integers(0, 255, (30, 90, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([wall[:, int(6 * k + k * k) :][:, :320] for k in range(16)])
    for name in "abc":
        write_video(tmp_path / "videos" / f"{name}.mp4", frames, 8)
        joints = example_clip().hands[0].joints_camera[:16]
        np.savez(tmp_path / "videos" / f"{name}.npz", right_joints_camera=joints)
    return tmp_path / "videos"

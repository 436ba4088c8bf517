"""Episodes in memory: their chunks, what they refuse, and the statistics of what a loss sees."""

import numpy as np
import pytest

from vipa.clips.video import ArrayFrames
from vipa.robots.episodes import Episode, EpisodeSet
from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.transforms import compute_statistics


def episode(rng, n=5, **changes) -> Episode:
    fields = {
        "id": "touch_1",
        "views": {v: ArrayFrames(rng.integers(0, 255, (n, 16, 16, 3), np.uint8)) for v in ("agent", "wrist")},
        "state": rng.normal(size=(n, 8)).astype(np.float32),
        "action": rng.normal(size=(n, 7)).astype(np.float32),
        "text": "touch the red cup",
        "rate": 10.0,
        "success": True,
        "task": "touch",
        "seed": 1,
        "notes": {"split": "train"},
    }
    return Episode(**fields | changes)


def test_rows_that_differ_are_refused(rng):
    with pytest.raises(ValueError, match="state has 3 rows, action has 5"):
        episode(rng, state=np.zeros((3, 8)))


def test_numbers_that_are_not_finite_are_refused(rng):
    with pytest.raises(ValueError, match="action holds values"):
        episode(rng, action=np.full((5, 7), np.nan))


def test_a_chunk_past_the_end_repeats_the_last_action_and_says_so(rng):
    e = episode(rng)
    action, real = e.chunk(3, 4)
    assert real.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(action[2:], e.action[[4, 4]])


def test_a_set_gives_its_real_actions_step_by_step(rng):
    opened = EpisodeSet(tabletop_contract(), ("a",), lambda _: episode(rng))
    assert [len(s["action"]) for s in opened.samples()] == [5, 4, 3, 2, 1]


def test_statistics_count_each_real_action_as_often_as_the_loss_and_no_padding(rng):
    """Eight-step chunks of five steps: a loss sees action t once for each chunk that begins at t or before."""
    e = episode(rng)
    action, state = compute_statistics(e.samples(8))
    seen = np.concatenate([chunk[real] for chunk, real in (e.chunk(t, 8) for t in range(5))])
    assert action.count == len(seen) == 1 + 2 + 3 + 4 + 5
    assert state.count == 5
    np.testing.assert_allclose(action.mean, seen.mean(0), rtol=1e-5)
    weights = np.arange(1, 6)[:, None]
    np.testing.assert_allclose(action.mean, (weights * e.action).sum(0) / weights.sum(), rtol=1e-5)

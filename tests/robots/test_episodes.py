"""Episodes on disk: what is read is what was written, and what is broken says so."""

import numpy as np
import pytest

from vipa.clips.video import ArrayFrames
from vipa.robots.episodes import Episode, open_episodes, read_episode, write_episode
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


def test_an_episode_comes_back_as_it_was_written_pixel_by_pixel(tmp_path, rng):
    before = episode(rng)
    after = read_episode(write_episode(tmp_path, before))
    for name in ("id", "text", "rate", "success", "task", "seed", "notes"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("state", "action"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for view in before.views:
        np.testing.assert_array_equal(after.views[view].read([3, 0]), before.views[view].read([3, 0]))


def test_nothing_but_the_episode_is_left_behind(tmp_path, rng):
    path = write_episode(tmp_path, episode(rng))
    assert list(path.parent.iterdir()) == [path]


def test_a_truncated_file_is_an_error_that_names_it(tmp_path, rng):
    path = write_episode(tmp_path, episode(rng))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"touch_1\.parquet"):
        read_episode(path)


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


def test_a_folder_opens_with_its_contract(tmp_path, rng):
    write_episode(tmp_path, episode(rng))
    with pytest.raises(FileNotFoundError, match=r"no contract\.json"):
        open_episodes(tmp_path)
    tabletop_contract(("agent", "wrist")).save(tmp_path / "contract.json")
    opened = open_episodes(tmp_path)
    assert opened.contract.views == ("agent", "wrist")
    assert sum(1 for _ in opened.samples()) == 5
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


def test_an_empty_folder_is_an_error(tmp_path):
    tabletop_contract().save(tmp_path / "contract.json")
    with pytest.raises(ValueError, match="holds no episodes"):
        open_episodes(tmp_path)

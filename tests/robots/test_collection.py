"""Demonstrations of the tabletop's experts: deterministic, resumable, checked."""

import numpy as np
import pytest

from vipa.robots.known.tabletop import collect, demonstration, task_of
from vipa.robots.lerobot_data import open_robot_data
from vipa.worlds.experts import Noise
from vipa.worlds.seeds import TRAIN

SEEDS = TRAIN[:4]


def test_a_collection_continues_where_it_was_stopped(tmp_path):
    first = collect(tmp_path, SEEDS[:2], {"touch": 1.0}, size=32)
    calls = []
    second = collect(
        tmp_path, SEEDS, {"touch": 1.0}, size=32, progress=lambda done, total: calls.append((done, total))
    )
    assert second.found == first.written
    assert calls == [(3, 4), (4, 4)]
    opened = open_robot_data(tmp_path)
    assert len(opened) == 4 - len(second.failed)
    assert all(e.success and e.notes["split"] == "train" for e in opened)
    assert opened[0].views["agent"].read([0]).shape == (1, 32, 32, 3)


def test_the_same_seed_gives_the_same_demonstration_and_noise_changes_it():
    a, b = (demonstration("touch", SEEDS[0], size=32, noise=Noise()) for _ in range(2))
    np.testing.assert_array_equal(a.action, b.action)
    np.testing.assert_array_equal(a.views["agent"].read([1]), b.views["agent"].read([1]))
    plain = demonstration("touch", SEEDS[0], size=32)
    assert plain.action.shape != a.action.shape or not np.array_equal(plain.action, a.action)


def test_recorded_actions_are_the_expert_s_even_where_noise_was_executed():
    episode = demonstration("lift", SEEDS[0], size=16, noise=Noise(rate=1.0))
    assert set(np.unique(episode.action[:, 6])) <= {-1.0, 1.0}
    assert np.abs(episode.action[:, :3]).max() < 0.6, "noise of 0.28 would show in the recorded action"


def test_a_seed_shows_the_same_task_whatever_else_is_collected():
    mixture = {"touch": 3.0, "lift": 1.0}
    tasks = [task_of(seed, mixture) for seed in TRAIN[:400]]
    assert tasks[:5] == [task_of(seed, mixture) for seed in TRAIN[:5]]
    assert 0.68 < tasks.count("touch") / 400 < 0.82


def test_seeds_of_two_splits_and_unknown_tasks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="several splits"):
        collect(tmp_path, [TRAIN[0], 30_000_000])
    with pytest.raises(ValueError, match=r"'juggle'.*unknown"):
        collect(tmp_path, SEEDS, {"juggle": 1.0})


def test_a_folder_of_another_contract_is_not_added_to(tmp_path):
    collect(tmp_path, SEEDS[:1], {"touch": 1.0}, size=32)
    with pytest.raises(ValueError, match="views"):
        collect(tmp_path, SEEDS[:1], {"touch": 1.0}, size=32, views=("wrist",))

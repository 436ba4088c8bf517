"""Chunks that come late: which actions are played, of which chunk, and where the robot has to wait."""

from typing import ClassVar

import numpy as np
import pytest

from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.policy import ChunkExecutor, Observation
from vipa.robots.real_time import RealTimeExecutor


class Counting:
    """Action [n, i, 0, 0, 0, 0, 1] for the i-th of the n-th chunk; remembers what it was to go on from."""

    contract = tabletop_contract()
    identity: ClassVar[dict] = {}

    def __init__(self):
        self.asked: list[int] = []
        self.known: list[tuple[list[list[float]], int]] = []
        self.steps: list[int] = []

    def __call__(self, observations):
        chunks = np.zeros((len(observations), 8, 7))
        for chunk, seen in zip(chunks, observations):
            self.asked.append(seen.key[1])
            chunk[:, 0], chunk[:, 1], chunk[:, 6] = len(self.asked), np.arange(8), 1
        return chunks

    def go_on(self, observations, playing, sent, way=None):
        self.known += [(plan[:, :2].tolist(), sent) for plan in playing]
        return self(observations)


def play(executor, steps: int, environment: int = 0) -> list[tuple[int, int] | None]:
    """(chunk, index) of every action; None where the robot waits."""
    played = []
    for step in range(steps):
        seen = Observation({}, np.zeros(8), "", (environment, step))
        action = executor.act({environment: lambda seen=seen: seen})[environment]
        assert action[6] == 1  # the gripper stays as it was
        played.append((int(action[0]), int(action[1])) if action[0] else None)
    return played


@pytest.mark.parametrize("execute", [1, 3, 8])
def test_without_a_delay_it_is_the_plain_executor(execute):
    assert play(RealTimeExecutor(Counting(), execute), 20) == play(ChunkExecutor(Counting(), execute), 20)


def test_a_late_chunk_begins_where_the_old_one_ends():
    policy = Counting()
    played = play(RealTimeExecutor(policy, 4, 2), 12)
    assert played[:4] == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert played[4:8] == [(2, 2), (2, 3), (2, 4), (2, 5)]
    assert played[8:12] == [(3, 2), (3, 3), (3, 4), (3, 5)]
    assert policy.asked == [0, 2, 6, 10]


def test_a_chunk_that_comes_too_late_is_waited_for_without_moving():
    played = play(RealTimeExecutor(Counting(), 4, 6), 16)
    assert played[:10] == [(1, 0), (1, 1), (1, 2), (1, 3), None, None, (2, 4), (2, 5), (2, 6), (2, 7)]
    assert played[10:16] == [None, None, (3, 4), (3, 5), (3, 6), (3, 7)]


def test_it_goes_on_from_what_is_left_of_the_old_chunk():
    policy = Counting()
    play(RealTimeExecutor(policy, 4, 2, "in_painting"), 8)
    assert policy.known[0] == ([[1, i] for i in range(2, 8)], 2)
    assert policy.known[1] == ([[2, i] for i in range(4, 8)], 2)


def test_environments_of_other_ages_go_on_and_an_episode_s_end_is_forgotten():
    policy = Counting()
    executor = RealTimeExecutor(policy, 4, 2, "in_painting")
    assert play(executor, 6)[-1] == (2, 3)
    seen = Observation({}, np.zeros(8), "", (1, 0))
    for _ in range(8):  # the second environment's first plan is longer than the first's
        actions = executor.act({0: lambda: seen, 1: lambda: seen})
        assert set(actions) == {0, 1}
    executor.forget(0)
    assert play(executor, 1)[0][1] == 0


def test_numbers_that_do_not_fit_are_refused():
    for execute, delay in ((0, 0), (9, 0), (4, -1)):
        with pytest.raises(ValueError, match=r"1 \.\. 8"):
            RealTimeExecutor(Counting(), execute, delay)

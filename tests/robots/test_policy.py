"""Chunk execution, the blank policy, and a model as a policy."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from vipa.robots.contract import Statistics
from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.policy import BlankImages, ChunkExecutor, EnsembleExecutor, Observation, VipaPolicy
from vipa.robots.transforms import Pipeline


def observation(episode=0, step=0, value=9) -> Observation:
    image = np.full((4, 4, 3), value, np.uint8)
    return Observation({"agent": image}, np.arange(8.0), "touch the red cup", (episode, step))


class Counting:
    """Answers the number of the call in every action, and keeps what it was asked."""

    contract = tabletop_contract()
    identity: ClassVar[dict] = {"weights": "none"}

    def __init__(self):
        self.asked: list[list[Observation]] = []

    def __call__(self, observations):
        self.asked.append(list(observations))
        chunk = np.zeros((len(observations), 8, 7))
        chunk[..., 0], chunk[..., 1] = len(self.asked), np.arange(8)
        return chunk


def test_a_chunk_is_played_for_execute_steps_and_then_asked_for_again():
    policy = Counting()
    executor = ChunkExecutor(policy, 3)
    actions = [executor.act({0: observation})[0][:2].tolist() for _ in range(7)]
    assert actions == [[1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2], [3, 0]]


def test_only_environments_without_a_chunk_are_asked_for():
    policy = Counting()
    executor = ChunkExecutor(policy, 3)
    executor.act({0: observation})
    executor.act({0: observation, 1: observation})
    executor.forget(0)
    executor.act({0: observation, 1: observation})
    assert [len(asked) for asked in policy.asked] == [1, 1, 1]


@pytest.mark.parametrize("execute", [0, 9])
def test_more_steps_than_the_chunk_has_are_refused(execute):
    with pytest.raises(ValueError, match=r"within 1 \.\. 8"):
        ChunkExecutor(Counting(), execute)


@pytest.mark.parametrize(("decay", "keep"), [(0.0, None), (0.5, None), (0.5, 3), (0.1, 1)])
def test_ensembling_plays_the_weighted_mean_of_all_chunks_that_speak_of_a_step(rng, decay, keep):
    chunks = rng.normal(size=(12, 8, 7))
    answers = iter(chunks)

    class Given(Counting):
        def __call__(self, observations):
            return next(answers)[None]

    executor = EnsembleExecutor(Given(), decay, keep)
    for step in range(12):
        action = executor.act({0: observation})[0]
        oldest = max(0, step - (keep or 8) + 1)
        speak = [(step - made, chunks[made, step - made]) for made in range(oldest, step + 1)]
        weights = [np.exp(-decay * (speak[0][0] - age)) for age, _ in speak]  # the oldest weighs 1
        mean = sum(w * row for w, (_, row) in zip(weights, speak)) / sum(weights)
        np.testing.assert_allclose(action, mean)


def test_ensembling_forgets_an_episode_and_keeps_the_others():
    executor = EnsembleExecutor(Counting(), 0.0)
    executor.act({0: observation, 1: observation})
    executor.forget(0)
    actions = executor.act({0: observation, 1: observation})
    assert (actions[0][0], actions[1][0]) == (2.0, 1.5)


def test_ensembling_absolute_rotations_is_refused():
    policy = Counting()
    turns = tuple(replace(d, mode="absolute") for d in tabletop_contract().action)
    policy.contract = replace(tabletop_contract(), action=turns)
    with pytest.raises(ValueError, match="absolute rotations"):
        EnsembleExecutor(policy)
    with pytest.raises(ValueError, match=r"keep=9 must be within 1 \.\. 8"):
        EnsembleExecutor(Counting(), keep=9)


def test_a_chunk_that_breaks_the_contract_is_refused():
    policy = Counting()
    executor = ChunkExecutor(policy, 2)
    policy.contract = tabletop_contract(horizon=4)
    with pytest.raises(ValueError, match="its contract says"):
        executor.act({0: observation})


def test_the_blank_policy_sees_grey_and_everything_else_unchanged():
    policy = Counting()
    BlankImages(policy)([observation()])
    seen = policy.asked[0][0]
    assert (seen.images["agent"] == 127).all()
    assert seen.text == "touch the red cup"
    assert (seen.state == np.arange(8.0)).all()


@dataclass
class FakeModel:
    """Gives the noise back as the normalised chunk, one number wider than the robot."""

    config = SimpleNamespace(action_config=SimpleNamespace(action_length=8))

    weight: float = 0.0

    def parameters(self):
        return iter([torch.tensor([self.weight])])

    def named_parameters(self):
        return iter([("weight", torch.tensor([self.weight]))])

    def generate_actions(self, *, state, embodiment, steps, noise, **inputs):
        self.seen = {"state": state, "embodiment": embodiment, **inputs}
        return noise


class FakeProcessor:
    def prompt(self, text, images):
        return "<image>" * images + text

    def __call__(self, images, text, views):
        return {"rows": torch.tensor([len(group) for group in images]), "letters": torch.tensor([len(text[0])])}


def vipa_policy(rng, model=None, **changes) -> VipaPolicy:
    statistics = [Statistics.of(rng.normal(size=(50, n)) * 3 + 1, Pipeline().hash) for n in (7, 8)]
    contract = tabletop_contract().normalised("mean_std", *statistics)
    return VipaPolicy(model or FakeModel(), FakeProcessor(), contract, **changes)


def test_what_decides_a_policy_s_actions_is_its_identity():
    def identity(**changes):
        return vipa_policy(np.random.default_rng(0), **changes).identity

    assert identity() == identity()
    others = ({"model": FakeModel(weight=1e-6)}, {"steps": 8}, {"seed": 1})
    assert all(identity(**changes) != identity() for changes in others)
    assert vipa_policy(np.random.default_rng(1)).identity != identity()  # other statistics
    policy = vipa_policy(np.random.default_rng(0))
    assert BlankImages(policy).identity != policy.identity


def test_a_model_s_chunk_comes_back_in_the_robot_s_numbers(rng):
    policy = vipa_policy(rng)
    chunk = policy([observation(5, 2)])
    noise = np.random.default_rng([0, 5, 2]).standard_normal((8, 8))[:, :7]
    s = policy.contract.action_statistics
    np.testing.assert_allclose(chunk[0], noise * s.std + s.mean, rtol=1e-5)
    s = policy.contract.state_statistics
    np.testing.assert_allclose(policy.model.seen["state"][0], (np.arange(8) - s.mean) / s.std, rtol=1e-5)
    assert policy.model.seen["embodiment"] == "tabletop gripper"


def test_an_episode_draws_the_same_noise_alone_and_in_a_batch(rng):
    policy = vipa_policy(rng)
    alone = policy([observation(5, 2)])
    batch = policy([observation(4, 0), observation(5, 2)])
    np.testing.assert_array_equal(alone[0], batch[1])
    assert not np.array_equal(batch[0], batch[1])


def test_a_model_without_statistics_is_no_policy():
    with pytest.raises(ValueError, match="no statistics"):
        VipaPolicy(FakeModel(), FakeProcessor(), tabletop_contract())

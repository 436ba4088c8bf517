"""Chunk execution, the blank policy, and a model as a policy."""

import copy
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from vipa.models.starts import load_start
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


@pytest.fixture(scope="module")
def loaded(start):
    return load_start(start)


def vipa_policy(rng, loaded, **changes) -> VipaPolicy:
    statistics = [Statistics.of(rng.normal(size=(50, n)) * 3 + 1, Pipeline().hash) for n in (7, 8)]
    contract = tabletop_contract().normalised("mean_std", *statistics)
    return VipaPolicy(*loaded, contract, **changes)


def test_what_decides_a_policy_s_actions_is_its_identity(loaded):
    def identity(loaded=loaded, **changes):
        return vipa_policy(np.random.default_rng(0), loaded, **changes).identity

    assert identity() == identity()
    other = copy.deepcopy(loaded[0])
    with torch.no_grad():
        other.action_head.positions[0, 0] += 1e-3
    others = ({"loaded": (other, loaded[1])}, {"steps": 8}, {"seed": 1})
    assert all(identity(**changes) != identity() for changes in others)
    assert vipa_policy(np.random.default_rng(1), loaded).identity != identity()  # other statistics
    policy = vipa_policy(np.random.default_rng(0), loaded)
    assert BlankImages(policy).identity != policy.identity


@pytest.mark.parametrize("texts", [["touch the red cup"], ["touch the red cup", "lift it", "touch the red cup"]])
def test_a_model_s_chunk_comes_back_in_the_robot_s_numbers(rng, loaded, texts):
    """The oracle: `generate_actions` on what the processor makes of whole texts; to the bit, whoever asked before."""
    policy, (model, processor) = vipa_policy(rng, loaded), loaded
    seen = [replace(observation(5, i, 40 * i), text=text) for i, text in enumerate(texts)]
    noise = [np.random.default_rng([0, 5, i]).standard_normal((8, 7)) for i in range(len(texts))]
    state, action = policy.contract.state_statistics, policy.contract.action_statistics
    chunk = model.generate_actions(
        **processor([[o.images["agent"]] for o in seen], [processor.prompt(text) for text in texts], views=True),
        state=torch.tensor(np.stack([(np.arange(8) - state.mean) / state.std] * len(texts))).float(),
        noise=torch.tensor(np.stack(noise)).float(),
    )
    policy([seen[0]])
    np.testing.assert_array_equal(policy(seen), chunk.numpy() * action.std + action.mean)
    np.testing.assert_array_equal(policy(seen), policy(seen))

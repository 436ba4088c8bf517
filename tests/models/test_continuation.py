"""Real-time chunking: what was sent is kept, the rest follows from it, and without it nothing changes."""

import math

import numpy as np
import pytest
import torch

from vipa.models.continuation import conditioned_flow, continue_flow, overlap_weights


def test_weights_are_the_paper_s():
    weights = overlap_weights(2, 5, 8).tolist()
    assert weights[:2] == [1.0, 1.0] and weights[5:] == [0, 0, 0]
    for i in (2, 3, 4):
        c = (5 - i) / (5 - 2 + 1)
        assert weights[i] == pytest.approx(c * (math.exp(c) - 1) / (math.exp(1) - 1))
    assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize(("sent", "known"), [(3, 2), (-1, 2), (0, 9)])
def test_more_than_there_is_cannot_be_kept(sent, known):
    with pytest.raises(ValueError, match="0 <= sent <= known <= horizon"):
        overlap_weights(sent, known, 8)


def constant_chunks(chunk, tau):
    """The exact velocity of flow matching where every chunk is one number, drawn from N(0, 1), at all of its steps."""
    rows = chunk.shape[1]
    mean = tau * chunk.sum(1, keepdim=True) / ((1 - tau) ** 2 + rows * tau**2)
    return (mean - chunk) / (1 - tau)


def plain(noise, steps):
    chunk = noise
    for step in range(steps):
        chunk = chunk + constant_chunks(chunk, step / steps) / steps
    return chunk


def test_what_was_sent_is_kept_and_the_rest_follows_it():
    """In this world the actions before tell those after exactly, which the plain flow does not look at."""
    generator = torch.Generator().manual_seed(0)
    noise, wanted = torch.randn(200, 8, 1, generator=generator), torch.randn(200, 1, 1, generator=generator)
    chunk = continue_flow(constant_chunks, noise, wanted.expand(200, 3, 1), sent=3, steps=10)
    torch.testing.assert_close(chunk[:, :3], wanted.expand(200, 3, 1), rtol=0, atol=0)
    error, naive = (x[:, 3:] - wanted for x in (chunk, plain(noise, 10)))
    assert error.abs().mean() < 0.35 * naive.abs().mean()


def test_with_nothing_known_it_is_the_plain_flow():
    noise = torch.randn(4, 8, 1, generator=torch.Generator().manual_seed(0))
    chunk = continue_flow(constant_chunks, noise, torch.zeros(4, 0, 1), sent=0, steps=4)
    torch.testing.assert_close(chunk, plain(noise, 4))


def conditioned_constant(chunk, tau):
    """The exact velocity in the same world given the actions whose tau is 1."""
    given = (tau == 1)[..., None]
    free = tau[:, -1, None, None]
    rows = (~given).sum(1, keepdim=True)
    mean = free * (chunk * ~given).sum(1, keepdim=True) / ((1 - free) ** 2 + rows * free**2)
    known = (chunk * given).sum(1, keepdim=True) / given.sum(1, keepdim=True).clamp_min(1)
    return (torch.where(given.any(1, keepdim=True), known, mean) - chunk) / (1 - free)


def test_conditioned_it_keeps_what_was_sent_and_the_rest_is_drawn_given_it():
    generator = torch.Generator().manual_seed(0)
    noise, wanted = torch.randn(200, 8, 1, generator=generator), torch.randn(200, 1, 1, generator=generator)
    chunk = conditioned_flow(conditioned_constant, noise, wanted.expand(200, 5, 1), sent=3, steps=4)
    torch.testing.assert_close(chunk, wanted.expand(200, 8, 1), rtol=0, atol=1e-5)
    free = conditioned_flow(conditioned_constant, noise, torch.zeros(200, 0, 1), sent=0, steps=4)
    torch.testing.assert_close(free, plain(noise, 4))


def test_the_shipped_policy_goes_on_with_a_smaller_jump():
    """In the tabletop world, three steps into a chunk, of which two more will have been played."""
    from vipa.robots.policy import Observation, VipaPolicy
    from vipa.worlds.robot_env import VIEWS, TabletopEnv

    policy, jumps, naive = VipaPolicy.from_pretrained("nano:stage3", device="cpu"), [], []
    for seed in range(100, 105):
        env = TabletopEnv("push", seed, views=VIEWS)
        seen = env.reset()
        old = policy.infer(Observation(seen.images, seen.state, env.text, (seed, 0)))
        for action in old[:3]:
            seen = env.step(action)
        now = Observation(seen.images, seen.state, env.text, (seed, 1))
        new, other = policy.infer(now, playing=old[3:], sent=2), policy.infer(now)
        np.testing.assert_allclose(new[:2], old[3:5], rtol=0, atol=1e-6)
        jumps.append(np.abs(new[2, :6] - old[5, :6]).mean())
        naive.append(np.abs(other[2, :6] - old[5, :6]).mean())
    assert np.mean(jumps) < 0.8 * np.mean(naive)
    np.testing.assert_allclose(policy.infer(now, playing=old[:0], sent=0), other, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="playing: shape"):
        policy.infer(now, playing=old[:, :3], sent=1)
    with pytest.raises(ValueError, match="trained with at most 0"):
        policy.infer(now, playing=old[3:], sent=1, way="conditioned")

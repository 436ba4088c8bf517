"""Fitting an action head: new rows leave the others alone, another horizon is a new head, all of it seeded."""

import json

import pytest
import torch

from vipa.models import ActionHeadConfig, VipaForConditionalGeneration
from vipa.models.fit import Embodiment, fit_action_head
from vipa.nano.sizes import CountedVocabulary, nano_vipa_config

OLD = {"one": [8, 7], "two": [5, 4]}


def made(embodiments=OLD) -> VipaForConditionalGeneration:
    torch.manual_seed(3)
    config = nano_vipa_config(CountedVocabulary(700), embodiments=embodiments)
    return VipaForConditionalGeneration(config).eval()


@pytest.fixture
def model():
    return made()


def chunk(model, robot, state, action):
    config, draw = model.config.action_config, torch.Generator().manual_seed(0)
    hidden = torch.randn(2, config.queries, model.config.text_config.hidden_size, generator=draw)
    state, noise = torch.randn(2, state, generator=draw), torch.randn(2, 8, action, generator=draw)
    noise = torch.nn.functional.pad(noise, (0, config.action_length - action))
    number = torch.full((2,), list(config.embodiments).index(robot))
    return model.action_head.sample(hidden, state, number, noise=noise)[..., :action]


@pytest.mark.parametrize("lengths", [(3, 2), (44, 26)], ids=["shorter", "longer"])
def test_the_rows_of_other_robots_and_their_chunks_stay_as_they_were(model, lengths):
    before = {name: chunk(model, name, *OLD[name]) for name in OLD}
    (said,) = fit_action_head(model, [Embodiment("new", *lengths, 8)])
    assert "new row for 'new'" in said and "kept: one, two" in said
    for name, old in before.items():
        # A longer row is summed in other pieces by some machines' matrix products.
        tolerance = 0 if lengths == (3, 2) else 1e-6
        torch.testing.assert_close(chunk(model, name, *OLD[name]), old, rtol=0, atol=tolerance)
    assert chunk(model, "new", *lengths).isfinite().all()


def test_the_only_robot_of_a_head_stays_as_it_was_beside_a_second():
    """Weights to the bit; a head of one robot multiplies by another routine, whose rounding differs."""
    model = made({"one": [8, 7]})
    weight, before = model.action_head.action_decoder[1].weight[0].clone(), chunk(model, "one", 8, 7)
    fit_action_head(model, [Embodiment("new", 8, 7, 8)])
    place = list(model.config.action_config.embodiments).index("one")
    assert torch.equal(model.action_head.action_decoder[1].weight[place], weight)
    torch.testing.assert_close(chunk(model, "one", 8, 7), before, rtol=0, atol=1e-5)


def test_a_head_that_knows_the_robot_is_left_alone(model):
    head = model.action_head
    assert fit_action_head(model, [Embodiment("two", 5, 4, 8)]) == ()
    assert model.action_head is head


def test_a_row_of_other_lengths_is_drawn_anew_and_the_others_kept(model):
    before = chunk(model, "one", 8, 7)
    fit_action_head(model, [Embodiment("two", 6, 6, 8)])
    assert model.config.action_config.embodiments == {"one": [8, 7], "two": [6, 6]}
    torch.testing.assert_close(chunk(model, "one", 8, 7), before, rtol=0, atol=0)


def test_what_is_drawn_follows_from_the_seed_alone():
    weights = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        model = made()
        torch.manual_seed(noise)
        fit_action_head(model, [Embodiment("new", 4, 3, 8)], seed)
        weights.append(model.action_head.state_encoder[0].weight[0].clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_another_horizon_is_a_new_head_of_the_same_size_with_these_robots_alone(model):
    said = fit_action_head(model, [Embodiment("a", 44, 26, 16), Embodiment("b", 4, 2, 16)])
    assert "a new one of horizon 16 (the old one's was 8)" in said[0]
    config = model.config.action_config
    assert config.embodiments == {"a": [44, 26], "b": [4, 2]}
    assert (config.horizon, config.width) == (16, 128)


def test_a_model_without_a_head_gets_one_of_its_preset_s_size():
    model = made()
    model.config.action_config, model.action_head, model.model.action_queries = None, None, None
    (said,) = fit_action_head(model, [Embodiment("a", 6, 5, 8)])
    assert "there was none" in said
    assert model.config.action_config.width == 128
    assert chunk(model, "a", 6, 5).isfinite().all()


def test_the_order_of_robots_survives_a_saved_configuration():
    config = ActionHeadConfig(embodiments={"b": [1, 2], "a": [3, 4]})
    again = ActionHeadConfig.from_dict(json.loads(config.to_json_string()))
    assert list(config.embodiments.items()) == list(again.embodiments.items())


def test_robots_that_one_head_cannot_hold_are_refused(model):
    with pytest.raises(ValueError, match="one head has one horizon, got a 8, b 16"):
        fit_action_head(model, [Embodiment("a", 4, 3, 8), Embodiment("b", 4, 3, 16)])
    with pytest.raises(ValueError, match="give them two names"):
        fit_action_head(model, [Embodiment("a", 4, 3, 8), Embodiment("a", 5, 3, 8)])

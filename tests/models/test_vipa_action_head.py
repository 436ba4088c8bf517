import math

import pytest
import torch
from scipy import stats
from vipa_kit import action_config, assert_same_outputs, inputs, vipa

from vipa.models.action_head import FlowActionHead, PerEmbodimentLinear

BATCH = 3


def head(**changes) -> FlowActionHead:
    torch.manual_seed(0)
    module = FlowActionHead(action_config(**changes), condition_width=24, condition_layers=4).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def sample_inputs(layers: int | None = None) -> dict:
    generator = torch.Generator().manual_seed(1)
    shape = (BATCH, 3, 24) if layers is None else (layers, BATCH, 3, 24)
    return {
        "hidden": torch.randn(shape, generator=generator),
        "state": torch.randn(BATCH, 8, generator=generator),
        "embodiment": torch.zeros(BATCH, dtype=torch.long),
    }


def training_inputs(layers: int | None = None) -> dict:
    return sample_inputs(layers) | {
        "actions": torch.randn(BATCH, 5, 7, generator=torch.Generator().manual_seed(2))
    }


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Straight(FlowActionHead):
    """The exact velocity of straight paths to one target: (target - x) / (1 - tau)."""

    target: torch.Tensor

    def velocity(self, noisy, tau, *rest):
        return (self.target - noisy) / (1 - tau)[:, None, None]


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_euler_steps_along_straight_paths_arrive(steps):
    module = Straight(action_config(), 24, 4)
    module.target = torch.randn(BATCH, 5, 7)
    chunk = module.sample(**sample_inputs(), steps=steps, generator=generator())
    assert torch.allclose(chunk, module.target, atol=1e-5)


def test_the_loss_of_the_exact_velocity_is_zero():
    module, batch = Straight(action_config(), 24, 4), training_inputs()
    module.target = batch["actions"].repeat_interleave(8, 0)
    assert module.loss(**batch, noise_draws=8, generator=generator()) < 1e-4


@torch.no_grad()
def test_the_loss_is_the_squared_error_to_actions_minus_noise():
    module, batch = head(), training_inputs()
    draw = generator()
    noise, tau = torch.randn(BATCH, 5, 7, generator=draw), torch.rand(BATCH, generator=draw)
    actions = batch["actions"]
    noisy = (1 - tau)[:, None, None] * noise + tau[:, None, None] * actions
    condition = module.prepare_condition(batch["hidden"])
    velocity = module.velocity(noisy, tau, batch["state"], condition, batch["embodiment"])
    expected = (velocity - (actions - noise)).square().mean()
    assert torch.allclose(module.loss(**batch, generator=generator()), expected, atol=1e-6)


@torch.no_grad()
def test_one_time_for_all_actions_is_the_chunk_s_time():
    module, batch = head(), training_inputs()
    tau, condition = torch.tensor([0.0, 0.3, 0.9]), module.prepare_condition(batch["hidden"])
    rest = (batch["state"], condition, batch["embodiment"])
    whole = module.velocity(batch["actions"], tau, *rest)
    torch.testing.assert_close(module.velocity(batch["actions"], tau[:, None].expand(-1, 5), *rest), whole)


@torch.no_grad()
def test_actions_already_sent_are_given_without_noise_and_not_learned():
    module, batch, sent = head(), training_inputs(), torch.tensor([0, 2, 4])
    draw = generator()
    noise, tau = torch.randn(BATCH, 5, 7, generator=draw), torch.rand(BATCH, generator=draw)
    actions = batch["actions"]
    noisy = (1 - tau)[:, None, None] * noise + tau[:, None, None] * actions
    times, free = tau[:, None].repeat(1, 5), torch.ones(BATCH, 5, dtype=torch.bool)
    for row, count in enumerate(sent):
        noisy[row, :count], times[row, :count], free[row, :count] = actions[row, :count], 1.0, False
    condition = module.prepare_condition(batch["hidden"])
    velocity = module.velocity(noisy, times, batch["state"], condition, batch["embodiment"])
    expected = (velocity - (actions - noise)).square()[free].mean()
    torch.testing.assert_close(module.loss(**batch, generator=generator(), sent=sent[:, None]), expected)
    none = module.loss(**batch, generator=generator(), sent=torch.zeros(BATCH, 1))
    torch.testing.assert_close(none, module.loss(**batch, generator=generator()))


@torch.no_grad()
def test_padded_steps_do_not_change_the_loss():
    module, batch = head(), training_inputs()
    mask = torch.ones(BATCH, 5, dtype=torch.bool)
    mask[1, 3:] = False
    loss = module.loss(**batch, action_mask=mask, generator=generator())
    # Only steps that are themselves masked may change: their noisy values enter the attention, so the chunk
    # they belong to must keep them. Another target alone leaves the loss as it is.
    assert loss != module.loss(**batch, generator=generator())
    alone = {name: value[[0, 2]] for name, value in batch.items()}
    with_one_masked = module.loss(
        **batch, action_mask=torch.tensor([True, False, True])[:, None].expand(-1, 5), generator=generator()
    )
    draw = generator()
    noise, tau = torch.randn(BATCH, 5, 7, generator=draw)[[0, 2]], torch.rand(BATCH, generator=draw)[[0, 2]]
    noisy = (1 - tau)[:, None, None] * noise + tau[:, None, None] * alone["actions"]
    condition = module.prepare_condition(alone["hidden"])
    velocity = module.velocity(noisy, tau, alone["state"], condition, alone["embodiment"])
    assert torch.allclose(with_one_masked, (velocity - alone["actions"] + noise).square().mean(), atol=1e-6)


@torch.no_grad()
def test_many_noise_draws_estimate_what_one_estimates():
    module, batch = head(), training_inputs()
    single = torch.stack([module.loss(**batch, generator=generator(seed)) for seed in range(200)])
    many = module.loss(**batch, noise_draws=200, generator=generator(999))
    error = single.std() / math.sqrt(200)
    assert abs(many - single.mean()) < 5 * error


@pytest.mark.parametrize("connection", ["last", "per_layer"])
@torch.no_grad()
def test_samples_are_seeded_and_depend_on_condition_and_state(connection):
    module = head(connection=connection)
    batch = sample_inputs(4 if connection == "per_layer" else None)
    first = module.sample(**batch, generator=generator())
    assert first.shape == (BATCH, 5, 7)
    assert_same_outputs(first, module.sample(**batch, generator=generator()))
    assert not torch.allclose(first, module.sample(**batch, generator=generator(4)))
    for field in ("hidden", "state"):
        changed = batch | {field: -batch[field]}
        assert not torch.allclose(first, module.sample(**changed, generator=generator()), atol=1e-4)


@torch.no_grad()
def test_every_layer_of_the_per_layer_connection_is_read():
    module, batch = head(connection="per_layer"), sample_inputs(4)
    first = module.sample(**batch, generator=generator())
    for layer in range(4):
        hidden = batch["hidden"].clone()
        hidden[layer] += torch.randn(BATCH, 3, 24)
        assert not torch.allclose(
            first, module.sample(**batch | {"hidden": hidden}, generator=generator()), atol=1e-5
        )


@torch.no_grad()
def test_masked_condition_tokens_are_not_read():
    module, batch = head(), sample_inputs()
    mask = torch.tensor([True, True, False]).expand(BATCH, -1)
    first = module.sample(**batch, condition_mask=mask, generator=generator())
    hidden = batch["hidden"].clone()
    hidden[:, 2] += torch.randn(BATCH, 24)
    changed = module.sample(**batch | {"hidden": hidden}, condition_mask=mask, generator=generator())
    assert_same_outputs(first, changed)


@torch.no_grad()
def test_embodiments_have_their_own_weights_and_lengths():
    module = head(embodiments={"arm": [8, 7], "hand": [5, 4]})
    batch = sample_inputs()
    arm = module.sample(**batch, generator=generator())
    batch["embodiment"] = torch.tensor([0, 1, 0])
    mixed = module.sample(**batch, generator=generator())
    assert torch.allclose(arm[[0, 2]], mixed[[0, 2]], atol=1e-6)
    assert not torch.allclose(arm[1, :, :4], mixed[1, :, :4], atol=1e-3)
    assert mixed[1, :, 4:].abs().max() == 0


@torch.no_grad()
def test_the_weights_of_an_only_embodiment_mean_what_they_mean_among_others():
    many, one = PerEmbodimentLinear(3, 5, 4), PerEmbodimentLinear(1, 5, 4)
    one.load_state_dict({name: p[1:2] for name, p in many.state_dict().items()})
    x, ids = torch.randn(2, 6, 5, generator=generator()), torch.zeros(2, dtype=torch.long)
    torch.testing.assert_close(one(x, ids), many(x, ids + 1))


@torch.no_grad()
def test_padded_numbers_of_a_short_embodiment_do_not_enter_the_loss():
    module = head(embodiments={"arm": [8, 7], "hand": [5, 4]})
    batch = training_inputs() | {"embodiment": torch.ones(BATCH, dtype=torch.long)}
    short = batch | {"actions": batch["actions"][..., :4], "state": batch["state"][:, :5]}
    padded = short | {
        "actions": torch.nn.functional.pad(short["actions"], (0, 3)),
        "state": torch.nn.functional.pad(short["state"], (0, 3)),
    }
    assert_same_outputs(module.loss(**short, generator=generator()), module.loss(**padded, generator=generator()))


@pytest.mark.parametrize("tau", ["uniform", "beta"])
def test_times_of_training_have_their_distribution(tau):
    draws = head(tau=tau).tau_of(torch.rand(20_000, generator=generator()))
    assert draws.min() >= 0
    assert draws.max() < 1
    expected = stats.uniform() if tau == "uniform" else stats.beta(1.5, 1)
    observed = draws if tau == "uniform" else 0.999 - draws * 0.999
    assert stats.kstest(observed.numpy(), expected.cdf).statistic < 0.015


def test_sinusoids_are_of_the_bucket():
    time = head().time
    values = time.sinusoids(torch.tensor([0.0, 0.25, 0.2503]))
    assert_same_outputs(values[1], values[2])
    assert torch.equal(values[0], torch.cat([torch.ones(8), torch.zeros(8)]))
    assert values[1, 0] == pytest.approx(math.cos(250), abs=1e-4)
    assert values[1, 8 + 1] == pytest.approx(math.sin(250 * 10_000 ** (-1 / 8)), abs=1e-4)


# In the whole model


def arguments(rows: int = 2) -> dict:
    draw = torch.Generator().manual_seed(5)
    return {"state": torch.randn(rows, 8, generator=draw), "noise": torch.randn(rows, 5, 7, generator=draw)}


@pytest.mark.parametrize("connection", ["last", "per_layer"])
@torch.no_grad()
def test_an_observation_gives_the_same_chunk_alone_and_in_a_padded_batch(connection):
    model, batch = vipa(action=action_config(connection=connection)), inputs([1, 2])
    given = arguments()
    together = model.generate_actions(**batch, **given)
    keep = batch["attention_mask"][0].bool()
    alone = model.generate_actions(
        input_ids=batch["input_ids"][:1, keep],
        pixel_values=batch["pixel_values"][:1],
        spatial_pixel_values=batch["spatial_pixel_values"][:1],
        **{name: value[:1] for name, value in given.items()},
    )
    assert together.shape == (2, 5, 7)
    assert torch.allclose(together[:1], alone, atol=1e-4)


@torch.no_grad()
def test_what_stands_in_padding_does_not_matter():
    model, batch = vipa(action=action_config()), inputs([1, 2])
    before = model.generate_actions(**batch, **arguments())
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 77)
    assert torch.allclose(before, model.generate_actions(**batch, **arguments()), atol=1e-6)


@torch.no_grad()
def test_actions_depend_on_words_and_images():
    model, batch = vipa(action=action_config()), inputs([1])
    before = model.generate_actions(**batch, **arguments(1))
    words = batch | {"input_ids": batch["input_ids"].clone()}
    words["input_ids"][0, -1] += 1
    for changed in (words, batch | {"pixel_values": batch["pixel_values"] + 1}):
        assert not torch.allclose(before, model.generate_actions(**changed, **arguments(1)), atol=1e-5)


def test_text_and_actions_can_be_learned_in_one_pass():
    model, batch = vipa(action=action_config()), inputs([1, 2])
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    given = {"actions": torch.randn(2, 5, 7), "state": torch.randn(2, 8)}
    both = model(**batch, **given, labels=labels, generator=generator())
    assert torch.allclose(both.text_loss, model(**batch, labels=labels).loss, atol=1e-6)
    assert_same_outputs(both.action_loss, model(**batch, **given, generator=generator()).loss)
    assert_same_outputs(both.loss, both.text_loss + both.action_loss)
    both.loss.backward()
    assert model.model.action_queries.weight.grad.abs().min() > 0

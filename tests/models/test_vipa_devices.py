"""The model on an accelerator, pretended: every path of inference runs there, mixes no devices, and says what it says
on the CPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vipa_kit import action_config, assert_same_outputs, inputs, tokenizer, vipa

from pretend_cuda import PretendCuda
from vipa.benchmarks.answering import ModelAnswerer
from vipa.models import ActionRunner, MedianBin, MotionGrammar, add_motion_tokens
from vipa.models.noise import draw
from vipa.robots.policy import Observation, VipaPolicy


def test_the_pretended_device_notices_what_a_real_one_would():
    with PretendCuda():
        x = torch.ones(2, 3, device="cuda")
        assert x.device.type == "cuda"
        assert (x @ x.T).is_cuda
        assert not x.cpu().is_cuda
        for mixed in (
            lambda: x + torch.ones(3),
            lambda: torch.cat([x, torch.ones(2, 3)]),
            lambda: torch.randn(3, generator=torch.Generator(), device="cuda"),
        ):
            with pytest.raises(RuntimeError, match="device"):
                mixed()
        with pytest.raises(TypeError, match="host memory"):
            x.numpy()
        assert (x + torch.tensor(1.0)).is_cuda  # a number may stay where it is


def test_a_generator_of_the_cpu_draws_the_same_numbers_for_every_device():
    expected = torch.randn(3, generator=torch.Generator().manual_seed(5))
    with PretendCuda():
        drawn = draw(torch.randn, 3, device="cuda", generator=torch.Generator().manual_seed(5))
        assert drawn.is_cuda
        assert drawn.cpu().tolist() == expected.tolist()


def moved(batch: dict) -> dict:
    return {name: value.to("cuda") if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("kind", ["cross_attention", "gated", "concat", "none"])
def test_actions_and_losses_on_the_device(kind):
    model = vipa(fusion={"kind": kind}, action=action_config(connection="per_layer", tau="beta"))
    batch, state = inputs([1, 2]), torch.ones(2, 8)
    given = {"actions": torch.ones(2, 5, 7), "action_mask": torch.ones(2, 5, dtype=torch.bool), "state": state}
    expected = model.generate_actions(**batch, state=state, generator=generator())
    losses = model(**batch, **given, labels=batch["input_ids"], generator=generator(), noise_draws=2)
    with PretendCuda():
        model.to("cuda")
        assert all(p.is_cuda for p in model.parameters())
        actions = model.generate_actions(**moved(batch), state=state.to("cuda"), generator=generator())
        there = model(
            **moved(batch),
            **moved(given),
            labels=batch["input_ids"].to("cuda"),
            generator=generator(),
            noise_draws=2,
        )
        there.loss.backward()
        assert actions.is_cuda
        assert_same_outputs(actions.cpu(), expected)
        assert_same_outputs(there.loss.cpu(), losses.loss)


def test_words_and_motions_are_generated_on_the_device():
    words = tokenizer(motion=False)
    model = vipa()
    add_motion_tokens(model, words)
    batch = inputs([2, 1])
    with PretendCuda():
        model.to("cuda")
        add_motion_tokens(model, words, generator=generator())
        grammar = MotionGrammar(
            model.config, batch["input_ids"].shape[1], eos_token_id=2, waypoints=(2, 2), hands=("left", "right")
        )
        written = model.generate(
            **moved(batch),
            max_new_tokens=grammar.max_new_tokens,
            do_sample=False,
            eos_token_id=2,
            logits_processor=[grammar, MedianBin(model.config)],
        )
        assert written.is_cuda
        assert written.shape[1] == batch["input_ids"].shape[1] + grammar.max_new_tokens


def test_the_runner_of_one_prompt_on_the_device():
    model, batch, state = vipa(action=action_config()), inputs([1, 1]), torch.ones(2, 8)
    pixels = {name: batch.pop(name) for name in ("pixel_values", "spatial_pixel_values")}
    expected = ActionRunner(model, **batch)(**pixels, state=state, generator=generator())
    with PretendCuda():
        model.to("cuda")
        runner = ActionRunner(model, **moved(batch))
        actions = runner(**moved(pixels), state=state.to("cuda"), generator=generator())
        assert actions.is_cuda
        assert_same_outputs(actions.cpu(), expected)


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(3).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8))


def test_the_shipped_policy_acts_on_the_device():
    state = np.linspace(-0.1, 0.4, 8)
    views = [{"agent": a, "wrist": b} for a, b in zip(pictures(4)[:2], pictures(4)[2:])]
    seen = [Observation(images, state, "touch the red cup", (5, 0)) for images in views]
    policy = VipaPolicy.from_pretrained("nano:stage3", device="cpu")
    expected = policy(seen)
    with PretendCuda():
        policy.model.to("cuda")
        np.testing.assert_allclose(policy(seen), expected, atol=1e-4)


def test_the_shipped_model_answers_on_the_device(monkeypatch):
    images = dict(zip("abc", pictures(3)))
    data = SimpleNamespace(image=images.__getitem__, path="data")
    monkeypatch.setattr("vipa.benchmarks.answering.Hand3D", lambda path: data)
    questions = [SimpleNamespace(frame_ids=ids, question="Where is the cup?") for ids in ("a", "bc")]
    motion = SimpleNamespace(frame_id="a", prompt="Touch the cup.", trajectories={"left": np.zeros((2, 3))})
    model = ModelAnswerer("nano:stage2", data, device="cpu")
    words, motions = model.questions(questions), model.motions([motion])
    with PretendCuda():
        model.model.to("cuda")
        model.device = torch.device("cuda")
        assert len(model.questions(questions)) == len(words)  # half precision, where it is, differs by device
        assert [text.count("<") for text in model.motions([motion])] == [text.count("<") for text in motions]

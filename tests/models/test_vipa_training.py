"""What training relies on: packing, losses, parts, checkpointing, attention implementations, the runner."""

import pytest
import torch
from vipa_kit import IMAGE_ID, TOKENS, action_config, inputs, vipa

from vipa.models import ActionRunner, attention, packed_attention, preset_config
from vipa.models.summary import summarise
from vipa.training.runs import STAGE1_PARTS, STAGE2_PARTS, STAGE3_PARTS

STAGES = {"stage1": STAGE1_PARTS, "stage2": STAGE2_PARTS, "stage3": STAGE3_PARTS}


def test_every_parameter_is_in_exactly_one_part():
    for tied in (True, False):
        model = vipa(action=action_config(), tied=tied)
        named = [id(p) for part in model.parts().values() for p in part.parameters()]
        assert len(named) == len(set(named))
        assert set(named) == {id(p) for p in model.parameters()}


def test_packed_turns_see_what_they_would_see_alone():
    model, prefix, turns = vipa(), [9, *[IMAGE_ID] * TOKENS, 10], [[20, 21, 22], [30, 31, 32, 33, 34]]
    pictures = {name: value for name, value in inputs([1]).items() if "pixel" in name}
    ids = torch.tensor([prefix + turns[0] + turns[1]])
    segment = torch.tensor([0] * 6 + [1] * 3 + [2] * 5)
    mask = (segment[:, None] == segment) | (segment == 0)
    mask = (mask & torch.ones_like(mask).tril())[None, None]
    positions = torch.tensor([[*range(6), *range(6, 9), *range(6, 11)]])
    packed = model(input_ids=ids, attention_mask=mask, position_ids=positions, **pictures).logits[0]
    for turn, at in zip(turns, (6, 9)):
        alone = model(input_ids=torch.tensor([prefix + turn]), **pictures).logits[0, 6:]
        assert torch.allclose(packed[at : at + len(turn)], alone, atol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", pytest.param("flex_attention", marks=pytest.mark.slow)])
@torch.no_grad()
def test_attention_implementations_agree(implementation):
    model, batch = vipa(), inputs([1, 2])
    real = batch["attention_mask"].bool()
    expected = model(**batch).logits[real]
    model.set_attn_implementation(implementation)
    assert torch.allclose(model(**batch).logits[real], expected, atol=1e-4)


@torch.no_grad()
def test_a_bool_mask_of_packed_rows_works_with_eager_attention():
    model, batch = vipa(), inputs([2])
    length = batch["input_ids"].shape[1]
    batch["attention_mask"] = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    expected = model(**batch).logits
    model.set_attn_implementation("eager")
    assert torch.allclose(model(**batch).logits, expected, atol=1e-5)


def test_a_loss_makes_no_cache_and_attends_in_its_own_precision(monkeypatch):
    model, batch = vipa().train(), inputs([1, 1])
    model.set_attn_implementation({"text_config": packed_attention.PACKED_TURNS})
    seen = set()

    def attend(query, key, value, *args, **kwargs):
        seen.add(value.dtype)
        return attention.attend(query, key, value, *args, **kwargs)

    monkeypatch.setattr(packed_attention, "attend", attend)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch, labels=batch["input_ids"])
    assert output.past_key_values is None
    assert seen == {torch.bfloat16}


def test_the_text_loss_is_the_mean_over_labels_or_over_what_is_given():
    model, batch = vipa(), inputs([1, 2])
    labels = batch["input_ids"].masked_fill(batch["input_ids"] < 100, -100)
    logits = model(**batch).logits[:, :-1].flatten(0, 1)
    total = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
    count = int((labels[:, 1:] != -100).sum())
    assert torch.allclose(model(**batch, labels=labels).loss, total / count, atol=1e-5)
    assert torch.allclose(model(**batch, labels=labels, num_items_in_batch=50).loss, total / 50, atol=1e-5)
    assert model(**batch, labels=torch.full_like(labels, -100)).loss == 0


def test_gradient_checkpointing_gives_the_same_gradients():
    batch = inputs([1, 2])
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    gradients = []
    for checkpointing in (False, True):
        model = vipa(action=action_config()).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        draw = torch.Generator().manual_seed(0)
        given = {"actions": torch.ones(2, 5, 7), "state": torch.ones(2, 8), "generator": draw}
        model(**batch, labels=labels, **given).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


@pytest.mark.parametrize("part", ["fusion", "projector", "language"])
def test_a_part_alone_can_learn_while_the_rest_is_frozen(part):
    model, batch = vipa(), inputs([1, 2])
    model.requires_grad_(False)
    model.parts()[part].requires_grad_(True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    model(**batch, labels=labels).loss.backward()
    learning = [p for p in model.parameters() if p.grad is not None]
    assert {id(p) for p in learning} == {id(p) for p in model.parts()[part].parameters()}


# The runner


def observation(batch: dict, rows: int, seed: int) -> dict:
    draw = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(batch["pixel_values"].shape, generator=draw),
        "spatial_pixel_values": torch.rand(batch["spatial_pixel_values"].shape, generator=draw) * 2 - 1,
        "state": torch.randn(rows, 8, generator=draw),
        "noise": torch.randn(rows, 5, 7, generator=draw),
    }


@pytest.mark.parametrize("connection", ["last", "per_layer"])
@pytest.mark.parametrize("images", [[1], [3], [2, 1]])
def test_the_runner_gives_the_chunks_of_generate_actions(images, connection):
    model, batch = vipa(action=action_config(connection=connection)), inputs(images)
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    runner = ActionRunner(model, **text)
    assert runner.prefix_length > 0
    for seed in (1, 2):
        given = observation(batch, len(images), seed)
        expected = model.generate_actions(**text, **given, clip_lengths=[1] * sum(images))
        assert torch.allclose(runner(**given), expected, atol=1e-5)


def test_the_runner_keeps_the_text_before_the_first_image():
    model, batch = vipa(action=action_config()), inputs([1])
    words = torch.randint(6, 200, (1, 20))
    ids = torch.cat([words, batch["input_ids"]], dim=1)
    assert ActionRunner(model, ids).prefix_length == 21
    with pytest.raises(ValueError, match="2 images, this prompt has 1"):
        ActionRunner(model, ids)(pixel_values=torch.zeros(2, 3, 56, 56), state=torch.zeros(1, 8))


@pytest.mark.parametrize("images", [[2], [2, 1]])
def test_a_runner_that_keeps_nothing_gives_the_same_bits(images):
    model, batch = vipa(action=action_config()), inputs(images)
    text, given = {n: batch[n] for n in ("input_ids", "attention_mask")}, observation(batch, len(images), 3)
    runner = ActionRunner(model, **text, keeps=1000)
    assert runner.prefix_length == 0
    assert torch.equal(runner(**given), model.generate_actions(**text, **given, clip_lengths=[1] * sum(images)))


def test_a_whole_chunk_is_one_graph():
    """What a CUDA graph needs: nothing waits for a value or falls back to Python."""
    model, batch = vipa(action=action_config()), inputs([2])
    runner, given = ActionRunner(model, batch["input_ids"]), observation(batch, 1, 3)
    plain = runner(**given)
    runner._run = torch.compile(runner._observe, backend="eager", fullgraph=True)
    assert torch.allclose(runner(**given), plain, atol=1e-5)


@pytest.mark.slow
def test_the_compiled_runner_gives_the_chunks_of_the_plain_one():
    model, batch = vipa(action=action_config()), inputs([2])
    given = observation(batch, 1, 3)
    plain = ActionRunner(model, batch["input_ids"])(**given)
    compiled = ActionRunner(model, batch["input_ids"], compile="default")(**given)
    assert torch.allclose(plain, compiled, atol=1e-4)


# Full size, on the meta device


@pytest.fixture(scope="module")
def full():
    return summarise(preset_config("vipa-2b"), STAGES, views=(1,), spatial_size=432)


def test_vipa_2b_has_the_parameters_of_the_public_configurations(full):
    vision_layer = 4 * (1024 * 1024 + 1024) + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024 + 2 * 1024
    vision = 24 * vision_layer + 3 * 14 * 14 * 1024 + 1024 + (32 * 32 + 1) * 1024 + 1024
    projector = 2 * 4096 + 4096 * 2048 + 2048 + 2048 * 2048 + 2048
    rows = -(-(151_674 + 3 * 1024 + 4) // 64) * 64
    attention = 2048 * 128 * (16 + 8 + 8) + 16 * 128 * 2048 + 2 * 128
    language = rows * 2048 + 28 * (attention + 3 * 2048 * 6144 + 2 * 2048) + 2048
    fusion = 2 * 1024 + 2 * 768 + 1024 * 1025 + 2 * 1024 * 769 + 1024 * 1025 + 2 * 1024 + 1
    assert full.parameters["vision"] == vision == 304_012_288
    assert full.parameters["projector"] == projector
    assert full.parameters["language"] == language
    assert full.parameters["spatial"] == 793_307_858
    assert full.parameters["fusion"] == fusion
    assert full.parameters["action_queries"] == 64 * 2048


def test_each_stage_trains_what_the_paper_says(full):
    count = full.parameters
    assert full.trained == {
        "stage1": count["fusion"],
        "stage2": count["fusion"] + count["language"],
        "stage3": count["language"] + count["action_queries"] + count["action_head"],
    }


def test_operations_of_the_language_model_are_those_of_its_matrices(full):
    length = 256 + 48 + 64
    matrices = 28 * (2048 * 128 * 32 + 2048 * 2048 + 3 * 2048 * 6144)
    attention = 28 * 2 * 16 * 128 * length * length
    assert full.costs[0].tokens == length
    assert full.costs[0].language_tflop * 1e12 == pytest.approx(2 * (length * matrices + attention), rel=1e-6)


def test_nano_has_at_most_ten_million_parameters():
    summary = summarise(preset_config("nano"), STAGES, views=(1,), spatial_size=112)
    assert summary.total <= 10_000_000
    assert sum(summary.parameters[part] for part in ("vision", "projector", "language")) < 6_000_000
    assert "stage1" in summary.text()

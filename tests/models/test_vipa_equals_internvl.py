"""With no fusion, or a fusion that starts at nothing, VIPA is transformers' InternVL."""

import pytest
import torch
from vipa_kit import EOS, cut3r, inputs, internvl, vipa

from vipa.models import VipaForConditionalGeneration


@pytest.fixture(scope="module")
def plain():
    return internvl()


@pytest.fixture(scope="module")
def same(plain):
    return VipaForConditionalGeneration.from_parts(internvl(), None, fusion={"kind": "none"})


@pytest.mark.parametrize("images", [[1], [2], [3], [4], [1, 2], [3, 0, 4]])
@torch.no_grad()
def test_logits_without_fusion_equal_internvl(plain, same, images):
    batch = inputs(images, spatial=False)
    real = batch["attention_mask"].bool()
    difference = (plain(**batch).logits - same(**batch).logits)[real]
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("images", [[1], [2, 1]])
def test_cached_generation_without_fusion_equals_internvl(plain, same, images):
    batch = inputs(images, spatial=False)
    arguments = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": EOS}
    assert torch.equal(plain.generate(**batch, **arguments), same.generate(**batch, **arguments))


@torch.no_grad()
def test_the_loss_equals_internvl(plain, same):
    batch = inputs([1, 2], spatial=False)
    labels = batch["input_ids"].masked_fill(torch.rand(batch["input_ids"].shape) < 0.5, -100)
    labels[batch["attention_mask"] == 0] = -100
    assert torch.allclose(plain(**batch, labels=labels).loss, same(**batch, labels=labels).loss, atol=1e-5)


@pytest.mark.parametrize("start", [{"alpha_init": 0.0}, {"branch_init": 0.0}])
@pytest.mark.parametrize("kind", ["cross_attention", "gated", "concat"])
@torch.no_grad()
def test_a_fusion_that_starts_at_nothing_equals_internvl(plain, kind, start):
    model = VipaForConditionalGeneration.from_parts(internvl(), cut3r(), fusion={"kind": kind, **start})
    batch = inputs([2, 1])
    spatial = batch.pop("spatial_pixel_values")
    real = batch["attention_mask"].bool()
    difference = (plain(**batch).logits - model(**batch, spatial_pixel_values=spatial).logits)[real]
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_cached_generation_equals_uncached_with_fusion(tied):
    model, batch = vipa(tied=tied), inputs([2, 1])
    arguments = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
    cached = model.generate(**batch, **arguments, use_cache=True)
    assert torch.equal(cached, model.generate(**batch, **arguments, use_cache=False))


def test_returned_sequences_keep_the_images_of_their_row():
    model, batch = vipa(), inputs([2, 1])
    beams = model.generate(**batch, max_new_tokens=6, num_beams=2, num_return_sequences=2, eos_token_id=None)
    again = [
        model.generate(**one_row(batch, row), max_new_tokens=6, num_beams=2, eos_token_id=None)[0]
        for row in (0, 1)
    ]
    assert torch.equal(beams[0][-6:], again[0][-6:])
    assert torch.equal(beams[2][-6:], again[1][-6:])


@torch.no_grad()
def test_a_row_is_the_same_alone_and_left_padded_in_a_batch():
    model, batch = vipa(), inputs([1, 2])
    together = model(**batch).logits[0, -6:]
    alone = model(**one_row(batch, 0)).logits[0, -6:]
    assert (together - alone).abs().max() < 1e-5


@torch.no_grad()
def test_padding_on_the_right_changes_nothing():
    model, batch = vipa(), one_row(inputs([1, 2]), 0)
    before = model(**batch).logits
    batch["input_ids"] = torch.nn.functional.pad(batch["input_ids"], (0, 4), value=0)
    batch["attention_mask"] = torch.nn.functional.pad(batch["attention_mask"], (0, 4), value=0)
    assert (model(**batch).logits[:, :-4] - before).abs().max() < 1e-5


def one_row(batch: dict, row: int) -> dict:
    """One row of a batch, without its padding, with its own images."""
    counts = ((batch["input_ids"] == 5).sum(1) // 4).tolist()
    first = sum(counts[:row])
    keep = batch["attention_mask"][row].bool()
    return {
        "input_ids": batch["input_ids"][row : row + 1, keep],
        "attention_mask": batch["attention_mask"][row : row + 1, keep],
        "pixel_values": batch["pixel_values"][first : first + counts[row]],
        "spatial_pixel_values": batch["spatial_pixel_values"][first : first + counts[row]],
    }

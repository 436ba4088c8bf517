"""Packed turns see what they would see by themselves."""

import pytest
import torch

from vipa.data.images import encoded as encode
from vipa.data.turns import text_inputs
from vipa.models import VipaProcessor, image_processor
from vipa.models.attention import attend
from vipa.models.packed_attention import PACKED_TURNS
from vipa.models.packing import IGNORE, Conversation, Packer
from vipa.models.starts import load_start

TURNS = (
    ("Where is the red cup?", "12 34"),
    ("How many objects are there?", "3"),
    ("Point at the left hand.", "70 08"),
)


@pytest.fixture(scope="module")
def packed(start, pictures):
    """Packer, and logits (rows, length, vocabulary), image features and labels of some conversations."""
    model, processor = load_start(start)
    model.set_attn_implementation({"text_config": PACKED_TURNS})
    packer = Packer(processor)

    def read(group):
        return pictures[1].rgb[[int(key) for key in group]]

    def states(*conversations):
        batch = packer(conversations)
        groups = [conversation.images for conversation in conversations]
        encoded = encode(model, processor, groups, read)
        with torch.no_grad():
            inputs = text_inputs(batch)
            labels = inputs.pop("labels")
            return model(**inputs, **encoded).logits, encoded, labels

    return packer, states


def test_a_packed_turn_gets_the_logits_it_gets_alone(packed):
    """Also beside rows with other numbers of images and turns."""
    _, states = packed
    rows = (Conversation(("0", "1"), TURNS), Conversation(("2",), TURNS[1:]))
    together, _, labels = states(*rows)
    for row, conversation in enumerate(rows):
        alone = []
        for turn in conversation.turns:
            out, _, own = states(Conversation(conversation.images, (turn,)))
            alone.append(out[0][own[0] != IGNORE])
        here = together[row][labels[row] != IGNORE]
        torch.testing.assert_close(here, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_a_turn_alone_is_an_ordinary_prompt(packed, start):
    """Packed attention of one turn is causal attention."""
    packer, states = packed
    out, features, _ = states(Conversation(("0",), TURNS[:1]))
    model, _ = load_start(start)
    ids = packer([Conversation(("0",), TURNS[:1])]).input_ids
    with torch.no_grad():
        plain = model(input_ids=ids, **features).logits
    torch.testing.assert_close(out, plain, rtol=1e-4, atol=1e-4)


def test_only_answers_are_learned(tokenizer):
    packer = Packer(VipaProcessor(image_processor(56), tokenizer, image_seq_length=4))
    batch = packer([Conversation(("a",), TURNS), Conversation(("b", "c"), TURNS[:1])])
    learned = [tokenizer.decode(row[labels != IGNORE]) for row, labels in zip(batch.input_ids, batch.labels)]
    assert learned == ["12 34<|im_end|>3<|im_end|>70 08<|im_end|>", "12 34<|im_end|>"]
    assert batch.images_per_row == (1, 2)
    assert batch.num_turns == 4


@pytest.mark.parametrize("causal", [False, True])
def test_attention_that_learns_on_a_cpu_is_the_fused_one(causal):
    query, key, value = torch.randn(3, 5, 2, 7, 8).bfloat16().unbind(0)
    mask = None if causal else (torch.rand(5, 1, 7, 7) < 0.5) | torch.eye(7, dtype=torch.bool)
    fused = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
    written_out = attend(query.requires_grad_(), key, value, mask, causal=causal)
    torch.testing.assert_close(written_out, fused, rtol=0.02, atol=0.02)

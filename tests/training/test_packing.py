"""Packed turns see what they would see by themselves."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vipa.data.images import encoded as encode
from vipa.data.turns import text_inputs
from vipa.models import VipaProcessor, image_processor
from vipa.models.attention import attend
from vipa.models.packed_attention import PACKED_TURNS, mask_for
from vipa.models.packing import IGNORE, Conversation, Packer
from vipa.models.starts import load_start
from vipa.training.loop import train
from vipa.training.parts import freeze_all_but
from vipa.training.runs import STAGE2_PARTS

NEEDS_A_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
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


def test_packed_pairs_have_the_gradients_that_they_have_one_by_one(start, pictures):
    """Of a step of uneven answers, over everything that stage 2 learns, relative to the largest of a parameter."""
    model, processor = load_start(start)
    learned = freeze_all_but(model, STAGE2_PARTS)
    model.train().set_attn_implementation({"text_config": PACKED_TURNS})
    packer = Packer(processor)
    whole = [Conversation(("0", "1"), TURNS), Conversation(("2",), TURNS[1:])]
    alone = [Conversation(c.images, (turn,)) for c in whole for turn in c.turns]

    def gradients(conversations):
        batch = text_inputs(packer(conversations))
        groups = [conversation.images for conversation in conversations]
        features = encode(model, processor, groups, lambda group: pictures[1].rgb[[int(key) for key in group]])
        items = int((batch["labels"][:, 1:] != IGNORE).sum())
        model.zero_grad()
        loss = model(**batch, **features, num_items_in_batch=items).loss
        loss.backward()
        return items, loss.detach(), [p.grad.clone() for p in learned if p.grad is not None]

    items, loss, packed = gradients(whole)
    again, same, one_by_one = gradients(alone)
    assert items == again
    torch.testing.assert_close(loss, same, rtol=1e-6, atol=1e-6)
    assert len(packed) == len(one_by_one) > 50
    for a, b in zip(packed, one_by_one):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize(
    "attention",
    ["sdpa", "eager", pytest.param("flex_attention", marks=[pytest.mark.slow, NEEDS_A_COMPILER])],
)
def test_attention_by_another_name_reads_packed_rows_alike(start, pictures, attention):
    """By one mask over the whole row instead of turn by turn; flex compiles for a minute."""
    torch.compiler.reset()  # the kernel for several lengths, which flex would now make, does not compile on a CPU
    model, processor = load_start(start)
    conversations = [Conversation(("0", "1"), TURNS), Conversation(("2",), TURNS[1:])]
    inputs = text_inputs(Packer(processor)(conversations))
    real = inputs.pop("labels") != IGNORE
    features = encode(
        model, processor, [c.images for c in conversations], lambda g: pictures[1].rgb[[int(k) for k in g]]
    )
    logits = {}
    for name in (PACKED_TURNS, attention):
        model.set_attn_implementation({"text_config": name})
        with torch.no_grad():
            logits[name] = model(**inputs, **features).logits[real]
    torch.testing.assert_close(logits[attention], logits[PACKED_TURNS], rtol=1e-4, atol=1e-4)


def test_flash_attention_takes_rows_of_one_turn_and_no_others(start):
    _, processor = load_start(start)
    packer = Packer(processor)
    one = packer([Conversation(("0",), TURNS[:1]), Conversation(("0", "1"), TURNS[1:2])])
    mask = mask_for("flash_attention_2", one.attention_mask, one.turn_slots, torch.float32)
    lengths = [
        len(packer([Conversation(("0",) * n, (t,))]).input_ids[0]) for n, t in ((1, TURNS[0]), (2, TURNS[1]))
    ]
    assert mask.sum(1).tolist() == lengths
    more = packer([Conversation(("0",), TURNS)])
    with pytest.raises(ValueError, match="rows of one turn; set `turns` to 1"):
        mask_for("flash_attention_2", more.attention_mask, more.turn_slots, torch.float32)


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        ("flash_attention_2", "needs a GPU and pip install flash-attn"),
        ("flex_attention", "no gradient of it on a CPU"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_attention_that_cannot_learn_here_is_refused_in_one_line(run, attention, said):
    with pytest.raises(ValueError, match=said) as caught:
        train(replace(run, attention=attention))
    assert "\n" not in str(caught.value)


def test_eager_attention_learns_the_same(run, tmp_path):
    run = replace(run, steps=2, precision="fp32", trained=STAGE2_PARTS)
    eager = train(replace(run, attention="eager", out=tmp_path / "eager"))
    assert eager.final_loss == pytest.approx(train(run).final_loss, rel=1e-5)


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
    """Two heads of queries share one of keys; in values and in gradients."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(5, heads, 7, 8).bfloat16().requires_grad_() for heads in (4, 2, 2))
    mask = None if causal else (torch.rand(5, 1, 7, 7) < 0.5) | torch.eye(7, dtype=torch.bool)
    repeated = (x.float().repeat_interleave(2, 1) for x in (key, value))
    fused = F.scaled_dot_product_attention(query.float(), *repeated, mask, is_causal=causal)
    written_out = attend(query, key, value, mask, causal=causal)
    torch.testing.assert_close(written_out.float(), fused, rtol=0.02, atol=0.02)
    weight = torch.randn_like(fused)
    expected, found = (
        torch.autograd.grad((out * weight).sum(), (query, key, value)) for out in (fused, written_out)
    )
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)

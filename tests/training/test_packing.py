"""Packed turns see what they would see by themselves."""

import torch

from vipa.training.features import EncodedImages
from vipa.training.packing import IGNORE, Conversation, Packer
from vipa.weights import load_start

TURNS = (
    ("Where is the red cup?", "12 34"),
    ("How many objects are there?", "3"),
    ("Point at the left hand.", "70 08"),
)


def test_a_packed_turn_gets_the_logits_it_gets_alone(start, pictures):
    model, processor = load_start(start)
    packer = Packer(processor.tokenizer, model.config.image_seq_length)
    data = pictures[1]

    def read(group):
        return data.rgb[[int(key) for key in group]]

    def logits(conversation):
        batch = packer([conversation])
        encoded = EncodedImages.of(model, processor, [conversation.images], read)
        with torch.no_grad():
            out = model(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                attention_mask=batch.attention_mask,
                **encoded.inputs([conversation.images], torch.device("cpu")),
            ).logits[0]
        return out, batch.labels[0]

    together, labels = logits(Conversation(("0", "1"), TURNS))
    packed = together[labels != IGNORE]
    alone = []
    for turn in TURNS:
        out, own = logits(Conversation(("0", "1"), (turn,)))
        alone.append(out[own != IGNORE])
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_only_answers_are_learned(tokenizer):
    packer = Packer(tokenizer, 4)
    batch = packer([Conversation(("a",), TURNS), Conversation(("b", "c"), TURNS[:1])])
    learned = [tokenizer.decode(row[labels != IGNORE]) for row, labels in zip(batch.input_ids, batch.labels)]
    assert learned == ["12 34<|im_end|>3<|im_end|>70 08<|im_end|>", "12 34<|im_end|>"]
    assert batch.images_per_row == (1, 2)
    assert batch.num_turns == 4


def test_turns_do_not_see_each_other_and_nobody_sees_padding(tokenizer):
    packer = Packer(tokenizer, 2)
    batch = packer([Conversation(("a",), TURNS), Conversation(("b",), TURNS[:1])])
    mask = batch.attention_mask[:, 0]
    prefix = len(packer._ids("<|im_start|>user\n" + packer.image_text))
    first = prefix + sum(len(packer._ids(t)) for t in (TURNS[0][0] + "<|im_end|>\n<|im_start|>assistant\n",))
    second_start = first + len(packer._ids(TURNS[0][1] + "<|im_end|>"))
    assert not mask[0, second_start:, prefix:second_start].any()
    assert mask[0, second_start:, :prefix].all()
    length = second_start
    assert not mask[1, :length, length:].any()

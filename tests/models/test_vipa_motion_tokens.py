import re

import numpy as np
import pytest
import torch
from vipa_kit import EOS, inputs, internvl, tokenizer, vipa

from vipa.hands.motion_codec import MotionCodec
from vipa.models import MedianBin, MotionGrammar, VipaConfig, VipaForConditionalGeneration, add_motion_tokens

BINS = 16


@pytest.fixture(scope="module")
def words():
    return tokenizer(bins=BINS)


@pytest.fixture(scope="module")
def model(words):
    start = words.convert_tokens_to_ids("<mx_0>")
    model = vipa(vocabulary=len(words))
    model.config.motion_bins = BINS
    model.config.motion_token_start = start
    return model


def joined(tied: bool = True) -> VipaForConditionalGeneration:
    return VipaForConditionalGeneration.from_parts(internvl(tied=tied), None, fusion={"kind": "none"})


@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_added_in_order_and_old_ones_kept(tied):
    model, words = joined(tied), tokenizer(motion=False)
    before = model.get_input_embeddings().weight.detach().clone()
    outputs = model.get_output_embeddings().weight.detach().clone()
    add_motion_tokens(model, words)
    after = model.get_input_embeddings().weight
    first = model.config.motion_token_start
    assert words.convert_ids_to_tokens([first, first + 1024, first + 3075]) == ["<mx_0>", "<my_0>", "<right_hand>"]
    assert len(after) == model.config.text_config.vocab_size == len(model.get_output_embeddings().weight)
    assert len(after) >= len(words)
    assert len(after) % 64 == 0
    assert torch.equal(after[:first], before[:first])
    assert torch.equal(model.get_output_embeddings().weight[:first], outputs[:first])
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied


@pytest.mark.parametrize("tied", [True, False])
def test_near_bins_start_near_and_far_ones_as_far_as_words(tied):
    model = joined(tied)
    add_motion_tokens(model, tokenizer(motion=False), generator=torch.Generator().manual_seed(0))
    start = model.config.motion_token_start
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        text, motion = layer.weight[:start].detach(), layer.weight[start : start + 3072].detach()
        centred = (motion - text.mean(0)).view(3, 1024, -1)

        def alike(distance, centred=centred):
            return torch.cosine_similarity(centred[:, :-distance], centred[:, distance:], dim=-1).mean()

        assert alike(1) > 0.95
        assert alike(1) > alike(4) > alike(32) > alike(256)
        assert alike(700).abs() < 0.2
        assert motion.norm(dim=1).mean() == pytest.approx(float(text.norm(dim=1).mean()), rel=0.2)
        axes = torch.cosine_similarity(centred[0], centred[1], dim=-1)
        assert axes.abs().mean() < 0.3


def test_adding_twice_changes_no_ids():
    model, words = joined(), tokenizer(motion=False)
    add_motion_tokens(model, words)
    start, rows = model.config.motion_token_start, model.get_input_embeddings().num_embeddings
    add_motion_tokens(model, words)
    assert (model.config.motion_token_start, model.get_input_embeddings().num_embeddings) == (start, rows)


def test_scattered_motion_tokens_are_refused():
    words = tokenizer(motion=False)
    words.add_tokens(["<my_3>"])
    with pytest.raises(ValueError, match="not consecutive"):
        add_motion_tokens(joined(), words)


@pytest.mark.parametrize("waypoints", [(1, 1), (2, 6)])
def test_every_sampled_motion_of_an_untrained_model_parses(model, words, waypoints):
    batch = inputs([1, 2])
    length = batch["input_ids"].shape[1]
    codec, parsed = MotionCodec(bins=BINS), []
    torch.manual_seed(0)
    for hands in (None, ("right",), ("left", "right")):
        grammar = MotionGrammar(model.config, length, eos_token_id=EOS, waypoints=waypoints, hands=hands)
        ids = model.generate(
            **batch,
            logits_processor=[grammar],
            do_sample=True,
            temperature=3.0,
            num_return_sequences=8,
            max_new_tokens=grammar.max_new_tokens,
            eos_token_id=EOS,
        )
        for row in ids[:, length:]:
            motion = codec.from_text(words.decode(row))
            parsed.append(motion)
            assert motion
            assert all(waypoints[0] <= len(points) <= waypoints[1] for points in motion.values())
            if hands:
                assert tuple(motion) == hands
    assert len(parsed) == 48


def allowed_texts(grammar: MotionGrammar, words, text: str, size: int) -> set[str]:
    ids = words(text, add_special_tokens=False)["input_ids"]
    scores = grammar(torch.tensor([[7, *ids]]), torch.zeros(1, size))
    return {words.convert_ids_to_tokens(int(i)) for i in (scores[0] == 0).nonzero()[:, 0]}


def test_the_grammar_is_the_regular_language(model, words):
    """Oracle: a next token is allowed exactly where some continuation of it matches the expression."""
    grammar = MotionGrammar(model.config, 1, eos_token_id=EOS, waypoints=(1, 2))
    hand = r"(<(left|right)_hand>(XYZ){1,2})"
    whole = re.compile(rf"<motion>{hand}{hand}?</motion>E")
    written = [
        "",
        "<motion>",
        "<motion><left_hand>",
        "<motion><left_hand><mx_3>",
        "<motion><left_hand><mx_3><my_1>",
    ]
    one = "<motion><right_hand><mx_0><my_0><mz_5>"
    written += [one, one + "<mx_1><my_1><mz_1>", one + "<left_hand>", one + "</motion>"]
    both = one + "<left_hand><mx_1><my_1><mz_1>"
    written += [both, both + "<mx_1><my_1><mz_2>"]
    symbols = ["<motion>", "</motion>", "<left_hand>", "<right_hand>", "X", "Y", "Z", "E"]

    def short(text):
        return re.sub(r"<m([xyz])_\d+>", lambda match: match[1].upper(), text)

    def completes(text, depth=0):
        tails = ("", "E", "</motion>E", "Z</motion>E", "YZ</motion>E", "XYZ</motion>E", "<left_hand>XYZ</motion>E")
        tails += ("<right_hand>XYZ</motion>E",)
        for tail in tails:
            match = whole.fullmatch(text + tail)
            hands = re.findall("left|right", text + tail)
            if match and len(hands) == len(set(hands)):
                return True
        return False

    for text in written:
        found = {
            short(token).replace("<|im_end|>", "E") for token in allowed_texts(grammar, words, text, len(words))
        }
        assert found == {symbol for symbol in symbols if completes(short(text) + symbol)}, text


def test_outside_a_span_words_are_free_and_loose_motion_tokens_are_not(model, words):
    grammar = MotionGrammar(model.config, 1, eos_token_id=EOS, required=False)
    found = allowed_texts(grammar, words, "abc", len(words))
    assert {"a", "<|im_end|>", "<motion>"} <= found
    assert not {"</motion>", "<left_hand>", "<mx_3>", "<mz_15>"} & found
    done = allowed_texts(grammar, words, "<motion><left_hand><mx_0><my_0><mz_5></motion>", len(words))
    assert done == found


def test_motions_of_the_prompt_are_not_read(model, words):
    prompt = words("a<motion><left_hand><mx_1>", add_special_tokens=False)["input_ids"]
    grammar = MotionGrammar(model.config, len(prompt), eos_token_id=EOS)
    scores = grammar(torch.tensor([prompt]), torch.zeros(1, len(words)))
    assert scores.argmax() == words.convert_tokens_to_ids("<motion>")


def test_a_model_without_motion_tokens_says_so():
    with pytest.raises(ValueError, match="no motion tokens"):
        MotionGrammar(VipaConfig(), 0, eos_token_id=EOS)
    with pytest.raises(ValueError, match="no motion tokens"):
        MedianBin(VipaConfig())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_median_bin_is_at_the_least_expected_distance(model, words, axis):
    generator = torch.Generator().manual_seed(axis)
    first = model.config.motion_token_start + axis * BINS
    scores = torch.full((5, len(words)), -torch.inf)
    scores[:, first : first + BINS] = 2 * torch.randn(5, BINS, generator=generator)
    chosen = MedianBin(model.config)(torch.zeros(5, 1, dtype=torch.long), scores).argmax(1) - first
    bins = torch.arange(BINS)
    distance = (scores[:, first : first + BINS].softmax(1) @ (bins[:, None] - bins).abs().float()).argmin(1)
    assert torch.equal(chosen, distance)


def test_words_and_delimiters_are_still_the_likeliest(model, words):
    scores = torch.randn(4, len(words), generator=torch.Generator().manual_seed(0))
    delimiter = words.convert_tokens_to_ids("<left_hand>")
    scores[:2, 3], scores[2:, delimiter] = 50.0, 50.0
    chosen = MedianBin(model.config)(torch.zeros(4, 1, dtype=torch.long), scores)
    assert torch.equal(chosen, scores)


def test_text_of_tokens_and_metres_agree(model, words):
    points = {"right": np.array([[0.1, -0.2, 0.4], [0.0, 0.0, 0.5]])}
    codec = MotionCodec(bins=BINS)
    ids = words(codec.to_text(points), add_special_tokens=False)["input_ids"]
    assert len(ids) == 3 + 6
    assert min(ids) >= model.config.motion_token_start
    assert np.abs(codec.from_text(words.decode(ids))["right"] - points["right"]).max() <= 0.5 / BINS + 1e-9

from dataclasses import fields

import pytest

from vipa.benchmarks import translations_benchmark as benchmark
from vipa.benchmarks.results import TranslationResult
from vipa.hand3d.dataset.records import ActionRecord


def record(number, text, clip="clip"):
    values = dict.fromkeys((f.name for f in fields(ActionRecord)), None)
    return ActionRecord(**values | {"id": str(number), "clip_id": clip, "task": benchmark.TASK, "response": text})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The left hand reaches for the red cup.", ("reach", "red cup", "left")),
        ("The right hand lets go of the bowl.", ("let", "bowl", "right")),
        ("Both hands move the big box.", ("move", "big box", "both")),
        ("Move the big box with both hands.", ("move", "big box", "both")),
        ("Put the cup on the blue plate.", ("put", "cup", None)),
        ("The right hand pushes the can away.", ("push", "can", "right")),
        ("The left hand moves back.", ("move", None, "left")),
        ("Pour some milk into the bowl.", ("pour", "milk", None)),
        ("Pick up a t-shirt and fold it", ("pick", "t-shirt", None)),
        ("", (None, None, None)),
    ],
)
def test_a_text_says_a_verb_an_object_and_a_side(text, said):
    assert benchmark.parse(text) == benchmark.Said(*said)


@pytest.mark.parametrize(
    ("answer", "truth", "value"),
    [
        ("put the cup down", "put the cup down", 1.0),
        ("put the red cup down", "put the cup down", 2 * 4 / 9),
        ("the cup put down", "put the cup down", 2 * 3 / 8),  # order counts: "the cup down"
        ("lift it", "put the cup down", 0.0),
        ("", "put the cup down", 0.0),
        ("the the the", "the cup", 2 * 1 / 5),
    ],
)
def test_rouge_l_by_hand(answer, truth, value):
    assert benchmark.rouge_l(answer.split(), truth.split()) == pytest.approx(value)
    assert benchmark.rouge_l(truth.split(), answer.split()) == pytest.approx(value)


def test_scores_count_only_what_the_truth_names():
    truth = ["The left hand lifts the cup.", "Put the bowl down.", "The right hand moves back."]
    said = ["the left hand lifts the cup", "The left hand puts the bowl down.", ""]
    result = benchmark.summarise(
        "x", {}, benchmark.score([record(i, t, clip=str(i)) for i, t in enumerate(truth)], said)
    )
    means = {name: mean.value for name, mean in result.scores.items()}
    assert means == pytest.approx(
        {"exact": 1 / 3, "rouge_l": (1 + 2 * 3 / 11 + 0) / 3, "verb": 2 / 3, "object": 1.0, "side": 0.5}
    )
    assert result.counts == {"exact": 3, "rouge_l": 3, "verb": 3, "object": 2, "side": 2}
    assert result.silent == 1


def test_case_and_punctuation_do_not_count():
    scored = benchmark.score([record(0, "Put the cup down.")], ["put the Cup, down"])[0]
    assert (scored.exact, scored.rouge_l) == (1.0, 1.0)


def test_the_constant_says_what_is_said_most_often():
    records = [record(i, text) for i, text in enumerate(["Lift it.", "Push it.", "Push it."])]
    assert benchmark.ConstantTranslator(records)(records) == ["Push it."] * 3
    with pytest.raises(ValueError, match="train split"):
        benchmark.ConstantTranslator([])


def test_the_constant_is_measured_on_filmed_clips_and_the_truth_scores_one(hand3d_path, tmp_path):
    from vipa.hand3d.dataset.reader import Hand3D

    train = [r for r in Hand3D(hand3d_path).action("train") if r.task == benchmark.TASK]
    out = tmp_path / "translations_constant.json"
    result = benchmark.evaluate_translations(benchmark.ConstantTranslator(train), hand3d_path, out, split="train")
    assert TranslationResult.load(out) == result
    assert result.records == len(train) > 0
    assert 0 < result.scores["exact"].value < 1
    assert 0 < result.scores["rouge_l"].low <= result.scores["rouge_l"].value < 1

    class Truth:
        name, identity = "truth", {"baseline": "truth"}

        def __call__(self, records):
            return [r.response for r in records]

    best = benchmark.evaluate_translations(Truth(), hand3d_path, tmp_path / "truth.json", split="train")
    assert all(mean.value == 1.0 for mean in best.scores.values())
    assert best.counts["verb"] == len(train)


def test_a_translation_that_was_stopped_continues(hand3d_path, tmp_path):
    asked = []

    class Once:
        name, identity = "once", {"baseline": "once"}

        def __call__(self, records):
            asked.extend(r.id for r in records)
            if len(asked) > 4:
                raise KeyboardInterrupt
            return ["put the cup down"] * len(records)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            benchmark.evaluate_translations(Once(), hand3d_path, tmp_path / "t.json", split="train", batch_size=3)
    assert len(asked) == 9
    assert asked[3:6] == asked[6:9]
    assert not set(asked[:3]) & set(asked[3:])

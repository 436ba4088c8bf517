"""Free answers read by the rules of `free_answers`: in every awkward form, and 472 of a real small language model."""

import json
from pathlib import Path

import numpy as np
import pytest

from vipa.hand3d.measure.relations import CameraMovement, Relation
from vipa.hand3d.words.free_answers import read_answer
from vipa.hand3d.words.questions import answer_text, parse_answer

FREE = Path(__file__).parents[1] / "data" / "free_answers.jsonl"
"""Recorded, with what a reader took each to say; its first line says of which model and how it was asked."""


def test_what_the_form_says_is_read_as_the_form_s_own_parser_reads_it():
    rng = np.random.default_rng(0)
    for i in range(400):
        displacement, contact = rng.normal(size=3) * 0.3 * (i > 0), bool(rng.integers(2))
        relation = Relation("spatial_relation", displacement, "left", "red cup", contact=contact)
        text = answer_text(relation)
        assert read_answer(text, "metres") == parse_answer(text)
        turn = answer_text(CameraMovement(rng.normal(size=3), np.zeros(3), "rotation"))
        found, said = read_answer(turn, "degrees"), parse_answer(turn)
        assert (set(found.directions), found.degrees) == (set(said.directions), said.degrees)


@pytest.mark.parametrize(
    ("text", "words", "metres"),
    [
        # numbers
        ("0,12 m to the left", "left", 0.12),
        ("left, .5m", "left", 0.5),
        ("1,234 mm up", "up", 1.234),
        ("1.2e-1 m left", "left", 0.12),
        ("1.2 x 10^-1 m left", "left", 0.12),
        ("1.2 \u00d7 10\u207b\u00b9 m left", "left", 0.12),
        ("twelve centimetres to the right", "right", 0.12),
        ("twenty-five cm left", "left", 0.25),
        ("one hundred and twenty cm left", "left", 1.2),
        ("zero point one two metres left", "left", 0.12),
        ("half a metre left", "left", 0.5),
        ("a quarter of a metre down", "down", 0.25),
        ("one and a half metres up", "up", 1.5),
        ("1/2 m left", "left", 0.5),
        ("1\u00bd m left", "left", 1.5),
        ("left, 1.234,5 m", None, None),
        ("left, 0. 44 m", None, None),
        ("left, 0.3 \u00b1 0.05 m", "left", 0.3),
        # units
        ("12cm left", "left", 0.12),
        ("left 3 feet", "left", 0.9144),
        ("1 foot 3 inches up", "up", 0.381),
        ("1'3\" up", "up", 0.381),
        ("12 in. left", "left", 0.3048),
        ("12 in the left", None, None),
        ("1 m 20 cm left", "left", 1.2),
        ("an inch to the left", "left", 0.0254),
        ("left, 0.4", None, None),
        ("left, 20 pixels", None, None),
        ("0.3 m/s left", None, None),
        ("left, 5 m\u00b2", None, None),
        ("left, 12 degrees", None, None),
        # order and missing parts
        ("0.44 metres left and down", "left down", 0.44),
        ("down and left: 0.44 m", "left down", 0.44),
        ("left", None, None),
        ("0.4m", None, None),
        ("", None, None),
        ("still, 0.00m", "", 0.0),
        ("It did not move: 0 m", "", 0.0),
        ("It is still 0.44 m away", None, None),
        # ranges, bounds, signs
        ("0.1-0.2m left", "left", 0.15),
        ("0.1 to 0.2 m left", "left", 0.15),
        ("between 10 and 20 cm left", "left", 0.15),
        ("from 0.3 m to 0.5 m left", None, None),
        ("less than 1 m left", None, None),
        ("left, up to 0.3 m", None, None),
        ("left - 0.3m", "left", 0.3),
        ("left -0.3m", None, None),
        ("left, minus 0.3 m", None, None),
        # negations and contradictions
        ("not left but right, 0.3 m", "right", 0.3),
        ("neither left nor right but up, 0.3 m", "up", 0.3),
        ("not left, 0.3 m", None, None),
        ("not 0.3 m but 0.4 m left", "left", 0.4),
        ("left or right, 0.3 m", None, None),
        ("left, right, up, down, forward, backward, 0.3 m", None, None),
        # several amounts
        ("0.44 m (44 cm) left", "left", 0.44),
        ("left, 0.3m. left, 0.3m. left, 0.3", "left", 0.3),
        ("left, 0.3 m or 0.5 m", None, None),
        ("left 0.3 m, then down 0.3 m", None, None),
        # markup, prose, thoughts
        ("**Left** and *down*, `0.44 m`", "left down", 0.44),
        ("\\(0.44\\,\\text{m}\\) left", "left", 0.44),
        ("Perhaps right, 1 m? No. The answer is: left, 0.3m", "left", 0.3),
        ("<think>right, 2 m</think> left, 1 m", "left", 1.0),
        ("<think>left, 2 m and so on", None, None),
        ("Leftwards and upward by 30 centimeters", "left up", 0.3),
        # words with another meaning
        ("The cup is 0.44 m left of the right hand.", "left", 0.44),
        ("The right hand is 0.44 m away.", None, None),
        ("Pick up the cup, 0.3 m.", None, None),
        ("0.3 m from the left", None, None),
        ("The left plate is 0.3 m away.", None, None),
        ("The right-hand side is 0.3 m away.", None, None),
        ("It moves 0.3 m towards the camera.", "backward", 0.3),
        ("It is 0.3 m away from the camera.", None, None),
        ("0.3 m, on the right-hand side", "right", 0.3),
    ],
)  # fmt: skip
def test_every_awkward_form_says_what_a_reader_takes_it_to_say(text, words, metres):
    if words is None:
        with pytest.raises(ValueError, match="answer"):
            read_answer(text, "metres")
    else:
        said = read_answer(text, "metres")
        assert (said.directions, said.degrees) == (tuple(words.split()), None)
        assert said.distance == pytest.approx(metres)


@pytest.mark.parametrize(
    ("text", "words", "degrees"),
    [
        ("12\u00b0 to the right", "right", 12.0),
        ("0.5 rad counter-clockwise", "counterclockwise", 28.6479),
        ("anticlockwise by three degrees", "counterclockwise", 3.0),
        ("up, 0.3 m", None, None),
    ],
)
def test_turns_are_said_in_degrees(text, words, degrees):
    if words is None:
        with pytest.raises(ValueError, match="degrees"):
            read_answer(text, "degrees")
    else:
        said = read_answer(text, "degrees")
        assert (said.directions, said.distance) == (tuple(words.split()), None)
        assert said.degrees == pytest.approx(degrees, abs=1e-4)


def test_a_small_language_model_is_understood_as_a_reader_understood_it():
    rows = [json.loads(line) for line in FREE.read_text().splitlines()[1:]]
    assert len(rows) == 472
    for row in rows:
        try:
            answer = read_answer(row["answer"], row["unit"])
        except ValueError:
            assert row["said"] is None, row
            continue
        amount = answer.degrees if row["unit"] == "degrees" else answer.distance
        assert row["said"] == {"directions": list(answer.directions), "amount": pytest.approx(amount)}, row

import numpy as np
import pytest

from vipa.geometry import matrix_from_axis_angle, rigid
from vipa.hand3d.measure.relations import CATEGORIES, CameraMovement, Relation
from vipa.hand3d.words.motion_wordings import MOTION_WORDINGS
from vipa.hand3d.words.questions import answer_text, parse_answer, question_text
from vipa.hand3d.words.visual_wordings import VISUAL_WORDINGS


def relation(displacement=(-0.2, 0.3, 0.25), category="spatial_relation", **fields) -> Relation:
    fields = {"hand": "left", "object": "red cup", **fields}
    return Relation(category, np.array(displacement, dtype=float), **fields)


def test_the_answer_has_the_form_of_the_paper():
    assert answer_text(relation((-0.25, 0.25, 0.2627))) == "left and down and forward, 0.44m"
    turn = CameraMovement(np.radians([0, -12.384, 0]), np.zeros(3), "rotation")
    assert answer_text(turn) == "left, 12.384 degrees"
    assert answer_text(relation((0, 0, 0), "hand_movement", object=None)) == "still, 0.00m"


def test_every_answer_parses_back_to_its_relation():
    rng = np.random.default_rng(0)
    for _ in range(300):
        r = relation(rng.normal(size=3) * 0.3, contact=bool(rng.integers(2)))
        parsed = parse_answer(answer_text(r))
        assert parsed.directions == r.directions
        assert parsed.contact is r.contact
        assert abs(parsed.distance - r.distance) <= 0.005 + 1e-9
        for aspect in ("rotation", "translation"):
            c = CameraMovement(rng.normal(size=3), rng.normal(size=3), aspect)
            parsed = parse_answer(answer_text(c))
            assert parsed.directions == c.directions
            if aspect == "rotation":
                assert abs(parsed.degrees - c.degrees) <= 0.0005 + 1e-9
                assert parsed.distance is None


@pytest.mark.parametrize(
    "text",
    ["", "left", "0.4m", "left and right, 0.4m", "sideways, 0.4m", "left, m", "left, 0.4", "clockwise up 1m"],
)
def test_what_is_no_answer_is_refused(text):
    with pytest.raises(ValueError, match="answer"):
        parse_answer(text)


def test_there_are_twenty_different_wordings_of_every_kind_with_their_fields():
    fields = {
        "spatial_relation": ("{hand}", "{object}"),
        **dict.fromkeys(("task_completion", "task_release", "task_stop"), ("{task}", "{hand}")),
        "hand_movement": ("{hand}",),
        "instructional_generation": ("{task}", "{hands}"),
        "contextual_prediction": ("{task}", "{motion}"),
        "motion_translation": ("{motion}",),
    }
    for kind, wordings in {**VISUAL_WORDINGS, **MOTION_WORDINGS}.items():
        assert len(set(wordings)) == len(wordings) >= 20, kind
        for wording in wordings:
            assert all(field in wording for field in fields.get(kind, ())), wording


def test_the_seed_picks_the_wording_and_all_wordings_come_up():
    r = relation()
    assert question_text(r, 3) == question_text(r, 3)
    seen = {question_text(r, seed) for seed in range(500)}
    assert len(seen) == len(VISUAL_WORDINGS["spatial_relation"])
    assert all("red cup" in q and "left hand" in q for q in seen)


def test_a_task_becomes_part_of_the_sentence():
    r = relation(category="task_completion", task="Put the red cup on the plate.", goal="touch")
    for seed in range(60):
        text = question_text(r, seed)
        assert "put the red cup on the plate" in text
        assert ".." not in text
        assert ".?" not in text


@pytest.mark.parametrize(
    "name", ["the white bottle", "white bottle", "A white bottle", "an  apple", "another cup"]
)
def test_no_question_has_two_articles_before_an_object(name):
    for category, goal in (
        ("spatial_relation", None),
        ("task_completion", "touch"),
        ("task_completion", "release"),
    ):
        for seed in range(60):
            text = question_text(relation(category=category, object=name, goal=goal), seed).lower()
            assert "the the " not in text and "the a " not in text and "the an " not in text
            assert name.split()[-1].lower() in text


def test_a_question_says_a_touch_only_where_its_goal_is_one():
    task = "Fold the towel."
    asked = {
        goal: {
            question_text(relation(category="task_completion", object=thing, task=task, goal=goal), seed)
            for seed in range(300)
        }
        for goal, thing in (("touch", "red cup"), ("release", "red cup"), ("stop", None))
    }
    assert any("reach the red cup" in q for q in asked["touch"])
    assert not any("reach" in q or "for the red cup" in q for q in asked["release"] | asked["stop"])
    assert all("lets go of" in q or "let go of" in q for q in asked["release"] if "red cup" in q)
    assert any("let go of the red cup" in q for q in asked["release"])
    assert all("next" in q and "must" not in q and "should" not in q for q in asked["stop"])
    assert not asked["stop"] & (asked["touch"] | asked["release"])


def test_camera_words_say_where_the_view_goes():
    for axis_angle, word in [
        ((0, 0.3, 0), "right"),
        ((0, -0.3, 0), "left"),
        ((0.3, 0, 0), "up"),
        ((-0.3, 0, 0), "down"),
        ((0, 0, 0.3), "clockwise"),
    ]:
        R = matrix_from_axis_angle(np.array(axis_angle))
        first = rigid(matrix_from_axis_angle(np.array([0.4, 1.0, -2.0])), np.array([1.0, 2.0, 3.0]))
        movement = CameraMovement.between(first, first @ rigid(R, np.zeros(3)), "rotation")
        assert movement.directions == (word,)
        ahead = R @ np.array([0.0, 0.0, 1.0])  # where the camera looks afterwards
        if word in ("left", "right"):
            assert (ahead[0] > 0) == (word == "right")
        if word in ("up", "down"):
            assert (ahead[1] < 0) == (word == "up")


def test_a_relation_without_its_parts_is_refused():
    assert len(CATEGORIES) == 4
    with pytest.raises(ValueError, match="needs an object"):
        relation(object=None)
    with pytest.raises(ValueError, match="needs a goal"):
        relation(category="task_completion", task="fold the towel")
    with pytest.raises(ValueError, match="ends in a stop"):
        relation(category="task_completion", task="fold the towel", object=None, goal="touch")
    with pytest.raises(ValueError, match="finite"):
        relation((np.nan, 0, 0))

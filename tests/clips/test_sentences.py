"""Every sentence that a reader makes of names and labels, and what the data sets call things."""

import re

import pytest

from vipa.clips.sources import dexycb, fpha, h2o, hoi4d, hot3d
from vipa.clips.sources.taco import WORDINGS, wording

TACO = {
    "brush": "brush|bowl", "cut": "knife|plate", "dust": "roller|pan", "empty": "kettle|cup", "hit": "hammer|toy",
    "measure": "ruler|cup", "pour in some": "bowl|plate", "put in": "spoon|pan", "put out": "spatula|bowl",
    "scrape off": "knife|box", "screw": "screwdriver|box", "skim off": "spoon|bowl", "smear": "glue gun|box",
    "stir": "spoon|bowl", "stir-fry": "spatula|pan",
}  # fmt: skip
"""The 15 actions of the 2317 sequences, each with a tool and a target that occur."""

ONTO_THE_TARGET = {
    ("empty", "kettle", "cup"): "empty the kettle into the cup",
    ("empty", "teapot", "plate"): "empty the teapot onto the plate",
    ("pour in some", "bowl", "plate"): "pour some of what is in the bowl onto the plate",
    ("pour in some", "plate", "cup"): "pour some of what is on the plate into the cup",
    ("put in", "spoon", "pan"): "put something into the pan with the spoon",
    ("put out", "spatula", "plate"): "take something off the plate with the spatula",
    ("put out", "bowl", "pan"): "take something out of the pan with the bowl",
    ("skim off", "spoon", "bowl"): "skim something off the bowl with the spoon",
    ("scrape off", "knife", "plate"): "scrape something off the plate with the knife",
    ("cut", "knife", "plate"): "cut something on the plate with the knife",
    ("screw", "screwdriver", "toy"): "turn a screw on the toy with the screwdriver",
    ("smear", "glue gun", "box"): "smear something on the box with the glue gun",
    ("stir-fry", "spatula", "pan"): "stir-fry what is in the pan with the spatula",
    ("brush", "brush", "bowl"): "brush the bowl with the brush",
}

SOUND = re.compile(r"[a-z][a-z'-]*( [a-z][a-z'-]*)*")


def sound(text: str) -> bool:
    """Lower-case words only, no article twice, no word left over from a template."""
    return bool(SOUND.fullmatch(text)) and not re.search(
        r"\b(the|a|an) (the|a|an|some)\b|\bsome the\b|\b(\w+) \3\b", text
    )


def test_all_of_tacos_actions_have_a_wording_and_no_other():
    assert set(WORDINGS) == set(TACO)
    for verb, pair in TACO.items():
        text, names = wording(verb, *pair.split("|"))
        assert text
        assert sound(text), text
        assert [names["tool"], names["target"]] == pair.split("|")
        assert all(f"the {name}" in text for name in names.values())


@pytest.mark.parametrize(("triplet", "expected"), ONTO_THE_TARGET.items())
def test_what_goes_from_tool_to_target_and_what_is_done_with_the_tool(triplet, expected):
    assert wording(*triplet)[0] == expected


def test_two_of_one_kind_are_told_apart_in_the_order_of_the_sentence():
    text, names = wording("pour in some", "bowl", "bowl")
    assert text == "pour some of what is in one bowl into the other bowl"
    assert names == {"tool": "bowl", "target": "other bowl"}
    text, names = wording("skim off", "bowl", "bowl")
    assert text == "skim something off one bowl with the other bowl"
    assert names == {"tool": "other bowl", "target": "bowl"}


@pytest.mark.parametrize("triplet", [("juggle", "bowl", "cup"), ("", "", ""), ("cut", "", "plate")])
def test_an_unknown_action_has_no_sentence(triplet):
    assert wording(*triplet)[0] is None


def test_hoi4ds_tasks_and_events_are_sentences_about_the_object():
    for category, tasks in hoi4d.TASKS.items():
        for task in tasks:
            text = hoi4d.in_words(task, hoi4d.CATEGORIES[category])
            assert sound(text), text
            assert hoi4d.CATEGORIES[category] in text
    assert hoi4d.in_words(hoi4d.TASKS[9][0], "scissors") == "pick up the scissors and put them down again"
    events = ["Pickup", "Put_down", "reach out", "rest", "CutApple"]
    said = ["pick up the mug", "put the mug down", "reach for the mug", None, "cut apple"]
    assert [hoi4d.event_in_words(e, "mug") for e in events] == said


FPHA = """charge_cell_phone clean_glasses close_juice_bottle close_liquid_soap close_milk close_peanut_butter drink_mug
flip_pages flip_sponge give_card give_coin handshake high_five light_candle open_juice_bottle open_letter
open_liquid_soap open_milk open_peanut_butter open_soda_can open_wallet pour_juice_bottle pour_liquid_soap pour_milk
pour_wine prick put_salt put_sugar put_tea_bag read_letter receive_coin scoop_spoon scratch_sponge sprinkle
squeeze_paper squeeze_sponge stir take_letter_from_enveloppe tear_paper toast_wine unfold_glasses use_calculator
use_flash wash_sponge write"""


def test_the_other_data_sets_labels_are_sentences():
    actions = [fpha.sentence(a) for a in FPHA.split()]
    assert len(actions) == 45
    objects = [dexycb.pick_up(dexycb.object_name(k)) for k in (*dexycb.YCB, 19)]
    for text in (*actions, *h2o.ACTIONS[1:], *objects):
        assert sound(text), text
    assert "drink from the mug" in actions
    assert h2o.ACTIONS[9] == "place the book"
    assert h2o.ACTIONS[24] == "take the espresso out"
    assert len(h2o.ACTIONS) == 37


def test_hot3ds_objects_are_called_as_people_call_them():
    names = ["mug_white", "can_tomato_sauce", "carton_oj", "puzzle_toy", "bowl", "dumbbell_5lb", "spoon_wooden"]
    said = [
        "white mug",
        "tomato sauce can",
        "orange juice carton",
        "puzzle toy",
        "bowl",
        "dumbbell",
        "wooden spoon",
    ]
    assert [hot3d.object_name(n) for n in names] == said

"""Whose doing a text is: from its words, and from what EgoDex writes of the scene."""

import pytest

from vipa.clips.clip import Text, acting_hand
from vipa.clips.sources.egodex import _texts


@pytest.mark.parametrize(
    ("sentence", "hand"),
    [
        ("Pick up the cup with the right hand.", "right"),
        ("with your left hand open the lid", "left"),
        ("The left hand holds still.", "left"),
        ("Hold the jar in the left hand", "left"),
        ("Use both hands to fold the towel", "both"),
        ("fold it with both of your hands", "both"),
        ("lift it with the left and right hands", "both"),
        ("pass the cup from the left hand to the right hand", "both"),
        ("Left hand holds the jar while the right hand twists the lid", "both"),
        ("put the ring on the left hand", None),
        ("place it on the right-hand side", None),
        ("open the left hand drawer", None),
        ("a right-handed screw", None),
        ("move the cup to the right", None),
        ("pick up the cup", None),
    ],
)
def test_the_acting_hand_is_what_the_words_say_it_is(sentence, hand):
    assert acting_hand(sentence) == hand
    assert Text(sentence, 0.0, 1.0).hand == hand
    assert Text(sentence, 0.0, 1.0, "left").hand == "left"  # the source knows better than the words


@pytest.mark.parametrize(
    ("attributes", "hand"),
    [
        ({"environment": "table:metal, from:table, to:box lid, hand:right"}, "right"),
        ({"object": "object:cup, hand: Left"}, "left"),
        ({"environment": "table:metal, hands:both"}, "both"),
        ({"environment": "table:metal, hand:left and right"}, "both"),
        ({"environment": "side:left, tool:right hand rail"}, None),
        ({}, None),
    ],
)
def test_egodex_names_the_acting_hand_among_the_attributes(attributes, hand):
    (text,) = _texts({"llm_description": "Pick up the cup.", **attributes}, 4.0)
    assert text.hand == hand

import numpy as np
import pytest

from vipa.geometry import direction_words, words_to_signs

# OpenCV camera frame: x right, y down, z forward (away from the camera).
TABLE = [
    ((1.0, 0.0, 0.0), ("right",)),
    ((-1.0, 0.0, 0.0), ("left",)),
    ((0.0, 1.0, 0.0), ("down",)),
    ((0.0, -1.0, 0.0), ("up",)),
    ((0.0, 0.0, 1.0), ("forward",)),
    ((0.0, 0.0, -1.0), ("backward",)),
    ((-0.3, 0.25, 0.2), ("left", "down", "forward")),
    ((0.2, 0.0, -0.06), ("right",)),
    ((0.15, 0.0, -0.15), ("right", "backward")),
    ((0.001, -0.001, 0.001), ("right", "up", "forward")),
    ((0.0, 0.0, 0.0), ()),
]


@pytest.mark.parametrize(("displacement", "words"), TABLE)
def test_direction_words_are_those_of_the_table(displacement, words):
    assert direction_words(np.array(displacement)) == words


def test_a_component_is_named_only_above_gamma():
    gamma = 0.3
    for share, named in [(0.299, False), (0.301, True)]:
        displacement = np.array([share, 0.0, np.sqrt(1 - share**2)])
        assert ("right" in direction_words(displacement, gamma)) == named


def test_length_does_not_change_the_words():
    rng = np.random.default_rng(0)
    for displacement in rng.normal(size=(100, 3)):
        assert direction_words(displacement) == direction_words(displacement * 17.0)


def test_opposite_displacement_has_opposite_signs():
    rng = np.random.default_rng(1)
    for displacement in rng.normal(size=(100, 3)):
        signs, opposite = (
            words_to_signs(direction_words(displacement)),
            words_to_signs(direction_words(-displacement)),
        )
        assert opposite == tuple(-s for s in signs)


def test_signs_name_the_axes_in_order():
    assert words_to_signs(("forward", "left")) == (-1, 0, 1)
    assert words_to_signs(()) == (0, 0, 0)


def test_unknown_and_contradicting_words_are_refused():
    with pytest.raises(ValueError, match="sideways"):
        words_to_signs(["sideways"])
    with pytest.raises(ValueError, match="contradict"):
        words_to_signs(["left", "right"])

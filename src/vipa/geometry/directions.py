"""Direction words of a displacement in the OpenCV camera frame (section 3.2.1)."""

import numpy as np

DIRECTION_WORDS = (("left", "right"), ("up", "down"), ("backward", "forward"))
"""(negative, positive) word of x (right), y (down) and z (forward)."""

GAMMA = 0.3
"""A component of the unit displacement is named when it exceeds this; the paper leaves the value open."""


def direction_words(displacement: np.ndarray, gamma: float = GAMMA) -> tuple[str, ...]:
    """Words of a (3,) displacement in metres, in the order x, y, z; () for no displacement at all."""
    length = float(np.linalg.norm(displacement))
    if length == 0.0:
        return ()
    unit = np.asarray(displacement) / length
    return tuple(DIRECTION_WORDS[i][int(unit[i] > 0)] for i in range(3) if abs(unit[i]) > gamma)


def words_to_signs(words: tuple[str, ...] | list[str]) -> tuple[int, int, int]:
    """Sign per axis (-1, 0, 1) that the words name. ValueError for an unknown word or a contradiction."""
    signs = [0, 0, 0]
    for word in words:
        axis = next((i for i, pair in enumerate(DIRECTION_WORDS) if word in pair), None)
        if axis is None:
            raise ValueError(f"direction word {word!r} is unknown; expected one of {DIRECTION_WORDS}")
        sign = 1 if word == DIRECTION_WORDS[axis][1] else -1
        if signs[axis] == -sign:
            raise ValueError(f"direction words {list(words)} contradict each other")
        signs[axis] = sign
    return signs[0], signs[1], signs[2]

import numpy as np
import pytest

from vipa.hands.motion_codec import MOTION_END, MOTION_START, MotionCodec

CODEC = MotionCodec()


def points_inside(rng, n=2000):
    return rng.uniform([-0.5, -0.5, 0.0], [0.5, 0.5, 1.0], size=(n, 3))


def test_round_trip_errs_by_at_most_half_a_bin():
    points = points_inside(np.random.default_rng(0))
    error = np.abs(CODEC.decode(CODEC.encode(points)) - points)
    assert error.max() <= 0.5 / 1024 + 1e-12
    assert error.max() > 0.48e-3  # the bound is reached: bins are not finer than the paper's


def test_encoding_a_decoded_bin_gives_the_bin():
    bins = np.stack(np.meshgrid([0, 1, 511, 512, 1023], [0, 7, 1023], [0, 1022, 1023]), -1).reshape(-1, 3)
    np.testing.assert_array_equal(CODEC.encode(CODEC.decode(bins)), bins)


def test_points_outside_are_clipped_to_the_outermost_bins_and_counted():
    points = np.array([[-0.6, 0.0, 0.5], [0.0, 0.9, 0.5], [0.0, 0.0, 1.5], [0.1, 0.1, 0.1]])
    assert CODEC.outside(points).tolist() == [True, True, True, False]
    bins = CODEC.encode(points)
    assert (bins[0, 0], bins[1, 1], bins[2, 2]) == (0, 1023, 1023)


def test_text_round_trip_keeps_both_hands():
    rng = np.random.default_rng(1)
    trajectories = {"right": points_inside(rng, 8), "left": points_inside(rng, 5)}
    back = CODEC.from_text(f"Move so: {CODEC.to_text(trajectories)}.")
    assert set(back) == {"left", "right"}
    for side, points in trajectories.items():
        np.testing.assert_allclose(back[side], points, atol=0.5 / 1024 + 1e-12)


def test_vocabulary_has_three_axes_of_bins_and_four_delimiters_without_repeats():
    tokens = CODEC.tokens
    assert len(tokens) == len(set(tokens)) == 3 * 1024 + 4
    assert tokens[0] == "<mx_0>"
    assert tokens[2 * 1024 + 5] == "<mz_5>"


def test_every_token_of_a_text_is_in_the_vocabulary():
    text = CODEC.to_text({"left": points_inside(np.random.default_rng(2), 4)})
    vocabulary = set(CODEC.tokens)
    assert all(f"<{piece}" in vocabulary for piece in text.split("<")[1:])


def test_nan_has_no_tokens():
    with pytest.raises(ValueError, match="NaN"):
        CODEC.encode(np.array([[0.0, np.nan, 0.5]]))


@pytest.mark.parametrize(
    "text",
    [
        "right and up, 0.30m",
        f"{MOTION_START}<mx_1><my_1><mz_1>{MOTION_END}",
        f"{MOTION_START}<right_hand><mx_1><my_1>{MOTION_END}",
        f"{MOTION_START}<right_hand><mx_1><my_1><mz_1><right_hand><mx_1><my_1><mz_1>{MOTION_END}",
        f"{MOTION_START}<right_hand><mx_1><my_1><mz_1>",
    ],
)
def test_text_that_is_not_a_motion_is_refused(text):
    with pytest.raises(ValueError):
        CODEC.from_text(text)

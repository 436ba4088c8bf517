"""Invertible transforms: every inverse undoes its forward, and normalisation stays sane where data hardly moves."""

import numpy as np
import pytest

from vipa.nano.shipped import NANO
from vipa.robots.contract import ActionContract, Dimension, Statistics
from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.transforms import (
    OPEN_CLOSED,
    DeltaFromState,
    FlipGripper,
    GripperForm,
    Normalise,
    Normaliser,
    PadTo,
    Pipeline,
    compute_statistics,
    is_narrow,
)

STEPS = (
    DeltaFromState(((0, 1), (2, 0))),
    FlipGripper("-1 open, +1 closed"),
    PadTo(8, 7, 12, 10),
    Normaliser,
)


def sample(rng):
    return {"state": rng.uniform(-1, 1, size=(4, 8)), "action": rng.uniform(-1, 1, size=(4, 5, 7))}


@pytest.mark.parametrize("step", STEPS[:3], ids=lambda s: type(s).__name__)
def test_inverse_undoes_forward(rng, step):
    before = sample(rng)
    after = step.inverse(step.forward(before))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-12)


def test_a_pipeline_is_undone_by_the_reversed_list(rng):
    before = sample(rng)
    pipeline = Pipeline(STEPS[:3])
    after = pipeline.inverse(pipeline.forward(before))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-12)


def test_a_delta_is_the_action_minus_the_state(rng):
    before = sample(rng)
    action = DeltaFromState(((0, 1),)).forward(before)["action"]
    np.testing.assert_allclose(action[2, 3, 0], before["action"][2, 3, 0] - before["state"][2, 1])


@pytest.mark.parametrize("scheme", ["none", "mean_std", "min_max", "quantiles"])
def test_normalisation_is_undone_even_far_outside_the_data(rng, scheme):
    rows = rng.normal(size=(100, 3)) * [1.0, 1e-3, 50.0] + [0.0, 5.0, -2.0]
    normaliser = Normaliser.of(scheme, Statistics.of(rows, "x"), "abc")
    far = rng.normal(size=(20, 3)) * 1e3
    np.testing.assert_allclose(normaliser.restore(normaliser.normalise(far)), far, rtol=1e-9)


def test_min_max_maps_the_data_onto_minus_one_to_one(rng):
    rows = rng.normal(size=(100, 2))
    out = Normaliser.of("min_max", Statistics.of(rows, "x"), "ab").normalise(rows)
    np.testing.assert_allclose([out.min(0), out.max(0)], [[-1, -1], [1, 1]])


@pytest.mark.parametrize("scheme", ["mean_std", "min_max", "quantiles"])
def test_a_dimension_without_spread_is_shifted_in_both_directions_and_named(rng, scheme):
    rows = np.column_stack([rng.normal(size=50), np.full(50, 0.7) + rng.normal(size=50) * 1e-9])
    normaliser = Normaliser.of(scheme, Statistics.of(rows, "x"), ["x", "finger"])
    assert [name.split()[0] for name in normaliser.still] == ["finger"]
    out = normaliser.normalise(np.array([[0.0, 0.9]]))
    assert abs(out[0, 1] - 0.2) < 1e-6
    np.testing.assert_allclose(normaliser.restore(out), [[0.0, 0.9]])


def test_statistics_are_those_of_the_transformed_samples(rng):
    samples = [{"state": rng.normal(size=8), "action": rng.normal(size=(5, 7))} for _ in range(40)]
    before = Pipeline((DeltaFromState(((0, 0),)),))
    action, state = compute_statistics(samples, before)
    expected = np.concatenate([s["action"][:, 0] - s["state"][0] for s in samples])
    np.testing.assert_allclose([action.mean[0], action.std[0]], [expected.mean(), expected.std()])
    np.testing.assert_allclose(state.mean, np.mean([s["state"] for s in samples], 0))


def test_statistics_of_another_pipeline_are_refused(rng):
    samples = [{"state": rng.normal(size=8), "action": rng.normal(size=(5, 7))} for _ in range(9)]
    contract = tabletop_contract().normalised("mean_std", *compute_statistics(samples))
    Normalise.of(contract)
    with pytest.raises(ValueError, match="compute them again"):
        Normalise.of(contract, Pipeline((FlipGripper("-1 open, +1 closed"),)))


def test_normalising_a_contract_names_the_dimensions_without_spread():
    samples = [{"state": np.arange(8.0) * k, "action": np.zeros((5, 7))} for k in range(9)]
    still = Normalise.of(tabletop_contract().normalised("mean_std", *compute_statistics(samples))).still
    assert still[0] == "state x (0)" and still[-1] == "action gripper (0)"


def test_inference_needs_only_a_state(rng):
    samples = [{"state": rng.normal(size=8), "action": rng.normal(size=(5, 7))} for _ in range(30)]
    step = Normalise.of(tabletop_contract().normalised("quantiles", *compute_statistics(samples)))
    assert not step.still
    out = step.forward({"state": samples[0]["state"]})
    assert set(out) == {"state"}
    assert isinstance(tabletop_contract().action[0], Dimension)


def test_rare_large_values_of_a_still_dimension_stay_small_under_quantiles():
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(2000, 2))
    actions[:, 1] *= 1e-4
    actions[::500, 1] = 0.4
    normaliser = Normaliser.of("quantiles", Statistics.of(actions, "x"), ["moves", "seldom turns"])
    normalised = normaliser.normalise(actions)
    assert np.abs(normalised[:, 1]).max() == pytest.approx(5.0, abs=0.01)
    np.testing.assert_allclose(normaliser.restore(normalised), actions, atol=1e-12)


def test_a_joint_that_spans_a_milliradian_is_only_shifted_under_every_scheme_and_named():
    rows = np.random.default_rng(0).uniform([-1.15, 1.5686], [-0.79, 1.5696], (5000, 2))
    joints = tuple(Dimension(name, "radian", "absolute") for name in ("wide", "resting"))
    for scheme in ("mean_std", "min_max", "quantiles"):
        for dimensions in (joints, None):
            normaliser = Normaliser.of(scheme, Statistics.of(rows, "x"), ["wide", "resting"], dimensions)
            assert [name.split()[0] for name in normaliser.still] == ["resting"]
            assert normaliser.scale[1] == 1.0
            assert normaliser.normalise(np.zeros(2))[1] == pytest.approx(-1.5691, abs=1e-3)
            assert 0.1 < normaliser.scale[0] < 0.2


@pytest.mark.parametrize(
    ("unit", "mode", "scale", "spread", "narrow"),
    [
        ("radian", "absolute", 1.0, 4e-3, True),
        ("radian", "absolute", 1.0, 2e-2, False),
        ("radian", "delta", 1.0, 2e-3, False),  # 0.1 rad/s at 50 Hz
        ("metre", "absolute", 1.0, 2e-3, False),
        ("metre", "delta", 0.05, 1e-3, True),  # 1.0 is five centimetres: 0.05 mm
        ("metre", "delta", 0.05, 1e-2, False),
        ("none", "absolute", 1.0, 0.0, True),
    ],
)
def test_what_is_narrow_depends_on_the_unit(unit, mode, scale, spread, narrow):
    assert is_narrow(np.array([spread]), [Dimension("x", unit, mode, scale)]).tolist() == [narrow]


def test_what_is_narrow_depends_on_the_other_dimensions_of_the_same_unit():
    dimensions = [
        Dimension("a", "metre", "delta"),
        Dimension("b", "metre", "delta"),
        Dimension("c", "radian", "delta"),
    ]
    assert is_narrow(np.array([1.0, 9e-4, 9e-4]), dimensions).tolist() == [False, True, False]


@pytest.mark.parametrize("scheme", ["mean_std", "min_max", "quantiles"])
def test_restoring_is_exact_for_any_data(scheme):
    rng = np.random.default_rng(1)
    columns = [
        np.full(300, 0.7), np.zeros(300), rng.normal(size=300) * 1e-9 + 3, np.eye(300)[0], np.repeat([0.0, 1.0], 150),
        rng.normal(size=300) * 1e6, np.where(np.arange(300) < 298, 0.0, 1e4), rng.uniform(1.5686, 1.5696, 300),
    ]  # fmt: skip
    normaliser = Normaliser.of(scheme, Statistics.of(np.column_stack(columns), "x"), list("abcdefgh"))
    assert np.isfinite(normaliser.scale).all()
    assert (np.array(normaliser.scale) > 0).all()
    for far in (np.column_stack(columns), rng.normal(size=(50, 8)) * 1e5):
        np.testing.assert_allclose(normaliser.restore(normaliser.normalise(far)), far, rtol=1e-9, atol=1e-9)


def test_the_shipped_policy_is_normalised_as_it_was():
    """Only the two rotations that never move are shifted: so it was trained."""
    contract = ActionContract.load(nano_contract())
    step = Normalise.of(contract)
    assert step.still == ("action delta_rotation_x (0)", "action delta_rotation_y (0)")
    assert np.flatnonzero(np.array(step.action.scale) == 1.0).tolist() == [3, 4, 6]
    s = contract.action_statistics
    half = (np.array(s.quantile_99) - s.quantile_01) / 2
    middle = (np.array(s.quantile_99) + s.quantile_01) / 2
    reach = np.maximum(np.array(s.maximum) - middle, middle - np.array(s.minimum))
    expected = np.where(half + reach > 0, np.maximum(half, reach / 5), 1.0)
    np.testing.assert_allclose(step.action.scale, expected)
    assert (np.array(step.state.scale) < 0.5).all()


def nano_contract():
    return NANO / "action_contract.json"


@pytest.mark.parametrize("source", OPEN_CLOSED)
@pytest.mark.parametrize("target", OPEN_CLOSED)
def test_open_stays_open_and_closed_closed_in_every_gripper_form(source, target):
    (opened, closed), expected = OPEN_CLOSED[source], OPEN_CLOSED[target]
    before = {"state": np.array([5.0, closed]), "action": np.array([[9.0, opened], [9.0, closed], [9.0, 0.5]])}
    step = GripperForm(source, target, state_index=1)
    after = step.forward(before)
    assert after["action"][:2, 1].tolist() == list(expected)
    assert after["state"].tolist() == [5.0, expected[1]]
    assert (after["action"][:, 0] == 9).all()
    back = step.inverse(after)
    for name in before:
        np.testing.assert_allclose(back[name], before[name], atol=1e-12)


def test_flipping_a_gripper_is_one_minus_it_or_its_negative_by_its_form():
    sample = {"state": np.zeros(2), "action": np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.25]])}
    assert FlipGripper("0 closed, 1 open").forward(sample)["action"][:, 1].tolist() == [1.0, 0.0, 0.75]
    assert FlipGripper("-1 open, +1 closed").forward(sample)["action"][:, 1].tolist() == [0.0, -1.0, -0.25]
    with pytest.raises(ValueError, match="'none' cannot be changed"):
        FlipGripper("none")


def test_gripper_numbers_of_another_form_are_refused():
    sample = {"state": np.zeros(2), "action": np.array([[0.0, -1.0]])}
    with pytest.raises(ValueError, match="holds -1, which is not of the form '0 closed, 1 open'"):
        GripperForm("0 closed, 1 open", "-1 open, +1 closed").forward(sample)

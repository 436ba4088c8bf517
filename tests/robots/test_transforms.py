"""Invertible transforms: every inverse undoes its forward, and normalisation stays sane where data hardly moves."""

import warnings

import numpy as np
import pytest

from vipa.robots.contract import Dimension, Statistics
from vipa.robots.tabletop import tabletop_contract
from vipa.robots.transforms import (
    DeltaFromState,
    FlipGripper,
    Normalise,
    Normaliser,
    PadTo,
    Pipeline,
    compute_statistics,
)

STEPS = (
    DeltaFromState(((0, 1), (2, 0))),
    FlipGripper(),
    PadTo(8, 7, 12, 10),
    Normaliser,
)


def sample(rng):
    return {"state": rng.normal(size=(4, 8)), "action": rng.normal(size=(4, 5, 7))}


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
    with pytest.warns(UserWarning, match="finger") as caught:
        normaliser = Normaliser.of(scheme, Statistics.of(rows, "x"), ["x", "finger"])
    assert "x," not in str(caught[0].message)
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
        Normalise.of(contract, Pipeline((FlipGripper(),)))


def test_normalising_a_contract_without_spread_warns_with_the_dimension_s_name():
    samples = [{"state": np.arange(8.0) * k, "action": np.zeros((5, 7))} for k in range(9)]
    with pytest.warns(UserWarning, match="action gripper"):
        Normalise.of(tabletop_contract().normalised("mean_std", *compute_statistics(samples)))


def test_inference_needs_only_a_state(rng):
    samples = [{"state": rng.normal(size=8), "action": rng.normal(size=(5, 7))} for _ in range(30)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step = Normalise.of(tabletop_contract().normalised("quantiles", *compute_statistics(samples)))
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

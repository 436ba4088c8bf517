"""Rotations in every form, against scipy; antipodal choices; turns from the state composed, not subtracted."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vipa.robots.contract import ActionContract
from vipa.robots.known import ROBOTS
from vipa.robots.rotation_forms import WIDTHS, ChangeRotation, RotationFromState, matrix_of, numbers_of
from vipa.robots.transforms import DeltaFromState, PadTo, Subset, as_data, pipeline_of

FORMS = tuple(WIDTHS)


def oracle(form, rotations: Rotation) -> np.ndarray:
    if form == "matrix_6d":
        return np.concatenate([rotations.as_matrix()[:, :, 0], rotations.as_matrix()[:, :, 1]], axis=1)
    if form == "quaternion_wxyz":
        return rotations.as_quat(canonical=True)[:, [3, 0, 1, 2]]
    return rotations.as_rotvec() if form == "axis_angle" else rotations.as_euler("xyz")


def angle(a, b):
    return np.max(
        (Rotation.from_matrix(a.reshape(-1, 3, 3)).inv() * Rotation.from_matrix(b.reshape(-1, 3, 3))).magnitude()
    )


@pytest.mark.parametrize("form", FORMS)
def test_numbers_are_scipy_s_and_come_back(form):
    rotations = Rotation.random(500, random_state=0)
    numbers = oracle(form, rotations)
    np.testing.assert_allclose(matrix_of(form, numbers), rotations.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(numbers_of(form, rotations.as_matrix()), numbers, atol=1e-9)


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("target", FORMS)
def test_every_form_becomes_every_other_and_returns(source, target):
    rotations = Rotation.random(60, random_state=1)
    numbers = oracle(source, rotations).reshape(6, 10, -1)
    rest = np.arange(60.0).reshape(6, 10, 1)
    sample = {"state": np.zeros((6, 1)), "action": np.concatenate([rest, numbers, -rest], axis=-1)}
    step = ChangeRotation("action", 1, source, target)
    there = step.forward(sample)
    np.testing.assert_allclose(there["action"][..., 1:-1].reshape(60, -1), oracle(target, rotations), atol=1e-9)
    np.testing.assert_allclose(step.inverse(there)["action"], sample["action"], atol=1e-8)


def test_a_half_turn_does_not_jump_when_numbers_near_it_are_asked_for():
    turns = np.linspace(np.pi - 0.1, np.pi + 0.1, 41)
    states = Rotation.from_rotvec(turns[:, None] * [1.0, 0, 0]).as_rotvec()
    assert np.abs(np.diff(states[:, 0])).max() > 6  # what is recorded jumps
    step = ChangeRotation("state", 0, "axis_angle", "axis_angle", near=(np.pi, 0, 0))
    np.testing.assert_allclose(step.forward({"state": states})["state"][:, 0], turns, atol=1e-9)
    quaternions = numbers_of("quaternion_wxyz", matrix_of("axis_angle", states), near=(0, 1, 0, 0))
    assert np.abs(np.diff(quaternions, axis=0)).max() < 0.01


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frame", ["tool", "base"])
def test_turns_from_the_state_are_composed_and_come_back(form, frame):
    states, actions = Rotation.random(5, random_state=2), Rotation.random(20, random_state=3)
    sample = {"state": oracle(form, states), "action": oracle(form, actions).reshape(5, 4, -1)}
    step = RotationFromState(0, 0, form, frame)
    there = step.forward(sample)
    for i in range(5):
        for j in range(4):
            a, s = actions[4 * i + j], states[i]
            expected = s.inv() * a if frame == "tool" else a * s.inv()
            assert angle(matrix_of(form, there["action"][i, j]), expected.as_matrix()) < 1e-6
    np.testing.assert_allclose(step.inverse(there)["action"], sample["action"], atol=1e-7)


def test_a_subset_puts_back_what_it_left_out():
    rng = np.random.default_rng(0)
    sample = {"state": rng.normal(size=(3, 6)), "action": rng.normal(size=(3, 4, 5))}
    sample["action"][..., [0, 3]] = [7.0, 9.0]
    step = Subset(state=(4, 1), action=(2, 1, 4), fill=(7.0, 9.0))
    there = step.forward(sample)
    np.testing.assert_array_equal(there["state"], sample["state"][:, [4, 1]])
    back = step.inverse(there)
    for name in sample:
        np.testing.assert_array_equal(back[name], sample[name])


def example(contract: ActionContract) -> dict[str, np.ndarray]:
    """Random numbers of a contract, its rotations canonical."""
    rng = np.random.default_rng(0)
    sample = {
        "state": rng.uniform(-1, 1, (3, len(contract.state))),
        "action": rng.uniform(0, 1, (3, 8, len(contract.action))),
    }
    for name, array in sample.items():
        names = [d.name for d in getattr(contract, name)]
        if "rotation_w" in names:
            places = [names.index(f"rotation_{axis}") for axis in "wxyz"]
            turns = Rotation.random(array[..., 0].size, random_state=4)
            array[..., places] = oracle("quaternion_wxyz", turns).reshape(*array.shape[:-1], 4)
        if "rotation_x" in names and "rotation_w" not in names:
            start = names.index("rotation_x")
            array[..., start : start + 3] = [3.0, 0.2, 0.1]
    return sample


@pytest.mark.parametrize("name", ROBOTS.names())
def test_every_known_robot_s_transforms_travel_as_json_and_are_undone(name):
    contract = ROBOTS.load(name).contract()
    again = ActionContract.from_json(contract.to_json())
    assert again == contract
    pipeline, sample = pipeline_of(again), example(contract)
    assert pipeline == pipeline_of(contract)
    there = pipeline.forward(sample)
    state, action = pipeline.dimensions(contract)
    assert (there["state"].shape[-1], there["action"].shape[-1]) == (len(state), len(action))
    back = pipeline.inverse(there)
    for part, values in sample.items():
        np.testing.assert_allclose(back[part], values, atol=1e-7)


def test_transforms_that_are_unknown_or_do_not_fit_are_named():
    from dataclasses import replace

    base = ROBOTS.load("tabletop").contract()
    for entry, words in (
        ({"name": "eval"}, "transform 'eval' is unknown; known: DeltaFromState"),
        ({"name": "DeltaFromState", "pears": []}, "parameters: pairs"),
        ({"name": "DeltaFromState", "pairs": [[0, 99]]}, "no state 99"),
        ({"name": "Subset", "action": [0]}, "6 actions are left out, 0 are to be filled in"),
    ):
        with pytest.raises(ValueError, match=words):
            pipeline_of(replace(base, transforms=(json.loads(json.dumps(entry)),)))
    assert as_data(PadTo(1, 2, 3, 4), DeltaFromState(((0, 1),)))[1] == {
        "name": "DeltaFromState",
        "pairs": [[0, 1]],
    }

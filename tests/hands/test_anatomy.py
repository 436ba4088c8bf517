import numpy as np
import pytest

from vipa.hands.anatomy import shape_of
from vipa.hands.skeleton import mirror_joints


def right_hand(curl: float = 0.3) -> np.ndarray:
    """(1, 21, 3): palm down, fingers along y, little finger at +x, bent by `curl` radians a joint; metres."""
    joints = np.zeros((21, 3))
    for f, (x, y) in enumerate([(-0.03, 0.02), (-0.025, 0.09), (0.0, 0.09), (0.02, 0.085), (0.04, 0.08)]):
        place, angle = np.array([x, y, -0.015 if f == 0 else 0.0]), 0.0
        for k, bone in enumerate((0.0, 0.04, 0.025, 0.02)):
            side = -0.6 if f == 0 else 0.0  # the thumb points away from the fingers
            place = place + bone * np.array([np.sin(side), np.cos(angle) * np.cos(side), -np.sin(angle)])
            joints[1 + 4 * f + k] = place
            angle += curl
    return joints[None]


def fingers(joints: np.ndarray, order: list[int]) -> np.ndarray:
    chains = joints[:, 1:].reshape(-1, 5, 4, 3)[:, order]
    return np.concatenate([joints[:, :1], chains.reshape(-1, 20, 3)], 1)


def test_a_right_hand_is_a_right_hand_however_it_is_turned():
    rng = np.random.default_rng(0)
    for _ in range(20):
        R = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        R *= np.sign(np.linalg.det(R))
        shape = shape_of(right_hand() @ R.T + rng.normal(size=3))
        assert (shape.side, shape.order_fault) == ("right", None)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_reflection_along_any_axis_makes_it_a_left_hand(axis):
    joints = right_hand() * np.where(np.arange(3) == axis, -1, 1)
    assert shape_of(joints).side == "left"
    assert shape_of(mirror_joints(right_hand())).side == "left"


def test_a_flat_hand_has_no_side_rather_than_a_guessed_one():
    joints = right_hand(curl=0.0)
    joints[..., 2] = 0
    assert shape_of(joints).side is None


@pytest.mark.parametrize(
    ("harmed", "fault"),
    [
        (lambda j: fingers(j, [4, 3, 2, 1, 0]), "little's place holds the thumb"),
        (lambda j: fingers(j, [0, 2, 1, 3, 4]), "side by side"),
        (lambda j: np.concatenate([j[:, :1], j[:, 1:].reshape(1, 5, 4, 3)[:, :, ::-1].reshape(1, 20, 3)], 1), "tip to"),
        (lambda j: np.concatenate([j[:, :1], j[:, 1:].reshape(1, 5, 4, 3)[:, [0, 1, 2, 3, 4]].transpose(0, 2, 1, 3)
                                   .reshape(1, 20, 3)], 1), "bones are too long"),
    ],
)  # fmt: skip
def test_joints_in_another_order_are_named(harmed, fault):
    assert fault in shape_of(harmed(right_hand())).order_fault


def test_unknown_and_coinciding_joints_say_nothing():
    assert shape_of(np.full((3, 21, 3), np.nan)) is None
    assert shape_of(np.zeros((3, 21, 3))) is None
    assert shape_of(np.concatenate([right_hand(), np.full((1, 21, 3), np.nan)])).side == "right"

import numpy as np
import pytest

from vipa.hands.skeleton import BONES, mirror_joints
from vipa.worlds.hand import (
    HAND_IDS,
    HandPose,
    capsules,
    grip_point,
    hand_joints,
    joints_world,
    pinch_closure,
    reaching_pose,
    sample_look,
)


def bones(joints: np.ndarray) -> np.ndarray:
    return np.array([np.linalg.norm(joints[a] - joints[b]) for a, b in BONES])


def test_bone_lengths_do_not_depend_on_how_the_hand_is_bent():
    rng = np.random.default_rng(0)
    straight = bones(hand_joints(np.zeros(5)))
    for _ in range(20):
        np.testing.assert_allclose(bones(hand_joints(rng.random(5), rng.random())), straight, atol=1e-12)
    np.testing.assert_allclose(bones(hand_joints(np.zeros(5), scale=1.1)), 1.1 * straight)


def test_the_hand_has_the_size_of_an_adults():
    joints = hand_joints(np.zeros(5))
    assert 0.17 < np.linalg.norm(joints[12] - joints[0]) < 0.21  # wrist to middle fingertip
    assert 0.07 < np.linalg.norm(joints[5] - joints[17]) + 0.02 < 0.10  # palm's width with flesh


def test_the_left_hand_is_the_mirror_image_of_the_right():
    closure = np.array([0.3, 0.1, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(
        hand_joints(closure, side="left"), mirror_joints(hand_joints(closure, side="right"))
    )


def test_a_closing_hand_brings_its_fingertips_to_the_palm_side():
    open_, fist = hand_joints(np.zeros(5)), hand_joints(np.full(5, 0.8))
    for tip in (8, 12, 16, 20):
        assert fist[tip, 2] < open_[tip, 2] - 0.01
        assert fist[tip, 1] < 0.8 * open_[tip, 1]


@pytest.mark.parametrize("aperture", [0.03, 0.05, 0.07, 0.09])
def test_a_pinch_opens_as_wide_as_asked(aperture):
    for scale in (0.9, 1.0, 1.08):
        joints = hand_joints(pinch_closure(aperture, scale), scale=scale)
        assert np.linalg.norm(joints[4] - joints[8]) == pytest.approx(aperture, abs=0.004)


def test_the_right_thumb_is_on_the_left_with_the_palm_down():
    joints = hand_joints(np.full(5, 0.2))
    assert (joints[2:5, 0] < joints[[6, 10, 14, 18], 0].min()).all()


def test_a_reaching_hand_has_its_grip_point_at_the_target():
    rng, target = np.random.default_rng(0), np.array([0.1, 0.05, 0.08])
    for side in ("left", "right"):
        look = sample_look(rng)
        pose = reaching_pose(side, target, np.full(5, 0.4), look, rng)
        R, wrist = pose.T_world_hand[:3, :3], pose.T_world_hand[:3, 3]
        np.testing.assert_allclose(R @ grip_point(pose.closure, look.scale, side) + wrist, target)
        assert np.linalg.det(R) == pytest.approx(1.0)


def test_every_joint_lies_inside_the_flesh():
    rng = np.random.default_rng(0)
    for _ in range(20):
        look = sample_look(rng)
        pose = HandPose("right", np.eye(4), rng.random(5), rng.random())
        flesh = capsules(pose, look)
        assert {c.id for c in flesh} == {HAND_IDS["right"]}
        for joint in joints_world(pose, look):
            inside = []
            for c in flesh:
                axis = c.end - c.start
                t = np.clip((joint - c.start) @ axis / (axis @ axis), 0, 1)
                inside.append(c.radius - np.linalg.norm(joint - c.start - t * axis))
            assert max(inside) > 0.004

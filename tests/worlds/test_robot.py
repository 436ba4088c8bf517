"""The tabletop's robot: what its seven numbers do, its tasks, and how they are judged."""

from dataclasses import replace

import numpy as np
import pytest

from vipa.geometry import invert, project, transform
from vipa.worlds.experts import perform
from vipa.worlds.objects import SceneObject
from vipa.worlds.robot import OPENING, POSITION_SCALE, ROTATION_SCALE, WORKSPACE
from vipa.worlds.robot_env import TabletopEnv
from vipa.worlds.seeds import TEST
from vipa.worlds.tasks import DIRECTIONS, STEP_LIMITS, TASKS, sample_task, surface_distance

STAY = np.array([0.0, 0, 0, 0, 0, 0, -1])


def env(task="touch", seed=TEST[0], **changes) -> TabletopEnv:
    return TabletopEnv(task, seed, **{"size": 32} | changes)


def drive(e: TabletopEnv, action, steps: int) -> None:
    for _ in range(steps):
        e.robot.apply(np.asarray(action, dtype=float))


@pytest.mark.parametrize("axis", range(3))
def test_a_position_delta_moves_the_tool_by_its_scale_along_the_world_axis(axis):
    e = env()
    before = e.robot.tip
    action = STAY.copy()
    action[axis] = -0.5
    drive(e, action, 2)
    drive(e, STAY, 3)
    expected = np.zeros(3)
    expected[axis] = -POSITION_SCALE
    np.testing.assert_allclose(e.robot.tip - before, expected, atol=0.003)


def test_a_rotation_delta_turns_the_tool_by_its_scale_about_the_world_axis():
    e = env()
    action = STAY.copy()
    action[5] = 0.6
    drive(e, action, 1)
    drive(e, STAY, 3)
    np.testing.assert_allclose(e.robot.state[3:6], [0, 0, 0.6 * ROTATION_SCALE], atol=0.01)


def test_a_positive_gripper_closes_and_a_negative_one_opens():
    e = env()
    drive(e, [0, 0, 0, 0, 0, 0, 1], 6)
    np.testing.assert_allclose(e.robot.fingers, 0.0, atol=0.003)
    drive(e, STAY, 6)
    np.testing.assert_allclose(e.robot.fingers, OPENING, atol=0.003)
    np.testing.assert_allclose(e.robot.state[6:], [OPENING, -OPENING], atol=0.003)


def test_the_goal_stays_in_the_workspace_and_near_the_tool():
    e = env()
    drive(e, [1, 1, 1, 0, 0, 0, -1], 25)
    assert (e.robot.tip < WORKSPACE[1] + 0.01).all()


@pytest.mark.parametrize("action", [np.zeros(6), np.full(7, np.nan)])
def test_an_action_that_is_not_seven_finite_numbers_is_refused(action):
    with pytest.raises(ValueError, match="7 finite numbers"):
        env().robot.apply(action)


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_does_what_is_asked(task):
    done = []
    for seed in TEST[:3]:
        e = env(task, seed)
        list(perform(e))
        done.append(e.success)
    assert all(done)


@pytest.mark.parametrize("task", TASKS)
def test_doing_nothing_fails_by_time_alone(task):
    e = env(task)
    while not e.done:
        e.step(STAY)
    assert (e.failure, e.steps) == ("out of time", STEP_LIMITS[task])


def test_an_episode_is_the_same_again_after_reset_and_in_another_environment():
    e = env("lift")
    first = [action for _, action in perform(e)]
    again = [action for _, action in perform(e)]
    other = [action for _, action in perform(env("lift"))]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, other)


def test_touching_a_distractor_first_is_a_failure_that_names_it():
    e = env()
    wrong = next(i for i in range(len(e.task.scene.objects)) if i != e.task.target)
    e.task = replace(e.task, target=wrong)
    list(perform(e))
    assert e.success
    e = env()
    right = e.task.target
    e.task = replace(e.task, target=wrong)
    expert_steps = [action for _, action in perform(e)]
    e.task = replace(e.task, target=right)
    e.reset()
    for action in expert_steps:
        e.step(action)
    assert e.failure == f"touched the {e.task.scene.objects[wrong].name}"


def test_a_step_after_the_end_is_refused():
    e = env()
    list(perform(e))
    with pytest.raises(ValueError, match="is over"):
        e.step(STAY)


@pytest.mark.parametrize("task", TASKS)
def test_words_are_needed_to_choose_the_target(task):
    for seed in TEST[:40]:
        instance = sample_task(task, seed)
        objects, target = instance.scene.objects, instance.scene.objects[instance.target]
        others = [o for i, o in enumerate(objects) if i != instance.target]
        assert target.name in instance.text
        assert any(o.kind == target.kind and o.colour != target.colour for o in others)
        assert len({o.name for o in objects}) == len(objects)
        if task == "place":
            goal = objects[instance.goal]
            assert f"on the {goal.name}" in instance.text
            assert any(o.kind == goal.kind and o.colour != goal.colour for o in others)
        else:
            assert any(o.colour == target.colour and o.kind != target.kind for o in others)


@pytest.mark.parametrize("words", DIRECTIONS)
def test_direction_words_are_those_of_the_camera_s_view(words):
    scene = sample_task("push", TEST[0]).scene
    points = np.array([[0.0, 0.03, 0.0], [*(0.05 * np.array(DIRECTIONS[words]) + [0, 0.03]), 0.0]])
    in_camera = transform(invert(scene.T_world_camera), points)
    pixels = project(in_camera, scene.intrinsics(112, 112).matrix)
    (du, dv), dz = pixels[1] - pixels[0], in_camera[1, 2] - in_camera[0, 2]
    shown = {"to the left": -du, "to the right": du, "forward": dz, "backward": -dz}
    assert max(shown, key=lambda k: shown[k]) == words or abs(dv) > abs(du)
    assert shown[words] > 0


def test_no_fixed_place_touches_the_target_often():
    grid = [(x, y) for x in np.linspace(-0.2, 0.2, 5) for y in np.linspace(-0.14, 0.16, 5)]
    hits, n = np.zeros(len(grid)), 150
    for seed in TEST[:n]:
        task = sample_task("touch", seed)
        thing = task.scene.objects[task.target]
        for k, place in enumerate(grid):
            hits[k] += surface_distance(thing, thing.T_world_object, np.array([*place, 0.02])) <= 0.02
    assert hits.max() / n < 0.22
    assert hits[len(grid) // 2] / n < 0.06


def test_surface_distance_is_that_of_the_box_or_cylinder():
    def thing(kind, size):
        return SceneObject(kind, "red", f"red {kind}", (1, 0, 0), np.array(size), np.zeros(3), 0.0, "plain")

    box, can = thing("box", [0.1, 0.2, 0.1]), thing("can", [0.06, 0.06, 0.1])
    T = np.eye(4)
    assert surface_distance(box, T, np.array([0.08, 0.0, 0.09])) == pytest.approx(0.05)
    assert surface_distance(can, T, np.array([0.03, 0.04, 0.0])) == pytest.approx(0.02)
    assert surface_distance(can, T, np.zeros(3)) == 0.0


def test_unknown_tasks_and_views_are_refused():
    with pytest.raises(ValueError, match="'juggle' is unknown"):
        sample_task("juggle", TEST[0])
    with pytest.raises(ValueError, match="top"):
        env(views=("top",))


def test_both_views_show_something_and_have_the_size_asked_for():
    seen = env(views=("agent", "wrist"), size=48).observe()
    assert {v: i.shape for v, i in seen.images.items()} == {"agent": (48, 48, 3), "wrist": (48, 48, 3)}
    assert all(image.std() > 5 for image in seen.images.values())

"""Axes of change: each changes its own part and nothing else, the same for the same seed, and stays possible."""

from typing import get_args

import numpy as np
import pytest

from vipa.benchmarks.tabletop_benchmark import Axis
from vipa.worlds.changes import CHANGES, changed
from vipa.worlds.experts import perform
from vipa.worlds.robot_env import TabletopEnv
from vipa.worlds.seeds import VALIDATION
from vipa.worlds.tasks import AREA, TASKS, TaskInstance, sample_task


def parts(task: TaskInstance) -> dict[str, object]:
    """Of an episode, as plain values."""
    s = task.scene
    return {
        "words": task.text,
        "camera": [*s.T_world_camera.ravel(), s.fov],
        "light": [*s.light.direction, s.light.diffuse, s.light.ambient, s.light.head],
        "surfaces": [(x.rgb, x.pattern, x.repeat) for x in (s.table, s.floor, s.wall)],
        "patterns": [o.pattern for o in s.objects],
        "places": [tuple(o.position) for o in s.objects],
        "things": [(o.name, tuple(o.size), o.rgb, o.yaw) for o in s.objects],
        "asked": [task.target, task.goal, task.step_limit, *task.start],
    }


CHANGING = {
    "camera_pose": {"camera"},
    "light": {"light"},
    "textures": {"surfaces", "patterns"},
    "distractors": {"things", "places", "patterns"},
    "layout": {"places"},
    "wording": {"words"},
}


@pytest.mark.parametrize("axis", CHANGES)
@pytest.mark.parametrize("name", TASKS)
def test_an_axis_changes_its_own_part_alone_and_from_the_seed_alone(axis, name):
    for seed in VALIDATION[:12]:
        before, after = sample_task(name, seed), changed(sample_task(name, seed), {axis: 1.0})
        was, now = parts(before), parts(after)
        assert {part for part in was if was[part] != now[part]} == CHANGING[axis], seed
        assert now == parts(changed(sample_task(name, seed), {axis: 1.0}))
        for thing, same in zip(before.scene.objects, after.scene.objects):  # the first are the old ones
            assert thing.name == same.name


def test_without_changes_the_task_is_trainings():
    task = sample_task("touch", VALIDATION[0])
    assert changed(task, {}) is task
    assert changed(task, dict.fromkeys(CHANGES, 0.0)) is task


def test_a_stronger_change_is_farther_from_training():
    def turned(strength):
        angles = []
        for seed in VALIDATION[:20]:
            task = sample_task("touch", seed)
            there = changed(task, {"camera_pose": strength})
            angles.append(np.arccos(task.scene.T_world_camera[:3, 2] @ there.scene.T_world_camera[:3, 2]))
        return np.rad2deg(np.mean(angles))

    assert turned(0.3) < turned(0.6) < turned(1.0)
    assert turned(1.0) > 8.0


@pytest.mark.parametrize("name", TASKS)
def test_a_changed_layout_puts_the_target_where_training_puts_nothing(name):
    for seed in VALIDATION[:12]:
        task = changed(sample_task(name, seed), {"layout": 1.0})
        x, y = task.scene.objects[task.target].position[:2]
        assert not (AREA[0][0] <= x <= AREA[1][0] and AREA[0][1] <= y <= AREA[1][1])


def test_other_words_name_the_same_colour():
    for seed in VALIDATION[:30]:
        task = changed(sample_task("lift", seed), {"wording": 1.0})
        thing = task.scene.objects[task.target]
        assert thing.colour in task.text
        assert thing.kind not in task.text.replace(",", "").split()
        assert "pick up" not in task.text


@pytest.mark.parametrize("axis", CHANGES)
def test_the_expert_still_succeeds_in_the_changed_scene(axis):
    env = TabletopEnv("lift", VALIDATION[0], size=16, changes={axis: 1.0})
    for _ in perform(env):
        pass
    assert env.success, env.failure


def test_the_command_knows_every_axis():
    assert get_args(Axis) == tuple(CHANGES)


def test_what_is_no_change_is_refused():
    task = sample_task("touch", VALIDATION[0])
    with pytest.raises(ValueError, match=r"\['weather'\] are unknown; known: camera_pose"):
        changed(task, {"weather": 1.0})
    with pytest.raises(ValueError, match=r"change light: strength 1\.5 must be within 0\.\.1"):
        changed(task, {"light": 1.5})

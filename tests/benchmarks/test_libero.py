"""LIBERO: the protocol as a value, the expert's geometry, and, where its simulator is there, the real thing.

The slow tests need VIPA_LIBERO_PYTHON, the Python of an environment as docs/libero.md installs it (with
LIBERO_CONFIG_PATH where its assets are named): `pytest -m slow tests/benchmarks/test_libero.py`, some minutes.
"""

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vipa.benchmarks import libero_benchmark
from vipa.benchmarks.libero_benchmark import STEPS, Settings
from vipa.clips.video import ArrayFrames
from vipa.robots.episodes import Episode
from vipa.robots.libero_expert import Hand, LiberoExpert, Scene, TrueObservation

PYTHON = os.environ.get("VIPA_LIBERO_PYTHON", "")
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "libero_observation"
real_simulator = pytest.mark.skipif(not PYTHON, reason="VIPA_LIBERO_PYTHON is not set")


def test_the_protocol_is_the_one_that_reproduces_published_scores():
    """By hand, from the protocol in use for published scores."""
    assert STEPS == {
        "libero_spatial": 220,
        "libero_object": 280,
        "libero_goal": 300,
        "libero_10": 520,
        "libero_90": 400,
    }
    assert libero_benchmark.params("libero_goal") == {
        "suite": "libero_goal",
        "seed": 7,
        "num_steps_wait": 10,
        "send_state": True,
        "send_wrist_image": True,
        "quat_no_antipodal": True,
    }
    assert Settings(out=Path("x")).episodes == 50


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suites": ("libero_100",)}, "'libero_100' is unknown; known: libero_spatial"),
        ({"model": ""}, "say MODEL or --server ADDRESS"),
        ({"server": "ws://a:1"}, "say MODEL or --server ADDRESS"),
        ({"python": "/nowhere/python"}, "/nowhere/python: no such program"),
        ({"look_every": 3}, "--look-every 3: --execute 4 is no multiple of it"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, changes, words):
    settings = replace(Settings(model="expert", out=tmp_path, python="python"), **changes)
    with pytest.raises(ValueError, match=words):
        libero_benchmark.run(settings)


def looking_down(x, y, z, opening=0.08, yaw=np.pi / 2):
    """A state with the fingers down, closing along `yaw`."""
    turn = Rotation.from_euler("z", yaw + np.pi / 2) * Rotation.from_euler("x", np.pi)
    return np.array([x, y, z, *turn.as_rotvec(), opening / 2, -opening / 2])


def asked(scene, state):
    return LiberoExpert().act(TrueObservation({}, state, "put it there", (0, 0), scene))


def a_scene(x=0.1, y=0.0, width=0.04, length=0.08, yaw=np.pi / 2, held=False):
    table = [0.0, 0.0, -0.05, 0.0, 2.0, 2.0, 0.0]
    return Scene(
        np.array([x, y, 0.0, 0.05, width, length, yaw]), held, np.array([-0.1, 0.2, 0.0]), np.array([table])
    )


def test_the_hand_reads_its_yaw_from_a_state_of_either_sign():
    state = looking_down(0, 0, 0.3, yaw=0.4)
    other = state.copy()
    angle = np.linalg.norm(state[3:6])
    other[3:6] *= (angle - 2 * np.pi) / angle  # the same rotation, the long way around
    assert Hand.of(state).yaw == pytest.approx(0.4)
    assert Hand.of(other).yaw == pytest.approx(0.4)


def test_the_expert_goes_over_the_object_opened_and_closes_around_it():
    scene = a_scene()
    away = asked(scene, looking_down(-0.1, 0.0, 0.25))
    assert away[0] > 0.5 and abs(away[1]) < 1e-9 and away[6] == -1
    there = asked(scene, looking_down(0.1, 0.0, 0.02))
    assert there[6] == 1 and np.abs(there[:6]).max() < 0.1


def test_the_expert_turns_the_fingers_along_the_narrow_side_the_short_way():
    action = asked(a_scene(yaw=0.3), looking_down(0.1, 0.0, 0.2, yaw=0.3 + np.pi - 0.4))
    assert action[5] == pytest.approx(0.4, abs=1e-6)  # half of 0.4 rad, 0.5 rad being 1
    assert np.abs(action[3:5]).max() < 1e-6


def test_the_expert_carries_it_over_what_stands_between():
    wall = np.array([0.0, 0.1, 0.0, 0.15, 0.02, 1.0, 0.0])
    scene = a_scene(held=True)
    scene = replace(scene, boxes=np.vstack([scene.boxes, wall]))
    low = asked(scene, looking_down(0.1, 0.0, 0.02, 0.04))
    assert low[2] > 0.5 and np.abs(low[:2]).max() < 1e-9 and low[6] == 1  # up first
    high = replace(scene, target=scene.target + [0, 0, 0.2, 0.2, 0, 0, 0])
    over = asked(high, looking_down(0.1, 0.0, 0.22, 0.04))
    assert over[0] < -0.4 and over[1] > 0.4


def test_a_turned_box_is_as_far_as_it_is():
    box = np.array([1.0, 2.0, 0.0, 0.1, 0.2, 0.4, np.pi / 6])
    scene = replace(a_scene(), boxes=box[None])
    axis = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    points = np.array([[1.0, 2.0], [1, 2] + 0.15 * axis, [1, 2] + 0.5 * np.array([-axis[1], axis[0]])])
    np.testing.assert_allclose(scene.gaps(points), [[0.0, 0.05, 0.3]], atol=1e-12)


def test_a_task_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="does not know how to 'turn on the stove'"):
        LiberoExpert().act(TrueObservation({}, looking_down(0, 0, 0.3), "turn on the stove"))


def test_rows_that_move_nothing_are_left_out():
    from vipa.benchmarks.libero_recorder import without_still_rows

    action = np.zeros((4, 7))
    action[:, 6] = (-1, -1, 1, 1)  # still, still, closes, still
    action[0, 0] = 0.5
    frames = ArrayFrames(np.arange(4)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8))
    kept = without_still_rows(Episode("a", {"agentview": frames}, np.zeros((4, 8)), action, "go", 20.0))
    assert kept.views["agentview"].read([0, 1])[:, 0, 0, 0].tolist() == [0, 2]
    assert kept.action[:, 6].tolist() == [-1, 1] and kept.notes["still_rows_left_out"] == 2


# From here on with the simulator.


@pytest.fixture(scope="module")
def world():
    from vipa.benchmarks.libero_recorder import World

    world = World(PYTHON, "libero_spatial")
    yield world
    world.close()


@real_simulator
@pytest.mark.slow
def test_the_first_observation_is_that_of_a_public_recording(world):
    """Of openvla-oft's sample: the same initial state after ten settling steps, upright views, the sign of the
    axis-angle. Stand-in textures keep the pictures from being equal; turned ones do not correlate."""
    if not REAL.exists():
        pytest.skip("no recorded observation here")
    from PIL import Image

    recorded = np.load(REAL / "libero_spatial_observation.npz")
    seen = world.ask({"task": world.tasks.index(str(recorded["task_description"])), "scene": 0})
    np.testing.assert_allclose(seen["states"], recorded["state"], atol=1e-5)
    for view, name in (("agentview", "full_image"), ("wrist", "wrist_image")):
        ours = np.asarray(Image.fromarray(seen["images"][view]).resize((224, 224)), dtype=float)
        theirs = recorded[name].astype(float)
        same = [np.corrcoef(turned.ravel(), theirs.ravel())[0, 1] for turned in (ours, ours[::-1], ours[:, ::-1])]
        assert same[0] > 0.85 and max(same[1:]) < 0.5


@real_simulator
@pytest.mark.slow
def test_pictures_at_every_fourth_step_are_those_of_every_step():
    """To the bit where they are made, also after a reset; in between the last one stays."""
    from vipa.benchmarks.libero_recorder import LiberoEpisode, World

    worlds = [World(PYTHON, "libero_object", look_every=every) for every in (1, 4)]
    for scene in (0, 1):
        always, seldom = (LiberoEpisode(world, 0, scene) for world in worlds)
        for step in range(10):
            seen, glimpsed = always.observation(), seldom.observation()
            np.testing.assert_array_equal(seen.state, glimpsed.state)
            if step % 4 == 0:
                last = seen.images
            for view, picture in last.items():
                np.testing.assert_array_equal(picture, glimpsed.images[view])
            assert step % 4 == 0 or np.any(seen.images["wrist"] != last["wrist"])
            for episode in (always, seldom):
                episode.advance(np.array([0.5, 0.3, -0.5, 0, 0, 0.2, -1]))
    for world in worlds:
        world.close()


@real_simulator
@pytest.mark.slow
def test_a_demonstration_played_again_succeeds():
    """With all its rows: the recorded actions in the same scene, without looking."""
    from vipa.benchmarks.libero_recorder import LiberoEpisode, World
    from vipa.benchmarks.recorders import play

    world = World(PYTHON, "libero_object", 0, new_scenes=True)
    played = play(LiberoExpert(), LiberoEpisode(world, 0, 3), 1, id="a")
    again = LiberoEpisode(world, 0, 3)
    for action in played.action:
        again.advance(action)
    world.close()
    assert played.success and again.success


@real_simulator
@pytest.mark.slow
@pytest.mark.skipif(find_spec("vla_eval") is None, reason="the extra `vla-eval` is not installed")
def test_the_expert_succeeds_through_the_harness(tmp_path):
    settings = Settings(model="expert", out=tmp_path, python=PYTHON, suites=("libero_object",), tasks=(0, 1))
    result = libero_benchmark.run(replace(settings, episodes=1, videos=0, processes=2))
    assert result.scores["all"].successes == 2

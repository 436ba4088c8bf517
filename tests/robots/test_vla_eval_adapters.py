"""What vla-eval's own adapters of LIBERO and RoboCasa send and take is what our contracts say; simulators made up."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("vla_eval", reason="the extra `vla-eval` is not installed")

from scipy.spatial.transform import Rotation
from vla_eval.benchmarks.libero.benchmark import LIBEROBenchmark
from vla_eval.benchmarks.robocasa.benchmark import ATOMIC_TASKS, RoboCasaBenchmark
from vla_eval.recording import NullEpisodeRecorder
from vla_eval.registry import resolve_import_string
from vla_eval.specs import check_specs

from vipa.benchmarks import (
    libero_benchmark,
    libero_plus_benchmark,
    libero_pro_benchmark,
    robocasa_benchmark,
    simpler_benchmark,
)
from vipa.robots.known import libero, robocasa
from vipa.robots.serving.vla_eval_server import PolicyModelServer, action_specs
from vipa.robots.transforms import pipeline_of

STATE = {"position": [0.1, -0.2, 0.9], "fingers": [0.04, -0.03]}
TURN = Rotation.from_rotvec([3.0, 0.3, -0.2])  # near LIBERO's rest, half a turn about x


class Recorder:
    """A simulator that only remembers what it was told."""

    def __init__(self, width=7):
        self.told, self.action_spec = [], (np.zeros(width), np.ones(width))
        controller = SimpleNamespace(ee_pos=np.zeros(3), ee_ori_mat=np.eye(3))
        self.robots = [SimpleNamespace(controller=controller)]

    def step(self, action):
        self.told.append(np.array(action))
        return {}, 0.0, False, {}

    def _check_success(self):
        return False


class Zeros:
    def __init__(self, contract, views):
        self.contract, self.identity = replace(contract, views=views), {}

    def __call__(self, observations):
        return np.zeros((len(observations), self.contract.horizon, len(self.contract.action)))


def raw(prefix, quaternion, images, rng):
    """robosuite's observation: pictures as OpenGL gives them, quaternions with the scalar last."""
    pictures = {f"{name}_image": rng.integers(0, 255, (256, 256, 3), dtype=np.uint8) for name in images}
    names = ("base_to_eef_pos", "base_to_eef_quat") if prefix == "base" else ("eef_pos", "eef_quat")
    numbers = {
        f"robot0_{names[0]}": np.array(STATE["position"]),
        f"robot0_{names[1]}": np.array(quaternion),
        "robot0_gripper_qpos": np.array(STATE["fingers"]),
    }
    return {**pictures, **numbers}


def seen(contract, state):
    """What the model sees of a state, before normalisation."""
    return pipeline_of(contract).forward({"state": np.asarray(state, np.float64)})["state"]


@pytest.mark.parametrize("sign", [1, -1])
def test_libero_s_observation_reaches_the_policy_upright_and_with_one_rotation(sign, rng):
    benchmark = LIBEROBenchmark(**libero_benchmark.params("libero_object"))
    benchmark._env = Recorder()
    there = raw("world", sign * TURN.as_quat(), ("agentview", "robot0_eye_in_hand"), rng)
    contract = libero.contract()
    server = PolicyModelServer(Zeros(contract, ("agentview", "wrist")))
    observation = server.read(benchmark.make_obs(there, {"name": "open it"}), (0, 0))
    np.testing.assert_array_equal(observation.images["agentview"], np.rot90(there["agentview_image"], 2))
    np.testing.assert_array_equal(observation.images["wrist"], np.rot90(there["robot0_eye_in_hand_image"], 2))
    assert observation.text == "open it"
    np.testing.assert_allclose(observation.state[[0, 1, 2, 6, 7]], STATE["position"] + STATE["fingers"], atol=1e-6)
    np.testing.assert_allclose(seen(contract, observation.state)[3:6], TURN.as_rotvec(), atol=1e-5)


def test_libero_takes_our_actions_as_they_are(rng):
    benchmark = LIBEROBenchmark()
    benchmark._env, benchmark._recorder = Recorder(), NullEpisodeRecorder()
    benchmark._proprio_state = lambda obs: np.zeros(8)
    action = rng.uniform(-1, 1, 7)
    benchmark.step({"actions": action.astype(np.float32)})
    np.testing.assert_allclose(benchmark._env.told[0], [*action[:6], np.sign(action[6])], atol=1e-6)
    assert not check_specs(action_specs(libero.contract()), benchmark.get_action_spec(), {}, {})


def robocasa_benchmark_of(**changes):
    settings = robocasa_benchmark.Settings(model="some", out="out", **changes)
    return RoboCasaBenchmark(**robocasa_benchmark.params(settings))


def test_robocasa_s_observation_reaches_the_policy_upright_with_its_quaternion_read_right(rng):
    benchmark = robocasa_benchmark_of()
    cameras = tuple(robocasa_benchmark.CAMERAS.values())
    there = raw("base", TURN.as_quat(), cameras, rng)
    benchmark._lang = "close the drawer"
    contract = robocasa.contract()
    server = robocasa_benchmark.served(Zeros(contract, contract.views), 4)
    observation = server.read(benchmark.make_obs(there, {"name": "CloseDrawer"}), (0, 0))
    for view, camera in robocasa_benchmark.CAMERAS.items():  # upside down only, not turned as LIBERO's
        np.testing.assert_array_equal(observation.images[view], there[f"{camera}_image"][::-1])
    assert observation.text == "close the drawer"
    numbers = seen(contract, observation.state)
    np.testing.assert_allclose(numbers[:3], STATE["position"], atol=1e-6)
    np.testing.assert_allclose(numbers[3:9], TURN.as_matrix()[:, :2].T.ravel(), atol=1e-6)
    np.testing.assert_allclose(numbers[9:], STATE["fingers"], atol=1e-6)


def test_robocasa_moves_the_arm_and_leaves_the_base(rng):
    benchmark = robocasa_benchmark_of()
    benchmark._env, benchmark._recorder, benchmark._horizon = Recorder(12), NullEpisodeRecorder(), 9
    action = rng.uniform(-1, 1, len(robocasa.contract().action))
    benchmark.step({"actions": action})
    np.testing.assert_array_equal(benchmark._env.told[0], [*action, 0, 0, 0, 0, 0])


def test_robocasa_plays_the_tasks_that_are_asked_for():
    assert [task["name"] for task in robocasa_benchmark_of().get_tasks()] == ATOMIC_TASKS
    assert [t["name"] for t in robocasa_benchmark_of(tasks=("CloseDrawer",)).get_tasks()] == ["CloseDrawer"]


def test_a_policy_that_sees_fewer_cameras_is_sent_those(rng):
    contract = robocasa.contract()
    server = robocasa_benchmark.served(Zeros(contract, ("left", "wrist")), 4)
    images = {name: np.zeros((32, 32, 3), np.uint8) for name in robocasa_benchmark.CAMERAS.values()}
    observation = server.read({"images": images, "states": np.zeros(9), "task_description": "x"}, (0, 0))
    assert set(observation.images) == {"left", "wrist"}


@pytest.mark.parametrize("module", [libero_plus_benchmark, libero_pro_benchmark, simpler_benchmark])
def test_the_adapters_take_what_they_are_asked_with(module, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "evaluate", lambda settings, name, entries, *_, **__: asked.extend(entries))
    module.run(module.Settings(model="some", out="out"))
    for entry in asked:
        benchmark = resolve_import_string(entry.benchmark)(**entry.params)
        assert benchmark.send_state
        assert entry.steps == benchmark.get_metadata()["max_steps"]

"""The tabletop inside vla-eval: its own runner, server loop and policies play it, and it means what ours means."""

import numpy as np
import pytest

pytest.importorskip("vla_eval", reason="the extra `vla-eval` is not installed")

import vla_eval
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.specs import GRIPPER_CLOSE_POS, POSITION_DELTA, ROTATION_AA, check_specs

from vipa.benchmarks.vla_eval_tabletop import TabletopBenchmark
from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.serving.vla_eval_server import action_specs
from vipa.worlds.experts import perform
from vipa.worlds.robot_env import TabletopEnv
from vipa.worlds.seeds import VALIDATION

NAME = "vipa.benchmarks.vla_eval_tabletop:TabletopBenchmark"


class Still(PredictModelServer):
    """What the harness's own smoke test serves: zeros. seen: what it was sent."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def get_action_spec(self):
        return {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}

    def get_observation_spec(self):
        return {}

    def predict(self, obs, ctx):
        self.seen.append(obs)
        return {"actions": np.zeros(7, np.float32)}


class Replay(Still):
    """The expert's actions, without looking, by what the harness says of the episode. actions: by task and index."""

    def __init__(self, actions):
        super().__init__()
        self.actions, self.left = actions, []

    async def on_episode_start(self, config, ctx):
        task = config["task"]
        self.left = list(self.actions[task["name"], task["episode_idx"]])
        await super().on_episode_start(config, ctx)

    def predict(self, obs, ctx):
        return {"actions": self.left.pop(0).astype(np.float32)}


def expert(task, seed, changes):
    return [action for _, action in perform(TabletopEnv(task, seed, size=16, changes=changes))]


def play(tmp_path, server, episodes=1, **params):
    params = {"split": "validation", "size": 32, **params}
    entry = {"benchmark": NAME, "episodes_per_task": episodes, "params": params}
    return vla_eval.evaluate(server, {"output_dir": str(tmp_path), "benchmarks": [entry]}, docker=False)[0]


def test_the_harness_s_smoke_test_passes(tmp_path):
    server = Still()
    result = play(tmp_path, server, tasks=["touch"], changes={"wording": 1.0})
    assert result["num_errors"] == 0
    (episode,) = result["tasks"][0]["episodes"]
    assert (episode["steps"], episode["metrics"]["success"]) == (40, False)
    assert episode["metrics"]["failure"] == "out of time"
    env = TabletopEnv("touch", VALIDATION[0], size=32, changes={"wording": 1.0})
    first = server.seen[0]
    assert first["task_description"] == env.text
    np.testing.assert_array_equal(first["images"]["agentview"], env.observe().images["agent"])
    np.testing.assert_allclose(first["states"], env.robot.state, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"layout": 1.0}])
def test_replayed_demonstrations_succeed_through_the_harness(tmp_path, changes):
    tasks = ("touch", "lift")
    actions = {(task, i): expert(task, VALIDATION[i], changes) for task in tasks for i in range(2)}
    result = play(tmp_path, Replay(actions), episodes=2, tasks=list(tasks), changes=changes)
    assert (result["mean_success"], result["num_episodes_total"]) == (1.0, 4)


def test_our_server_s_numbers_are_the_benchmark_s():
    theirs = TabletopBenchmark().get_action_spec()
    assert not check_specs(action_specs(tabletop_contract()), theirs, {}, {})


def test_a_real_time_run_holds_the_gripper_and_nothing_else():
    benchmark = TabletopBenchmark()
    np.testing.assert_array_equal(benchmark.get_hold_action(None)["actions"], [0, 0, 0, 0, 0, 0, -1])
    held = benchmark.get_hold_action({"actions": np.full(7, 0.5)})
    np.testing.assert_array_equal(held["actions"], [0, 0, 0, 0, 0, 0, 0.5])


def test_the_wrist_camera_comes_where_a_model_asks_for_it(tmp_path):
    server = Still()
    play(tmp_path, server, tasks=["touch"], send_wrist_image=True)
    assert set(server.seen[0]["images"]) == {"agentview", "wrist"}

"""`lerobot-rollout` of the lerobot package plays a VIPA policy on a robot: the tabletop, as a LeRobot robot.

Python 3.12, another environment than this suite's; see test_lerobot_plugin.py.
python -m pytest -m slow tests/robots/test_lerobot_rollout.py
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lerobot_policy_vipa", reason="the LeRobot plug-in is not installed here")

from lerobot_policy_vipa.converting import from_lerobot, to_lerobot

from vipa.robots.known.tabletop import collect
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.policy import Observation, VipaPolicy
from vipa.worlds.robot_env import VIEWS
from vipa.worlds.seeds import TRAIN

pytestmark = pytest.mark.slow
ROBOT = Path(__file__).parent / "lerobot_robot"
PLAYED = 4


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """An environment in which LeRobot finds the robot as it finds an installed package."""
    folder = tmp_path_factory.mktemp("installed")
    said = folder / "lerobot_robot_tabletop-0.1.dist-info"
    said.mkdir()
    (said / "METADATA").write_text("Metadata-Version: 2.1\nName: lerobot_robot_tabletop\nVersion: 0.1\n")
    path = os.pathsep.join([str(folder), str(ROBOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "HF_LEROBOT_HOME": str(folder / "home")}


@pytest.fixture(scope="module")
def policy(tmp_path_factory, installed) -> Path:
    """Two cameras, two steps of training."""
    folder = tmp_path_factory.mktemp("policy")
    collect(folder / "data", TRAIN[:3], views=VIEWS)
    set_ = (f"--dataset.root={folder / 'data'}", "--dataset.repo_id=vipa/tabletop", "--policy.push_to_hub=false")
    run = ("--steps=2", "--batch_size=2", "--num_workers=0", "--wandb.enable=false", "--policy.device=cpu")
    lerobot("train", installed, "--policy.type=vipa", *set_, *run, f"--output_dir={folder / 'run'}")
    return folder / "run" / "checkpoints" / "last" / "pretrained_model"


def lerobot(command: str, environment: dict[str, str], *options: str) -> str:
    module = f"lerobot.scripts.lerobot_{command}"
    done = subprocess.run(
        [sys.executable, "-m", module, *options], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def rollout(policy: Path, environment: dict[str, str], record: Path, *options: str) -> dict[str, np.ndarray]:
    """Three seconds of the robot at 10 Hz: what it showed and what it was told."""
    robot = ("--robot.type=tabletop", "--robot.task=touch", f"--robot.record={record}", "--robot.id=simulated")
    run = ("--fps=10", "--duration=3", "--return_to_initial_position=false", "--play_sounds=false")
    lerobot("rollout", environment, f"--policy.path={policy}", *robot, *run, *options)
    with np.load(record) as moments:
        return dict(moments)


def chunks(policy: VipaPolicy, moments: dict[str, np.ndarray], text: str) -> np.ndarray:
    """What the policy, asked directly, does where the robot was asked for a chunk."""
    answers = []
    for number, step in enumerate(range(0, len(moments["action"]), PLAYED)):
        state = moments["state"][step].astype(np.float32).astype(np.float64)
        seen = Observation({view: moments[view][step] for view in VIEWS}, state, text, (0, number))
        answers.append(policy.infer(seen)[:PLAYED])
    return np.concatenate(answers)[: len(moments["action"])]


@pytest.mark.parametrize("recorded", [False, True])
def test_the_robot_is_told_what_the_policy_says(policy, installed, tmp_path, recorded):
    """With and without LeRobot recording what is played, which is then read as any other data set."""
    text = "touch the red cup"
    from_lerobot(str(policy), tmp_path / "model")
    options = [f"--task={text}"]
    if recorded:
        set_ = tmp_path / "rollout"
        options = ["--strategy.type=sentry", f"--dataset.single_task={text}", "--dataset.fps=10"]
        options += [
            "--dataset.repo_id=vipa/rollout_tabletop",
            f"--dataset.root={set_}",
            "--dataset.push_to_hub=false",
        ]
    moments = rollout(policy, installed, tmp_path / "moments.npz", *options)
    assert len(moments["action"]) > 10 and np.ptp(moments["state"], axis=0).max() > 0.001
    asked = VipaPolicy.from_pretrained(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(moments["action"], chunks(asked, moments, text), atol=1e-5)
    if recorded:
        asked.contract.save(set_ / "contract.json")
        (episode,) = open_robot_data(set_)
        assert episode.text == text and set(episode.views) == set(VIEWS)
        np.testing.assert_allclose(episode.action, moments["action"][: len(episode)], atol=1e-6)
        np.testing.assert_allclose(episode.state, moments["state"][: len(episode)], atol=1e-6)


def test_real_time_chunking_of_lerobot_plays_it(installed, tmp_path):
    """Inference in another thread while the robot moves. The robot has a camera more than the policy looks at."""
    to_lerobot("nano:stage3", tmp_path / "policy", size=112)
    options = ("--inference.type=rtc", "--inference.rtc.execution_horizon=4", "--task=touch the red cup")
    moments = rollout(tmp_path / "policy", installed, tmp_path / "moments.npz", *options)
    assert len(moments["action"]) > 10 and np.isfinite(moments["action"]).all()

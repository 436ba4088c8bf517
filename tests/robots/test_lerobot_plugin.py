"""The LeRobot plug-in inside the lerobot package itself (Python 3.12, another environment than this suite's).

pip install lerobot[training] . packages/lerobot_policy_vipa pytest
python -m pytest -m slow tests/robots/test_lerobot_plugin.py
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

plugin = pytest.importorskip("lerobot_policy_vipa", reason="the LeRobot plug-in is not installed here")

import torch  # noqa: E402
from lerobot.configs import PreTrainedConfig  # noqa: E402
from lerobot.envs.utils import preprocess_observation  # noqa: E402
from lerobot.policies import make_policy, make_pre_post_processors  # noqa: E402
from lerobot_policy_vipa.contracts import contract_of  # noqa: E402
from lerobot_policy_vipa.converting import from_lerobot, to_lerobot  # noqa: E402
from lerobot_policy_vipa.modeling_vipa import LeRobotVipaPolicy  # noqa: E402

from vipa.robots.known.tabletop import collect  # noqa: E402
from vipa.robots.policy import Observation, VipaPolicy  # noqa: E402
from vipa.worlds.robot_env import VIEWS, TabletopEnv  # noqa: E402
from vipa.worlds.seeds import TRAIN  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six demonstrations of the tabletop, as LeRobot v3."""
    root = tmp_path_factory.mktemp("data")
    collect(root / "v3", TRAIN[:6], views=VIEWS)
    return root / "v3"


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    to_lerobot("nano:stage3", folder, size=112)
    return folder


def lerobot(command: str, *options: str) -> None:
    module = f"lerobot.scripts.lerobot_{command}"
    done = subprocess.run([sys.executable, "-m", module, *options], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def train(data: Path, out: Path, *options: str) -> Path:
    set_ = (f"--dataset.root={data}", "--dataset.repo_id=vipa/tabletop", "--policy.push_to_hub=false")
    run = ("--batch_size=4", "--num_workers=0", "--wandb.enable=false", "--policy.device=cpu")
    lerobot("train", *options, *set_, *run, f"--output_dir={out}")
    return out / "checkpoints" / "last" / "pretrained_model"


def seen(step: int = 0) -> tuple[dict, Observation]:
    """The same moment as LeRobot's environments give it, and as ours do."""
    env = TabletopEnv("touch", TRAIN[100], views=VIEWS)
    view = env.reset()
    given = preprocess_observation({"pixels": dict(view.images), "agent_pos": view.state})
    state = view.state.astype(np.float32).astype(np.float64)
    return given | {"task": [env.text]}, Observation(view.images, state, env.text, (0, step))


def chunk(folder: Path) -> np.ndarray:
    """Of a saved policy, through its own processors, the way LeRobot's commands load it."""
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    policy = make_policy(config, env_cfg=plugin.TabletopEnvConfig())
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    return after(policy.predict_action_chunk(before(seen()[0])))[0].numpy()


def test_a_checkpoint_converted_there_and_back_gives_equal_actions(converted, tmp_path):
    expected = VipaPolicy.from_pretrained("nano:stage3", device="cpu").infer(seen()[1])
    np.testing.assert_array_equal(chunk(converted), expected.astype(np.float32))
    from_lerobot(str(converted), tmp_path / "back")
    back = VipaPolicy.from_pretrained(tmp_path / "back", device="cpu").infer(seen()[1])
    np.testing.assert_allclose(back, expected, rtol=0, atol=1e-5)  # the shipped parts are put together otherwise


def test_it_trains_evaluates_saves_and_loads_again_with_equal_actions(data, tmp_path):
    """Twenty steps of `lerobot-train`, `lerobot-eval` on the tabletop, and one more step from what was saved."""
    saved = train(
        data,
        tmp_path / "first",
        "--policy.type=vipa",
        "--policy.start=nano:stage2",
        "--steps=20",
        "--save_freq=20",
    )
    first = chunk(saved)
    np.testing.assert_array_equal(chunk(saved), first)
    assert {"policy_preprocessor.json", "policy_postprocessor.json"} <= {p.name for p in saved.iterdir()}
    again = LeRobotVipaPolicy.from_pretrained(saved)
    again.save_pretrained(tmp_path / "again")
    for file in ("policy_preprocessor.json", "policy_postprocessor.json"):
        assert json.loads((saved / file).read_text())["steps"]
    for processor in make_pre_post_processors(again.config, pretrained_path=str(saved)):
        processor.save_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(chunk(tmp_path / "again"), first)

    env = ("--env.type=vipa_tabletop", "--env.task=touch", "--eval.n_episodes=2", "--eval.batch_size=2")
    lerobot(
        "eval",
        f"--policy.path={saved}",
        "--policy.device=cpu",
        *env,
        f"--output_dir={tmp_path / 'eval'}",
        "--seed=0",
    )
    info = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 2
    assert all(Path(path).stat().st_size for path in info["overall"]["video_paths"])

    further = train(data, tmp_path / "second", f"--policy.path={saved}", "--steps=1", "--save_freq=1")
    assert np.abs(chunk(further) - first).max() > 0


def test_a_set_that_says_nothing_is_taken_as_plain_numbers(data):
    from lerobot.datasets import LeRobotDatasetMetadata

    meta = LeRobotDatasetMetadata("vipa/tabletop", root=data)
    said = contract_of(meta, None, 8)
    (data / "contract.json").rename(data / "contract.aside")
    try:
        plain = contract_of(meta, None, 8)
    finally:
        (data / "contract.aside").rename(data / "contract.json")
    assert {d.unit for d in plain.action} == {"none"} and plain.views == said.views and plain.rate == said.rate
    np.testing.assert_allclose(plain.state_statistics.mean, said.state_statistics.mean, atol=0.02)


def test_rtc_keeps_what_will_have_been_played(converted):
    policy = LeRobotVipaPolicy.from_pretrained(converted)
    given, _ = seen()
    left = policy.predict_action_chunk(given)[0, 3:]
    padded = torch.cat([left, torch.zeros(5, 7)])  # as lerobot-rollout gives it
    new = policy.predict_action_chunk(given, inference_delay=2, prev_chunk_left_over=padded)
    np.testing.assert_allclose(new[0, :2], left[:2], atol=1e-5)

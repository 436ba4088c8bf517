"""From a LeRobot folder to a policy through one new file, on a small set and a real one."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_robots import small_contract, write_demonstrations
from vipa.cli import main
from vipa.robots.contract import Dimension
from vipa.robots.episodes import Episode, EpisodeSet
from vipa.robots.inspection import inspect_robot_data
from vipa.robots.known import find
from vipa.robots.policy import VipaPolicy
from vipa.robots.predictions import look_at, predict

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "gr00t_robot_sim_PickNPlace"

DOCUMENT = Path(__file__).parents[2] / "docs" / "your-robot.md"


def documented() -> list[list[str]]:
    """The commands of the document's first block, without `vipa`."""
    block = DOCUMENT.read_text().split("```bash\n")[1].split("```")[0]
    return [shlex.split(line)[1:] for line in block.splitlines()]


def walk(data: Path, tmp_path: Path, steps: int, monkeypatch) -> tuple[VipaPolicy, EpisodeSet]:
    """The commands of the document, the training a short one; of the last, what it serves."""
    monkeypatch.chdir(tmp_path)
    *commands, serve = documented()
    short = ["--steps", str(steps), "--images", "pixels", "--data.0.batch", "2", "--data.0.noise-draws", "1"]
    for command in commands:
        words = [str(data) if word == "DATA" else word for word in command]
        try:
            main([*words, *short, "--threads", "1"] if words[0] == "train" else words)
        except SystemExit as ended:
            assert not ended.code, words  # noqa: PT017
    assert (tmp_path / "numbers.png").read_bytes().startswith(b"\x89PNG")
    assert serve[0] == "serve"
    return VipaPolicy.from_pretrained(tmp_path / serve[1], device="cpu"), find("my_arm.py").read(data)


def test_a_small_set_becomes_a_policy_through_a_template(tmp_path, capsys, monkeypatch):
    data = write_demonstrations(tmp_path / "data", small_contract("My Arm", 5, 4), 2, rows=9, still=3)
    policy, episodes = walk(data, tmp_path, 1, monkeypatch)
    said = capsys.readouterr().out
    assert "2 episodes of 9 to 9 rows, 18 in all, at 10 Hz; 2 instructions" in said
    assert "view front: 32 x 32 pixels" in said and "no problems" in said
    assert re.search(r"action joint_3: 0\.7 to 0\.7 radian, absolute \(hardly moves", said)
    assert policy.contract.robot == "My Arm"
    episode = episodes[0]
    look = look_at(episode, 0)
    chunk = policy.infer(look)
    assert chunk.shape == (8, 4)
    assert np.isfinite(chunk).all()
    errors = predict(policy, episode).errors(episode)
    played = np.concatenate([chunk, policy.infer(look_at(episode, 8))[:1]])
    np.testing.assert_allclose(errors, np.abs(played - episode.action).mean(0), atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the real data set is not here")
def test_a_real_set_of_44_joints_becomes_a_policy_through_a_template(tmp_path, monkeypatch):
    policy, episodes = walk(REAL, tmp_path, 2, monkeypatch)
    assert policy.contract.robot == "GR1ArmsOnly"
    assert [d.name for d in policy.contract.action][22] == "right_arm_0"
    assert episodes[1].text == "pick the sweet potato from the counter and place it in the plate"
    episode = episodes[4]
    assert policy.infer(look_at(episode, 0)).shape == (8, 44)


def test_a_file_is_not_written_over(tmp_path):
    data = write_demonstrations(tmp_path / "data", small_contract("arm", 2, 2), 1)
    (tmp_path / "arm.py").write_text("mine")
    with pytest.raises((SystemExit, FileExistsError)):
        main(["robots", "template", str(data), "--out", str(tmp_path / "arm.py")])
    assert (tmp_path / "arm.py").read_text() == "mine"


@pytest.fixture
def recorded():
    """Joints in degrees, a gripper of -1 and 1, short episodes of one colour."""
    joint, gripper = Dimension("elbow", "radian", "absolute"), Dimension("gripper", "none", "absolute")
    contract = replace(
        small_contract("arm", 1, 1), action=(joint, gripper), state=(joint,), gripper="0 closed, 1 open"
    )
    rng = np.random.default_rng(0)
    action = np.column_stack([rng.uniform(-90, 90, 5), [-1, 1, 1, -1, 1]])
    grey = [np.full((8, 8, 3), 9, np.uint8)] * 5

    class Grey:
        def __len__(self):
            return 5

        def read(self, rows):
            return np.stack([grey[i] for i in rows])

    episode = Episode("e", {"front": Grey()}, rng.uniform(-1, 1, (5, 1)), action, " ", 10.0)
    return EpisodeSet(contract, ("e",), lambda _: episode)


def test_what_does_not_fit_the_contract_is_said(recorded):
    problems = "\n".join(inspect_robot_data(recorded).problems)
    for words in (
        "action elbow reaches",
        "are these degrees?",
        "may be '-1 open, +1 closed' or '+1 open, -1 closed'; the contract says '0 closed, 1 open'",
        "5 rows, fewer than a chunk of 8",
        "no instruction",
        "its first picture is of one colour",
    ):
        assert words in problems

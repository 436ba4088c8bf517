"""Recordings: what is stopped at any moment ends as what is not; nothing is tried twice; other settings are refused."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vipa.cli import main
from vipa.clips.video import ArrayFrames
from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.episodes import Episode
from vipa.robots.known.tabletop import demonstration
from vipa.robots.lerobot_data import open_robot_data
from vipa.robots.recording import LOG, Attempt, record
from vipa.worlds.experts import Noise
from vipa.worlds.seeds import TRAIN

PLACE = (Dimension("x", "metre", "absolute"),)
CONTRACT = ActionContract("toy", PLACE, PLACE, "base", "none", "none", 10.0, 4, ("front",))


def made(number: int) -> Episode:
    """Every third fails."""
    rng = np.random.default_rng(number)
    pictures, x = rng.integers(0, 256, (4, 16, 16, 3), np.uint8), rng.normal(size=(4, 1))
    return Episode(f"e{number}", {"front": ArrayFrames(pictures)}, x, x, "go", 10.0, success=number % 3 != 2)


class Attempts:
    """Endless; counts, and stops like Ctrl-C before attempt `stop`."""

    def __init__(self, stop: int | None = None):
        self.stop, self.made = stop, []

    def __iter__(self):
        number = 0
        while True:
            yield Attempt(f"e{number}", lambda number=number: self.make(number))
            number += 1

    def make(self, number: int) -> Episode:
        if number == self.stop:
            raise KeyboardInterrupt
        self.made.append(number)
        return made(number)


def contents(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_a_recording_that_was_stopped_ends_as_one_that_was_not(tmp_path, stop):
    record(tmp_path / "whole", CONTRACT, Attempts(), {"a": 1}, wanted=4)
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "parts", CONTRACT, Attempts(stop), {"a": 1}, wanted=4)
    rest = Attempts()
    done = record(tmp_path / "parts", CONTRACT, rest, {"a": 1}, wanted=4)
    assert rest.made == list(range(stop, 5))
    assert done.failed == ("e2",)
    assert [e.id for e in open_robot_data(tmp_path / "parts")] == ["e0", "e1", "e3", "e4"]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_an_episode_that_was_written_but_not_yet_counted_is_written_once(tmp_path):
    record(tmp_path, CONTRACT, Attempts(), {}, wanted=2)
    lines = (tmp_path / LOG).read_text().splitlines(keepends=True)
    (tmp_path / LOG).write_text("".join(lines[:-1]))
    record(tmp_path, CONTRACT, Attempts(), {}, wanted=3)
    assert [e.id for e in open_robot_data(tmp_path)] == ["e0", "e1", "e3"]


def test_failures_are_kept_where_they_are_asked_for_and_other_settings_are_refused(tmp_path):
    record(tmp_path, CONTRACT, Attempts(), {"noise": 1}, wanted=3, failures=True)
    assert [e.success for e in open_robot_data(tmp_path)] == [True, True, False]
    with pytest.raises(ValueError, match="noise was 1, is 2"):
        record(tmp_path, CONTRACT, Attempts(), {"noise": 2}, wanted=3, failures=True)


def test_processes_change_nothing(tmp_path):
    import functools

    attempts = [Attempt(f"e{n}", functools.partial(made, n)) for n in range(9)]
    for name, workers in (("one", 1), ("two", 2)):
        record(tmp_path / name, CONTRACT, attempts, {}, wanted=4, workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


SMALL = ["--tasks", "touch", "--size", "32"]


def test_the_verb_records_the_experts_and_goes_on(tmp_path, capsys):
    command = ["record", "tabletop", "--out", str(tmp_path), "--seed", "3", *SMALL]
    main([*command, "--episodes", "1"])
    main([*command, "--episodes", "2"])
    assert "1 episodes, 1 from before" in capsys.readouterr().out
    opened = open_robot_data(tmp_path)
    assert [e.seed for e in opened] == [TRAIN[3], TRAIN[4]]
    expected = demonstration("touch", TRAIN[3], size=32, noise=Noise())
    np.testing.assert_array_equal(opened[0].action, expected.action)
    np.testing.assert_array_equal(opened[0].views["agent"].read([0]), expected.views["agent"].read([0]))
    with pytest.raises(SystemExit):
        main([*command, "--episodes", "2", "--no-noise"])
    assert "noise was" in capsys.readouterr().err


def test_a_policy_is_recorded_as_an_evaluation_sees_it(tmp_path, capsys):
    options = ["--tasks", "touch", "--episodes", "1"]
    main(
        ["record", "tabletop", "--out", str(tmp_path / "data"), "--policy", "nano:stage3", "--failures", *options]
    )
    main(["evaluate", "tabletop", "nano:stage3", "--out", str(tmp_path / "run"), "--split", "train", *options])
    outcome = json.loads((tmp_path / "run/episodes.jsonl").read_text().splitlines()[0])
    episode = open_robot_data(tmp_path / "data")[0]
    assert (episode.seed, episode.success, len(episode), episode.notes["failure"]) == (
        outcome["seed"],
        outcome["success"],
        outcome["steps"],
        outcome["failure"],
    )


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_a_recording_that_is_killed_at_any_moment_ends_as_one_that_is_not(tmp_path):
    """`pytest -m slow tests/robots/test_recording.py`"""
    command = [
        sys.executable,
        "-m",
        "vipa",
        "record",
        "tabletop",
        "--episodes",
        "6",
        "--pictures",
        "video",
        *SMALL,
    ]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    rng, kills, log = np.random.default_rng(0), 0, tmp_path / "parts" / LOG
    while True:
        before = lines(log)
        with subprocess.Popen([*command, "--out", str(tmp_path / "parts")], start_new_session=True) as process:
            while process.poll() is None and lines(log) < before + 2:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                continue
        assert process.returncode == 0
        break
    assert kills
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")

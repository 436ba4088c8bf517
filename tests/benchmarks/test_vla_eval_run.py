"""Evaluations through vla-eval: what is wrong in one line, and every episode once whatever is killed."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from vipa.benchmarks.vla_eval_run import Entry, HarnessRun, Simulator, _finished, _queue, look, play

HERE = Path(__file__).parent
WORLD = Simulator({"toy": ["push far", "push near", "push hard"]}, {"vla-eval": "0.8.0"}, {}, 1)
needs_harness = pytest.mark.skipif(find_spec("vla_eval") is None, reason="the extra `vla-eval` is not installed")


def a_run(out, **changes):
    entries = (Entry("toy", "toy_world:ToyWorld", changes.pop("params", {}), changes.pop("tasks", ())),)
    start = {"python": sys.executable, "episodes": 4, "videos": 0}
    return HarnessRun(Path(out), "toy", "nobody", entries, **(start | changes))


@pytest.mark.parametrize(
    ("python", "words"),
    [("", "--python PATH: no such program"), ("/nowhere/python", "/nowhere/python: no such program")],
)
def test_no_python_is_said_in_a_line(tmp_path, python, words):
    with pytest.raises(ValueError, match=words):
        look(a_run(tmp_path, python=python))


@pytest.mark.skipif(find_spec("vla_eval") is not None, reason="vla-eval is installed here")
def test_a_python_without_the_harness_is_said_in_a_line(tmp_path):
    with pytest.raises(ValueError, match="vla-eval is not there"):
        look(a_run(tmp_path))


def test_a_name_of_two_words_is_refused():
    with pytest.raises(ValueError, match="one word"):
        Entry("two words", "a:B")


def a_recording(run, rows):
    """The part of vla-eval's recording that we read. rows: (task, episode, status, steps)."""
    run.out.mkdir(exist_ok=True)
    with sqlite3.connect(run.recording) as database:
        database.execute("CREATE TABLE work_queue (eval_id, item, task_idx, shard_id, done DEFAULT 0)")
        names = "eval_id, task_name, episode_id, status, steps, context, jsonl_path, failure_detail"
        database.execute(f"CREATE TABLE episode_results ({names})")
        for task, episode, status, steps in rows:
            context = json.dumps({"task_idx": task})
            values = ("run-toy", "push", episode, status, steps, context, "", "Traceback\nRuntimeError: no light")
            database.execute("INSERT INTO episode_results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        database.execute("INSERT INTO work_queue VALUES ('run-toy', 7, 1, 0, 0)")  # of a killed process
    database.close()


def test_an_episode_counts_once_and_an_error_never(tmp_path):
    run = a_run(tmp_path)
    a_recording(run, [(0, 0, "success", 2), (0, 0, "fail", 4), (0, 1, "error", 0), (2, 3, "fail", 4)])
    finished = _finished(run)
    assert {job: row["status"] for job, row in finished.items()} == {
        ("toy", 0, 0): "success",
        ("toy", 2, 3): "fail",
    }


@pytest.mark.parametrize("episodes", [4, 6, 2])
def test_a_queue_anew_has_what_is_done_and_nothing_that_was_taken(tmp_path, episodes):
    """Numbers in the queue go with the number of episodes, which may have changed."""
    run = a_run(tmp_path, episodes=episodes)
    a_recording(run, [(0, 0, "success", 2), (2, 1, "fail", 4), (1, 5, "fail", 4)])
    _queue(run, _finished(run))
    with sqlite3.connect(run.recording) as database:
        rows = database.execute("SELECT item, task_idx, shard_id, done FROM work_queue ORDER BY item").fetchall()
    database.close()
    expected = [(task * episodes + e, task, None, 1) for task, e in ((0, 0), (1, 5), (2, 1)) if e < episodes]
    assert rows == expected


def test_all_done_is_scored_without_a_simulator(tmp_path):
    """Tasks keep their own numbers where only some are played."""
    run = a_run(tmp_path, episodes=2, tasks=(2, 0))
    a_recording(run, [(0, 0, "success", 2), (0, 1, "fail", 4), (1, 0, "success", 2), (1, 1, "success", 2)])
    result = play(run, "ws://nowhere", {"weights": "a"}, WORLD)
    assert {task: (s.successes, s.trials) for task, s in result.task_scores.items()} == {
        "toy/0": (1, 2),
        "toy/2": (2, 2),
    }
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["scores"]["all"]["successes"] == 3 and saved["protocol"]["identity"] == {"weights": "a"}
    rows = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert [(row["task"], row["seed"], row["success"]) for row in rows] == [
        ("toy/0", 0, True),
        ("toy/0", 1, False),
        ("toy/2", 0, True),
        ("toy/2", 1, True),
    ]
    with pytest.raises(ValueError, match=r"holds other episodes: identity\.weights was a, is b"):
        play(run, "ws://nowhere", {"weights": "b"}, WORLD)


# From here on with vla-eval itself.


class Pusher:
    """A policy that pushes half the way at each step."""

    identity: ClassVar = {"policy": "pusher"}

    def __init__(self):
        from vipa.robots.contract import ActionContract
        from vipa.robots.known import dimensions

        numbers = dimensions("x", "metre")
        self.contract = ActionContract("toy", numbers, numbers, "line", "none", "none", 20.0, 1, ("front",))

    def __call__(self, observations):
        return np.full((len(observations), 1, 1), 0.5)


@pytest.fixture
def url(monkeypatch):
    from vipa.robots.serving.vla_eval_server import PolicyModelServer, serving

    monkeypatch.setenv("PYTHONPATH", str(HERE))
    with serving(PolicyModelServer(Pusher(), 1)) as address:
        yield address


@needs_harness
def test_the_harness_plays_and_goes_on_with_more_episodes_and_processes(tmp_path, url):
    run = a_run(tmp_path, episodes=2)
    simulator = look(run)
    assert simulator.tasks == WORLD.tasks and simulator.views == {"front": [8, 8, 3]} and simulator.state == 1
    result = play(run, url, {}, simulator)
    assert [o.success for o in result.outcomes] == [True, False] * 3
    result = play(replace(run, episodes=5, processes=2), url, {}, simulator)
    assert result.scores["all"].successes == 9 and result.scores["all"].trials == 15
    assert {o.steps for o in result.outcomes} == {2, 4}


@needs_harness
def test_an_episode_that_breaks_is_said_and_played_again(tmp_path, url):
    run = a_run(tmp_path, params={"breaks": 1}, episodes=2)
    with pytest.raises(ValueError, match=r"3 of 6 episodes are missing: .*the world fell apart"):
        play(run, url, {}, WORLD)


@needs_harness
@pytest.mark.slow
def test_whatever_is_killed_every_episode_is_there_once(tmp_path, url):
    """`pytest -m slow`, half a minute: five kills of the run, of a worker or of both."""
    program = (
        "import sys; sys.path[:0] = [{here!r}]; from test_vla_eval_run import *;"
        "play(a_run({out!r}, episodes=40, processes=2, params={{'seconds': 0.02}}), {url!r}, {{}}, WORLD)"
    ).format(here=str(HERE), out=str(tmp_path / "run"), url=url)
    chance = random.Random(0)
    for _ in range(5):
        going = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(3, 6))
        os.kill(going.pid, signal.SIGKILL)
        going.wait()
    result = play(a_run(tmp_path / "run", episodes=40, processes=3, params={"seconds": 0.02}), url, {}, WORLD)
    assert [o.success for o in result.outcomes] == [True, False] * 60
    assert len({(o.task, o.seed) for o in result.outcomes}) == 120

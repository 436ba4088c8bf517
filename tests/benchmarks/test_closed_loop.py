"""Closed-loop evaluation: resumable, checked, and the same however many environments run at once."""

import json
from dataclasses import replace
from functools import cache

import av
import numpy as np
import pytest

from vipa.benchmarks.tabletop_benchmark import TabletopEvaluation, evaluate_tabletop, expert_scores, processes_for
from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.policy import BlankImages
from vipa.worlds.robot_env import TabletopEnv
from vipa.worlds.seeds import TEST


@cache
def target_position(seed: int) -> np.ndarray:
    e = TabletopEnv("touch", seed, size=16)
    return e.positions[e.task.target]


class Seer:
    """Knows where the target is (from the seed in the observation's key), and touches it."""

    def __init__(self, weights="a"):
        self.contract, self.calls, self.identity = tabletop_contract(), 0, {"weights": weights}

    def __call__(self, observations):
        self.calls += 1
        return np.stack([self._chunk(o) for o in observations])

    def _chunk(self, o):
        goal = target_position(o.key[0])
        tip, chunk = o.state[:3].copy(), []
        for _ in range(8):
            step = np.clip(goal - tip, -0.02, 0.02)
            if np.hypot(*(goal - tip)[:2]) > 0.015:
                step[2] = np.clip(0.23 - tip[2], -0.02, 0.02)
            tip = tip + step
            chunk.append([*step / 0.05, 0, 0, 0, 1])
        return np.array(chunk)


def run(tmp_path, **changes) -> TabletopEvaluation:
    fields = {"tasks": ("touch",), "episodes": 4, "size": 16, "batch": 2, "videos": 1, "video_size": 64}
    return TabletopEvaluation(tmp_path, "seer", **fields | changes)


def test_a_policy_that_knows_the_target_succeeds_and_leaves_its_record(tmp_path):
    result = evaluate_tabletop(Seer(), run(tmp_path))
    assert result.scores["touch"].successes >= 3
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["scores"]["touch"]["trials"] == 4
    assert saved["protocol"]["seeds"] == [TEST[0], TEST[3]]
    assert "mujoco" in json.loads((tmp_path / "protocol.json").read_text())["versions"]
    with av.open(str(result.videos[0])) as video:
        frames = sum(1 for _ in video.decode(video=0))
    assert frames == result.outcomes[0].steps + 1 + 10


def test_the_number_of_environments_at_once_changes_nothing(tmp_path):
    one = evaluate_tabletop(Seer(), run(tmp_path / "one", batch=1, videos=0))
    many = evaluate_tabletop(Seer(), run(tmp_path / "many", batch=3, videos=0))
    assert one.outcomes == many.outcomes


def test_a_gpu_is_not_shared_by_processes():
    assert processes_for("cuda") == 1 <= processes_for("cpu") <= 4


def test_the_number_of_processes_changes_nothing(tmp_path):
    one = evaluate_tabletop(Seer(), run(tmp_path / "one", episodes=8))
    two = evaluate_tabletop(Seer(), run(tmp_path / "two", episodes=8, processes=2))
    assert two.outcomes == one.outcomes
    assert [v.name for v in two.videos] == [v.name for v in one.videos]
    assert json.loads((tmp_path / "two/result.json").read_text())["made"]["latency"]["calls"] >= 2


def test_a_second_run_continues_after_a_line_that_was_cut_short(tmp_path):
    first = evaluate_tabletop(Seer(), run(tmp_path, videos=0))
    log = tmp_path / "episodes.jsonl"
    log.write_text(log.read_text()[:-20])
    calls = []
    second = evaluate_tabletop(Seer(), run(tmp_path, videos=0), lambda done, total: calls.append((done, total)))
    assert calls == [(4, 4)]
    assert second.outcomes == first.outcomes
    untouched = Seer()
    evaluate_tabletop(untouched, run(tmp_path, videos=0))
    assert untouched.calls == 0


@pytest.mark.parametrize("kept", [0, 1, 60])
def test_killed_at_any_byte_no_episode_is_lost_or_counted_twice(tmp_path, kept):
    first = evaluate_tabletop(Seer(), run(tmp_path, videos=1))
    log = tmp_path / "episodes.jsonl"
    text = log.read_bytes()
    begun = text.index(b"\n") + 1
    log.write_bytes(text[: begun + kept])
    for name in (".touch_1_success.part", ".9_touch_1_success.mp4"):  # films that a killed run left
        (tmp_path / "videos" / name).write_bytes(b"half a film")
    calls = []
    second = evaluate_tabletop(Seer(), run(tmp_path, videos=1), lambda done, total: calls.append((done, total)))
    assert calls == [(2, 4), (3, 4), (4, 4)]
    assert second.outcomes == first.outcomes
    assert second.videos == first.videos
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["seed"] for line in lines) == list(TEST[:4])


def test_a_broken_line_is_named(tmp_path):
    evaluate_tabletop(Seer(), run(tmp_path, videos=0))
    log = tmp_path / "episodes.jsonl"
    log.write_text("nonsense\n" + log.read_text())
    with pytest.raises(ValueError, match=r"episodes\.jsonl, line 1"):
        evaluate_tabletop(Seer(), run(tmp_path, videos=0))


def test_another_protocol_in_the_same_folder_is_refused(tmp_path):
    evaluate_tabletop(Seer(), run(tmp_path, episodes=1))
    with pytest.raises(ValueError, match="another execute"):
        evaluate_tabletop(Seer(), run(tmp_path, episodes=1, execute=8))


def test_a_retrained_policy_of_the_same_name_does_not_get_the_old_episodes(tmp_path):
    evaluate_tabletop(Seer("a"), run(tmp_path, episodes=1))
    with pytest.raises(ValueError, match="another identity"):
        evaluate_tabletop(Seer("b"), run(tmp_path, episodes=1))
    with pytest.raises(ValueError, match="another identity"):
        evaluate_tabletop(BlankImages(Seer("a")), run(tmp_path, episodes=1))
    other = Seer("b")
    result = evaluate_tabletop(other, run(tmp_path, episodes=1, anew=True))
    assert other.calls
    assert result.to_dict()["protocol"]["identity"] == {"weights": "b"}
    assert json.loads((tmp_path / "protocol.json").read_text())["identity"] == {"weights": "b"}


def test_more_episodes_or_another_name_go_on_with_what_is_there(tmp_path):
    evaluate_tabletop(Seer(), run(tmp_path, episodes=2, videos=0))
    calls = []
    renamed = replace(run(tmp_path, episodes=3, videos=0), policy="the same seer")
    result = evaluate_tabletop(Seer(), renamed, lambda done, total: calls.append((done, total)))
    assert calls == [(3, 3)]
    assert result.scores["all"].trials == 3
    (tmp_path / "protocol.json").unlink()
    with pytest.raises(ValueError, match="another identity"):  # whose episodes these are is not known
        evaluate_tabletop(Seer(), renamed)


def test_a_contract_that_does_not_fit_stops_before_the_first_step(tmp_path):
    policy = Seer()
    policy.contract = replace(policy.contract, rate=20.0)
    with pytest.raises(ValueError, match=r"rate: 20\.0 against 10\.0"):
        evaluate_tabletop(policy, run(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_experts_ceiling_is_measured_on_the_same_seeds(tmp_path):
    score = expert_scores(run(tmp_path, episodes=2))["touch"]
    assert (score.successes, score.trials) == (2, 2)

"""Actions from the wrist's speed: paths with known borders, recordings, and what becomes of clips without texts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vipa.clips.clip import Text
from vipa.clips.example import example_clip
from vipa.hand3d.config import AnnotateConfig, HandsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.measure.segments import action_segments, wordless_texts
from vipa.hand3d.pipeline.annotate import annotate
from vipa.hand3d.words.describe import _actions, _snapped

RATE = 30.0
EGODEX = Path(__file__).parents[3] / "shared" / "real" / "egodex_sample"


def reaches(lengths, rests=(), distance=0.3) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Minimum-jerk reaches of so many seconds in turning directions, a rest after each; where each begins and ends."""
    rng, path, borders = np.random.default_rng(0), [np.zeros((1, 3))], []
    for i, seconds in enumerate(lengths):
        s = np.arange(1, round(seconds * RATE) + 1)[:, None] / round(seconds * RATE)
        way = rng.normal(size=3)
        begin = sum(map(len, path)) - 1
        moved = path[-1][-1] + distance * way / np.linalg.norm(way) * (10 * s**3 - 15 * s**4 + 6 * s**5)
        path += [moved, np.repeat(moved[-1:], round((rests[i] if i < len(rests) else 0) * RATE), 0)]
        path = [p for p in path if len(p)]
        borders.append((begin / RATE, begin / RATE + seconds))
    return np.concatenate(path), borders


def found(path: np.ndarray) -> np.ndarray:
    times = np.arange(len(path)) / RATE
    return times[np.array(action_segments(path, times, 0.25), dtype=int).reshape(-1, 2)]


def test_each_reach_is_one_action_within_two_frames():
    path, borders = reaches([0.9, 1.4, 0.7, 1.0, 1.6])
    np.testing.assert_allclose(found(path), borders, atol=2.01 / RATE)


def test_rests_between_reaches_belong_to_none():
    path, borders = reaches([1.0, 0.8, 1.2], rests=[1.5, 0.6, 3.0])
    np.testing.assert_allclose(found(path), borders, atol=0.1 + 2.01 / RATE)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_a_tracker_moves_borders_little_and_makes_none(seed):
    path, borders = reaches([1.0, 1.4, 0.9, 1.2], rests=[0, 0.8, 0])
    noisy = path + np.random.default_rng(seed).normal(size=path.shape) * 0.003
    np.testing.assert_allclose(found(noisy), borders, atol=0.2)


def test_a_still_hand_does_nothing():
    assert len(found(np.zeros((200, 3)))) == 0
    for seed in range(5):
        assert len(found(np.random.default_rng(seed).normal(size=(200, 3)) * 0.003)) == 0
    assert len(found(np.full((50, 3), np.nan))) == 0 and len(found(np.zeros((1, 3)))) == 0


def test_a_movement_that_goes_on_steadily_is_one_action():
    angle = np.arange(300)[:, None] / RATE
    circle = 0.2 * np.concatenate([np.cos(angle), np.sin(angle), 0 * angle], 1)
    assert found(circle).round(1).tolist() == [[0.0, 10.0]]


def test_short_gaps_are_bridged_and_long_ones_divide():
    path, borders = reaches([1.0, 1.0])
    short, long = path.copy(), path.copy()
    short[10:14], long[40:55] = np.nan, np.nan
    np.testing.assert_allclose(found(short), borders, atol=2.01 / RATE)
    assert all(b <= 40 / RATE or a >= 54 / RATE for a, b in found(long))


def two_hands():
    """The left hand rests where the right one reaches, and the other way round; no texts, no contacts."""
    right, borders_right = reaches([1.0, 1.2], rests=[0.0, 3.0], distance=0.2)
    left, _ = reaches([1.0, 0.8], rests=[0.0, 0.0], distance=0.2)
    left = np.concatenate([np.zeros((len(right) - len(left), 3)), left])
    clip = example_clip(seconds=len(right) / RATE, rate=RATE, texts=(), contacts=None)
    hands = []
    for side, path, at in (("left", left, [-0.15, 0.1, 0.6]), ("right", right, [0.15, 0.1, 0.6])):
        bones = np.random.default_rng(1).normal(size=(21, 3)) * 0.02 * (np.arange(21) > 0)[:, None]
        joints = path[:, None] + at + bones
        hands.append(replace(clip.hands[0], side=side, joints_camera=joints, confidence=np.ones((len(path), 21))))
    clip = replace(clip, hands=tuple(hands), T_world_camera=np.repeat(np.eye(4)[None], len(right), 0))
    return clip, borders_right


def test_each_hand_has_its_own_actions():
    clip, right = two_hands()
    texts = wordless_texts(clip, HandsConfig())
    assert {t.text for t in texts} == {""} and [t.start for t in texts] == sorted(t.start for t in texts)
    of = {side: np.array([[t.start, t.end] for t in texts if t.hand == side]) for side in ("left", "right")}
    np.testing.assert_allclose(of["right"], right, atol=0.1 + 2.01 / RATE)
    assert len(of["left"]) == 2 and of["left"].min() > 3
    assert wordless_texts(replace(clip, T_world_camera=None), HandsConfig()) == ()


def test_a_clip_without_texts_has_motions_and_no_questions_about_tasks(tmp_path):
    clip, _ = two_hands()
    report = annotate([clip], tmp_path)
    assert report.refused == ()
    data = Hand3D(tmp_path)
    action = list(data.action())
    assert action and {r.task for r in action} == {"contextual_prediction"} and {r.text for r in action} == {""}
    assert len({r.id for r in action}) == len(action)
    assert not any("task" in r.prompt.lower() or "{" in r.prompt for r in action)
    assert {len(r.trajectories) for r in action} == {1}
    visual = list(data.visual())
    assert visual and not any(r.category == "task_completion" for r in visual)


def test_texts_and_templates_come_first(tmp_path):
    config = AnnotateConfig()
    annotate([example_clip(0), example_clip(1, texts=())], tmp_path, config)
    assert all(r.text for r in Hand3D(tmp_path).action())


def test_an_endpoint_is_told_the_actions_and_its_times_are_moved_to_them():
    actions = (Text("", 0.2, 1.4, "right"), Text("", 1.4, 2.6, "right"), Text("", 9.0, 11.5, "left"))
    said = _actions(actions, 0.0, 10.0)
    assert "right 0.2 to 1.4; right 1.4 to 2.6." in said and "left" not in said
    assert "left 0.0 to 1.5" in _actions(actions, 10.0, 5.0) and _actions((), 0.0, 10.0) == ""
    assert _snapped(Text("take the cup", 0.0, 1.0, "right"), actions) == Text("take the cup", 0.2, 1.4, "right")
    assert _snapped(Text("wave", 0.0, 1.0, "left"), actions) == Text("wave", 0.0, 1.0, "left")
    assert _snapped(Text("all", 0.0, 11.9, "both"), actions) == Text("all", 0.2, 11.5, "both")


@pytest.mark.skipif(not EGODEX.exists(), reason="the sample of EgoDex is not here")
def test_actions_of_recordings_are_as_long_as_movements_are():
    from vipa.clips.sources import read_source

    for clip in read_source("egodex", EGODEX):
        texts = wordless_texts(replace(clip, texts=()), HandsConfig())
        lengths = np.array([t.end - t.start for t in texts])
        assert len(texts) >= 3 and lengths.min() >= 0.3 and 0.5 <= np.median(lengths) <= 3
        assert all(0 <= t.start < t.end <= clip.seconds + 1e-6 for t in texts)

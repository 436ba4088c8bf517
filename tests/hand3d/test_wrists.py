"""Hands that their tracker is not sure of, has lost, or has mistaken for the other one."""

from dataclasses import replace

import numpy as np
import pytest

from vipa.clips.clip import Clip, Hand, Text
from vipa.clips.video import ArrayFrames
from vipa.geometry import Intrinsics
from vipa.hand3d.config import AnnotateConfig, HandsConfig, MotionConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.export.lerobot_v3 import hand_states
from vipa.hand3d.measure.motion import find_motions
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import REASONS, locate_hands, wrist_path
from vipa.hand3d.pipeline.annotate import annotate

RATE, N = 30.0, 121


def moving(*, confidence=None, wrist=None, rate: float = RATE, sides=("right",)) -> Clip:
    """Four seconds of hands that move by 10 cm a second; wrist: what to do to the path, confidence: to that."""
    n = round(4 * rate) + 1
    times = np.arange(n) / rate
    hands = []
    for k, side in enumerate(sides):
        path = np.stack([-0.2 + 0.1 * times + 0.3 * k, np.full(n, 0.05), np.full(n, 0.6)], -1)
        path = path if wrist is None or k else wrist(path, times)
        shape = np.stack(np.meshgrid([-0.04, 0, 0.04], np.linspace(-0.1, 0.0, 7)), -1).reshape(21, 2)
        joints = path[:, None] + np.pad(shape, [(0, 0), (0, 1)]) - np.pad(shape[:1], [(0, 0), (0, 1)])
        sure = np.ones((n, 21))
        if confidence is not None and not k:
            sure *= confidence(times)[:, None]
        joints[sure == 0] = np.nan
        hands.append(Hand(side, joints, sure))
    return Clip(
        id="made",
        source="made",
        source_video="made",
        frames=ArrayFrames(np.zeros((n, 48, 64, 3), np.uint8)),
        timestamps=times,
        intrinsics=Intrinsics(30.0, 30.0, 31.5, 23.5, 64, 48, "calibrated"),
        T_world_camera=np.tile(np.eye(4), (n, 1, 1)),
        hands=tuple(hands),
        texts=(Text("move it", 0.0, n / rate),),
    )


def movements(clip: Clip, tmp_path, **hands) -> list:
    annotate([clip], tmp_path, AnnotateConfig(hands=HandsConfig(**hands)))
    return [r for r in Hand3D(tmp_path).visual() if r.category == "hand_movement"]


def span(record) -> tuple[int, int]:
    return tuple(int(f.rsplit("/", 1)[1]) for f in record.frame_ids)


def between(low, high, inside, outside=1.0):
    return lambda times: np.where((times >= low - 1e-6) & (times < high - 1e-6), inside, outside)


def jumped(low, high, by):
    return lambda path, times: (
        path + np.where((times >= low - 1e-6) & (times < high - 1e-6), 1.0, 0.0)[:, None] * by
    )


AWAY = np.array([0.4, 0.1, 0.3])


def test_a_sure_hand_is_believed_everywhere(tmp_path):
    records = movements(moving(), tmp_path)
    assert {span(r)[1] for r in records} == {30, 60, 90, 120}
    for r in records:
        first, last = span(r)
        assert r.distance == pytest.approx(0.1 * (last - first) / 30)
        assert r.hand_confidence == 1.0


def test_an_unsure_hand_is_left_out_and_counted(tmp_path):
    """It says 0.5 m to the side for a second, with half of the least confidence."""
    clip = moving(confidence=between(1.5, 2.5, 0.25), wrist=jumped(1.5, 2.5, AWAY))
    records = movements(clip, tmp_path)
    assert records
    assert not any(60 in span(r) for r in records)
    assert max(r.distance for r in records) < 0.31
    report = annotate([clip], tmp_path)
    assert report.left_out["relations"]["hand uncertain"] == 1
    assert report.left_out["motions"] == {"hand lost on the way": 2, "hand uncertain": 1}
    anything = movements(clip, tmp_path / "all", confidence=0.0, speed=1e9)
    assert max(r.distance for r in anything) > 0.4


def test_a_hand_taken_for_the_other_one_for_a_while_moved_no_metre(tmp_path):
    """At full confidence: the track jumps away and, a second later, back."""
    clip = moving(wrist=jumped(1.5, 2.5, AWAY))
    path = wrist_path(clip, clip.hands[0], HandsConfig())
    assert path.stretch[[0, 44, 45, 74, 75, 120]].tolist() == [0, 0, 1, 1, 2, 2]
    records = movements(clip, tmp_path)
    for r in records:
        first, last = span(r)
        assert (first < 45) == (last < 45) and (first < 75) == (last < 75)
        assert r.distance == pytest.approx(0.1 * (last - first) / 30)
    for motion in find_motions(clip, MotionConfig(), HandsConfig())[0]:
        path = np.concatenate([motion.past["right"][-1:], motion.future["right"]])
        assert np.linalg.norm(np.diff(path, axis=0), axis=-1).max() < 0.02


def test_a_slip_of_a_few_frames_is_passed_over(tmp_path):
    clip = moving(wrist=jumped(1.95, 2.1, AWAY))
    path = wrist_path(clip, clip.hands[0], HandsConfig())
    assert set(path.stretch.tolist()) == {-1, 0}
    np.testing.assert_allclose(
        path.at(np.array([1.9, 2.0, 2.05, 2.2]), 30)[:, 0], [-0.01, 0.0, 0.005, 0.02], atol=1e-9
    )
    records = movements(clip, tmp_path)
    assert not any(60 in span(r) for r in records)
    assert (30, 90) in map(span, records) or (0, 90) in map(span, records) or (90, 120) in map(span, records)
    assert all(r.distance == pytest.approx(0.1 * (span(r)[1] - span(r)[0]) / 30) for r in records)


@pytest.mark.parametrize(("unknown", "known"), [(0.2, True), (0.5, False)])
def test_short_gaps_are_interpolated_and_long_ones_are_not(unknown, known):
    clip = moving(confidence=between(2.0, 2.0 + unknown - 1 / RATE, 0.0))
    path = wrist_path(clip, clip.hands[0], HandsConfig())
    middle = path.at(np.array([2.0 + unknown / 2]), 30)[0]
    assert np.isfinite(middle).all() == known
    if known:
        np.testing.assert_allclose(middle, [0.2 - 0.2 + 0.05 * unknown, 0.05, 0.6], atol=1e-6)
    motions, counts = find_motions(clip, MotionConfig(), HandsConfig())
    assert any(m.frame == 30 for m in motions) == known
    if not known:
        assert counts["hand lost on the way"] >= 1
    for low, high, inside in ((2.0, 2.1, 0.1), (2.0, 2.4, 0.1)):  # unsure is as good as unknown
        clip = moving(confidence=between(low, high, inside), wrist=jumped(low, high, AWAY))
        path = wrist_path(clip, clip.hands[0], HandsConfig()).at(np.array([2.05]), 30)
        assert np.isfinite(path).all() == (high == 2.1)


def test_a_slow_video_has_no_wrists_between_its_frames():
    motions, counts = find_motions(moving(rate=2.0), MotionConfig(), HandsConfig())
    assert not motions
    assert counts == {"hand lost on the way": 4}
    assert find_motions(moving(rate=5.0), MotionConfig(), HandsConfig())[0]


def test_before_the_first_and_after_the_last_known_frame_nothing_is_known():
    clip = moving(confidence=lambda times: ((times > 0.99) & (times < 3.01)).astype(float))
    path = wrist_path(clip, clip.hands[0], HandsConfig())
    at = path.at(np.array([0.0, 0.95, 1.0, 2.0, 3.0, 3.05]), 60)
    assert np.isfinite(at).all(-1).tolist() == [False, False, True, True, True, False]
    nothing = moving(confidence=lambda times: 0.1 * np.ones(len(times)))
    assert np.isnan(wrist_path(nothing, nothing.hands[0], HandsConfig()).at(np.array([0.0, 1.0]), 0)).all()
    (hand,) = locate_hands(nothing, Sight(nothing, [0, 60]), HandsConfig())
    assert [REASONS[r] for r in hand.reasons] == ["uncertain", "uncertain"]
    states = hand_states(nothing, 10.0)[1]
    assert (states == 0).all()  # an export knows no hand either


def test_the_wrists_own_confidence_counts_not_the_fingers():
    clip = moving()
    sure = clip.hands[0].confidence.copy()
    sure[:, 1:] = 0.2  # as EgoDex's finger tips
    clip = replace(clip, hands=(replace(clip.hands[0], confidence=sure),))
    (hand,) = locate_hands(clip, Sight(clip, [0, 60]), HandsConfig())
    assert hand.reasons.tolist() == [0, 0]


def test_a_track_that_only_jumps_about_says_nothing():
    rng = np.random.default_rng(0)
    clip = moving(wrist=lambda path, times: path + rng.normal(size=path.shape) * 0.3)
    motions, _ = find_motions(clip, MotionConfig(), HandsConfig())
    assert not motions


def test_fast_but_human_movements_stay(tmp_path):
    """2.5 m/s in the middle of a reach of 40 cm, as in real recordings."""
    reach = lambda path, times: path + np.outer(np.clip((times - 2.0) / 0.16, 0, 1), [0.4, 0, 0])  # noqa: E731
    clip = moving(wrist=reach)
    assert set(wrist_path(clip, clip.hands[0], HandsConfig()).stretch.tolist()) == {0}
    assert max(r.distance for r in movements(clip, tmp_path)) > 0.5

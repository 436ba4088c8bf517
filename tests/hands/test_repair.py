"""Repair of tracker output, on motions whose truth is known and on real hands."""

from pathlib import Path

import numpy as np
import pytest

from vipa.geometry import matrix_from_axis_angle
from vipa.hands.mano import ManoLayer, mano_joints
from vipa.hands.mano_synthetic import synthetic_mano
from vipa.hands.repair import _smooth, chirality, palm_size, repair_hands
from vipa.hands.skeleton import mirror_joints
from vipa.hands.trackers import SeenHand
from vipa.io.safe_pickle import load_pickle

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "dex_retargeting"
LAYER = ManoLayer(synthetic_mano(0))
TIMES = np.arange(120) / 30.0


def moving(seed: int, side: str) -> np.ndarray:
    """Joints (120, 21, 3) of a hand that wanders on its side of the view and opens and closes."""
    rng = np.random.default_rng(seed)
    t = TIMES[:, None]
    f, p = rng.uniform(0.2, 0.7, (4, 3)), rng.uniform(0, 6.3, (4, 3))
    wrist = 0.05 * np.sin(2 * np.pi * f[0] * t + p[0]) + 0.03 * np.sin(2 * np.pi * f[1] * t + p[1])
    bend = 0.7 + 0.5 * np.sin(2 * np.pi * f[2, 0] * t + p[2, 0])
    mean = LAYER.pose_mean.numpy().reshape(15, 3)
    angles = bend[..., None] * mean / np.linalg.norm(mean, axis=-1).mean()
    turn = 0.4 * np.sin(2 * np.pi * f[3] * t + p[3]) + [1.5, 0.0, 0.0]
    joints = mano_joints(
        LAYER, matrix_from_axis_angle(turn), matrix_from_axis_angle(angles), np.zeros((120, 10)),
        wrist + np.array([0.12, 0.05, 0.5]), tips="smplx",
    )  # fmt: skip
    return joints if side == "right" else mirror_joints(joints)


TRUTH = {"right": moving(0, "right"), "left": moving(1, "left")}


def seen_frames(noise: float = 0.0, seed: int = 0) -> list[list[SeenHand]]:
    rng = np.random.default_rng(seed)
    return [
        [
            SeenHand(side, 0.9, TRUTH[side][i] + rng.normal(scale=noise, size=(21, 3)), np.full(21, 0.9))
            for side in rng.permutation(["left", "right"])
        ]
        for i in range(len(TIMES))
    ]


def other(hand: SeenHand) -> SeenHand:
    return SeenHand("left" if hand.side == "right" else "right", *list(vars(hand).values())[1:])


def tracks(repair):
    return {track.side: track for track in repair.tracks}


def errors(track) -> np.ndarray:
    return np.linalg.norm(track.joints_camera - TRUTH[track.side], axis=-1).mean(-1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_bent_fingers_tell_the_side(side):
    sign = 1 if side == "right" else -1
    assert (sign * chirality(TRUTH[side]) > 0.05).all()
    np.testing.assert_allclose(chirality(mirror_joints(TRUTH[side])), -chirality(TRUTH[side]))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real hand is not there")
def test_every_frame_of_a_real_right_hand_bends_like_a_right_hand():
    joints = np.array(load_pickle(REAL / "human_joint_right.pkl"))
    assert (chirality(joints) > 0).all()
    assert np.median(chirality(joints)) > 0.3


def test_a_clean_report_comes_back_nearly_unchanged():
    repair = repair_hands(seen_frames(), TIMES)
    assert {k: v for k, v in repair.changes.items() if v} == {}
    for track in repair.tracks:
        assert errors(track).max() < 0.002
        np.testing.assert_allclose(track.confidence, 0.9)


def test_swapped_labels_are_put_right_in_every_frame():
    frames = seen_frames(0.002)
    swapped = np.random.default_rng(1).random(len(TIMES)) < 0.3
    for i in np.flatnonzero(swapped):
        frames[i] = [other(hand) for hand in frames[i]]
    repair = repair_hands(frames, TIMES)
    assert repair.changes["relabelled"] == 2 * swapped.sum()
    assert all(errors(track).max() < 0.004 for track in repair.tracks)
    assert len(repair.tracks) == 2


def test_two_hands_of_one_label_become_left_and_right():
    frames = [[SeenHand("right", 0.7, h.joints_camera, h.confidence) for h in frame] for frame in seen_frames()]
    found = tracks(repair_hands(frames, TIMES))
    assert sorted(found) == ["left", "right"]
    assert all(errors(track).max() < 0.002 for track in found.values())


def test_a_second_report_of_the_same_hand_is_dropped():
    frames = seen_frames()
    for i in range(20, 24):
        ghost = frames[i][0]
        frames[i].append(SeenHand(ghost.side, 0.6, ghost.joints_camera + 0.008, ghost.confidence * 0.5))
    found = tracks(repair_hands(frames, TIMES))
    assert all(errors(track).max() < 0.006 for track in found.values())


def test_jumps_are_dropped_and_short_gaps_bridged_long_ones_left_open():
    frames = seen_frames(0.002)
    for i in (15, 63, 64):  # the right hand is seen where it is not
        frames[i] = [
            SeenHand(h.side, 0.9, h.joints_camera + (0.25 if h.side == "right" else 0), h.confidence)
            for h in frames[i]
        ]
    for i in range(30, 37):
        frames[i] = [h for h in frames[i] if h.side != "right"]
    for i in range(80, 110):
        frames[i] = [h for h in frames[i] if h.side != "left"]
    found = tracks(repair_hands(frames, TIMES))
    right, left = found["right"], found["left"]
    assert np.isfinite(right.joints_camera).all()
    assert errors(right)[30:37].max() < 0.02
    assert errors(right)[[15, 63, 64]].max() < 0.02
    gap = right.confidence[30:37, 0]
    assert (gap > 0).all()
    assert gap.max() < 0.9
    assert gap.argmin() == 3  # least sure in the middle
    assert np.isnan(left.joints_camera[80:110]).all()
    assert (left.confidence[80:110] == 0).all()
    assert errors(left)[:80].max() < 0.01


def test_smoothing_takes_noise_away_and_leaves_the_motion():
    noisy = seen_frames(0.005)
    found = tracks(repair_hands(noisy, TIMES))
    raw = np.mean([np.linalg.norm(np.random.default_rng(0).normal(scale=0.005, size=(999, 3)), axis=-1)])
    for track in found.values():
        assert errors(track).mean() < 0.75 * raw


def test_a_hand_of_the_wrong_size_is_an_outlier():
    frames = seen_frames()
    frames[50] = [
        SeenHand(h.side, 0.9, h.joints_camera[:1] + 3 * (h.joints_camera - h.joints_camera[:1]), h.confidence)
        for h in frames[50]
    ]
    repair = repair_hands(frames, TIMES)
    assert all(errors(track)[50] < 0.01 for track in repair.tracks)


def test_joints_of_no_confidence_are_filled_and_nan_joints_too():
    frames = seen_frames()
    broken = frames[40][0]
    joints = broken.joints_camera.copy()
    joints[8] = np.nan
    frames[40][0] = SeenHand(broken.side, 0.9, joints, broken.confidence)
    track = tracks(repair_hands(frames, TIMES))[broken.side]
    assert np.isfinite(track.joints_camera[40]).all()
    assert np.linalg.norm(track.joints_camera[40, 8] - TRUTH[broken.side][40, 8]) < 0.005
    assert track.confidence[40, 8] < 0.9


def test_no_hands_and_one_frame_are_no_trouble():
    assert repair_hands([[] for _ in TIMES], TIMES).tracks == ()
    one = repair_hands(seen_frames()[:1], TIMES[:1])
    assert len(one.tracks) == 2
    with pytest.raises(ValueError, match="120 frames of hands, but 3"):
        repair_hands(seen_frames(), TIMES[:3])


def test_smoothing_halves_the_cutoff_s_frequency_at_every_frame_rate():
    times = np.concatenate([np.arange(0, 4, 1 / 60), np.arange(4, 10, 1 / 20)])
    wave = np.sin(2 * np.pi * 3.0 * times)
    joints = np.repeat(wave[:, None, None], 21, 1).repeat(3, 2)
    smooth, _, _ = _smooth(joints, np.ones((len(times), 21)), times, 0.5, cutoff=3.0)
    for part in (slice(60, 180), slice(260, 340)):
        gain = smooth[part, 0, 0] @ wave[part] / (wave[part] @ wave[part])
        assert gain == pytest.approx(0.5, abs=0.05)


# ---- sides from what the picture shows


def with_sides(frames, side_of):
    """The same hands under other names: side_of(frame, true side) -> said side."""
    return [
        [SeenHand(side_of(i, h.side), h.side_confidence, h.joints_camera, h.confidence) for h in hands]
        for i, hands in enumerate(frames)
    ]


def test_repair_of_the_mirrored_report_is_the_mirrored_repair():
    frames = with_sides(seen_frames(0.002), lambda i, side: "right" if i % 3 else side)
    mirrored = [
        [SeenHand(other(h).side, 0.9, mirror_joints(h.joints_camera), h.confidence) for h in hands]
        for hands in frames
    ]
    one, two = tracks(repair_hands(frames, TIMES)), tracks(repair_hands(mirrored, TIMES))
    for side, opposite in (("left", "right"), ("right", "left")):
        np.testing.assert_allclose(two[opposite].joints_camera, mirror_joints(one[side].joints_camera), atol=1e-9)


def test_the_field_of_view_changes_no_side_and_no_kept_frame():
    frames = seen_frames(0.002)
    frames = [hands[:1] if 40 <= i < 45 else hands for i, hands in enumerate(frames)]
    frames = with_sides(frames, lambda i, side: "left" if i % 5 == 0 else side)
    found = []
    for factor in (0.5, 1.0, 2.0):  # a hand seen under the same angles by a camera of another focal length
        scaled = [
            [SeenHand(h.side, 0.9, h.joints_camera * [1, 1, factor], h.confidence, chirality(h.joints_camera))
             for h in hands] for hands in frames
        ]  # fmt: skip
        repair = repair_hands(scaled, TIMES)
        found.append((repair.changes, [(t.side, np.isfinite(t.joints_camera).tolist()) for t in repair.tracks]))
    assert found[0] == found[1] == found[2]


def test_hands_that_cross_keep_their_sides_though_their_order_turns():
    way = np.linspace(-1, 1, len(TIMES))[:, None, None] * [0.2, 0, 0]
    shift = {
        "right": -way - [0.12, 0, 0],
        "left": way + [0.12, 0.12, 0],
    }  # the right hand goes to the left of the left
    frames = [
        [SeenHand(s, 0.9, TRUTH[s][i] + shift[s][i], np.full(21, 0.9)) for s in ("left", "right")]
        for i in range(len(TIMES))
    ]
    assert (TRUTH["right"] + shift["right"])[-1, 0, 0] < (TRUTH["left"] + shift["left"])[-1, 0, 0]
    for track in repair_hands(frames, TIMES).tracks:
        moved = TRUTH[track.side] + shift[track.side]
        assert np.linalg.norm(track.joints_camera - moved, axis=-1).max() < 0.01


def test_a_lone_hand_that_the_labels_miss_is_told_by_the_frames_in_which_the_other_is_there():
    frames = with_sides(seen_frames(), lambda i, side: "right")  # all are called right
    flat = [
        [SeenHand("right", 0.8, h.joints_camera, h.confidence, 0.0) for h in hands] for hands in frames
    ]  # and no finger says otherwise
    left_only = [[min(hands, key=lambda h: h.joints_camera[0, 0])] for hands in flat[:60]] + flat[60:]
    found = tracks(repair_hands(left_only, TIMES))
    assert np.isfinite(found["left"].joints_camera).all()
    assert errors(found["left"]).max() < 0.002
    assert np.isnan(found["right"].joints_camera[:60]).all()


def test_a_path_is_cut_where_the_tracker_went_over_to_the_other_hand():
    """The left hand comes to where the right one was when that one goes: one path, two hands."""
    still = {side: np.broadcast_to(joints[0], (120, 21, 3)) for side, joints in TRUTH.items()}
    left = still["left"] - still["left"][0, 0] + still["right"][0, 0]
    frames = [[SeenHand("right", 0.9, still["right"][i], np.ones(21))] for i in range(60)]
    frames += [[SeenHand("left", 0.9, left[i], np.ones(21))] for i in range(60, 120)]
    found = tracks(repair_hands(frames, TIMES))
    assert (
        np.isfinite(found["right"].joints_camera[:60]).all() and np.isnan(found["right"].joints_camera[60:]).all()
    )
    assert np.isfinite(found["left"].joints_camera[60:]).all() and np.isnan(found["left"].joints_camera[:60]).all()


def test_no_gap_is_bridged_between_two_places_of_a_side():
    frames = [[h for h in hands if h.side == "right"] for hands in seen_frames()]
    for i in range(60, 120):  # found again elsewhere
        frames[i] = [SeenHand("right", 0.9, h.joints_camera - [0.4, 0, 0], h.confidence) for h in frames[i]]
    frames[58] = frames[59] = frames[60] = []
    (track,) = repair_hands(frames, TIMES).tracks
    assert np.isnan(track.joints_camera[58:61]).all()
    assert np.isfinite(track.joints_camera[57]).all() and np.isfinite(track.joints_camera[61]).all()


def test_a_hand_has_one_size_and_stays_where_the_picture_shows_it():
    rng = np.random.default_rng(3)
    frames = []
    for hands in seen_frames():
        grow = rng.uniform(
            0.8, 1.2, len(hands)
        )  # a tracker that is wrong about the size, and so about the distance
        frames.append([
            SeenHand(h.side, 0.9, h.joints_camera * g, h.confidence, palm=float(palm_size(h.joints_camera)) * g)
            for h, g in zip(hands, grow)
        ])  # fmt: skip
    for track in repair_hands(frames, TIMES).tracks:
        palms = palm_size(track.joints_camera)
        assert palms.std() / palms.mean() < 0.01
        flat, true = (j[..., :2] / j[..., 2:] for j in (track.joints_camera, TRUTH[track.side]))
        assert np.abs(flat - true).max() < 0.005


def test_distance_is_smoothed_apart_from_the_picture():
    rng = np.random.default_rng(4)
    frames = [
        [SeenHand(h.side, 0.9, h.joints_camera * rng.uniform(0.85, 1.15), h.confidence) for h in hands]
        for hands in seen_frames()
    ]
    rough, calm = (tracks(repair_hands(frames, TIMES, depth_cutoff=cut)) for cut in (6.0, 1.0))
    for side in ("left", "right"):
        assert errors(calm[side]).mean() < 0.7 * errors(rough[side]).mean()
        flat = [t[side].joints_camera[..., :2] / t[side].joints_camera[..., 2:] for t in (rough, calm)]
        np.testing.assert_allclose(*flat, atol=1e-9)

import pickle

import numpy as np
import pytest

from vipa.geometry import invert, project, transform, unproject_depth
from vipa.worlds.actions import ACTIONS, film_scene, perform
from vipa.worlds.film import film_clip
from vipa.worlds.hand import HAND_IDS
from vipa.worlds.motions import interpolate, minimum_jerk

SEEDS = range(10_000_000, 10_000_030)


@pytest.fixture(scope="module")
def clips():
    return [film_clip(seed) for seed in SEEDS]


def joints_world(clip, hand):
    return transform(clip.T_world_camera, hand.joints_camera)


def test_minimum_jerk_starts_and_ends_at_rest_with_the_known_peak():
    s = np.linspace(0, 1, 1001)
    p = minimum_jerk(s)
    v = np.gradient(p, s)
    assert p[0] == 0
    assert p[-1] == 1
    assert v[0] < 1e-3
    assert v[-1] < 1e-3
    assert v.max() == pytest.approx(1.875, abs=1e-3)
    assert minimum_jerk(np.array([-1.0, 2.0])).tolist() == [0.0, 1.0]


def test_interpolation_reaches_both_ends_with_rotations_in_between():
    T0, T1 = np.eye(4), invert(film_clip(0).T_world_camera[0])
    T = interpolate(T0, T1, np.array([0.0, 0.4, 1.0]))
    np.testing.assert_allclose(T[[0, 2]], [T0, T1], atol=1e-12)
    np.testing.assert_allclose(T[1, :3, :3] @ T[1, :3, :3].T, np.eye(3), atol=1e-12)


def test_every_action_is_filmed():
    assert {film_scene(seed)[1] for seed in range(100)} == set(ACTIONS)


def test_the_same_seed_gives_the_same_clip_to_the_last_pixel(clips):
    again, first = film_clip(SEEDS[3]), clips[3]
    np.testing.assert_array_equal(again.frames.read([0, 7, 20]), first.frames.read([0, 7, 20]))
    np.testing.assert_array_equal(again.depth.read([7]), first.depth.read([7]))
    np.testing.assert_array_equal(again.hands[0].joints_camera, first.hands[0].joints_camera)
    np.testing.assert_array_equal(again.T_world_camera, first.T_world_camera)
    assert again.texts == first.texts


def test_rate_and_size_change_the_pictures_but_not_what_happens():
    slow, fast = film_clip(5, rate=5.0), film_clip(5, rate=15.0, size=(64, 48))
    n = min(len(slow), (len(fast) + 2) // 3)
    np.testing.assert_allclose(slow.timestamps[:n], fast.timestamps[::3][:n])
    for a, b in zip(slow.hands, fast.hands):
        np.testing.assert_allclose(a.joints_camera[:n], b.joints_camera[::3][:n], atol=1e-9)
    assert fast.frames.read([0]).shape == (1, 48, 64, 3)
    assert fast.depth.read([]).shape == (0, 48, 64)


def test_a_given_length_is_kept_and_an_unfinished_instruction_is_not_claimed():
    clip = film_clip(5, seconds=2.0)
    assert len(clip) == 20
    assert all(t.start < clip.timestamps[-1] and " hand" in t.text for t in clip.texts)
    assert any(t.end > clip.timestamps[-1] for t in clip.texts)  # what goes on is not said to end with the film


def test_clips_last_four_seconds_or_more_and_end_where_the_action_ends(clips):
    for clip in clips:
        assert clip.timestamps[-1] > 3.8
        assert max(t.end for t in clip.texts) > clip.timestamps[-1] - 1.5 or clip.timestamps[-1] < 4.0
        assert len(clip) < 200


def test_a_clip_survives_pickling(clips):
    clips[0].frames.read([0])
    copy = pickle.loads(pickle.dumps(clips[0]))
    np.testing.assert_array_equal(copy.frames.read([4]), clips[0].frames.read([4]))


def test_frames_outside_the_clip_are_refused(clips):
    with pytest.raises(IndexError, match="outside the film"):
        clips[0].frames.read([len(clips[0])])
    for bad in ({"rate": 0}, {"seconds": -1.0}, {"size": (0, 112)}):
        with pytest.raises(ValueError, match="must be positive"):
            film_clip(0, **bad)


def test_static_points_reproject_between_frames(clips):
    """Table points of one frame, moved by T_world_camera, have the depth that the other frame sees there."""
    compared = 0
    for clip in clips[:8]:
        i, j = 0, len(clip) - 1
        depth, seen = clip.depth.read([i, j]).astype(float), clip.frames.segmentation([i, j])
        K = clip.intrinsics.matrix
        world = transform(clip.T_world_camera[i], unproject_depth(depth[0], K))
        table = (seen[0] == 0) & (np.abs(world[..., 2]) < 0.002)
        camera = transform(invert(clip.T_world_camera[j]), world[table])
        pixels = project(camera, K)
        inside = clip.intrinsics.contains(pixels)
        u, v = np.round(pixels[inside]).astype(int).T
        same = seen[1][v, u] == 0
        error = depth[1][v, u] - camera[inside, 2]
        assert np.median(np.abs(error[same])) < 0.004  # half a pixel of a slanted plane
        compared += same.sum()
    assert compared > 10_000


def test_the_camera_moves_smoothly(clips):
    speeds = [np.linalg.norm(np.diff(c.T_world_camera[:, :3, 3], axis=0), axis=1).max() * c.rate for c in clips]
    assert max(speeds) < 0.35
    assert max(speeds) > 0.03


def test_hands_move_as_fast_as_people_do():
    peaks = []
    for seed in SEEDS:
        clip = film_clip(seed, rate=30.0)
        for hand in clip.hands:
            speed = np.linalg.norm(np.diff(joints_world(clip, hand), axis=0), axis=-1) * clip.rate
            assert speed.max() < 1.5
            peaks.append(speed[:, 0].max())
    acting = [p for p in peaks if p > 0.05]
    assert len(acting) >= len(SEEDS)
    assert 0.4 < np.median(acting) < 1.0


def test_hands_stay_above_the_table(clips):
    for clip in clips:
        for hand in clip.hands:
            assert joints_world(clip, hand)[..., 2].min() > -0.005


def test_objects_never_sink_into_the_table_and_end_at_rest_on_something(clips):
    for clip in clips:
        tracks = {o.name: o for o in clip.objects}
        for track in tracks.values():
            T, half = track.T_world_object, track.extent / 2
            lowest = T[:, 2, 3] - np.abs(T[:, 2, :3]) @ half
            assert lowest.min() > -0.004, (clip.id, track.name)
        if any("put" in t.text and " hand" not in t.text for t in clip.texts):
            for track in tracks.values():
                np.testing.assert_allclose(track.T_world_object[-1, 2, 2], 1.0, atol=1e-6)


def test_objects_move_only_while_a_hand_touches_them(clips):
    moved = 0
    for clip in clips:
        for track in clip.objects:
            step = np.abs(np.diff(track.T_world_object, axis=0)).max((1, 2)) > 1e-9
            touched = np.any([c for (_, name), c in clip.contacts.items() if name == track.name], axis=0)
            assert not (step & ~(touched[1:] | touched[:-1])).any(), (clip.id, track.name)
            moved += step.any()
    assert moved >= len(clips)


def test_a_touching_hand_has_a_fingertip_at_the_object_and_an_idle_one_has_not(clips):
    for clip in clips:
        for (side, name), contact in clip.contacts.items():
            track = next(o for o in clip.objects if o.name == name)
            joints = joints_world(clip, clip.hand(side))[:, [3, 4, 7, 8, 11, 12]]
            T = invert(track.T_world_object)
            local = transform(T, joints)
            outside = np.linalg.norm(np.maximum(np.abs(local) - track.extent / 2, 0), axis=-1).min(1)
            assert (outside[contact] < 0.03).all(), (clip.id, side, name)
    assert any(c.any() for clip in clips for c in clip.contacts.values())


def test_held_objects_move_rigidly_with_the_hand(clips):
    for clip in clips:
        for (side, name), contact in clip.contacts.items():
            track = next(o for o in clip.objects if o.name == name)
            runs = np.flatnonzero(contact)
            if len(runs) < 4:
                continue
            runs = runs[: np.argmax(np.diff(runs) > 1) + 1] if (np.diff(runs) > 1).any() else runs
            wrist = joints_world(clip, clip.hand(side))[runs, 0]
            local = transform(invert(track.T_world_object[runs]), wrist[:, None])[:, 0]
            assert np.ptp(local[1:-2], axis=0).max() < 1e-6, (clip.id, side, name)


def test_joints_land_on_their_hand_in_the_pictures(clips):
    on_hand = total = 0
    for clip in clips[:10]:
        frames = [len(clip) // 4, len(clip) // 2]
        depth, seen = clip.depth.read(frames), clip.frames.segmentation(frames)
        for hand in clip.hands:
            for k, frame in enumerate(frames):
                joints = hand.joints_camera[frame]
                pixels = project(joints, clip.intrinsics.matrix)
                for joint, pixel in zip(joints, pixels):
                    if joint[2] > 0.05 and clip.intrinsics.contains(pixel):
                        u, v = np.round(pixel).astype(int)
                        assert depth[k, v, u] < joint[2] + 0.006
                        if depth[k, v, u] > joint[2] - 0.03:
                            total += 1
                            on_hand += seen[k, v, u] == HAND_IDS[hand.side]
    assert total > 100
    assert on_hand / total > 0.95


def test_boxes_hold_the_visible_pixels_of_their_object(clips):
    tight = []
    for clip in clips[:10]:
        seen = clip.frames.segmentation([0])[0]
        for i, track in enumerate(clip.objects):
            v, u = np.nonzero(seen == i + 1)
            if len(v) < 15 or np.isnan(track.boxes[0]).any():
                continue
            left, top, right, bottom = track.boxes[0]
            slack = 1.0 if not track.name.endswith("cup") else 6.0  # the cup's handle is not in its extent
            assert left - slack <= u.min()
            assert u.max() <= right + slack
            assert top - slack <= v.min()
            assert v.max() <= bottom + slack
            tight.append((np.ptp(u) + 1) / (right - left))
    assert np.median(tight) > 0.9


def test_texts_name_what_happens_and_when(clips):
    for clip in clips:
        names = [o.name for o in clip.objects]
        assert clip.texts
        for text in clip.texts:
            assert 0 <= text.start < min(text.end, clip.timestamps[-1] + 1e-6)
            assert text.hand == "both" or clip.hand(text.hand) is not None
            assert any(n in text.text for n in names) or text.text.endswith("moves back")


def test_put_on_ends_with_the_thing_above_its_support():
    done = 0
    for seed in range(60):
        scene, act = perform(seed, 10.0)
        for text in act.texts:
            words = text.text
            if not words.startswith("put the ") or " next to " in words:
                continue
            split = " on the " if " on the " in words else " in the "
            thing, support = words.removeprefix("put the ").split(split)
            if sum(support in t.text and t.start > text.end for t in act.texts):
                continue
            i, j = ([o.name for o in scene.objects].index(n) for n in (thing, support))
            frame = min(len(act.times) - 1, np.searchsorted(act.times, text.end))
            a, b = act.T_world_objects[frame, i, :3, 3], act.T_world_objects[frame, j, :3, 3]
            assert np.linalg.norm(a[:2] - b[:2]) < 1e-6
            assert a[2] > b[2]
            done += 1
    assert done > 5

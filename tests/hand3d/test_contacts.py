"""Contacts from geometry against the tabletop's truth (what readers of pose sources give: test_data_sets.py)."""

from dataclasses import replace

import numpy as np
import pytest

from vipa.clips.example import example_clip
from vipa.hand3d.config import ContactsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.measure.contacts import contacts_from_geometry, touches
from vipa.hand3d.measure.paths import bridged
from vipa.hand3d.pipeline.annotate import annotate
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import seeds_of


@pytest.mark.parametrize(("shape", "jitter"), [("surface", 0.0), ("extent", 0.0), ("surface", 0.003)])
def test_touches_of_films_begin_and_end_when_they_do(shape, jitter, compare):
    edges, rng = 0, np.random.default_rng(0)
    for seed in seeds_of("validation")[:10]:
        clip = film_clip(seed, rate=30.0, size=(32, 32))
        hands = [
            replace(h, joints_camera=h.joints_camera + rng.normal(0, jitter, h.joints_camera.shape))
            for h in clip.hands
        ]
        tracks = [t if shape == "surface" else replace(t, surface=None) for t in clip.objects]
        found = contacts_from_geometry(replace(clip, hands=tuple(hands), objects=tuple(tracks)), ContactsConfig())
        assert found.keys() == clip.contacts.keys()
        edges += sum(compare(found[key], clip.contacts[key], clip.timestamps) for key in found)
    assert edges > 15


def moving_together(clip, config=None):
    """(the example's touches of cup and plate as its geometry tells them)"""
    cup, plate = (replace(track, extent=np.full(3, 0.08)) for track in clip.objects)
    hand = clip.hands[0]
    bones = hand.joints_camera - hand.joints_camera[:, :1]
    place = np.array([-0.03, 0.05, 0.09])  # from the wrist to what is held: see `example.GRASP`
    fingers = hand.joints_camera[:, :1] + 0.2 * bones
    R = clip.T_world_camera[:, :3, :3]
    fingers[:, 1:] += (R.mT @ place)[:, None]
    hand = replace(hand, joints_camera=fingers)
    return replace(clip, hands=(hand,), objects=(cup, plate), contacts=None)


def test_a_hand_that_hovers_over_what_does_not_move_is_not_said_to_touch_nor_not_to():
    clip = moving_together(example_clip(rate=30.0))
    cup, plate = (touches(clip, clip.hands[0], track, ContactsConfig()) for track in clip.objects)
    times = clip.timestamps - clip.timestamps[0]
    assert (cup[(times > 3) & (times < 5)] == 1).all()
    assert (cup[times < 1] == 0).all()
    assert not (plate == 1).any()
    assert np.isnan(plate[times > 5]).all()  # the cup is set down on it


def test_what_is_not_known_of_poses_is_not_known_of_touches():
    clip = moving_together(example_clip(rate=30.0))
    cup = clip.objects[0]
    poses = cup.T_world_object.copy()
    poses[:30] = np.nan
    touch = touches(clip, clip.hands[0], replace(cup, T_world_object=poses), ContactsConfig())
    assert np.isnan(touch[:30]).all()
    assert (touch[100:140] == 1).all()
    lost = replace(clip.hands[0], confidence=np.zeros((len(clip), 21)))
    assert np.isnan(touches(clip, lost, cup, ContactsConfig())).all()
    assert contacts_from_geometry(replace(clip, objects=(replace(cup, extent=None),)), ContactsConfig()) is None
    assert contacts_from_geometry(replace(clip, T_world_camera=None), ContactsConfig()) is None


def test_records_say_contact_where_it_is_known_and_nothing_where_not(tmp_path):
    clip = moving_together(example_clip(rate=30.0))
    report = annotate([clip], tmp_path)
    assert report.refused == ()
    records = [r for r in Hand3D(tmp_path).visual() if r.category == "spatial_relation" and r.object == "red cup"]
    said = {int(r.frame_ids[-1].rsplit("/", 1)[1]): r.contact for r in records}
    assert said[120] is True
    assert said[0] is False
    assert all((", in contact" in r.answer) == (r.contact is True) for r in records)
    plate = [r for r in Hand3D(tmp_path).visual() if r.category == "spatial_relation" and r.object == "plate"]
    assert {r.contact for r in plate} <= {False, None}
    goals = {(r.goal, r.object) for r in Hand3D(tmp_path).visual() if r.category == "task_completion"}
    assert ("touch", "red cup") in goals


def test_short_gaps_are_bridged_and_long_ones_are_not():
    times = np.arange(10) / 10.0
    points = np.tile(times[:, None, None], (1, 2, 3)).copy()
    points[3, 0] = points[5:9, 1] = np.nan
    out = bridged(points, times, 0.2)
    np.testing.assert_allclose(out[3, 0], 0.3)
    assert np.isnan(out[5:9, 1]).all()

"""The nine data sets of the paper, as the small fakes that `vipa sources fixture` writes, from files to records."""

from dataclasses import replace

import numpy as np
import pytest

from vipa.clips.clip import ClipError
from vipa.clips.sources import load_source
from vipa.geometry import Intrinsics, direction_words, transform
from vipa.hand3d.config import AnnotateConfig, ContactsConfig, FramesConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.measure.contacts import contacts_from_geometry
from vipa.hand3d.measure.relations import CameraMovement
from vipa.hand3d.pipeline.annotate import annotate_source
from vipa.worlds.fixtures import write_fixture
from vipa.worlds.fixtures.tasterob import FRAMES, RATE
from vipa.worlds.fixtures.truth import film

WITH_HANDS = ("arctic", "dexycb", "egodex", "fpha", "h2o", "hoi4d", "hot3d", "oakink2", "taco")


@pytest.mark.parametrize("name", WITH_HANDS)
def test_every_clip_is_annotated_or_refused_for_what_is_broken_in_it(name, tmp_path):
    fixture = write_fixture(name, tmp_path / "files")
    report = annotate_source(name, fixture.root, tmp_path / "out", options=fixture.options)
    refused = {clip_id.removeprefix(f"{name}/"): reason for clip_id, reason in report.refused}
    assert set(refused) == set(fixture.broken), refused
    for clip_id, part in fixture.broken.items():
        assert part in refused[clip_id]
    assert report.done == len(fixture.truth)
    records = list(Hand3D(tmp_path / "out").visual())
    assert records
    for r in records:
        if r.category != "spatial_relation":
            continue
        clip = fixture.truth[r.clip_id.removeprefix(f"{name}/")]
        track = next(t for t in clip.objects if t.name == r.object)
        first, last = (int(f.rsplit("/", 1)[1]) for f in (r.frame_ids[0], r.frame_ids[-1]))
        if clip.T_world_camera is None or track.T_world_object is None:
            continue
        wrist = clip.T_world_camera[last] @ [*clip.hand(r.hand).joints_camera[last, 0], 1.0]
        offset = track.centres_world[last] - wrist[:3]
        truth = clip.T_world_camera[first, :3, :3].T @ offset
        assert np.linalg.norm(np.array(r.displacement) - truth) < (0.001 if r.method == "poses" else 0.04)
        if r.method == "poses":
            assert tuple(r.directions) == direction_words(truth)


FILMED = {
    "arctic": (0,), "dexycb": (0, 1), "h2o": (0,), "hoi4d": (0,), "hot3d": (0, 1, 2), "oakink2": (0, 1), "taco": (1, 0)
}  # fmt: skip
"""Source with object poses: which of the film's objects its objects are."""


@pytest.mark.parametrize("name", FILMED)
def test_contacts_and_all_categories_of_pose_sources_are_the_films(name, tmp_path, compare):
    fixture = write_fixture(name, tmp_path / "files", frames={"oakink2": 88, "dexycb": 76}.get(name, 56))
    touched: dict[tuple[str, str, str], np.ndarray] = {}
    edges = 0
    for clip in load_source(name).read_clips(fixture.root, fixture.options):
        if isinstance(clip, ClipError):
            continue
        truth = fixture.truth[clip.id]
        filmed = list(dict.fromkeys(thing for _, thing in truth.contacts))
        assert clip.contacts is None
        for (side, thing), touch in contacts_from_geometry(clip, ContactsConfig()).items():
            index = FILMED[name][[t.name for t in clip.objects].index(thing)]
            contact = np.asarray(truth.contacts[side, filmed[index]])
            touched[clip.id, side, thing] = contact
            edges += compare(touch, contact, clip.timestamps)
    assert edges > 0

    config = AnnotateConfig(frames=FramesConfig(rate=5.0))
    annotate_source(name, fixture.root, tmp_path / "out", config, options=fixture.options)
    seen = set()
    for r in Hand3D(tmp_path / "out").visual():
        clip_id = r.clip_id.removeprefix(f"{name}/")
        clip = fixture.truth[clip_id]
        first, last = (int(f.rsplit("/", 1)[1]) for f in (r.frame_ids[0], r.frame_ids[-1]))
        seen.add(r.category)
        T, R_first_world = clip.T_world_camera, clip.T_world_camera[first, :3, :3].T
        if r.category == "camera_movement":
            moved = CameraMovement.between(T[first], T[last], r.aspect)
            np.testing.assert_allclose(r.displacement, moved.translation, atol=1e-3)
            np.testing.assert_allclose(r.rotation, moved.rotation, atol=1e-3)
            continue
        path = transform(T, clip.hand(r.hand).joints_camera[:, :1])[:, 0]
        if r.category == "hand_movement":
            np.testing.assert_allclose(r.displacement, R_first_world @ (path[last] - path[first]), atol=2e-3)
        elif r.category == "spatial_relation":
            track = next(t for t in clip.objects if t.name == r.object)
            truth = R_first_world @ (track.centres_world[last] - path[last])
            np.testing.assert_allclose(r.displacement, truth, atol=2e-3)
            near = touched[clip_id, r.hand, r.object][max(0, last - 6) : last + 7]  # 0.2 s
            assert r.contact is None or r.contact in near
            assert (", in contact" in r.answer) == (r.contact is True)
        else:
            ways = (path - path[last]) @ R_first_world.T - r.displacement
            goal = int(np.nanargmin(np.linalg.norm(ways, axis=-1)))
            assert np.linalg.norm(ways[goal]) < 2e-3
            assert goal > last
            if r.goal != "stop":
                edge = {"touch": 1, "release": -1}[r.goal]
                changes = np.flatnonzero(np.diff(touched[clip_id, r.hand, r.object].astype(int)) == edge)
                assert np.abs(path[changes] - path[goal]).max(-1).min() < 0.03 or np.abs(changes - goal).min() <= 6
    assert seen >= {"spatial_relation", "hand_movement"}
    if name not in ("dexycb", "hoi4d"):  # their camera stands, or hardly moves
        assert "camera_movement" in seen
    assert "task_completion" in seen


def test_videos_without_hands_are_refused_and_a_trackers_results_give_them(tmp_path, no_tracker):
    fixture = write_fixture("tasterob", tmp_path / "files")
    report = annotate_source("tasterob", fixture.root, tmp_path / "without", options=fixture.options)
    reasons = [reason for _, reason in report.refused]
    assert report.done == 0
    assert len(reasons) == len(fixture.truth) + len(fixture.broken)
    assert sum("nothing to ask: hands: none (" in reason for reason in reasons) == len(fixture.truth)

    options = replace(fixture.options, tracker="wilor", hands=fixture.root / "hands")
    report = annotate_source("tasterob", fixture.root, tmp_path / "with", options=options)
    assert report.done == 2
    truth = film(
        0, FRAMES, RATE, Intrinsics.from_fov(np.radians(fixture.options.fov_degrees), 320, 240, "estimated")
    )
    records = [r for r in Hand3D(tmp_path / "with").visual() if r.category == "hand_movement"]
    assert {r.clip_id for r in records} == {"tasterob/SingleHand_Kitchen_7", "tasterob/DoubleHand_Kitchen_7"}
    for r in records:
        first, last = (int(f.rsplit("/", 1)[1]) for f in (r.frame_ids[0], r.frame_ids[-1]))
        wrist = truth.hand(r.hand).joints_camera[:, 0]
        np.testing.assert_allclose(r.displacement, wrist[last] - wrist[first], atol=0.01)

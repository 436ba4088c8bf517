"""The nine data sets of the paper, as the small fakes that `vipa sources fixture` writes, from files to records."""

from dataclasses import replace

import numpy as np
import pytest

from vipa.clips.fixtures import write_fixture
from vipa.clips.fixtures.tasterob import FRAMES, RATE
from vipa.clips.fixtures.truth import film
from vipa.geometry import Intrinsics, direction_words
from vipa.hand3d.annotate import annotate_source
from vipa.hand3d.dataset import Hand3D

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


def test_videos_without_hands_are_refused_and_a_trackers_results_give_them(tmp_path):
    fixture = write_fixture("tasterob", tmp_path / "files")
    report = annotate_source("tasterob", fixture.root, tmp_path / "without", options=fixture.options)
    reasons = [reason for _, reason in report.refused]
    assert report.done == 0
    assert len(reasons) == len(fixture.truth) + len(fixture.broken)
    assert sum("it has no hands; give a hand tracker's results" in reason for reason in reasons) == len(
        fixture.truth
    )

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

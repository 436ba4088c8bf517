"""What is shown to the networks is what the data set's own questions were made from, and their answers are scored."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from vipa.benchmarks import movements_benchmark as movements
from vipa.benchmarks.hand3d_benchmark import score
from vipa.benchmarks.movements_benchmark import KINDS, Settings, look, pair_of, regress, said
from vipa.geometry import project
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.pipeline.annotate import annotate
from vipa.hand3d.words.questions import question_kind
from vipa.models.cut3r import Cut3rModel
from vipa.models.loading import load_model
from vipa.models.starts import beside
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN


@pytest.fixture(scope="module")
def encoder() -> Cut3rModel:
    return load_model(Cut3rModel, beside("nano:foundation", "spatial"), expected="cut3r").eval()


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A data set of clips in which the head looks around."""
    path = tmp_path_factory.mktemp("moving")
    annotate((replace(film_clip(TRAIN[i], ambiguity=1.0), split="train") for i in range(3)), path)
    return path


@pytest.fixture(scope="module")
def records(moving):
    asked = [r for r in Hand3D(moving).visual() if question_kind(r.relation) in KINDS]
    assert {question_kind(r.relation) for r in asked} == set(KINDS)
    return asked


def truth(record):
    return np.array(
        record.rotation if question_kind(record.relation) == "camera_rotation" else record.displacement
    )


def test_whoever_knows_the_true_vector_gives_the_true_answer(records):
    answers = [said(record, truth(record)) for record in records]
    assert all(s.direction_score == 3 and s.error <= 0.0051 for s in score(records, answers))
    backward = [said(record, -2 * truth(record)) for record in records]
    assert all(s.direction_score < 3 and s.error > 0 for s in score(records, backward))


def test_the_way_of_the_camera_is_what_questions_about_it_were_made_from(records, moving, encoder):
    some = [r for r in records if question_kind(r.relation) != "hand_movement"][:12]
    seen = look(Hand3D(moving), [pair_of(r) for r in some], encoder, batch=5)
    for i, record in enumerate(some):
        turns = question_kind(record.relation) == "camera_rotation"
        np.testing.assert_allclose(seen.way[i, 3:] if turns else seen.way[i, :3], truth(record), atol=1e-4)
    assert (seen.joints == 0).reshape(len(some), 2, 43)[:, :, :42].all(), "no hand is asked about"
    assert np.isfinite(seen.pose).all()


def test_pictures_of_two_shapes_are_seen_as_each_would_be_alone(encoder, tmp_path):
    shapes = {0: (112, 112), 1: (160, 112)}
    clips = (film_clip(TRAIN[i], ambiguity=1.0, size=size) for i, size in shapes.items())
    annotate((replace(clip, split="train") for clip in clips), tmp_path)
    data, wide = Hand3D(tmp_path), deepcopy(encoder)
    wide.config.image_size = 240  # above 224 a network sees a picture's own aspect
    records = [r for r in data.visual() if question_kind(r.relation) == "camera_rotation"]
    by_clip = [
        [pair_of(r) for r in records if r.clip_id == clip][:2] for clip in sorted({r.clip_id for r in records})
    ]
    assert [len(pairs) for pairs in by_clip] == [2, 2]
    together = look(data, [*by_clip[0], *by_clip[1]], wide).pose
    np.testing.assert_allclose(together, np.concatenate([look(data, p, wide).pose for p in by_clip]), atol=1e-5)


def test_an_encoder_of_one_world_is_not_asked_about_another(records, moving, encoder):
    stranger = deepcopy(encoder)
    stranger.config.source = "kitchen"
    with pytest.raises(ValueError, match="it has seen the kitchen world only, and these pictures are of tabletop"):
        look(Hand3D(moving), [pair_of(records[0])], stranger)


def test_joints_and_points_are_where_the_hand_is_seen(records, moving, encoder):
    data = Hand3D(moving)
    record = next(r for r in records if question_kind(r.relation) == "hand_movement")
    frames = {frame.id: frame for frame in data.frames()}
    seen = look(data, [pair_of(record)], encoder)
    for k, name in enumerate(record.frame_ids):
        frame = frames[name]
        joints = np.reshape(frame.left_joints if record.hand == "left" else frame.right_joints, (21, 3))
        around = seen.joints[0, 43 * k : 43 * (k + 1)]
        np.testing.assert_allclose(around[:2], joints[0, :2] / joints[0, 2], atol=1e-6)
        np.testing.assert_allclose(
            around[2:42].reshape(20, 2) + around[:2], joints[1:, :2] / joints[1:, 2:], atol=1e-6
        )
        fx, fy, cx, cy, width, height = frame.intrinsics
        places = (project(joints, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])) + 0.5) / [width, height]
        v, u = np.mgrid[:64, :64]
        ramp = np.stack([u + 0.5, v + 0.5, np.full((64, 64), 64.0)], -1) / 64
        inside = places[((places >= 0) & (places < 1)).all(1)]
        found = movements._at(ramp, places)
        assert np.abs(found[:2] - np.median(inside, 0)).max() < 1.5 / 64
    assert (movements._at(ramp, np.full((21, 2), np.nan)) == 0).all()


def test_a_network_learns_what_its_features_tell_and_no_more():
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(600, 6)), rng.normal(size=(200, 6))
    y = np.sin(x[:, :3])
    told, untold = regress(x[:, :3], y, z[:, :3], 0, 40), regress(x[:, 3:], y, z[:, 3:], 0, 40)
    assert np.abs(told - np.sin(z[:, :3])).mean() < 0.1
    assert np.abs(untold - np.sin(z[:, :3])).mean() > 0.5


def test_every_kind_of_movement_is_answered_by_everyone(moving, tmp_path):
    out = tmp_path / "movements.md"
    page = movements.run(Settings(moving, out, split="train", limit=24, seeds=2, epochs=2))
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["hand_movement"] * 4 + ["camera_rotation"] * 3 + [
        "camera_translation"
    ] * 3
    assert all(0 <= row["error"]["low"] <= row["error"]["value"] <= row["error"]["high"] for row in rows)
    assert out.read_text() == page
    assert "| hand movement | a constant |" in page
    assert " degrees |" in page


def test_data_without_movements_is_refused(moving, tmp_path):
    with pytest.raises(ValueError, match="no questions about movements in both train and validation"):
        movements.run(Settings(moving, tmp_path / "x.md", limit=0))

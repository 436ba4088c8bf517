"""`ambiguity`: at 0 the world is version 1, at 1 the size of a box no longer tells a distance, and hands stay human."""

import hashlib
import json

import numpy as np
import pytest

from vipa.geometry import axis_angle_from_matrix, invert, project, transform
from vipa.hands.skeleton import BONES
from vipa.nano.recipe import NanoRecipe, recipe_jobs
from vipa.robots.known.tabletop import collect, demonstration
from vipa.worlds.actions import perform
from vipa.worlds.film import film_clip
from vipa.worlds.objects import KINDS, SPREAD, surface_points
from vipa.worlds.scene import HEAD, sample_scene
from vipa.worlds.sequences import render_sequences
from vipa.worlds.source import read_manifest, write_manifest
from vipa.worlds.stills import _walk, stills
from vipa.worlds.tasks import TASKS, sample_task

FIRST = 10_000_000


@pytest.fixture(scope="module")
def scenes():
    return {a: [sample_scene(FIRST + i, ambiguity=a) for i in range(150)] for a in (0.0, 1.0)}


def numbers(scene):
    rows = [scene.table_size, scene.T_world_camera.ravel(), [scene.fov], scene.light.direction]
    for thing in scene.objects:
        rows += [thing.size, thing.position, [thing.yaw, KINDS.index(thing.kind)]]
    return np.concatenate(rows)


def test_without_ambiguity_the_world_is_version_1():
    """The hash is that of the world before it knew ambiguity."""
    found = [numbers(sample_scene(FIRST + i)) for i in range(20)]
    found += [numbers(sample_task(task, FIRST + i).scene) for task in TASKS for i in range(3)]
    found += [perform(FIRST + i, 5.0)[1].T_world_camera.ravel() for i in range(2)]
    digits = np.round(np.concatenate(found), 7) + 0.0
    assert hashlib.sha256(digits.tobytes()).hexdigest()[:16] == "4eac1ae3faeaaad1"


def test_sizes_of_a_kind_vary_by_more_than_two(scenes):
    for kind in KINDS:
        widths = {a: [o.size[0] for s in some for o in s.objects if o.kind == kind] for a, some in scenes.items()}
        assert max(widths[0.0]) / min(widths[0.0]) < 1.6
        assert 2.0 < max(widths[1.0]) / min(widths[1.0]) < 1.6 * SPREAD


def test_every_object_is_in_the_picture_and_the_head_keeps_its_height(scenes):
    for scene in scenes[1.0]:
        camera = invert(scene.T_world_camera)
        pixels = project(
            transform(camera, np.array([o.position for o in scene.objects])), scene.intrinsics(112, 112).matrix
        )
        assert ((pixels > 0) & (pixels < 111)).all()
        assert HEAD[0] <= scene.T_world_camera[2, 3] <= HEAD[1]


def test_a_box_says_less_about_the_distance(scenes):
    """A linear regression of log depth on box, kind, place and field of view, against the truth."""
    left = {}
    for a, some in scenes.items():
        rows, depths = [], []
        for scene in some:
            camera, K = invert(scene.T_world_camera), scene.intrinsics(112, 112).matrix
            for thing in scene.objects:
                pixels = project(transform(camera @ thing.T_world_object, surface_points(thing)), K)
                low, high = pixels.min(0), pixels.max(0)
                kind = np.eye(len(KINDS))[KINDS.index(thing.kind)]
                rows.append([*np.log(high - low), np.log(scene.fov), *(low + high) / 112 - 1, *kind])
                depths.append(np.log(transform(camera, thing.position[None])[0, 2]))
        X, y = np.array(rows), np.array(depths)
        left[a] = float(np.std(y - X @ np.linalg.lstsq(X, y, rcond=None)[0]))
    assert left[0.0] < 0.08
    assert left[1.0] > 2 * left[0.0]


def test_hands_stay_human_and_the_head_looks_around():
    turns = {}
    for a in (0.0, 1.0):
        turned = []
        for seed in range(FIRST, FIRST + 4):
            clip = film_clip(seed, rate=2.0, ambiguity=a)
            joints = clip.hands[0].joints_camera
            bones = np.array([np.linalg.norm(joints[:, i] - joints[:, j], axis=-1) for i, j in BONES])
            assert np.ptp(bones, axis=1).max() < 1e-9
            assert 0.080 < bones[BONES.index((0, 9))].mean() < 0.105
            R = clip.T_world_camera[:, :3, :3]
            relative = np.swapaxes(R[:-2], 1, 2) @ R[2:]
            turned.append(np.degrees(np.linalg.norm(axis_angle_from_matrix(relative), axis=-1)).mean())
        turns[a] = np.mean(turned)
    assert turns[1.0] > 2 * turns[0.0]
    assert turns[1.0] > 5


def test_the_3d_encoder_learns_from_a_head_that_moves_as_far_as_in_clips():
    """From the first frame to the last; it once moved less, and less still in the pairs that training draws."""

    def turn(a, b):
        return np.degrees(np.linalg.norm(axis_angle_from_matrix(a[:3, :3].T @ b[:3, :3])))

    scenes = [sample_scene(seed, ambiguity=1.0) for seed in range(FIRST, FIRST + 100)]
    walks = [[pose for pose, _ in _walk(scene, 4)] for scene in scenes]
    clips = [perform(seed, 2.0, ambiguity=1.0)[1].T_world_camera for seed in range(FIRST, FIRST + 25)]
    learned = np.mean([turn(walk[0], walk[-1]) for walk in walks])
    asked = np.mean([turn(T[k], T[k + 4]) for T in clips for k in range(len(T) - 4)])
    assert asked < learned < 1.5 * asked


def test_what_an_earlier_version_made_is_not_mixed_with_what_this_one_makes(tmp_path, monkeypatch):
    def names(ambiguity):
        render_sequences(tmp_path / "films", range(1), 2, 28, 1, ambiguity)
        jobs = recipe_jobs(NanoRecipe(tmp_path, ambiguity=ambiguity))
        films = {path.name for path in (tmp_path / "films").iterdir()}
        return {film_clip(FIRST, rate=1.0, ambiguity=ambiguity).id, *(job.key for job in jobs.values())}, films

    def recorded(ambiguity):
        return collect(tmp_path / f"{ambiguity:g}", [FIRST], {"touch": 1.0}, size=28, ambiguity=ambiguity)

    before = {a: names(a)[0] for a in (0.0, 1.0)}
    films = names(1.0)[1]
    recorded(0.0), recorded(1.0)
    monkeypatch.setattr("vipa.worlds.scene.VARIED", 1)
    assert names(0.0) == (before[0.0], films)
    others, more = names(1.0)
    assert not others & before[1.0]
    assert len(more - films) == 1
    assert recorded(0.0).found
    with pytest.raises(ValueError, match="scenes"):
        recorded(1.0)


def test_clips_of_another_ambiguity_have_another_name_and_the_same_things():
    a, b = film_clip(FIRST), film_clip(FIRST, ambiguity=0.5)
    assert a.id != b.id
    assert a.objects[0].name == b.objects[0].name
    assert not np.allclose(a.objects[0].extent, b.objects[0].extent)


def test_the_same_seed_and_ambiguity_give_the_same_pictures():
    first, again = (stills(FIRST, 2, 56, 0.7)[-1] for _ in range(2))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth, again.depth)


@pytest.mark.parametrize("task", TASKS)
def test_experts_reach_what_an_ambiguous_scene_asks(task):
    assert demonstration(task, 20_000_000, size=16, ambiguity=1.0).success


def test_manifests_from_before_have_no_ambiguity(tmp_path):
    path = write_manifest(tmp_path, "train", 2, ambiguity=0.5)
    assert read_manifest(path).ambiguity == 0.5
    values = json.loads(path.read_text())
    del values["ambiguity"]
    path.write_text(json.dumps(values))
    assert read_manifest(path).ambiguity == 0.0
    path.write_text(json.dumps(values | {"ambiguity": 2}))
    with pytest.raises(ValueError, match="ambiguity must be a number"):
        read_manifest(path)


def test_an_ambiguity_out_of_range_is_refused():
    with pytest.raises(ValueError, match="ambiguity"):
        sample_scene(0, ambiguity=1.5)

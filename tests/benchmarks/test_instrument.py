"""The instrument's own measures: boxes and points are the world's, and its regressor finds what is to be found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vipa.benchmarks import instrument_benchmark as instrument
from vipa.benchmarks.instrument_benchmark import Settings, Table, regress
from vipa.benchmarks.instrument_scenes import (
    MOST,
    around_features,
    box_features,
    depth_points,
    object_boxes,
    point_features,
    read_scenes,
    shape_points,
)
from vipa.geometry import project
from vipa.worlds.objects import KINDS
from vipa.worlds.seeds import TRAIN


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("instrument")
    return Settings(
        out=folder / "instrument.md", ambiguities=(1.0,), scenes=10, held=6, seeds=2, steps=50,
        data=folder / "data", workers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scenes(settings):
    return read_scenes(settings.data, TRAIN[:10], settings.frames, settings.size, 1.0, 1)


def test_true_depth_lies_on_the_objects_and_boxes_hold_their_centres(scenes):
    points, inside = depth_points(scenes), 0
    for i, k in zip(*np.nonzero(scenes.asked)):
        u, v = project(scenes.centre[i, k][None], scenes.K[i])[0]
        left, top, right, bottom = scenes.box[i, k]
        assert left < u < right
        assert top < v < bottom
        seen = points[i, round(v), round(u)]
        inside += np.linalg.norm(seen - scenes.centre[i, k]) < 0.12
    assert inside > 0.8 * scenes.asked.sum()


def test_points_of_a_plane_have_its_depth(scenes):
    flat = np.broadcast_to(np.array([0.0, 0.0, 0.5]), (*scenes.depth.shape, 3))
    boxes = object_boxes(scenes)
    in_picture = (boxes[..., 2:] > boxes[..., :2]).all(-1)  # heads that look around leave some things outside
    assert (in_picture >= scenes.asked).all()
    found = point_features(boxes, flat)[in_picture]
    np.testing.assert_allclose(found[:, 2], 0.5)
    np.testing.assert_allclose(found[:, 3:8], np.log(0.5))


def test_a_shape_is_the_true_points_but_for_a_factor(scenes):
    ratio = np.where(scenes.depth[..., None] > 0, depth_points(scenes) / shape_points(scenes), np.nan)
    lowest, highest = np.nanmin(ratio, (1, 2, 3)), np.nanmax(ratio, (1, 2, 3))
    np.testing.assert_allclose(lowest, highest)
    assert 0.2 < lowest.min() < highest.max() < 2


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_no_scene_is_both_measured_and_learned_from(settings, split):
    parts = instrument.seeds_for(replace(settings, split=split))
    assert {part: len(seeds) for part, seeds in parts.items()} == {"held": 6, "train": 10, "choose": 2}
    assert len(set().union(*parts.values())) == 18


def test_boxes_on_the_ray_plane_do_not_know_the_picture_s_size(scenes):
    rays = box_features(scenes)[..., :4]
    assert rays.shape == (10, MOST, 4)
    centre = (scenes.box[0, 0, :2] + scenes.box[0, 0, 2:]) / 2
    np.testing.assert_allclose(rays[0, 0, :2], (centre - scenes.K[0, :2, 2]) / scenes.K[0, 0, 0])
    assert len(around_features(scenes)[0, 0]) == 4 + 2 + len(KINDS) + 1


def test_the_regressor_finds_depths_that_are_there_and_not_those_that_are_not():
    torch.manual_seed(0)
    depth, rays = 0.4 + 0.5 * torch.rand(900), 0.5 * torch.randn(900, 2)
    truth = depth[:, None] * torch.cat([rays, torch.ones(900, 1)], 1)
    noise = torch.randn(900, 1)

    def tables(own):
        cuts = (slice(0, 600), slice(600, 700), slice(700, 900))
        return [Table(own[c], rays[c], None, truth[c]) for c in cuts]

    told = regress(*tables(torch.cat([rays, depth.log()[:, None]], 1)), seed=0, steps=150)
    blind = regress(*tables(torch.cat([rays, noise], 1)), seed=0, steps=150)
    assert told.mean() < 0.03
    assert 0.1 < blind.mean() < 0.2


@pytest.mark.slow  # python -m pytest -m slow tests/benchmarks/test_instrument.py: 10 seconds
def test_a_run_writes_its_table_and_continues(settings):
    page = instrument.run(settings)
    shape = ("true shape without its scale", "that of all boxes and hands")
    for row in ("its box, kind and lens", "all boxes and kinds", "3D encoder (nano)", *shape, "true depth"):
        assert f"| 1 | {row} |" in page
    stamps = {path: path.stat().st_mtime_ns for path in settings.data.iterdir()}
    assert instrument.run(settings) == page
    assert {path: path.stat().st_mtime_ns for path in settings.data.iterdir()} == stamps
    assert settings.out.with_suffix(".json").exists()

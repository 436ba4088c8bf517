"""Estimators of other packages: found by entry points and used by the public command."""

import numpy as np
import pytest

from vipa import cli
from vipa.hand3d.config import AnnotateConfig, ObjectsConfig, PointsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.estimators.base import BOXES, NAMES, POINTS, Estimators
from vipa.worlds.source import write_manifest

THEIRS = '''
import numpy as np
from vipa.hand3d.estimators.clip_boxes import ClipBoxes
from vipa.hand3d.estimators.pointmaps import PointMaps
from vipa.geometry import unproject_depth


class Points:
    """The clip's depth as a network might give it: in metres, its poses beside it."""

    cached, metric = True, {metric}

    def __init__(self, weights):
        self.content = "theirs " + weights

    def __call__(self, clip, frames):
        depth = np.asarray(clip.depth.read(frames), np.float32)
        camera = clip.intrinsics.resized(depth.shape[2], depth.shape[1])
        points = unproject_depth(np.where(depth > 0, depth, np.nan), camera.matrix)
        return PointMaps(np.asarray(frames), points.astype(np.float32), None, metric=True)


def open_points(config):
    return Points(config.weights)


class Boxes:
    """Sees every object of the clip but one."""

    def __init__(self, unseen):
        self.unseen = unseen

    def __call__(self, clip, frames, names):
        boxes, scores = ClipBoxes()(clip, frames, names)
        i = names.index(self.unseen)
        boxes[i], scores[i] = np.nan, 0.0
        return boxes, scores


def open_boxes(config):
    return Boxes(config.detector)
'''


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Installs a distribution with a point map estimator and a detector, both called "theirs"."""

    def install(metric: str) -> None:
        (tmp_path / "their_estimators.py").write_text(THEIRS.replace("{metric}", metric))
        info = tmp_path / "their_estimators-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-estimators\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[vipa.points]\ntheirs = their_estimators\n[vipa.boxes]\ntheirs = their_estimators\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(__import__("sys").modules, "their_estimators", raising=False)

    return install


def annotate(tmp_path, *options: str) -> Hand3D:
    if not (tmp_path / "films").exists():
        write_manifest(tmp_path / "films", "train", 1)
    out = tmp_path / "_".join(["out", *options[1::2]])
    cli.main(["annotate", "tabletop", str(tmp_path / "films"), "--out", str(out), *options])
    return Hand3D(out)


def test_a_point_map_estimator_and_a_detector_of_another_package_annotate_a_clip(tmp_path, theirs):
    theirs("True")
    points = ("--objects.positions", "points")
    named = annotate(tmp_path, *points, "--points.estimator", "theirs", "--points.weights", "w")
    (clip,) = named.clips()
    assert (clip.points, clip.scale) == ("theirs", 1.0)
    ours = annotate(tmp_path, *points)
    where = {r.id: r.displacement for r in ours.visual() if r.category == "spatial_relation"}
    found = {r.id: r.displacement for r in named.visual() if r.category == "spatial_relation"}
    assert where and found.keys() == where.keys()
    for key, displacement in found.items():
        np.testing.assert_allclose(displacement, where[key], atol=1e-5)

    seen = {r.object for r in ours.visual() if r.category == "spatial_relation"}
    unseen = min(seen)
    boxed = annotate(tmp_path, *points, "--objects.boxes", "theirs", "--objects.detector", unseen)
    assert {r.object for r in boxed.visual() if r.category == "spatial_relation"} == seen - {unseen}


def test_maps_of_another_unit_than_the_estimator_says_are_refused(tmp_path, theirs, capsys):
    theirs("False")
    options = ("--points.estimator", "theirs", "--points.weights", "w", "--objects.positions", "points")
    with pytest.raises(SystemExit):
        annotate(tmp_path, *options)
    assert "'theirs' says metric = False, its maps say True" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            AnnotateConfig(points=PointsConfig("sonar")),
            "point map estimator 'sonar' is unknown; known: cut3r, depth, transformers",
        ),
        (
            AnnotateConfig(objects=ObjectsConfig(boxes="yolo")),
            "boxes: 'yolo' is unknown; known: clip, grounding_dino, zero_shot",
        ),
        (
            AnnotateConfig(objects=ObjectsConfig(names="me")),
            "object names: 'me' is unknown; known: clip, endpoint",
        ),
    ],
)
def test_an_unknown_name_lists_the_known_ones(config, message):
    with pytest.raises(ValueError) as error:
        Estimators.of(config)
    assert str(error.value) == message


def test_the_names_that_users_have_are_known():
    for plugins, names in (
        (POINTS, ("depth", "cut3r")),
        (BOXES, ("clip", "grounding-dino", "zero-shot")),
        (NAMES, ("clip",)),
    ):
        for name in names:
            plugins.check(name)

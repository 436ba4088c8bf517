"""What the stage `camera` makes of a clip whose field of view becomes known, and who measures it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vipa.clips.example import example_clip
from vipa.clips.field_of_view import given
from vipa.clips.sources import SourceOptions
from vipa.geometry import project
from vipa.hand3d.pipeline import ahead, stage_camera
from vipa.hand3d.pipeline.annotate import annotate_source


def test_hands_placed_by_size_stay_on_their_pixels_under_another_field_of_view():
    clip = example_clip()
    own = replace(clip, notes={"hands": "tracked by mediapipe"})
    view = given(80.0)
    seen, kept = stage_camera.with_view(own, view), stage_camera.with_view(clip, view)
    longer = seen.intrinsics.fx / clip.intrinsics.fx
    for before, after, same in zip(clip.hands, seen.hands, kept.hands):
        np.testing.assert_allclose(
            project(after.joints_camera, seen.intrinsics.matrix),
            project(before.joints_camera, clip.intrinsics.matrix),
            atol=1e-6,
        )
        np.testing.assert_allclose(after.joints_camera[:, 0, 2], longer * before.joints_camera[:, 0, 2])
        np.testing.assert_array_equal(same.joints_camera, before.joints_camera)


def annotated(videos: Path, out: Path, monkeypatch, size: int):
    """Report and tables, with so many cores; nothing is kept in this process from before."""
    monkeypatch.setattr(ahead, "cores", lambda: size)
    report = annotate_source("folder", videos, out, options=SourceOptions(fov_degrees=70, cache=out / "cache"))
    return report, {p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*.parquet"))}


needs_opencv = pytest.mark.skipif(not stage_camera.installed(), reason="OpenCV is not installed")


@needs_opencv
def test_cameras_are_the_same_measured_here_and_by_workers(videos, tmp_path, monkeypatch):
    here, tables = annotated(videos, tmp_path / "here", monkeypatch, 1)
    begun = []
    real = stage_camera.begin
    monkeypatch.setattr(stage_camera, "begin", lambda clip, *rest: begun.append(clip.id) or real(clip, *rest))
    beside, same = annotated(videos, tmp_path / "beside", monkeypatch, 2)
    assert here.done == beside.done == 3
    assert begun == ["a", "b", "c"]
    for name in "abc":
        files = [tmp_path / kind / "work" / "folder" / name / "camera.npz" for kind in ("here", "beside")]
        a, b = (np.load(file) for file in files)
        assert a.files == b.files
        assert np.isfinite(a["error"]).all() and np.ptp(a["R_world_camera"], axis=0).max() > 0.01  # it moves
        for array in set(a.files) - {"_"}:
            np.testing.assert_allclose(a[array], b[array], rtol=1e-6, atol=1e-6)
    assert tables.keys() == same.keys()
    annotated(videos, tmp_path / "beside", monkeypatch, 2)
    assert begun == ["a", "b", "c"]  # a second run measures none


@needs_opencv
def test_a_worker_that_ends_costs_its_clip_and_the_next_run_does_it(videos, tmp_path, monkeypatch):
    real = stage_camera.begin
    with monkeypatch.context() as patch:
        patch.setattr(
            stage_camera, "begin",
            lambda clip, *rest: rest[-1].submit(os._exit, 9) if clip.id == "b" else real(clip, *rest),
        )  # fmt: skip
        report, _ = annotated(videos, tmp_path / "out", patch, 2)
    assert report.done == 2
    assert report.refused == (
        ("folder/b", "clip 'b': the process that measured its camera ended (out of memory?)"),
    )
    report, tables = annotated(videos, tmp_path / "out", monkeypatch, 2)
    assert (report.done, report.refused) == (3, ())
    assert tables == annotated(videos, tmp_path / "whole", monkeypatch, 2)[1]


@needs_opencv
def test_a_clip_alone_is_measured_here(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "shared_workers", None)
    assert annotated(videos / "a.mp4", tmp_path / "out", monkeypatch, 2)[0].done == 1

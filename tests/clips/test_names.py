"""A clip's name is its own: what would have the same one is said, and none replaces another."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.reading import distinct
from vipa.clips.sources import SourceOptions, load_source
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.pipeline.annotate import annotate
from vipa.worlds.fixtures.writing import write_video

CAMERA = {"fov_degrees": 60, "static_camera": True}


@pytest.fixture
def video(tmp_path) -> Path:
    return write_video(tmp_path / "one.mp4", np.full((3, 48, 64, 3), 90, np.uint8), 30)


def put(video: Path, root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video, root / name)
    return root


def read(root: Path, **options) -> list[Clip | ClipError]:
    return list(load_source("folder").read_clips(root, SourceOptions(**options)))


def test_two_endings_of_one_name_are_two_clips(video, tmp_path):
    clips = read(put(video, tmp_path / "v", "IMG_0001.MOV", "IMG_0001.mp4", "b.mp4"), fov_degrees=57.0)
    assert [c.id for c in clips] == ["IMG_0001_MOV", "IMG_0001_mp4", "b"]


@pytest.mark.parametrize("beside", [".json", ".npz"])
def test_what_lies_beside_two_videos_of_one_name_belongs_to_neither_until_it_says_whose_it_is(
    video, tmp_path, beside
):
    root = put(video, tmp_path / "v", "IMG_0001.MOV", "IMG_0001.mp4")
    shared = root / f"IMG_0001{beside}"
    np.savez(shared, T_world_camera=np.repeat(np.eye(4)[None], 3, 0)) if beside == ".npz" else shared.write_text(
        json.dumps(CAMERA)
    )
    for error in read(root, fov_degrees=57.0):
        assert isinstance(error, ClipError)
        assert "IMG_0001.MOV or IMG_0001.mp4" in error.reason
    shared.rename(root / f"IMG_0001.mp4{beside}")
    first, second = read(root, fov_degrees=57.0)
    assert isinstance(first, Clip)
    assert first.T_world_camera is None
    assert second.T_world_camera is not None


@pytest.mark.parametrize(
    "names", [("a_b/c.mp4", "a/b_c.mp4"), ("Cup.mp4", "cup.mp4"), ("caf\u00e9.mp4", "cafe\u0301.mp4")]
)
def test_folders_letters_and_accents_that_give_one_name_are_refused_with_both_places(video, tmp_path, names):
    root = put(video, tmp_path / "v", *names, "b.mp4")
    out = read(root, fov_degrees=57.0)
    errors = [c for c in out if isinstance(c, ClipError)]
    assert len(errors) == 2
    assert [c.id for c in out if isinstance(c, Clip)] == ["b"]
    for error in errors:
        assert all(Path(name).name in error.reason for name in names)


def test_a_piece_of_one_recording_does_not_replace_a_recording_of_that_name(video, tmp_path, fixture_of, read):
    clip = next(iter(read("h2o", fixture_of("h2o")).values()))
    first, same, other = replace(clip, id="a_000"), replace(clip, id="A_000"), replace(clip, id="b")
    out = list(distinct([first, same, other, ClipError("x", "y")]))
    assert [type(c) for c in out] == [Clip, ClipError, Clip, ClipError]
    assert "same name" in out[1].reason
    report = annotate([first, same, other], tmp_path / "o")
    assert report.done == 2
    assert [c.id for c in Hand3D(tmp_path / "o").clips()] == ["h2o/a_000", "h2o/b"]


def test_a_trackers_result_named_like_two_videos_is_of_neither(video, tmp_path):
    root = put(video, tmp_path / "v", "SingleHand/Kitchen/7.mp4", "SingleHand/Bedroom/7.mp4")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "7.npz").write_bytes(b"")
    options = SourceOptions(fov_degrees=57.0, tracker="hawor", hands=tmp_path / "results")
    for error in load_source("tasterob").read_clips(root, options):
        assert isinstance(error, ClipError)
        assert "no result of the hand tracker" in error.reason

"""What a user says of raw videos and of a source, through the public commands."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from vipa import cli
from vipa.clips import raw_video
from vipa.clips.sources import load_source, options_of, source_names
from vipa.hand3d.dataset.reader import Hand3D
from vipa.io.cache import cache_folder
from vipa.worlds.fixtures import write_fixture


@pytest.fixture(scope="module")
def tasterob(tmp_path_factory) -> Path:
    return write_fixture("tasterob", tmp_path_factory.mktemp("tasterob")).root


@pytest.fixture
def kitchen(tasterob, tmp_path, monkeypatch) -> Path:
    """One video, and what a tracker left of it."""
    monkeypatch.setenv("VIPA_CACHE", str(tmp_path / "cache"))
    shutil.copyfile(tasterob / "SingleHand" / "Kitchen" / "7.mp4", tmp_path / "kitchen.mp4")
    shutil.copyfile(tasterob / "hands" / "SingleHand_Kitchen_7.pkl", tmp_path / "kitchen.pkl")
    (tmp_path / "kitchen.json").write_text('{"static_camera": true}')
    return tmp_path


def fails(capsys, *args) -> str:
    """The one line that a mistake prints."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(arg) for arg in args])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def annotate(root, out, *options) -> None:
    cli.main(["annotate", "folder", str(root), "--out", str(out), *map(str, options)])


def test_the_field_of_view_is_in_degrees_and_its_name_says_so(kitchen, capsys):
    tracked = ("--tracker", "wilor", "--hands", kitchen / "kitchen.pkl")
    annotate(kitchen / "kitchen.mp4", kitchen / "out", "--fov-degrees", 63, *tracked)
    frame = next(Hand3D(kitchen / "out").frames())
    focal = 160 / np.tan(np.radians(63 / 2))
    np.testing.assert_allclose(frame.intrinsics[:2], focal)
    with pytest.raises(SystemExit):
        cli.main(["annotate", "--help"])
    assert "--fov-degrees" in capsys.readouterr().out
    for wrong in (0, 200, 1.1):
        for verb in (
            ("annotate", "folder", kitchen, "--out", kitchen / "x"),
            ("sources", "check", "folder", kitchen),
        ):
            assert "degrees" in fails(capsys, *verb, "--fov-degrees", wrong)


def test_a_tracker_without_its_results_is_an_error(kitchen, capsys):
    for verb in (
        ("annotate", "folder", kitchen, "--out", kitchen / "out"),
        ("sources", "check", "folder", kitchen),
    ):
        assert "--tracker wilor needs" in fails(capsys, *verb, "--fov-degrees", 63, "--tracker", "wilor")
        assert "--tracker NAME" in fails(capsys, *verb, "--fov-degrees", 63, "--hands", kitchen / "kitchen.pkl")
    assert not (kitchen / "out").exists()


@pytest.mark.parametrize("verb", ["annotate", "check"])
def test_options_that_a_source_does_not_read_are_refused_with_those_it_does(tmp_path, capsys, verb):
    def said(source, *options) -> str:
        words = ("annotate", source, tmp_path, "--out", tmp_path / "out")
        return fails(capsys, *(words if verb == "annotate" else ("sources", "check", source, tmp_path)), *options)

    error = said("egodex", "--fov-degrees", 60, "--view", "left")
    assert "'egodex' does not read --fov-degrees, --view; it reads --mano, --seconds" in error
    assert "'tabletop' does not read --mano; it reads no options" in said("tabletop", "--mano", tmp_path)
    assert "'vitra' does not read --tracker, --hands" in said("vitra", "--tracker", "wilor", "--hands", tmp_path)
    assert "'folder' does not read --view; it reads --fov-degrees, --tracker" in said("folder", "--view", "1")
    assert not (tmp_path / "out").exists()


def test_what_a_source_declares_is_what_its_file_reads():
    """`options.NAME` in its text, or in that of `raw_video`, which two of them use."""
    shared = {"folder": raw_video, "tasterob": raw_video, "lerobot": raw_video}
    for name in source_names():
        module = load_source(name)
        text = Path(module.__file__).read_text()
        for option in options_of(module):
            inside = Path(shared[name].__file__).read_text() if name in shared else ""
            assert f"options.{option}" in text + inside, f"{name}: {option}"
        read = {o for o in ("mano", "view", "seconds", "fov_degrees", "tracker") if f"options.{o}" in text}
        assert read <= set(options_of(module)), name


def test_a_source_of_another_package_declares_what_it_reads(tmp_path, monkeypatch, capsys):
    from importlib.metadata import EntryPoint

    (tmp_path / "their_kitchen.py").write_text(
        "LICENCE, DOWNLOAD, LAYOUT = 'theirs', 'nothing', 'ROOT/'\n"
        "OPTIONS = ('view',)\n"
        "def read_clips(root, options=None):\n"
        "    raise ValueError(f'their view is {options.view}')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("theirs", "their_kitchen", "vipa.sources")
    monkeypatch.setattr("vipa.io.plugins.entry_points", lambda group: [point])
    words = ("annotate", "theirs", tmp_path, "--out", tmp_path / "out")
    assert "their view is left" in fails(capsys, *words, "--view", "left")
    assert "'theirs' does not read --seconds; it reads --view" in fails(capsys, *words, "--seconds", 3)


def test_a_second_annotation_tracks_no_unchanged_video_again(kitchen, monkeypatch):
    done, repair = [], raw_video.repair_hands
    monkeypatch.setattr(raw_video, "repair_hands", lambda *a: done.append(1) or repair(*a))
    options = ("--tracker", "wilor", "--hands", kitchen / "kitchen.pkl", "--fov-degrees", 63)

    def tracked(*args) -> int:
        done.clear()
        annotate(kitchen, kitchen / "out", *(args or options))
        return len(done)

    assert tracked() == 1
    first = next(Hand3D(kitchen / "out").frames()).right_joints
    assert tracked() == 0
    assert next(Hand3D(kitchen / "out").frames()).right_joints == first
    (kitchen / "kitchen.mp4").touch()  # the same content
    assert tracked() == 0
    assert tracked(*options[:-1], 70) == 1  # another camera
    assert tracked(*options) == 1
    (kitchen / "kitchen.json").write_text('{"static_camera": true, "texts": []}')  # says nothing of hands
    assert tracked() == 0
    results = (kitchen / "kitchen.pkl").read_bytes()
    (kitchen / "kitchen.pkl").write_bytes(results + b"\n")
    assert tracked() == 1
    kept = next(cache_folder("tracked").rglob("hands.npz"))
    kept.write_bytes(kept.read_bytes()[:100])  # half written
    assert tracked() == 1


def test_another_video_under_the_same_name_is_tracked_and_annotated_again(kitchen, tasterob, monkeypatch):
    options = ("--tracker", "wilor", "--hands", kitchen / "kitchen.pkl", "--fov-degrees", 63)
    annotate(kitchen, kitchen / "out", *options)
    image = Hand3D(kitchen / "out").image(next(Hand3D(kitchen / "out").frames()).id)
    from vipa.clips.video import VideoFrames
    from vipa.worlds.fixtures.writing import write_video

    video = VideoFrames(kitchen / "kitchen.mp4")
    write_video(kitchen / "other.mp4", 255 - video.read(range(len(video))), 30)
    shutil.move(kitchen / "other.mp4", kitchen / "kitchen.mp4")
    annotate(kitchen, kitchen / "out", *options)
    again = Hand3D(kitchen / "out").image(next(Hand3D(kitchen / "out").frames()).id)
    assert np.abs(255.0 - again - image).mean() < 8


def test_a_single_file_is_a_root(kitchen, tasterob, tmp_path, capsys):
    tracked = ("--tracker", "wilor", "--hands", kitchen / "kitchen.pkl", "--fov-degrees", 63)
    shutil.copyfile(kitchen / "kitchen.mp4", kitchen / "another.mp4")
    annotate(kitchen / "kitchen.mp4", tmp_path / "a", *tracked)
    assert [c.id for c in Hand3D(tmp_path / "a").clips()] == ["folder/kitchen"]
    egodex = write_fixture("egodex", tmp_path / "egodex").root
    file = sorted(egodex.rglob("*.hdf5"))[0]
    for n, one in enumerate((file, file.with_suffix(".mp4"))):
        cli.main(["annotate", "egodex", str(one), "--out", str(tmp_path / f"e{n}")])
        assert {c.source_video for c in Hand3D(tmp_path / f"e{n}").clips()} == {file.stem}
    video = tasterob / "SingleHand" / "Kitchen" / "7.mp4"
    cli.main(["annotate", "tasterob", str(video), "--out", str(tmp_path / "t"), *map(str, tracked)])
    assert [c.id for c in Hand3D(tmp_path / "t").clips()] == ["tasterob/SingleHand_Kitchen_7"]
    assert "a single file must be" in fails(
        capsys, "annotate", "folder", kitchen / "kitchen.json", "--out", tmp_path / "x"
    )
    assert "give the folder" in fails(capsys, "annotate", "h2o", kitchen / "kitchen.mp4", "--out", tmp_path / "x")
    assert "no such folder" in fails(capsys, "annotate", "folder", kitchen / "none.mp4", "--out", tmp_path / "x")

"""The way of a newcomer: a video, one command, and what it says (docs/your-video.md)."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vipa import cli
from vipa.clips import video, video_index
from vipa.clips.clip import Clip
from vipa.clips.example import example_clip
from vipa.clips.sources.folder import read_clips
from vipa.clips.video import VideoFrames
from vipa.geometry import Intrinsics, matrix_from_axis_angle
from vipa.hand3d.dataset import tables
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.pipeline import stage_camera
from vipa.hands.trackers import mediapipe
from vipa.io import file_facts, hashing
from vipa.nano.demo import REAL
from vipa.nano.shipped import NANO
from vipa.worlds.fixtures.writing import write_video

DOC = Path(__file__).parents[2] / "docs" / "your-video.md"
needs_opencv = pytest.mark.skipif(not stage_camera.installed(), reason="OpenCV is not installed")
needs_mediapipe = pytest.mark.skipif(
    not (mediapipe.installed() and stage_camera.installed()), reason="MediaPipe or OpenCV is not installed"
)
FOV, FRAMES = 63.0, 60
ANGLES = np.radians(np.linspace(0, 24, 16))
"""Of the panned camera, radians."""


def turns(angles: np.ndarray, axis: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> np.ndarray:
    return matrix_from_axis_angle(angles[:, None] * np.array(axis))


def film_of_turns(path: Path, R_world_camera: np.ndarray, rate: int = 5, size=(320, 240)) -> Path:
    """A far wall of random patches, seen by a camera that turns on the spot."""
    import cv2

    rng, K = np.random.default_rng(0), Intrinsics.from_fov(np.radians(FOV), *size, "estimated").matrix
    wall = cv2.GaussianBlur(
        cv2.resize(rng.integers(0, 255, (45, 60, 3), np.uint8), dsize=(1600, 1200)), (0, 0), sigmaX=1.5
    )
    wall_K = Intrinsics.from_fov(np.radians(110.0), 1600, 1200, "estimated").matrix
    frames = [
        cv2.warpPerspective(wall, K @ R.T @ np.linalg.inv(wall_K), size, flags=cv2.INTER_LINEAR)
        for R in R_world_camera
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, np.stack(frames), rate)


def annotate(capsys, *words) -> str:
    """What `vipa annotate` prints."""
    capsys.readouterr()
    cli.main(["annotate", *map(str, words)])
    return " ".join(capsys.readouterr().out.split())


def refused(capsys, *words) -> tuple[str, str]:
    """(what is printed, the one line of the error)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(map(str, words)))
    assert stopped.value.code == 2
    said = capsys.readouterr()
    return " ".join(said.out.split()), said.err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def hand(tmp_path_factory) -> Path:
    """Two seconds of a real hand in front of a still camera, and nothing beside it."""
    images = VideoFrames(REAL / "hand.mp4").read(range(FRAMES))
    return write_video(tmp_path_factory.mktemp("own") / "hand.mp4", images, 30)


@pytest.fixture(scope="module")
def panned(tmp_path_factory) -> Path:
    """A camera that turns to the right, and beside it what is annotated of it."""
    path = film_of_turns(tmp_path_factory.mktemp("pan") / "pan.mp4", turns(ANGLES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mediapipe, "installed", lambda: False)
        cli.main(["annotate", str(path), "--out", str(path.parent / "out"), "--fov-degrees", str(FOV)])
    return path


@pytest.fixture(scope="module")
def tracked(hand, tmp_path_factory) -> Path:
    """What was tracked in it, so that it is looked at once."""
    out = tmp_path_factory.mktemp("tracked")
    cli.main(["annotate", str(hand), "--out", str(out), "--cache", str(out / "cache")])
    return out / "cache"


def test_a_path_alone_is_your_own_video_and_nonsense_is_refused(tmp_path, capsys):
    def error(*words) -> str:
        return refused(capsys, "annotate", *words, "--out", tmp_path / "out")[1]

    assert "no such file or folder; give a video, a folder of videos" in error(tmp_path / "none.mp4")
    assert "say where its files are, vipa annotate tabletop FOLDER" in error("tabletop")
    assert "nothing of source 'folder' here" in error(tmp_path)
    for degrees, why in ((0, "between 0 and 180"), (200, "between 0 and 180"), (1.1, "is it in radians")):
        assert why in error(tmp_path, "--fov-degrees", degrees)
    assert "--tracker wilor needs" in error(tmp_path, "--tracker", "wilor")
    assert not (tmp_path / "out").exists()


@needs_opencv
def test_a_video_without_hands_is_refused_with_what_would_help(tmp_path, capsys, monkeypatch):
    film_of_turns(tmp_path / "wall.mp4", turns(np.zeros(20)))
    monkeypatch.setattr(mediapipe, "installed", lambda: False)
    said, error = refused(capsys, "annotate", tmp_path / "wall.mp4", "--out", tmp_path / "out")
    assert "nothing to ask: hands: none (pip install mediapipe); objects: none" in said
    assert "movement measured: static" in said
    assert "no clip of" in error
    assert "report.json has the reasons" in error
    capsys.readouterr()
    cli.main(["sources", "check", "folder", str(tmp_path), "--sheet", str(tmp_path / "sheet.png")])
    checked = " ".join(capsys.readouterr().out.split())
    assert "have no hands" in checked
    assert "hands pip install mediapipe" in checked
    assert "no problems" not in checked
    assert "movement nothing: `vipa annotate` measures it" in checked


@needs_mediapipe
def test_a_tracker_that_finds_no_hand_says_so(tmp_path, capsys):
    film_of_turns(tmp_path / "wall.mp4", turns(np.zeros(10)))
    said, _ = refused(
        capsys, "annotate", tmp_path / "wall.mp4", "--out", tmp_path / "out", "--tracker", "mediapipe"
    )
    assert "hands: none found by mediapipe (another tracker's results: --tracker NAME --hands FOLDER)" in said


@needs_mediapipe
def test_hands_without_objects_or_a_field_of_view_are_annotated_as_far_as_it_goes(hand, tracked, tmp_path, capsys):
    said = annotate(capsys, hand, "--out", tmp_path / "out", "--cache", tracked)
    assert "1 clips done, 0 refused" in said
    assert "hands right, in 100% of frames, tracked by mediapipe" in said
    assert "camera 75.0 degrees (45 to 115), guessed" in said
    assert "movement measured: static" in said
    assert (
        "spatial relation: no objects; task completion: no texts; hand movement 0;" in said
    )  # it stays in its place
    assert "camera --fov-degrees DEGREES (horizontal) (1 clips)" in said
    assert 'objects "objects": ["cup"] in its .json' in said
    (clip,) = Hand3D(tmp_path / "out").clips()
    assert clip.intrinsics_origin == "guessed"
    assert json.loads(clip.notes)["camera"] == "measured: static"
    given = annotate(capsys, hand, "--out", tmp_path / "out", "--cache", tracked, "--fov-degrees", FOV)
    assert "camera 63.0 degrees" in given
    assert "--fov-degrees" not in given


@needs_mediapipe
def test_still_hands_are_no_motion_and_given_hands_are_believed(hand, tracked, tmp_path, capsys):
    """The fingers move, the wrist stays within centimetres; the demo asks lower limits of the same hand."""
    beside = tmp_path / "hand.mp4"
    shutil.copy(hand, beside)
    shutil.copy(REAL / "hand.json", tmp_path / "hand.json")
    limits = ("--motion.least-movement", 0.01, "--relations.least-hand-movement", 0.01)
    said = annotate(capsys, beside, "--out", tmp_path / "a", "--cache", tracked, *limits)
    assert "hand movement 0; camera movement 0; motions 0" in said
    with np.load(REAL / "hand.npz") as given:
        np.savez(tmp_path / "hand.npz", **{name: given[name][:FRAMES] for name in given})
    said = annotate(capsys, beside, "--out", tmp_path / "b", *limits)
    assert re.search(r"motions [1-9]", said)


@needs_mediapipe
def test_a_broken_file_costs_itself_and_a_second_run_does_nothing(hand, tracked, tmp_path, capsys, monkeypatch):
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(hand, videos / "good.mp4")
    (videos / "broken.mp4").write_bytes(hand.read_bytes()[:5000])
    said = annotate(capsys, videos, "--out", tmp_path / "out", "--cache", tracked)
    assert "1 clips done, 1 refused" in said
    assert "broken" in said.partition("refused clip")[2][:60]
    monkeypatch.setattr(mediapipe, "solve_pnp", None)
    monkeypatch.setattr(stage_camera, "measure_motion", None)
    start = time.process_time()
    annotate(capsys, videos, "--out", tmp_path / "out", "--cache", tracked)
    assert time.process_time() - start < 2


@needs_mediapipe
def test_a_second_run_opens_no_video_writes_no_table_and_imports_no_network(
    hand, tracked, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(file_facts, "SETTLED", -1.0)
    words = (hand, "--out", tmp_path / "out", "--cache", tracked)
    monkeypatch.setattr(hashing, "SMALL", 0)
    said = []
    for _ in range(2):
        for kept in (video._index, hashing._file_content):  # of this process
            kept.cache_clear()
        said.append(annotate(capsys, *words).partition(" hours of video per hour)")[2])
        for module, name in ((video_index.av, "open"), (hashing, "hash_file"), (tables.pq, "ParquetWriter")):
            monkeypatch.setattr(module, name, None)
    assert said[0] == said[1]
    monkeypatch.undo()
    program = (
        f"from vipa import cli; cli.main({['annotate', *map(str, words)]!r}); import sys; print(*sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = {module.partition(".")[0] for module in said.splitlines()[-1].split()}
    assert not loaded & {"torch", "transformers", "cv2", "mediapipe", "datasets", "pandas", "huggingface_hub"}


@needs_mediapipe
def test_what_mediapipe_says_of_itself_stays_inside_and_its_errors_do_not(capfd):
    with mediapipe.open_tracker(mediapipe.MODEL).open_landmarker() as landmarker:
        assert landmarker(np.zeros((100, 100, 3), np.uint8), 0) == []
        os.write(2, b"E0000 00:00:1 calculator.cc:1] an error\n")
    assert capfd.readouterr().err == "E0000 00:00:1 calculator.cc:1] an error\n"


@needs_mediapipe
def test_a_check_before_annotation_leaves_what_it_tracked(hand, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VIPA_CACHE", str(tmp_path / "cache"))
    checked = tmp_path / "sheet.png"
    cli.main(["sources", "check", "folder", str(hand), "--sheet", str(checked)])
    assert "tracked by mediapipe" in capsys.readouterr().out
    monkeypatch.setattr(mediapipe, "solve_pnp", None)
    monkeypatch.setattr(mediapipe, "_media_pipe", None)
    assert "1 clips done" in annotate(capsys, hand, "--out", tmp_path / "out")


@needs_opencv
def test_a_second_run_of_many_videos_is_quick(tmp_path, capsys, monkeypatch):
    """Two seconds for a hundred videos; twenty are tried."""
    monkeypatch.setattr(mediapipe, "installed", lambda: False)
    first = film_of_turns(tmp_path / "videos" / "00.mp4", turns(np.zeros(5)))
    first.with_suffix(".json").write_text('{"static_camera": true}')
    np.savez(tmp_path / "hands.npz", right_joints_camera=example_clip().hands[0].joints_camera[:5])
    shutil.copy(tmp_path / "hands.npz", first.with_suffix(".npz"))
    for i in range(1, 20):
        shutil.copy(first, first.with_name(f"{i:02d}.mp4"))
        shutil.copy(tmp_path / "hands.npz", first.with_name(f"{i:02d}.npz"))
        shutil.copy(first.with_suffix(".json"), first.with_name(f"{i:02d}.json"))
    annotate(capsys, tmp_path / "videos", "--out", tmp_path / "out")
    start = time.process_time()
    said = annotate(capsys, tmp_path / "videos", "--out", tmp_path / "out")
    assert "20 clips done, 0 refused" in said
    assert time.process_time() - start < 20 * 2 / 100 + 1.0  # and the start of the tables


@needs_opencv
def test_a_turning_camera_is_asked_how_it_turned_and_its_frames_have_no_pose(
    panned, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(mediapipe, "installed", lambda: False)
    shutil.copytree(panned.parent / "out", tmp_path / "out")
    said = annotate(capsys, panned, "--out", tmp_path / "out", "--fov-degrees", FOV)
    assert "measured: moving" in said
    assert "T_world_camera in its .npz, or --points.estimator cut3r" in said
    data = Hand3D(tmp_path / "out")
    records = list(data.visual())
    assert records
    for record in records:
        assert (record.category, record.aspect) == ("camera_movement", "rotation")
        a, b = (int(f.rsplit("/", 1)[1]) for f in (record.frame_ids[0], record.frame_ids[-1]))
        assert record.degrees == pytest.approx(np.degrees(ANGLES[b] - ANGLES[a]), abs=1.0)
        assert record.directions == ["right"]
        assert np.isnan(record.distance)
    assert all(frame.T_world_camera is None for frame in data.frames())
    (clip,) = data.clips()
    assert "moving; rotations within" in json.loads(clip.notes)["camera"]
    assert "given" in json.loads(clip.notes)["field of view"]


THEIRS = """
import numpy as np
from vipa.geometry import rigid
from vipa.hand3d.estimators.pointmaps import PointMaps
from turns_of_a_network import R

class Points:
    cached, metric = True, True
    def __call__(self, clip, frames):
        points = np.ones((len(frames), 4, 4, 3))
        return PointMaps(np.asarray(frames), points, np.ones(points.shape[:3]), metric=True,
                         T_world_camera=rigid(R[list(frames)], np.arange(len(frames))[:, None] * [0.1, 0.0, 0.0]))

def open_points(config):
    return Points()
"""


@needs_opencv
@pytest.mark.parametrize("right", [True, False])
def test_poses_of_a_network_are_used_where_they_turn_as_the_pictures_do(
    panned, tmp_path, capsys, monkeypatch, right
):
    from importlib.metadata import EntryPoint

    monkeypatch.setattr(mediapipe, "installed", lambda: False)
    R = turns(ANGLES)
    shutil.copytree(panned.parent / "out", tmp_path / "out")
    np.save(tmp_path / "R.npy", R if right else R.mT)
    module = name = f"their_network_{right}"  # another name each time: what is loaded by name stays loaded
    (tmp_path / f"{module}.py").write_text(
        THEIRS.replace("from turns_of_a_network import R", f"R = np.load({str(tmp_path / 'R.npy')!r})")
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint(name, module, "vipa.points")
    monkeypatch.setattr("vipa.io.plugins.entry_points", lambda group: [point] if group == "vipa.points" else [])
    options = ("--fov-degrees", FOV, "--points.estimator", name)
    said = annotate(capsys, panned, "--out", tmp_path / "out", *options)
    data = Hand3D(tmp_path / "out")
    aspects = {record.aspect for record in data.visual()}
    (clip,) = data.clips()
    if right:
        assert "movement a network's poses" in said
        assert aspects == {"rotation", "translation"}
        assert all(frame.T_world_camera is not None for frame in data.frames())
    else:
        assert "pairs of frames turn otherwise than their pictures do" in said
        assert "pairs of frames turn otherwise" in json.loads(clip.notes)["camera poses"]
        assert aspects == {"rotation"}
        assert all(record.directions == ["right"] for record in data.visual())


def test_without_opencv_the_camera_is_not_measured_and_a_note_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mediapipe, "installed", lambda: False)
    monkeypatch.setattr(stage_camera, "installed", lambda: False)
    write_video(tmp_path / "grey.mp4", np.full((10, 48, 64, 3), 90, np.uint8), 10)
    said, _ = refused(capsys, "annotate", tmp_path / "grey.mp4", "--out", tmp_path / "out")
    assert "movement not measured: OpenCV is missing; install it with `pip install" in said


@needs_mediapipe
def test_nanos_encoder_is_refused_on_real_film(hand, tracked, tmp_path, capsys):
    shutil.copy(hand, tmp_path / "hand.mp4")
    (tmp_path / "hand.json").write_text('{"objects": ["cup"]}')
    nano = ("--points.estimator", "cut3r", "--points.weights", NANO / "foundation" / "spatial")
    said, _ = refused(
        capsys, "annotate", tmp_path / "hand.mp4", "--out", tmp_path / "out", "--cache", tracked, *nano
    )
    assert "this encoder has seen the tabletop world only and is wrong on other pictures" in said


@needs_mediapipe
def test_the_commands_of_the_page_are_run(hand, tracked, tmp_path, capsys, monkeypatch):
    text = DOC.read_text()
    commands = [line.split("#")[0].split() for line in text.splitlines() if line.startswith("    vipa ")]
    commands += [shlex.split(span) for span in re.findall(r"`(vipa [^`]+)`", text)]
    assert len(commands) >= 5
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for name in ("kitchen.mp4", "videos/kitchen.mp4"):
        shutil.copy(hand, tmp_path / name)
    sidecar = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert sidecar
    (tmp_path / "videos" / "kitchen.json").write_text(sidecar[1])
    for words in commands:
        cache = ["--cache", str(tracked)] if words[1] == "annotate" and "--out" in words else []
        if words[1:] != ["annotate"]:
            cli.main([*words[1:], *cache])
    assert (tmp_path / "DATA" / "gallery.html").is_file()


def test_what_a_folder_has_is_read_without_measuring(tmp_path, monkeypatch):
    """Reading a source stays cheap: the camera is measured when a clip is annotated."""
    monkeypatch.setattr(mediapipe, "installed", lambda: False)
    write_video(tmp_path / "grey.mp4", np.full((10, 48, 64, 3), 90, np.uint8), 10)
    (clip,) = read_clips(tmp_path)
    assert isinstance(clip, Clip)
    assert clip.T_world_camera is None
    assert "camera" not in clip.notes
    assert stage_camera.unknown(clip)
    assert not stage_camera.unknown(type(clip)(**{**vars(clip), "source": "fpha"}))

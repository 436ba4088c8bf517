"""Landmarks of videos: looked at in pieces, kept by content; real videos where MediaPipe is installed."""

import os
import shutil
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from vipa import cli
from vipa.clips import landmarks
from vipa.clips.landmarks import LandmarkFinder
from vipa.clips.sources import SourceOptions, read_source
from vipa.geometry import project
from vipa.hands.trackers.mediapipe import MODEL, Landmarks, LandmarkTracker, installed
from vipa.io.workers import shared_workers
from vipa.worlds.fixtures.writing import write_video

EGODEX = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "egodex_sample"
needs_mediapipe = pytest.mark.skipif(
    not (installed() and EGODEX.is_dir()), reason="MediaPipe or the EgoDex sample is not there"
)


@pytest.fixture
def video(tmp_path) -> Path:
    """25 grey frames, each brighter than the one before."""
    grey = np.repeat(np.arange(25, dtype=np.uint8) * 8, 64 * 64 * 3).reshape(25, 64, 64, 3)
    write_video(tmp_path / "grey.mp4", grey, 30)
    return tmp_path / "grey.mp4"


@pytest.fixture
def looked(monkeypatch) -> list[int]:
    """The brightness of every picture that is looked at; a hand's landmarks are that number."""
    seen: list[int] = []

    def detect(image: np.ndarray, milliseconds: int) -> list[Landmarks]:
        seen.append(round(float(image.mean()) / 8))
        return [Landmarks("left", 0.75, np.full((21, 2), seen[-1]), np.full((21, 3), 0.5), np.ones(21))]

    monkeypatch.setattr(landmarks, "open_tracker", lambda *_: LandmarkTracker(lambda: nullcontext(detect)))
    return seen


def numbers(seen) -> list[float]:
    return [hands[0].pixels[0, 0] for hands in seen]


def test_pieces_of_a_video_are_the_whole_and_each_sees_a_little_before_it(video, looked, monkeypatch):
    whole = LandmarkFinder("mediapipe", MODEL, workers=1)(video)
    assert numbers(whole) == list(range(25))
    assert (whole[3][0].side, whole[3][0].side_confidence) == ("left", 0.75)
    monkeypatch.setattr(landmarks, "PIECE", 10)
    monkeypatch.setattr(landmarks, "WARM", 3)
    looked.clear()
    assert numbers(LandmarkFinder("mediapipe", MODEL, workers=1)(video)) == numbers(whole)
    assert looked == [*range(10), *range(7, 20), *range(17, 25)]


def test_what_was_seen_is_kept_by_the_videos_content(video, looked, tmp_path, monkeypatch):
    monkeypatch.setattr(landmarks, "PIECE", 10)
    find = LandmarkFinder("mediapipe", MODEL, tmp_path / "kept", workers=1)
    first = find(video)
    looked.clear()
    assert numbers(find(Path(shutil.copyfile(video, tmp_path / "moved.mp4")))) == numbers(first)
    assert looked == []
    sorted((tmp_path / "kept").rglob("*.npz"))[1].unlink()  # an interrupted run
    find(video)
    assert looked == list(range(20))  # the frames before the piece, and the piece
    looked.clear()
    write_video(video, np.zeros((25, 64, 64, 3), np.uint8), 30)
    find(video)
    assert len(looked) >= 25


def test_alone_no_video_is_looked_at_before_it_is_asked_for(video, looked, tmp_path):
    """Else a folder's last video would be done before the first is told of."""
    videos = [video, *(Path(shutil.copyfile(video, tmp_path / f"{i}.mp4")) for i in range(3))]
    find = LandmarkFinder("mediapipe", MODEL, videos=videos, workers=1)
    for asked, path in enumerate(videos, 1):
        find(path)
        assert len(looked) == 25 * asked


def test_a_worker_that_ends_costs_its_video(video, tmp_path, monkeypatch):
    videos = [video, *(Path(shutil.copyfile(video, tmp_path / f"{i}.mp4")) for i in range(2))]
    held = shared_workers(2)
    begin = held.submit

    def submit(_, *words):
        return begin(os._exit, 9) if words[2] == videos[1] else begin(landmarks._pack, [()] * 7)

    monkeypatch.setattr(held, "submit", submit)
    find = LandmarkFinder("mediapipe", MODEL, videos=videos, workers=2)
    assert len(find(videos[0])) == 7
    with pytest.raises(ValueError, match=r"0\.mp4: the process that looked for hands ended"):
        find(videos[1])
    assert len(find(videos[2])) == 7


def test_without_mediapipe_one_line_says_how_to_get_it(video, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    options = ("--fov-degrees", "60", "--tracker", "mediapipe")
    with pytest.raises(SystemExit):
        cli.main(["annotate", "folder", str(video), "--out", str(video.parent / "out"), *options])
    assert "refused clip 'grey': hand tracker mediapipe: install it with `pip install" in capsys.readouterr().out


@needs_mediapipe
@pytest.mark.slow
def test_real_hands_are_on_their_side_and_tracked_once(tmp_path):
    """The two recordings whose labels are mostly right, tracked in worker processes."""
    truth = {clip.source_video.split("/")[1]: clip for clip in read_source("egodex", EGODEX)}
    for task in ("insert_remove", "add_remove_lid"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        shutil.copyfile(next((EGODEX / "part1" / task).glob("*.mp4")), tmp_path / "videos" / f"{task}.mp4")
    options = SourceOptions(fov_degrees=70, cache=tmp_path / "kept")
    for clip in read_source("folder", tmp_path / "videos", options):
        true = truth[clip.id]
        middles = {hand.side: project(hand.joints_camera, true.intrinsics.matrix).mean(1) for hand in true.hands}
        assert {hand.side for hand in clip.hands} == {"left", "right"}
        for hand in clip.hands:
            middle = project(hand.joints_camera, clip.intrinsics.matrix).mean(1)
            off = {side: np.linalg.norm(middle - at, axis=-1) for side, at in middles.items()}
            known = np.isfinite(middle).all(-1)
            other = off["left" if hand.side == "right" else "right"]
            assert known.mean() > 0.9
            assert (off[hand.side] < other)[known].all()
    start = time.perf_counter()
    assert len(list(read_source("folder", tmp_path / "videos", options))) == 2
    assert time.perf_counter() - start < 0.2

"""The user's own videos, on a real one: a bare right hand filmed by a camera at rest, and its joints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.sources import SourceOptions, load_source
from vipa.io.safe_pickle import load_pickle

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "dex_retargeting"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real bare-hand video is not here")

FRAMES = 621
BEFORE_THE_CAMERA = np.array([0.0, 0.0, 0.5])
"""The real joints are centred on the wrist; where the hand was is not known, so the test puts it somewhere."""


@pytest.fixture(scope="module")
def joints() -> np.ndarray:
    return np.array(load_pickle(REAL / "human_joint_right.pkl"), dtype=np.float64)


@pytest.fixture
def root(tmp_path, joints) -> Path:
    shutil.copyfile(REAL / "human_hand_video.mp4", tmp_path / "bare hand.mp4")
    sidecar = {"fov_degrees": 60, "static_camera": True, "licence": "MIT"}
    (tmp_path / "bare hand.json").write_text(json.dumps(sidecar))
    np.savez(tmp_path / "bare hand.npz", right_joints_camera=joints + BEFORE_THE_CAMERA)
    return tmp_path


def read(root: Path, seconds: float) -> list[Clip | ClipError]:
    return list(load_source("folder").read_clips(root, SourceOptions(seconds=seconds)))


def test_the_real_pickle_is_read_safely_and_has_21_joints_about_the_wrist_in_each_frame(joints):
    assert joints.shape == (FRAMES, 21, 3)
    assert np.isfinite(joints).all()
    assert np.abs(joints[:, 0]).max() < 1e-6
    middle = np.linalg.norm(joints[:, 9], axis=-1)  # wrist to the middle finger's knuckle, metres
    assert 0.07 < middle.min() <= middle.max() < 0.13


def test_the_real_video_has_as_many_frames_as_joints(root, joints):
    (clip,) = read(root, seconds=60)
    assert isinstance(clip, Clip), clip
    assert len(clip) == len(clip.frames) == len(joints) == FRAMES
    assert clip.rate == pytest.approx(30, rel=0.01)
    assert np.array_equal(clip.hand("right").joints_camera, joints + BEFORE_THE_CAMERA)
    first, last = clip.frames.read([0, FRAMES - 1])
    assert first.shape == last.shape == (720, 1280, 3)
    assert np.abs(first.astype(int) - last).mean() > 1


def test_the_real_recording_is_cut_without_losing_a_frame(root):
    assert [len(clip) for clip in read(root, seconds=10)] == [300, 321]


def test_one_row_of_joints_too_few_is_a_reason_that_names_them(root, joints):
    np.savez(root / "bare hand.npz", right_joints_camera=joints[1:])
    (error,) = read(root, seconds=60)
    assert isinstance(error, ClipError)
    assert "right_joints_camera has shape (620, 21, 3), needed 621 rows" in error.reason

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.sources import load_source
from vipa.clips.sources.vitra import scaled_intrinsics
from vipa.geometry import transform

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "vitra_ego4d_example"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real VITRA example is not here")

vitra = load_source("vitra")


@pytest.fixture
def copy(tmp_path):
    """A writable copy of the real example: (root, path of the annotation, its content)."""
    root = tmp_path / "vitra"
    root.mkdir()
    for path in [*REAL.glob("*.npy"), *REAL.glob("*.mp4")]:
        shutil.copyfile(path, root / path.name)
    path = next(root.glob("*.npy"))
    return root, path, np.load(path, allow_pickle=True).item()


def save(path: Path, episode: dict) -> None:
    np.save(path, np.array(episode, dtype=object), allow_pickle=True)


def only(root: Path) -> Clip | ClipError:
    (out,) = vitra.read_clips(root)
    return out


def reason(root: Path) -> str:
    out = only(root)
    assert isinstance(out, ClipError)
    assert "\n" not in str(out)
    assert out.clip_id.startswith("Ego4D_03cc49c3")
    return out.reason


@needs_real
def test_the_real_clip_keeps_vitras_identities():
    clip, truth = only(REAL), np.load(next(REAL.glob("*.npy")), allow_pickle=True).item()["right"]
    assert isinstance(clip, Clip)
    hand = clip.hand("right")
    world = transform(clip.T_world_camera, hand.joints_camera)
    assert np.abs(world - truth["joints_worldspace"]).max() < 1e-6
    R = clip.T_world_camera[:, :3, :3] @ hand.mano.global_orientation_camera
    assert np.abs(R - truth["global_orient_worldspace"]).max() < 1e-6
    assert np.abs(world[:, 0] - truth["transl_worldspace"]).max() < 1e-6
    assert np.array_equal(hand.mano.wrist_camera, hand.joints_camera[:, 0])
    assert clip.hand("left") is None  # kept_frames is 0 throughout
    assert [t.text for t in clip.texts] == ["Pick up the spray bottle."]
    assert len(clip) == 25
    assert clip.rate == pytest.approx(30)
    assert clip.frames.read([24]).shape == (1, 368, 480, 3)


@needs_real
def test_the_real_intrinsics_fit_the_smaller_video():
    clip = only(REAL)
    K = clip.intrinsics
    assert (K.width, K.height) == (480, 368)
    assert K.fx == pytest.approx(654.96618652 / 3)
    assert K.cx == pytest.approx(240)
    assert "stretched" in clip.notes["padding"]


def test_padding_rows_and_stretched_rows_are_told_apart():
    K = np.array([[600.0, 0, 720], [0, 600, 540], [0, 0, 1]])
    picture = np.random.default_rng(0).integers(0, 255, (368, 480, 3), dtype=np.uint8)
    stretched, _ = scaled_intrinsics(K, picture)
    picture[360:] = 0
    padded, note = scaled_intrinsics(K, picture)
    assert (padded.fy, padded.cy) == pytest.approx((200, 180))
    assert (stretched.fy, stretched.cy) == pytest.approx((200 * 368 / 360, 184))
    assert "padding" in note["padding"]
    with pytest.raises(ValueError, match="another shape"):
        scaled_intrinsics(K, np.zeros((480, 480, 3), np.uint8))


@needs_real
def test_a_left_hand_is_turned_into_left_model_parameters(copy):
    root, path, episode = copy
    episode["left"] = {**episode["right"]}
    save(path, episode)
    clip = only(root)
    a, b = clip.hand("right").mano.pose, clip.hand("left").mano.pose
    M = np.diag([-1.0, 1, 1])
    assert np.allclose(b, M @ a @ M)


@needs_real
@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("extrinsics", lambda a: a[:20], "extrinsics has shape"),
        ("extrinsics", lambda a: np.where(np.arange(25)[:, None, None] > 3, np.nan, a), "frame 4 is not finite"),
        ("extrinsics", lambda a: a * 2, "not a rotation"),
        ("intrinsics", lambda a: np.zeros((3, 3)), "intrinsics"),
        ("intrinsics", lambda a: np.diag([-1, -1, 1.0]) @ a, "intrinsics"),
        ("video_decode_frame", lambda a: np.asarray(a) + 5, "names frame 29"),
        ("video_decode_frame", lambda a: a[:0], "no frames"),
        ("video_name", lambda a: "elsewhere", "elsewhere.mp4 is not below the root"),
    ],
)
def test_a_bad_entry_is_a_one_line_reason(copy, field, value, expected):
    root, path, episode = copy
    episode[field] = value(episode[field])
    save(path, episode)
    assert expected in reason(root)


@needs_real
def test_nan_joints_are_unknown_and_only_nan_joints_are_an_error(copy):
    root, path, episode = copy
    episode["right"]["joints_camspace"][4, 7] = np.nan
    save(path, episode)
    hand = only(root).hand("right")
    assert hand.confidence[4, 7] == 0
    assert hand.confidence.sum() == 25 * 21 - 1
    episode["right"]["joints_camspace"][:] = np.nan
    save(path, episode)
    assert "no hand is ever" in reason(root)


@needs_real
def test_a_hand_that_is_never_visible_is_reported(copy):
    root, path, episode = copy
    episode["right"]["joints_camspace"][..., 0] += 50
    save(path, episode)
    assert "no hand is ever in view" in reason(root)
    episode["right"]["kept_frames"][:] = 0
    save(path, episode)
    assert "no hand is ever visible" in reason(root)


@needs_real
def test_short_hand_arrays_and_missing_entries_are_reported(copy):
    root, path, episode = copy
    short = {**episode, "right": {**episode["right"], "joints_camspace": episode["right"]["joints_camspace"][:9]}}
    save(path, short)
    assert "right joints_camspace" in reason(root)
    del episode["right"]["beta"]
    save(path, episode)
    assert "'beta'" in reason(root)


@needs_real
def test_a_truncated_video_or_annotation_is_reported(copy):
    root, path, _ = copy
    data = path.read_bytes()
    path.write_bytes(data[:5000])
    assert path.name in reason(root)
    path.write_bytes(data)
    video = next(root.glob("*.mp4"))
    video.write_bytes(video.read_bytes()[:40000])
    assert "truncated" in reason(root)


class _Hostile:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


@needs_real
def test_a_hostile_annotation_is_refused_and_never_executed(copy, monkeypatch):
    root, path, episode = copy
    monkeypatch.chdir(root)
    save(path, {**episode, "text": _Hostile()})
    assert "refused" in reason(root)
    with open(path, "wb") as file:
        pickle.dump(_Hostile(), file)
    assert path.name in reason(root)
    assert not (root / "executed").exists()


@needs_real
def test_one_bad_clip_does_not_stop_the_others(copy):
    root, path, _ = copy
    path.with_name("A_x_ep_000000.npy").write_bytes(b"\x93NUMPY broken")
    first, second = vitra.read_clips(root)
    assert isinstance(first, ClipError)
    assert isinstance(second, Clip)


def test_an_empty_or_missing_folder_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match="nothing of source 'vitra'"):
        vitra.read_clips(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        vitra.read_clips(tmp_path / "nowhere")

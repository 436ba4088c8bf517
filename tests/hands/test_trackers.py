"""Trackers: result files written from known hands and read back; a landmarker with known landmarks."""

import hashlib
import json
import pickle
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vipa.geometry import Intrinsics, project
from vipa.hands.mano import ManoLayer, matrix_from_axis_angle
from vipa.hands.mano_files import save_mano
from vipa.hands.mano_synthetic import synthetic_mano
from vipa.hands.repair import repair_hands
from vipa.hands.skeleton import mirror_joints, mirror_rotation
from vipa.hands.trackers import open_tracker, require_intrinsics, tracker_names
from vipa.hands.trackers.hawor import HaworResults, camera_path
from vipa.hands.trackers.mediapipe import MODEL, Landmarks, LandmarkTracker, landmarks_from_result

CAMERA = Intrinsics(500.0, 500.0, 320.0, 180.0, 640, 360, "calibrated")
MODELS = {"right": synthetic_mano(0), "left": synthetic_mano(0, "left")}
FRAMES = 30
TIMES = np.arange(FRAMES) / 30.0


class Blank:
    """Images of the right number and size."""

    def __len__(self) -> int:
        return FRAMES

    def read(self, indices):
        return np.zeros((len(indices), CAMERA.height, CAMERA.width, 3), np.uint8)


def parameters(side: str):
    """Global orientation, pose, betas and smplx-like translation (30 frames) of a moving hand in the camera."""
    rng = np.random.default_rng(len(side))
    layer = ManoLayer(MODELS[side])
    t = torch.tensor(TIMES)[:, None]
    sign = 1.0 if side == "right" else -1.0
    bend = 0.8 + 0.4 * torch.sin(3 * t)
    pose = matrix_from_axis_angle((3 * bend * layer.pose_mean).reshape(FRAMES, 15, 3))
    orient = matrix_from_axis_angle(
        torch.tensor([[1.4, 0.2 * sign, 0.0]]) + 0.2 * torch.sin(4 * t) * torch.ones(1, 3)
    )
    place = torch.tensor([[0.1 * sign, 0.02, 0.45]]) + 0.03 * torch.cos(2 * t + torch.tensor([[0.0, 1, 2]]))
    betas = torch.tensor(rng.normal(size=10) * 0.5).expand(FRAMES, 10)
    return orient, pose, betas, place


def truth(side: str) -> np.ndarray:
    orient, pose, betas, place = parameters(side)
    return ManoLayer(MODELS[side]).joints(orient, pose, betas, translation=place, tips="smplx").numpy()


TRUTH = {side: truth(side) for side in ("left", "right")}


def check(seen, atol=1e-6, frames=range(FRAMES)):
    for i in frames:
        assert sorted(hand.side for hand in seen[i]) == ["left", "right"]
        for hand in seen[i]:
            np.testing.assert_allclose(hand.joints_camera, TRUTH[hand.side][i], atol=atol)


def assumed(side: str, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """What a network with an assumed focal length reports: joints around the hand, and its place."""
    joints = TRUTH[side]
    pixel = project(joints, CAMERA.matrix)[:, 0]
    depth = joints[:, 0, 2] * focal / CAMERA.fx
    place = np.stack([
        (pixel[:, 0] - CAMERA.width / 2) / focal * depth, (pixel[:, 1] - CAMERA.height / 2) / focal * depth, depth
    ], -1)  # fmt: skip
    origin = np.array([0.01, -0.02, 0.005])  # the networks' origin is not the wrist
    return joints - joints[:, :1] + origin, place - origin


def hamer_hands(i: int, *, mirrored_back: bool = True, focal: float = 12500.0) -> list[dict]:
    out = []
    for side in ("right", "left"):
        joints, place = assumed(side, focal)
        joints = joints[i] if side == "right" or mirrored_back else mirror_joints(joints[i])
        out.append({
            "hand_bbox": [0.0, 0, 1, 1], "is_right": float(side == "right"),
            "wilor_preds": {
                "pred_keypoints_3d": joints[None], "pred_cam_t_full": place[i][None], "scaled_focal_length": focal,
            },
        })  # fmt: skip
    return out


# ---- HaWoR


def write_hawor(folder: Path, focal: float = CAMERA.fx) -> Path:
    for index, side in enumerate(("left", "right")):
        orient, pose, betas, place = parameters(side)
        target = folder / "cam_space" / str(index)
        target.mkdir(parents=True)
        for first, last in ((0, 11), (12, 29)):
            part = slice(first, last + 1)
            values = {"root_orient": orient, "hand_pose": pose, "trans": place, "betas": betas}
            content = {f"init_{k}": v[None, part].tolist() for k, v in values.items()}
            (target / f"{first}_{last}.json").write_text(json.dumps(content))
    (folder / "est_focal.txt").write_text(str(focal))
    return folder


@pytest.fixture
def mano(tmp_path, monkeypatch):
    folder = tmp_path / "mano"
    for side, model in MODELS.items():
        save_mano(model, folder / f"mano_{side}.npz")
    monkeypatch.setenv("VIPA_MANO", str(folder))
    return folder


def test_hawor_results_give_the_joints_they_were_made_from(tmp_path, mano):
    tracker = open_tracker("hawor", write_hawor(tmp_path / "vidéo"))
    check(tracker(Blank(), TIMES, CAMERA))


def test_hawor_frames_count_thirty_a_second_whatever_the_video_does(tmp_path, mano):
    seen = HaworResults(write_hawor(tmp_path / "v"), mano)(Blank(), TIMES[::2], CAMERA)  # a 15 fps video
    np.testing.assert_allclose(
        next(h for h in seen[3] if h.side == "right").joints_camera, TRUTH["right"][6], atol=1e-6
    )


def test_hands_of_an_assumed_focal_length_keep_their_pixels_and_get_the_true_depth(tmp_path, mano):
    seen = HaworResults(write_hawor(tmp_path / "v", focal=1000.0), mano)(Blank(), TIMES, CAMERA)
    hand = next(h for h in seen[4] if h.side == "right").joints_camera
    old = TRUTH["right"][4]
    np.testing.assert_allclose(hand[0, 2], old[0, 2] / 2)
    np.testing.assert_allclose(
        project(hand[:1], CAMERA.matrix),
        1000 * old[:1, :2] / old[:1, 2:] + [CAMERA.width / 2, CAMERA.height / 2],
        atol=1e-6,
    )


def test_haworss_camera_path_is_scaled_camera_to_world(tmp_path):
    folder = tmp_path / "SLAM"
    folder.mkdir()
    traj = np.tile([1.0, 2.0, 3.0, 0.0, 0.0, np.sin(0.2), np.cos(0.2)], (FRAMES, 1))
    np.savez(folder / "hawor_slam_w_scale_0_30.npz", traj=traj, scale=0.5)
    T = camera_path(tmp_path, TIMES)
    np.testing.assert_allclose(T[:, :3, 3], np.tile([0.5, 1.0, 1.5], (FRAMES, 1)))
    np.testing.assert_allclose(T[0, :2, :2], [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    with pytest.raises(ValueError, match="does not reach"):
        camera_path(tmp_path, np.arange(99) / 30)


@pytest.mark.parametrize("content", ["{}", "nonsense", '{"init_root_orient": [[1]]}'])
def test_a_broken_hawor_file_is_named(tmp_path, mano, content):
    folder = write_hawor(tmp_path / "v")
    (folder / "cam_space" / "1" / "12_29.json").write_text(content)
    with pytest.raises(ValueError, match=r"12_29\.json: not a HaWoR"):
        open_tracker("hawor", folder)(Blank(), TIMES, CAMERA)


# ---- WiLoR, HaMeR


def stacked(i: int) -> dict:
    """HaMeR's batch output: hands stacked in one record."""
    hands = hamer_hands(i)
    preds = [hand["wilor_preds"] for hand in hands]
    return {
        "right": np.array([hand["is_right"] for hand in hands]),
        "pred_keypoints_3d": np.concatenate([p["pred_keypoints_3d"] for p in preds]),
        "pred_cam_t_full": np.concatenate([p["pred_cam_t_full"] for p in preds]),
        "scaled_focal_length": np.array(12500.0),
    }


@pytest.mark.parametrize("layout", ["list.pkl", "dict.pkl", "stacked.npy", "json", "folder of npz"])
@pytest.mark.parametrize("name", ["wilor", "hamer"])
def test_frames_of_hands_are_read_from_every_layout(tmp_path, name, layout):
    path = tmp_path / layout
    if layout == "list.pkl":
        path.write_bytes(pickle.dumps([hamer_hands(i) for i in range(FRAMES)]))
    elif layout == "dict.pkl":
        path.write_bytes(pickle.dumps({f"frame_{i:05d}.jpg": hamer_hands(i) for i in range(FRAMES)}))
    elif layout == "stacked.npy":
        np.save(path, {i: stacked(i) for i in range(FRAMES)}, allow_pickle=True)  # type: ignore[arg-type]
    elif layout == "json":
        path = tmp_path / "hands.json"
        listed = [[{**h, "wilor_preds": {k: np.asarray(v).tolist() for k, v in h["wilor_preds"].items()}}
                   for h in hamer_hands(i)] for i in range(FRAMES)]  # fmt: skip
        path.write_text(json.dumps(listed))
    else:
        path.mkdir()
        for i in range(FRAMES):
            np.savez(path / f"{i + 1:06d}.npz", **stacked(i))
    check(open_tracker(name, path)(Blank(), TIMES, CAMERA))


def test_left_hands_left_as_mirrored_right_hands_are_mirrored_back(tmp_path):
    path = tmp_path / "hands.pkl"
    path.write_bytes(pickle.dumps([hamer_hands(i, mirrored_back=False) for i in range(FRAMES)]))
    check(open_tracker("hamer", path)(Blank(), TIMES, CAMERA))


def test_frames_without_hands_stay_empty(tmp_path):
    path = tmp_path / "hands.pkl"
    path.write_bytes(pickle.dumps([[] if i % 2 else hamer_hands(i) for i in range(FRAMES)]))
    seen = open_tracker("wilor", path)(Blank(), TIMES, CAMERA)
    assert [len(hands) for hands in seen] == [2, 0] * (FRAMES // 2)
    check(seen, frames=range(0, FRAMES, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no hands"),
        ({"a": []}, "not frame numbers"),
        ([[{"pred_keypoints_3d": np.zeros((1, 20, 3)), "is_right": 1}]], "not \\(..., 21, 3\\)"),
        ([[{"pred_keypoints_3d": np.zeros((1, 21, 3)), "is_right": 1}]], "none of pred_cam_t_full"),
        ([hamer_hands(0)] * 40, "the video has 30"),
        ([Path("x")], "refused"),
    ],
)
def test_unusable_records_say_what_is_missing(tmp_path, content, message):
    path = tmp_path / "hands.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"hands\.pkl: .*{message}"):
        open_tracker("hamer", path)(Blank(), TIMES, CAMERA)


# ---- VITRA's reconstruction

VITRA_TRUTH = {
    side: ManoLayer(MODELS["right"] if side == "right" else MODELS["right"].mirrored())
    .joints(*parameters(side)[:3], translation=parameters(side)[3], tips="smplx").numpy()
    for side in ("left", "right")
}  # fmt: skip


def vitra_content(fov: float) -> dict:
    """Hands in VITRA's form: left hands posed on the right model, wrists placed with this field of view."""
    content: dict = {"left": {}, "right": {}, "fov_x": fov}
    for side in ("left", "right"):
        orient, pose, betas, _ = parameters(side)
        for i in range(FRAMES):
            content[side][i] = {
                "hand_pose": mirror_rotation(pose[i].numpy()) if side == "left" else pose[i].numpy(),
                "global_orient": orient[i].numpy(), "beta": betas[i].numpy(), "transl": VITRA_TRUTH[side][i, 0],
            }  # fmt: skip
    return content


def save_vitra(path: Path, content: dict) -> Path:
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def test_vitras_reconstruction_gives_the_hands_it_was_made_from(tmp_path, mano):
    content = vitra_content(float(np.degrees(2 * np.arctan(CAMERA.width / 2 / CAMERA.fx))))
    del content["left"][7]
    seen = open_tracker("vitra_recon", save_vitra(tmp_path / "kitchen.npy", content))(Blank(), TIMES, CAMERA)
    assert [hand.side for hand in seen[7]] == ["right"]
    for i in (0, 6, 29):
        for hand in seen[i]:
            np.testing.assert_allclose(hand.joints_camera, VITRA_TRUTH[hand.side][i], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("fov_x"), "not VITRA's"),
        (lambda c: c["left"][3].pop("transl"), "left hand needs hand_pose"),
        (lambda c: c["right"].update({99: c["right"][0]}), "frame 99, but the video has 30"),
        (lambda c: (c["left"].clear(), c["right"].clear()), "no hands"),
    ],
)
def test_a_reconstruction_that_lacks_something_is_named(tmp_path, mano, change, message):
    content = vitra_content(60.0)
    change(content)
    path = save_vitra(tmp_path / "kitchen.npy", content)
    with pytest.raises(ValueError, match=rf"kitchen\.npy: .*{message}"):
        open_tracker("vitra_recon", path)(Blank(), TIMES, CAMERA)


# ---- landmark models


def landmarker(noise: float = 0.0, swap_labels: bool = False, forget: tuple[int, ...] = ()):
    """A landmarker that knows the truth: metric landmarks around the middle, pixels with noise."""
    rng = np.random.default_rng(0)

    def detect(image: np.ndarray, milliseconds: int) -> list[Landmarks]:
        i = round(milliseconds * 30 / 1000)
        if i in forget:
            return []
        out = []
        for side in ("left", "right"):
            joints = TRUTH[side][i]
            pixels = project(joints, CAMERA.matrix) + rng.normal(scale=noise, size=(21, 2)) if noise else project(
                joints, CAMERA.matrix)  # fmt: skip
            label = {"left": "right", "right": "left"}[side] if swap_labels else side
            out.append(Landmarks(label, 0.95, pixels, joints - joints.mean(0)))
        return out

    return LandmarkTracker(lambda: nullcontext(detect))


def test_pixel_and_metric_landmarks_place_the_hand_in_the_camera():
    check(landmarker()(Blank(), TIMES, CAMERA), atol=1e-6)


def test_swapped_labels_of_a_mirrored_model_are_swapped_back():
    check(landmarker(swap_labels=True)(Blank(), TIMES, CAMERA), atol=1e-6)


def test_noisy_landmarks_with_gaps_become_two_whole_tracks():
    seen = landmarker(noise=1.0, forget=(7, 8, 20))(Blank(), TIMES, CAMERA)
    repair = repair_hands(seen, TIMES)
    assert sorted(track.side for track in repair.tracks) == ["left", "right"]
    for track in repair.tracks:
        error = np.linalg.norm(track.joints_camera - TRUTH[track.side], axis=-1)
        assert error.mean() < 0.006
        assert (track.confidence[[7, 8, 20], 0] < track.confidence[[5, 10, 22], 0]).all()


def test_mediapipes_result_is_read_in_pixels_from_the_centre_of_the_first_pixel():
    point = SimpleNamespace
    result = SimpleNamespace(
        hand_landmarks=[[point(x=0.5, y=0.25, z=0.0)] * 21],
        hand_world_landmarks=[[point(x=0.01, y=0.02, z=0.03)] * 21],
        handedness=[[SimpleNamespace(category_name="Left", score=0.75)]],
    )
    (hand,) = landmarks_from_result(result, 640, 360)
    assert (hand.side, hand.side_confidence) == ("left", 0.75)
    np.testing.assert_allclose(hand.pixels, [[319.5, 89.5]] * 21)
    np.testing.assert_allclose(hand.metres, [[0.01, 0.02, 0.03]] * 21)


def test_without_intrinsics_no_tracker_guesses(tmp_path):
    (tmp_path / "model.task").write_bytes(b"")
    for name in tracker_names():
        with pytest.raises(ValueError, match=r"intrinsics are missing.*--fov"):
            open_tracker(name, tmp_path / "model.task")(Blank(), TIMES, None)  # type: ignore[arg-type]
    assert require_intrinsics(CAMERA, "x") is CAMERA


def test_unknown_trackers_and_missing_paths_are_named(tmp_path):
    with pytest.raises(ValueError, match="hamer, hawor, mediapipe, vitra_recon, wilor"):
        open_tracker("magic", tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_tracker("hawor", tmp_path / "nowhere")


def test_a_model_file_that_is_none_gives_one_line(tmp_path):
    (tmp_path / "model.task").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"pip install mediapipe|model\.task: not a hand landmarker"):
        open_tracker("mediapipe", tmp_path / "model.task")(Blank(), TIMES, CAMERA)


def test_mediapipes_model_comes_along_and_its_licence_is_named():
    words = (MODEL.parent / "README.md").read_text()
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() in words
    assert "Apache License 2.0" in words
    assert set(zipfile.ZipFile(MODEL).namelist()) == {"hand_detector.tflite", "hand_landmarks_detector.tflite"}
    assert MODEL.stat().st_size < 8e6


def test_every_joint_is_on_the_pixel_where_it_was_seen():
    tracker = landmarker(noise=3.0)
    found = tracker.detect(Blank(), TIMES)
    for hands, placed in zip(found, tracker.place(found, CAMERA)):
        for hand, joints in zip(hands, placed):
            np.testing.assert_allclose(project(joints.joints_camera, CAMERA.matrix), hand.pixels, atol=1e-6)


def test_side_bend_and_confidence_of_landmarks_depend_on_no_camera():
    tracker = landmarker(noise=3.0)
    found = tracker.detect(Blank(), TIMES)
    cameras = (Intrinsics.from_fov(np.radians(fov), 640, 360, "estimated") for fov in (110, 50))
    for wide, narrow in zip(*(tracker.place(found, camera) for camera in cameras)):
        for one, two in zip(wide, narrow):
            assert (one.side, one.bend, one.palm) == (two.side, two.bend, two.palm)
            np.testing.assert_array_equal(one.confidence, two.confidence)

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vipa.clips import Clip
from vipa.clips.sources import load_source
from vipa.clips.sources.hot3d import SIDES, nearest, read_camera, read_hands, read_mask, read_poses, wrist_pose
from vipa.geometry import invert, transform
from vipa.hands.umetrack import UmeTrackHand

ROOT = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "hot3d_sample"
QUEST = ROOT / "Quest3" / "P0002_273c2819"
needs_real = pytest.mark.skipif(not QUEST.is_dir(), reason="the real HOT3D sample is not here")


@needs_real
def test_sixty_published_boxes_are_met_within_two_and_a_half_pixels_a_side():
    headset = next(iter(read_poses(QUEST / "headset_trajectory.csv").values()))
    poses = read_hands(QUEST / "umetrack_hand_pose_trajectory.jsonl")
    model = UmeTrackHand.load(QUEST / "umetrack_hand_user_profile.json")
    errors = []
    with open(QUEST / "box2d_hands.csv", newline="") as file:
        for row in csv.DictReader(file):
            if float(row["visibility_ratio[%]"]) < 0.95:
                continue
            time, side = int(row["timestamp[ns]"]), dict(SIDES)[row["hand_index"]]
            camera = read_camera(QUEST / "camera_models.json", row["stream_id"])
            pose = poses[row["hand_index"]][time]
            mesh = model.mesh(side, np.array(pose["joint_angles"]), wrist_pose(pose))
            pixels = camera.lens.project(transform(invert(headset[time] @ camera.T_device_camera), mesh))
            (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
            truth = [float(row[k]) for k in ("x_min[pixel]", "x_max[pixel]", "y_min[pixel]", "y_max[pixel]")]
            errors.append(np.abs(np.array([left, right, top, bottom]) - truth))
    assert len(errors) == 60
    assert np.mean(errors, 0).max() < 2.5


@needs_real
def test_the_readers_joints_fall_into_the_published_boxes():
    clips = [c for c in load_source("hot3d").read_clips(ROOT) if isinstance(c, Clip)]
    (clip,) = clips
    camera = read_camera(QUEST / "camera_models.json", "1201-1")
    boxes = {}
    with open(QUEST / "box2d_hands.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["stream_id"] == "1201-1":
                key = dict(SIDES)[row["hand_index"]], int(row["timestamp[ns]"])
                boxes[key] = [
                    float(row[k]) for k in ("x_min[pixel]", "x_max[pixel]", "y_min[pixel]", "y_max[pixel]")
                ]
    times = sorted({t for _, t in boxes})
    inside = []
    for hand in clip.hands:
        for i, joints in enumerate(hand.joints_camera):
            x0, x1, y0, y1 = boxes[hand.side, times[i]]
            u, v = camera.lens.project(joints).T
            inside.append((u > x0 - 3) & (u < x1 + 3) & (v > y0 - 3) & (v < y1 + 3))
    assert np.mean(inside) > 0.99


@needs_real
def test_without_images_the_clip_says_what_to_export():
    clip = next(c for c in load_source("hot3d").read_clips(ROOT) if isinstance(c, Clip))
    assert [o.name for o in clip.objects] == [
        "puzzle toy",
        "white mug",
        "coffee pot",
        "mouse",
        "keyboard",
        "cellphone",
    ]
    with pytest.raises(ValueError, match=r"export stream 1201-1 of recording\.vrs"):
        clip.frames.read([0])


def test_the_nearest_time_is_taken_within_half_a_frame_only():
    ms = 1_000_000
    have = {0: 0, 33 * ms: 0, 66 * ms: 0}
    wanted = np.array([-40 * ms, -5 * ms, 1 * ms, 20 * ms, 66 * ms, 80 * ms, 90 * ms])
    assert nearest(wanted, have).tolist() == [-1, 0, 0, 1, 2, 2, -1]
    assert nearest(wanted[:1], {}).tolist() == [-1]
    assert nearest(np.array([5 * ms]), {0: 0}).tolist() == [0]


def marked(fixture_of, tmp_path, **masks: list[int]) -> Clip:
    """The fixture's first clip, whose masks say False in these frames."""
    fixture = fixture_of("hot3d")
    root = Path(shutil.copytree(fixture.root, tmp_path / "hot3d"))
    folder = root / "P0001_fixture" / "masks"
    folder.mkdir()
    times = sorted(int(p.stem) for p in (root / "P0001_fixture" / "frames" / "1201-1").glob("*.jpg"))
    for name, bad in masks.items():
        rows = [f"{t},1201-1,{i not in bad}\n{t},214-1,False\n" for i, t in enumerate(times)]
        (folder / f"mask_{name}.csv").write_text("timestamp[ns],stream_id,mask\n" + "".join(rows))
    return next(iter(load_source("hot3d").read_clips(root, fixture.options)))


@pytest.mark.parametrize(
    ("mask", "hands", "objects"),
    [("qa_pass", False, False), ("hand_pose_available", False, True), ("object_pose_available", True, False),
     ("object_pose_quality", True, False), ("good_exposure", True, True), ("hand_visible", True, True)],
)  # fmt: skip
def test_what_the_sets_own_masks_reject_is_unknown_by_stream(mask, hands, objects, fixture_of, tmp_path):
    clip = marked(fixture_of, tmp_path, **{mask: [0, 3]})
    rejected = [True, False, False, True, False, False]
    for hand in clip.hands:
        assert np.isnan(hand.joints_camera[:, 0, 0]).tolist() == ([False] * 6 if hands else rejected)
    for thing in clip.objects:
        assert np.isnan(thing.T_world_object[:, 0, 0]).tolist() == ([False] * 6 if objects else rejected)
    assert (f"mask_{mask}" in clip.notes) == (not (hands and objects))


def test_frames_without_a_headset_pose_are_left_out(fixture_of, tmp_path):
    clip = marked(fixture_of, tmp_path, headset_pose_available=[0, 3], qa_pass=[1])
    assert len(clip) == 4
    assert np.isnan(clip.hands[0].joints_camera[:, 0, 0]).tolist() == [True, False, False, False]


def test_a_clip_of_which_nothing_passes_says_which_mask(fixture_of, tmp_path):
    assert "mask_qa_pass rejects 6 of 6" in str(marked(fixture_of, tmp_path, qa_pass=list(range(6))))


def test_a_damaged_mask_names_the_file_and_the_line(fixture_of, tmp_path):
    (tmp_path / "m.csv").write_text("timestamp[ns],stream_id,mask\n5,1201-1,True\n6,1201-1,Tr")
    with pytest.raises(ValueError, match=r"m\.csv, line 3: not a time, a stream and True or False"):
        read_mask(tmp_path / "m.csv", "1201-1")


def test_pictures_made_smaller_keep_the_lens_and_turned_ones_are_refused(fixture_of, tmp_path):
    fixture = fixture_of("hot3d")
    root = Path(shutil.copytree(fixture.root, tmp_path / "hot3d"))
    for k, form in enumerate((lambda im: im.resize((160, 128)), lambda im: im.rotate(90, expand=True))):
        for path in (root / "P0001_fixture" / "frames" / "1201-1").glob("*.jpg"):
            with Image.open(path) as image:
                form(image.resize((320, 256))).save(path)
        clip = next(iter(load_source("hot3d").read_clips(root, fixture.options)))
        if k == 0:
            assert (clip.intrinsics.width, clip.intrinsics.height) == (160, 128)
            assert clip.intrinsics.fx == pytest.approx(63.05)
            assert clip.frames.read([0]).shape == (1, 128, 160, 3)
        else:
            assert "320 x 256 pixels, the pictures have 256 x 320" in str(clip)


def drifting(fixture_of, tmp_path, shift_us: int = 0, zoom: float = 1.0) -> Path:
    """The fixture with an online calibration: the camera as it is in the first three frames, then moved and zoomed."""
    root = Path(shutil.copytree(fixture_of("hot3d").root, tmp_path / "aria"))
    folder = root / "P0001_fixture"
    (camera,) = json.loads((folder / "camera_models.json").read_text())
    pose, times = camera["T_Device_Camera"], sorted(int(p.stem) for p in (folder / "frames/1201-1").glob("*.jpg"))
    lines = []
    for k, time in enumerate(times):
        later = k >= 3
        fx, fy, *rest = camera["projectionParams"]
        factor = zoom * (1.02 if later else 1.0)
        x, y, z = pose["translation_xyz"]
        w, *xyz = pose["quaternion_wxyz"]
        own = {
            "Label": "camera-slam-left",
            "Projection": {"Name": "FisheyeRadTanThinPrism", "Params": [fx * factor, fy * factor, *rest]},
            "T_Device_Camera": {"Translation": [x + 0.001 * later, y, z], "UnitQuaternion": [w, xyz]},
        }
        record = {
            "tracking_timestamp_us": time // 1000 + shift_us,
            "utc_timestamp_ns": 5,
            "CameraCalibrations": [own],
        }
        lines.append(json.dumps(record))
    (folder / "mps" / "slam").mkdir(parents=True)
    (folder / "mps/slam/online_calibration.jsonl").write_text("\n".join(lines))
    return root


def read_first(root: Path, fixture_of) -> Clip:
    return next(iter(load_source("hot3d").read_clips(root, fixture_of("hot3d").options)))


def test_each_frame_has_the_camera_of_its_time(fixture_of, tmp_path):
    plain = read_first(fixture_of("hot3d").root, fixture_of)
    clip = read_first(drifting(fixture_of, tmp_path), fixture_of)
    assert clip.notes["calibration"] == "online, by time" and clip.intrinsics == plain.intrinsics
    moved = np.linalg.norm(clip.T_world_camera[:, :3, 3] - plain.T_world_camera[:, :3, 3], axis=-1)
    np.testing.assert_allclose(moved, [0, 0, 0, 0.001, 0.001, 0.001], atol=1e-9)
    world = [transform(c.T_world_camera, c.hands[0].joints_camera) for c in (clip, plain)]
    np.testing.assert_allclose(*world, atol=1e-9)  # hands stay where they are in the world
    ours, theirs = (c.frames.read(range(6)).astype(int) for c in (clip, plain))
    assert (ours[:3] == theirs[:3]).all() and (ours[3:] != theirs[3:]).any(axis=(1, 2, 3)).all()
    assert (clip.frames.read([4, 1])[0] == ours[4]).all()


def test_a_pixel_is_seen_where_its_own_lens_has_it(fixture_of, tmp_path):
    """A point of the picture of frame 4, through the lens of its time, against the pinhole's."""
    clip = read_first(drifting(fixture_of, tmp_path), fixture_of)
    frames = clip.frames
    (raw,) = frames.frames.read([4])
    u, v = 200, 90
    ray = np.array(
        [(u - clip.intrinsics.cx) / clip.intrinsics.fx, (v - clip.intrinsics.cy) / clip.intrinsics.fy, 1]
    )
    x, y = frames.lenses[4].project(ray)
    corners = raw[int(y) : int(y) + 2, int(x) : int(x) + 2].reshape(4, 3).astype(int)
    shown = frames.read([4])[0, v, u].astype(int)
    assert (corners.min(0) - 1 <= shown).all() and (shown <= corners.max(0) + 1).all()
    assert frames.lenses[4].fx == pytest.approx(1.02 * frames.lenses[0].fx)


def test_records_of_another_clock_or_of_larger_pictures_are_said(fixture_of, tmp_path):
    clip = read_first(drifting(fixture_of, tmp_path / "clock", shift_us=-40_000_000), fixture_of)
    assert "of the middle of the recording" in clip.notes["calibration"]
    plain = read_first(fixture_of("hot3d").root, fixture_of)
    moved = np.linalg.norm(clip.T_world_camera[:, :3, 3] - plain.T_world_camera[:, :3, 3], axis=-1)
    np.testing.assert_allclose(moved, 0.001, atol=1e-9)
    clip = read_first(drifting(fixture_of, tmp_path / "size", zoom=2.0), fixture_of)
    assert clip.notes["calibration"] == "the factory's: online_calibration.jsonl is of pictures of another size"
    np.testing.assert_array_equal(clip.T_world_camera, plain.T_world_camera)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-30], "line 6: not a calibration record of MPS"),
        (lambda text: text.replace('"Params": [', '"Params": ["x", '), "line 1: not a calibration record of MPS"),
        (lambda text: text.replace("slam-left", "slam-right"), "no record of camera-slam-left"),
        (lambda text: "", "no record of camera-slam-left"),
    ],
)
def test_a_damaged_online_calibration_is_one_line(fixture_of, tmp_path, damage, said):
    root = drifting(fixture_of, tmp_path)
    path = root / "P0001_fixture/mps/slam/online_calibration.jsonl"
    path.write_text(damage(path.read_text()))
    message = str(read_first(root, fixture_of))
    assert said in message and "online_calibration.jsonl" in message and "\n" not in message

"""Other cameras, the other hand, and depth as images: what the data sets have beside their usual files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vipa.clips import Clip
from vipa.clips.sources import SourceOptions, load_source
from vipa.geometry import invert, rigid, transform
from vipa.worlds.fixtures.hoi4d import CAMERA, RATE
from vipa.worlds.fixtures.truth import BOTH_HANDS, angles48, film, layers, rest_wrist, with_mano
from vipa.worlds.fixtures.writing import write_image, write_pickle

T_CAMERA_WORLD = rigid(np.array([[0.6, 0, -0.8], [0, 1, 0], [0.8, 0, 0.6]]), np.array([0.05, -0.02, 0.7]))
"""A camera fixed in the room."""


@pytest.fixture
def copy_of(fixture_of, tmp_path):
    def copy(name: str) -> tuple[Path, SourceOptions]:
        fixture = fixture_of(name)
        shutil.copytree(fixture.root, tmp_path / name)
        return tmp_path / name, fixture.options

    return copy


def first(name: str, root: Path, options: SourceOptions, view: str | None = None) -> Clip:
    options = SourceOptions(mano=options.mano, view=view)
    clip = next(iter(load_source(name).read_clips(root, options)))
    assert isinstance(clip, Clip), clip
    return clip


def same_hands_from_the_fixed_camera(fixed: Clip, worn: Clip) -> None:
    """Both cameras show the same hands in the room: the worn camera's are exact (test_fixtures)."""
    assert np.allclose(fixed.T_world_camera, invert(T_CAMERA_WORLD))
    assert {h.side for h in fixed.hands} == {h.side for h in worn.hands}
    for hand in worn.hands:
        there = transform(T_CAMERA_WORLD, transform(worn.T_world_camera, hand.joints_camera))
        assert np.abs(fixed.hand(hand.side).joints_camera - there).max() < 1e-6


def test_tacos_fixed_cameras_are_a_view_with_their_own_calibration(copy_of):
    root, options = copy_of("taco")
    worn = first("taco", root, options)
    inside = Path("(pour in some, kettle, bowl)", "20230927_030")
    video = root / "Allocentric_RGB_Videos" / inside / "22070938.mp4"
    video.parent.mkdir(parents=True)
    shutil.copyfile(root / "Egocentric_RGB_Videos" / inside / "color.mp4", video)
    calibration = {
        "K": [1800.0, 0, 1000, 0, 1800, 500, 0, 0, 1],
        "R": T_CAMERA_WORLD[:3, :3].ravel().tolist(),
        "T": T_CAMERA_WORLD[:3, 3].tolist(),
        "imgSize": [1920, 1080],
    }
    parameters = root / "Allocentric_Camera_Parameters" / inside.parent / f"{inside.name}.json"
    parameters.parent.mkdir(parents=True)
    parameters.write_text(json.dumps({"22070938": calibration}))
    clip = first("taco", root, options, "22070938")
    same_hands_from_the_fixed_camera(clip, worn)
    assert (clip.intrinsics.width, clip.intrinsics.height) == (
        960,
        540,
    )  # the video is half the calibration's size
    assert clip.intrinsics.fx == pytest.approx(900)
    assert clip.depth is None  # the sensor is on the head
    poses = zip(clip.objects, worn.objects)
    assert all(np.array_equal(a.T_world_object, b.T_world_object) for a, b in poses)


def test_arctics_fixed_cameras_are_views_without_a_lens_to_take_out(copy_of):
    root, options = copy_of("arctic")
    worn = first("arctic", root, options)
    images = root / "images" / "s01" / "box_use_01"
    shutil.copytree(images / "0", images / "3")
    misc = json.loads((root / "meta" / "misc.json").read_text())
    misc["s01"]["world2cam"][2] = T_CAMERA_WORLD.tolist()
    misc["s01"]["intris_mat"][2] = [[700.0, 0, 340], [0, 700, 260], [0, 0, 1]]
    misc["s01"]["image_size"][3] = [700, 500]
    (root / "meta" / "misc.json").write_text(json.dumps(misc))
    clip = first("arctic", root, options, "3")
    assert clip.id == "s01_box_use_01_view3"
    assert clip.source_video == worn.source_video  # one performance: no split may divide its views
    same_hands_from_the_fixed_camera(clip, worn)
    assert (clip.intrinsics.width, clip.intrinsics.fx) == (350, pytest.approx(350))
    assert np.array_equal(clip.frames.read([1]), worn.frames.frames.read([1]))
    with pytest.raises(ValueError, match="view '9' is unknown"):
        load_source("arctic").read_clips(root, SourceOptions(view="9"))


def test_hoi4d_reads_a_left_hand_with_the_left_model(copy_of, tmp_path):
    root, options = copy_of("hoi4d")
    models = layers(tmp_path / "mano", as_distributed=True)
    truth = with_mano(film(BOTH_HANDS, 6, RATE, CAMERA), models, "manopth").hand("left")
    angles = angles48(truth.mano.global_orientation_camera, truth.mano.pose)
    translation = truth.mano.wrist_camera - rest_wrist(models["left"], truth.mano.betas)
    sequence = Path("ZY20210800001", "H1", "C2", "N0", "S1", "s1", "T4")
    for i in (0, 1, 5):
        value = {"poseCoeff": angles[i], "beta": truth.mano.betas, "trans": translation[i]}
        write_pickle(root / "handpose" / "refinehandpose_left" / sequence / f"{i}.pickle", value)
    clip = first("hoi4d", root, options)
    assert [h.side for h in clip.hands] == ["right", "left"]
    joints = clip.hand("left").joints_camera
    assert np.abs(joints - truth.joints_camera)[[0, 1, 5]].max() < 1e-4
    assert np.isnan(joints[[2, 3, 4]]).all()


def test_hoi4d_depth_unpacked_to_images_is_the_videos_and_a_missing_one_is_unknown(copy_of):
    root, options = copy_of("hoi4d")
    depth = first("hoi4d", root, options).depth.read(range(6))
    folder = next(root.rglob("N0/*/*/*/align_depth"))
    (folder / "depth_video.avi").unlink()
    for i in (0, 1, 2, 3, 5):
        write_image(folder / f"{i}.png", np.rint(np.nan_to_num(depth[i]) * 1000).astype(np.uint16))
    again = first("hoi4d", root, options).depth.read(range(6))
    known = [0, 1, 2, 3, 5]
    assert np.array_equal(again[known], depth[known], equal_nan=True)
    assert np.isfinite(again[known]).any()
    assert np.isnan(again[4]).all()

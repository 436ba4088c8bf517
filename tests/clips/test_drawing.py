import av
import numpy as np
import pytest
from PIL import Image

from vipa.clips.drawing import Canvas, depth_colours, save_image, save_video, side_by_side
from vipa.geometry import Intrinsics

CAMERA = Intrinsics.from_fov(np.deg2rad(60), 64, 48, "calibrated")
BLACK = np.zeros((48, 64, 3), np.uint8)


def test_a_point_is_drawn_where_the_camera_sees_it():
    point = np.array([[0.1, -0.05, 1.0]])
    picture = Canvas(BLACK, 4, CAMERA).path(point, "#ff0000").array
    rows, columns = np.nonzero(picture[..., 0] > 200)
    u = (CAMERA.fx * 0.1 + CAMERA.cx + 0.5) * 4 - 0.5
    v = (CAMERA.fy * -0.05 + CAMERA.cy + 0.5) * 4 - 0.5
    assert columns.mean() == pytest.approx(u, abs=1)
    assert rows.mean() == pytest.approx(v, abs=1)


def test_unknown_hands_boxes_and_points_leave_the_picture_alone():
    canvas = Canvas(BLACK, 2, CAMERA)
    canvas.hand(np.full((21, 3), np.nan)).boxes([("cup", np.full(4, np.nan))]).path(
        np.full((3, 3), np.nan), "#fff"
    )
    assert canvas.array.max() == 0


def test_a_hand_in_view_is_drawn_and_one_behind_the_camera_is_not():
    joints = np.random.default_rng(0).uniform([-0.1, -0.1, 0.5], [0.1, 0.1, 0.6], size=(21, 3))
    assert Canvas(BLACK, 2, CAMERA).hand(joints).array.max() > 200
    assert Canvas(BLACK, 2, CAMERA).hand(joints * [1, 1, -1]).array.max() == 0


def test_of_a_hand_half_behind_the_camera_only_the_front_is_drawn():
    joints = np.random.default_rng(0).uniform([-0.1, -0.1, 0.5], [0.1, 0.1, 0.6], size=(21, 3))
    seen = Canvas(BLACK, 2, CAMERA).hand(joints, "#00ff00").array
    assert seen[..., 0].max() < 40  # one colour where one is given
    half = joints.copy()
    half[5:9, 2] *= -1
    half[9:13] = np.nan
    drawn = Canvas(BLACK, 2, CAMERA).hand(half, "#00ff00").array[..., 1] > 200
    assert 0 < drawn.sum() < (seen[..., 1] > 200).sum()


def test_a_frame_is_enlarged_to_any_width():
    assert Canvas(BLACK, 100 / 64).array.shape == (75, 100, 3)


def test_depth_is_brightest_where_it_is_nearest_and_grey_where_unknown():
    depth = np.tile(np.linspace(0.3, 1.0, 20), (10, 1))
    depth[0, 0] = np.nan
    colours = depth_colours(depth)
    assert colours[0, 0].tolist() == [90, 90, 90]
    assert colours[5, 1].tolist() != colours[5, 18].tolist()
    assert depth_colours(np.full((2, 2), np.nan)).min() == 90


def test_video_has_the_frames_and_rate_it_was_given(tmp_path):
    frames = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(10)]
    path = save_video(frames, tmp_path / "a.mp4", 5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 5
        brightness = [float(f.to_ndarray(format="rgb24").mean()) for f in container.decode(stream)]
    np.testing.assert_allclose(brightness, [20 * i for i in range(10)], atol=4)
    assert list(tmp_path.iterdir()) == [path]


def test_image_is_saved_whole_and_alone(tmp_path):
    row = side_by_side([BLACK, BLACK + 50])
    path = save_image(row, tmp_path / "deep" / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), row)
    assert list(path.parent.iterdir()) == [path]

import numpy as np
import pytest
import torch

from vipa.geometry import Intrinsics, project, unproject, unproject_depth

CAMERA = Intrinsics(310.0, 290.0, 158.5, 121.0, 320, 240, "calibrated")


def random_points(rng, n=100):
    return rng.uniform([-0.5, -0.5, 0.2], [0.5, 0.5, 2.0], size=(n, 3))


def test_projection_follows_the_pinhole_equations_point_by_point():
    points = random_points(np.random.default_rng(0))
    expected = [(CAMERA.fx * x / z + CAMERA.cx, CAMERA.fy * y / z + CAMERA.cy) for x, y, z in points]
    np.testing.assert_allclose(project(points, CAMERA.matrix), expected, atol=1e-9)


def test_unproject_undoes_project():
    points = random_points(np.random.default_rng(1))
    pixels = project(points, CAMERA.matrix)
    np.testing.assert_allclose(unproject(pixels, points[:, 2], CAMERA.matrix), points, atol=1e-12)


def test_project_works_on_batches_and_on_torch():
    points = random_points(np.random.default_rng(2)).reshape(4, 25, 3)
    K = np.stack([CAMERA.matrix * [[f], [f], [1]] for f in (1.0, 0.5, 2.0, 3.0)])
    one_by_one = np.stack([project(p, k) for p, k in zip(points, K)])
    np.testing.assert_allclose(project(points, K), one_by_one)
    np.testing.assert_allclose(project(torch.tensor(points), torch.tensor(K)).numpy(), one_by_one)


def test_point_on_the_axis_lands_on_the_principal_point():
    np.testing.assert_allclose(project(np.array([[0.0, 0.0, 3.0]]), CAMERA.matrix), [[CAMERA.cx, CAMERA.cy]])


def test_point_right_of_and_below_the_axis_lands_right_and_below():
    u, v = project(np.array([[0.1, 0.2, 1.0]]), CAMERA.matrix)[0]
    assert u > CAMERA.cx
    assert v > CAMERA.cy


def test_every_pixel_of_a_point_map_projects_onto_itself():
    depth = np.random.default_rng(3).uniform(0.3, 2.0, size=(24, 32))
    small = CAMERA.resized(32, 24)
    points = unproject_depth(depth, small.matrix)
    assert points.shape == (24, 32, 3)
    u, v = np.meshgrid(np.arange(32), np.arange(24))
    np.testing.assert_allclose(
        project(points.reshape(-1, 3), small.matrix), np.stack([u, v], -1).reshape(-1, 2), atol=1e-12
    )
    np.testing.assert_array_equal(points[..., 2], depth)


def test_resizing_the_camera_keeps_relative_positions_on_the_image():
    points = random_points(np.random.default_rng(4))
    large, small = project(points, CAMERA.matrix), project(points, CAMERA.resized(80, 120).matrix)
    np.testing.assert_allclose((large + 0.5) / [320, 240], (small + 0.5) / [80, 120], atol=1e-12)


def test_resizing_there_and_back_gives_the_same_camera():
    back = CAMERA.resized(80, 120).resized(320, 240)
    np.testing.assert_allclose(back.matrix, CAMERA.matrix, atol=1e-12)


def test_cropping_moves_pixels_by_the_corner_and_padding_is_a_negative_corner():
    points = random_points(np.random.default_rng(5))
    pixels = project(points, CAMERA.matrix)
    np.testing.assert_allclose(project(points, CAMERA.cropped(40, 10, 200, 200).matrix), pixels - [40, 10])
    padded = CAMERA.cropped(0, -4, 320, 248)
    np.testing.assert_allclose(project(points, padded.matrix), pixels + np.array([0, 4]))
    assert (padded.width, padded.height) == (320, 248)


def test_image_contains_exactly_the_area_of_its_pixels():
    inside = [[-0.5, -0.5], [319.49, 239.49], [160, 120]]
    outside = [[-0.51, 0], [319.5, 0], [0, 239.5], [0, -1], [400, 400]]
    assert CAMERA.contains(np.array(inside)).all()
    assert not CAMERA.contains(np.array(outside)).any()


def test_field_of_view_reaches_the_image_borders():
    camera = Intrinsics.from_fov(np.deg2rad(90), 200, 100, "estimated")
    border = project(np.array([[-1.0, 0, 1.0], [1.0, 0, 1.0]]), camera.matrix)[:, 0]
    np.testing.assert_allclose(border, [-0.5, 199.5])
    assert camera.fx == camera.fy


def test_matrix_round_trip_keeps_all_four_numbers():
    assert Intrinsics.from_matrix(CAMERA.matrix, 320, 240, "calibrated") == CAMERA


@pytest.mark.parametrize(
    "bad",
    [
        {"fx": 0.0},
        {"fy": -300.0},
        {"fx": np.nan},
        {"cx": np.inf},
        {"width": 0},
        {"height": -1},
    ],
)
def test_impossible_intrinsics_are_refused(bad):
    good = {"fx": 300.0, "fy": 300.0, "cx": 1.0, "cy": 1.0, "width": 3, "height": 3, "origin": "calibrated"}
    with pytest.raises(ValueError, match="intrinsics"):
        Intrinsics(**{**good, **bad})


@pytest.mark.parametrize("entry", [(0, 1), (1, 0), (2, 0), (2, 1)])
def test_matrix_with_skew_or_a_wrong_last_row_is_refused(entry):
    K = CAMERA.matrix
    K[entry] = 0.3
    with pytest.raises(ValueError, match="pinhole"):
        Intrinsics.from_matrix(K, 320, 240, "calibrated")


PHONE = Intrinsics(80.0, 81.0, 40.0, 30.0, 96, 64, "calibrated")


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_turned_camera_sees_what_the_turned_picture_shows(rotation, mirrored):
    picture = np.zeros((64, 96))
    picture[30, 40] = 1
    picture = np.rot90(picture, rotation // 90)
    picture = np.fliplr(picture) if mirrored else picture
    camera = PHONE.turned(rotation, mirrored)
    assert picture.shape == (camera.height, camera.width)
    assert picture[int(camera.cy), int(camera.cx)] == 1
    assert (camera.fx, camera.fy) == ((80, 81) if rotation % 180 == 0 else (81, 80))


@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (455, 256), (854, 480), (426, 240), (1920, 1080)])
def test_a_picture_made_smaller_as_a_whole_is_the_same_shape_but_for_rounding(size):
    camera = Intrinsics(600.0, 600.0, 640.0, 360.0, 1280, 720, "calibrated").for_size(*size)
    assert (camera.width, camera.height) == size
    assert camera.fx == pytest.approx(camera.fy, rel=0.005)


@pytest.mark.parametrize("size", [(720, 1280), (1280, 736), (1280, 960), (640, 368), (1264, 720), (720, 720)])
def test_turned_padded_stretched_and_cropped_pictures_are_refused_with_both_sizes(size):
    with pytest.raises(ValueError, match=rf"1280 x 720 pixels, the pictures have {size[0]} x {size[1]}"):
        Intrinsics(600.0, 600.0, 640.0, 360.0, 1280, 720, "calibrated").for_size(*size)


def test_a_matrix_without_a_size_is_of_the_data_sets_pictures_or_of_these():
    K = np.array([[1000.0, 0, 960], [0, 1000, 540], [0, 0, 1]])
    halved = Intrinsics.from_recorded(K, (1920, 1080), (960, 540), "calibrated")
    assert (halved.fx, halved.width) == (500, 960)
    assert Intrinsics.from_recorded(K / [[2], [2], [1]], (1920, 1080), (960, 540), "calibrated").fx == 500
    for size in ((1080, 1920), (1920, 1440), (960, 960)):
        with pytest.raises(ValueError, match="intrinsics"):
            Intrinsics.from_recorded(K, (1920, 1080), size, "calibrated")
    with pytest.raises(ValueError, match="far from the middle"):
        Intrinsics.from_recorded(
            np.diag([1, 1, 1.0]) @ K + [[0, 0, 600], [0] * 3, [0] * 3], (1920, 1080), (960, 540), "calibrated"
        )

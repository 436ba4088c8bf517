"""Distorted lenses: there and back, against OpenCV, and joints that stay on the hand after undistortion."""

import json
from pathlib import Path

import numpy as np
import pytest

from vipa.geometry import Intrinsics, project
from vipa.geometry.distortion import Fisheye624, RationalLens, Undistorter

SAMPLE = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "hot3d_sample"

# of the size and sign that a wide 2800 x 2000 head camera has
RATIONAL = RationalLens(1750.0, 1740.0, 1400.0, 1010.0, (0.25, -0.05, 0.0009, -0.0006, 0.01, 0.5, -0.02, 0.015))
FISHEYE = Fisheye624.from_params(
    [
        500.0,
        502.0,
        638.0,
        509.0,
        0.0434,
        -0.0461,
        0.0229,
        -0.0185,
        0.007,
        -0.0011,
        4e-4,
        -3e-4,
        5e-4,
        -2e-4,
        3e-4,
        1e-4,
    ]
)


def points(n: int, spread: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.2, 2.0, (n, 1))
    return np.concatenate([rng.uniform(-spread, spread, (n, 2)) * z, z], -1)


@pytest.mark.parametrize(("lens", "spread"), [(RATIONAL, 0.9), (FISHEYE, 2.5)])
def test_unproject_undoes_project(lens, spread):
    p = points(2000, spread)
    rays = lens.unproject(lens.project(p))
    np.testing.assert_allclose(rays, p / np.linalg.norm(p, axis=-1, keepdims=True), atol=1e-9)


@pytest.mark.parametrize(("lens", "size"), [(RATIONAL, (2800, 2000)), (FISHEYE, (1280, 1024))])
def test_pixels_that_the_lens_sees_have_a_ray_that_comes_back_to_them(lens, size):
    u, v = np.meshgrid(np.linspace(0, size[0] - 1, 40), np.linspace(0, size[1] - 1, 40))
    pixels = np.stack([u, v], -1)
    rays = lens.unproject(pixels)
    seen = np.isfinite(rays).all(-1)
    assert seen.mean() > 0.9  # a fisheye's picture has dark corners
    np.testing.assert_allclose(lens.project(rays[seen]), pixels[seen], atol=1e-6)


def test_rational_lens_equals_opencv():
    cv2 = pytest.importorskip("cv2")
    p = points(500, 0.7)
    K = np.array([[RATIONAL.fx, 0, RATIONAL.cx], [0, RATIONAL.fy, RATIONAL.cy], [0, 0, 1]])
    for n in (4, 5, 8):
        lens = RationalLens(RATIONAL.fx, RATIONAL.fy, RATIONAL.cx, RATIONAL.cy, RATIONAL.coefficients[:n])
        expected = cv2.projectPoints(p, np.zeros(3), np.zeros(3), K, np.array(lens.coefficients))[0][:, 0]
        np.testing.assert_allclose(lens.project(p), expected, atol=1e-6)


def test_fisheye_with_four_radial_terms_equals_opencvs_fisheye():
    cv2 = pytest.importorskip("cv2")
    k = (0.05, -0.02, 0.004, -0.0006)
    lens = Fisheye624(400.0, 410.0, 320.0, 240.0, (*k, 0.0, 0.0), (0.0, 0.0), (0.0,) * 4)
    p = points(500, 1.5)
    K = np.array([[400.0, 0, 320], [0, 410, 240], [0, 0, 1]])
    expected = cv2.fisheye.projectPoints(p[:, None], np.zeros(3), np.zeros(3), K, np.array(k))[0][:, 0]
    np.testing.assert_allclose(lens.project(p), expected, atol=1e-6)


def test_undistorted_image_equals_opencvs():
    cv2 = pytest.importorskip("cv2")
    lens = RationalLens(175.0, 174.0, 140.0, 101.0, RATIONAL.coefficients)
    pinhole = Intrinsics(175.0, 174.0, 140.0, 101.0, 280, 200, "calibrated")
    noise = np.random.default_rng(0)
    image = cv2.GaussianBlur(noise.integers(0, 255, (200, 280, 3)).astype(np.uint8), (0, 0), 3)
    maps = cv2.initUndistortRectifyMap(
        pinhole.matrix, np.array(lens.coefficients), None, pinhole.matrix, (280, 200), cv2.CV_32FC1
    )
    expected = cv2.remap(image, *maps, cv2.INTER_LINEAR)
    ours = Undistorter(lens, (280, 200), pinhole)
    difference = np.abs(ours(image[None])[0].astype(int) - expected)[ours.seen]
    assert difference.max() <= 2
    assert ours.seen.mean() > 0.8


@pytest.mark.parametrize("lens", [RATIONAL, FISHEYE])
def test_dots_drawn_where_joints_are_seen_lie_at_the_joints_after_undistortion(lens):
    size, scale = ((2800, 2000), 500.0) if lens is RATIONAL else ((1280, 1024), 300.0)
    pinhole = Intrinsics(scale, scale, 400.0, 300.0, 800, 600, "calibrated")
    joints = points(12, 0.5, seed=3)
    image = np.zeros((1, size[1], size[0], 1), np.uint8)
    vv, uu = np.mgrid[: size[1], : size[0]]
    for u, v in lens.project(joints):
        near = np.s_[max(int(v) - 20, 0) : int(v) + 20, max(int(u) - 20, 0) : int(u) + 20]
        image[0][near][..., 0] = 255 * np.exp(-((uu[near] - u) ** 2 + (vv[near] - v) ** 2) / 18)
    flat = Undistorter(lens, size, pinhole)(image)[0, ..., 0].astype(float)
    for u, v in project(joints, pinhole.matrix):
        window = np.s_[int(v) - 7 : int(v) + 9, int(u) - 7 : int(u) + 9]
        weight = flat[window]
        centre = (uu[window] * weight).sum() / weight.sum(), (vv[window] * weight).sum() / weight.sum()
        assert np.hypot(centre[0] - u, centre[1] - v) < 0.35


def test_points_beyond_the_lens_do_not_fold_back_into_the_picture():
    folding = RationalLens(500.0, 500.0, 320.0, 240.0, (-0.3, 0.02, 0.0, 0.0, 0.0))
    far = np.array([[3.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.1, 0.1, 0.0]])
    assert np.isnan(folding.project(far)).all()
    assert np.isfinite(folding.project(np.array([0.3, 0.2, 1.0]))).all()
    assert np.isnan(folding.unproject(np.array([5000.0, 240.0]))).all()
    wide = Fisheye624(400.0, 400.0, 320.0, 240.0, (0.05, -0.01, 0.001, 0.0, 0.0, 0.0), (0.0, 0.0), (0.0,) * 4)
    behind = np.array([1.0, 0.0, -0.3])  # a fisheye may see past 90 degrees
    np.testing.assert_allclose(wide.unproject(wide.project(behind)), behind / np.linalg.norm(behind), atol=1e-9)


def test_parameters_of_the_wrong_number_are_an_error():
    with pytest.raises(ValueError, match="15 or 16"):
        Fisheye624.from_params([1.0] * 14)
    with pytest.raises(ValueError, match="4, 5 or 8"):
        RationalLens(1.0, 1.0, 0.0, 0.0, (0.1,))
    pinhole = Intrinsics(100.0, 100.0, 50.0, 50.0, 100, 100, "calibrated")
    with pytest.raises(ValueError, match="lens is for 1280 x 1024"):
        Undistorter(FISHEYE, (1280, 1024), pinhole)(np.zeros((1, 10, 10, 3), np.uint8))


def test_aria_and_quest_parameter_lists_mean_the_same_lens():
    params = [500.0, *range(14)]
    assert Fisheye624.from_params(params) == Fisheye624.from_params([500.0, *params])


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the HOT3D sample is not there")
@pytest.mark.parametrize("camera", [0, 1])
def test_a_real_fisheye_goes_there_and_back(camera):
    model = json.loads(next(SAMPLE.glob("Quest3/*/camera_models.json")).read_text())[camera]
    lens = Fisheye624.from_params(model["projectionParams"])
    p = points(1000, 2.0)
    np.testing.assert_allclose(
        lens.unproject(lens.project(p)), p / np.linalg.norm(p, axis=-1, keepdims=True), atol=1e-9
    )

"""Perspective-n-point on known truth, on 621 real hands, and against OpenCV."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vipa.geometry import project, transform
from vipa.hands.pnp import solve_pnp
from vipa.io.safe_pickle import load_pickle

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "dex_retargeting" / "human_joint_right.pkl"
K = np.array([[600.0, 0, 320], [0, 610.0, 240], [0, 0, 1]])


def hands() -> np.ndarray:
    if REAL.exists():
        return np.array(load_pickle(REAL), dtype=np.float64)
    return np.random.default_rng(5).normal(scale=0.04, size=(100, 21, 3))


def placed(points: np.ndarray, seed: int = 0):
    """Random rotations and places in front of the camera, the points there and their pixels."""
    rng = np.random.default_rng(seed)
    n = len(points)
    t = np.stack([rng.uniform(-0.2, 0.2, n), rng.uniform(-0.15, 0.15, n), rng.uniform(0.3, 0.8, n)], -1)
    T = np.zeros((n, 4, 4))
    T[:, :3, :3], T[:, :3, 3], T[:, 3, 3] = Rotation.random(n, rng).as_matrix(), t, 1
    there = transform(T, points)
    return T, there, project(there, K)


def test_exact_pixels_give_the_exact_place_of_every_real_hand():
    points = hands()
    _, there, pixels = placed(points)
    T, rms = solve_pnp(points, pixels, K)
    assert np.abs(transform(T, points) - there).max() < 1e-6
    assert rms.max() < 1e-4


def test_a_pixel_of_noise_moves_the_wrist_by_half_a_percent_of_its_distance():
    points = hands()
    _, there, pixels = placed(points)
    noise = np.random.default_rng(1).normal(size=pixels.shape)
    T, rms = solve_pnp(points, pixels + noise, K)
    wrist = np.linalg.norm(transform(T, points)[:, 0] - there[:, 0], axis=-1)
    assert wrist.mean() < 0.004
    assert 1.0 < rms.mean() < 1.5


def test_places_are_as_good_as_opencvs():
    cv2 = pytest.importorskip("cv2")
    points = hands()[::10]
    truth, _, pixels = placed(points)
    pixels = pixels + np.random.default_rng(2).normal(size=pixels.shape)
    ours = solve_pnp(points, pixels, K)[0][:, :3, 3]
    theirs = []
    for p, uv in zip(points, pixels):
        _, r, t = cv2.solvePnP(p, uv, K, None, flags=cv2.SOLVEPNP_SQPNP)
        theirs.append(cv2.solvePnPRefineLM(p, uv, K, None, r, t)[1][:, 0])
    error = [np.linalg.norm(x - truth[:, :3, 3], axis=-1).mean() for x in (ours, np.array(theirs))]
    assert error[0] < 1.1 * error[1]


def test_a_flat_hand_is_not_seen_from_behind():
    points = hands()[:50] * [1.0, 1.0, 1.0]
    points = points - points.mean(1, keepdims=True)
    normal = np.linalg.svd(points)[2][:, 2]
    points = points - 0.97 * (points @ normal[..., None]) * normal[:, None]  # nearly flattened
    T_true, _, pixels = placed(points, 3)
    T, _ = solve_pnp(points, pixels, K)
    turn = Rotation.from_matrix(T[:, :3, :3].swapaxes(-1, -2) @ T_true[:, :3, :3]).magnitude()
    assert np.degrees(turn).max() < 5


def test_a_wrong_finger_is_outvoted():
    points = hands()[:200]
    _, there, pixels = placed(points)
    pixels[:, 5:9] += np.random.default_rng(4).uniform(15, 40, (len(points), 4, 2))
    error = np.linalg.norm(transform(solve_pnp(points, pixels, K)[0], points)[:, 0] - there[:, 0], axis=-1)
    assert np.median(error) < 0.01


def test_missing_points_are_left_out_and_too_few_give_nan():
    points = hands()[:10]
    _, there, pixels = placed(points)
    pixels[0, 4:] = np.nan
    pixels[1, 3:] = np.nan
    weights = np.ones((10, 21))
    weights[2, :10] = 0
    pixels[2, :10] = 0
    T, rms = solve_pnp(points, pixels, K, weights)
    assert np.isfinite(T[0]).all()
    assert np.isnan(T[1]).all()
    assert np.isnan(rms[1])
    np.testing.assert_allclose(transform(T[2:], points[2:]), there[2:], atol=1e-6)

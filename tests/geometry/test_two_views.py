"""Rotations between pictures: from points to pairs, to all frames, to the bundle with its own idea of its errors."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vipa.geometry import Intrinsics, project
from vipa.geometry.bundle import Observations, adjust
from vipa.geometry.rotation_graph import Link, average_rotations
from vipa.geometry.two_views import epipolar_error, find_rotation, fit_rotation, rays_of, refine

NOISE = 1e-3
CAMERA = Intrinsics(500.0, 510.0, 320.0, 200.0, 640, 400, "calibrated")


def degrees(a, b) -> float:
    return float(np.degrees(Rotation.from_matrix(a.T @ b).magnitude()))


def views(rng, R, t, n=300):
    """Rays of the same points in camera 1 and in camera 2, which is turned by R_1_2 and stands at t in camera 1."""
    points = rng.uniform([-1, -1, 1], [1, 1, 4], (n, 3))
    a, b = points, (points - t) @ R
    rays = [p / p[:, 2:] + np.pad(NOISE * rng.normal(size=(n, 2)), ((0, 0), (0, 1))) for p in (a, b)]
    return rays[0], rays[1]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


R = Rotation.from_rotvec([0.2, -0.3, 0.1]).as_matrix()
T = np.array([0.1, 0.05, 0.02])


def test_a_ray_goes_through_its_pixel(rng):
    points = rng.uniform([-1, -1, 1], [1, 1, 3], (20, 3))
    np.testing.assert_allclose(rays_of(project(points, CAMERA.matrix), CAMERA), points / points[:, 2:])


def test_the_fit_is_scipys(rng):
    a, b = views(rng, R, np.zeros(3), 50)
    unit = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in (a, b)]
    np.testing.assert_allclose(fit_rotation(a, b), Rotation.align_vectors(*unit)[0].as_matrix(), atol=1e-9)


def test_a_rotation_is_found_among_four_times_as_many_wrong_points(rng):
    a, b = views(rng, R, np.zeros(3), 50)
    wrong = [np.concatenate([rng.uniform(-1, 1, (200, 2)), np.ones((200, 1))], 1) for _ in range(2)]
    found, agree = find_rotation(np.concatenate([wrong[0], a]), np.concatenate([wrong[1], b]), 5 * NOISE)
    assert degrees(found, R) < 0.1
    assert agree[200:].mean() > 0.9 and agree[:200].mean() < 0.1
    with pytest.raises(ValueError, match="two points"):
        find_rotation(a[:1], b[:1], NOISE)


def test_the_epipolar_error_is_nothing_for_the_truth_and_the_noise_for_noisy_points(rng):
    points = rng.uniform([-1, -1, 1], [1, 1, 4], (100, 3))
    a, b = points / points[:, 2:], (points - T) @ R
    b = b / b[:, 2:]
    assert np.abs(epipolar_error(R, T, a, b)).max() < 1e-12
    assert 0.8 < epipolar_error(R, T, *views(rng, R, T, 2000)).std() / NOISE < 1.2


@pytest.mark.parametrize("moved", [True, False])
def test_the_covariance_is_how_far_estimates_lie_from_the_truth(rng, moved):
    """Squared errors in units of the covariance have a mean of 3, for three angles."""
    squares = []
    for _ in range(60):
        a, b = views(rng, R, T if moved else np.zeros(3))
        start = Rotation.from_rotvec([0.02, 0.02, -0.02]).as_matrix() @ R
        t = T / np.linalg.norm(T) + 0.1 * rng.normal(size=3)
        found, _, covariance = refine(start, t / np.linalg.norm(t) if moved else None, a, b, NOISE)
        off = Rotation.from_matrix(found @ R.T).as_rotvec()
        squares.append(off @ np.linalg.solve(covariance, off))
    assert 1.5 < np.mean(squares) < 5


def test_averaged_rotations_close_loops_and_leave_a_wrong_link(rng):
    n = 20
    truth = Rotation.from_rotvec(np.cumsum(0.1 * rng.normal(size=(n, 3)), 0)).as_matrix()
    covariance = np.diag([1, 4, 2]) * 1e-5

    def link(i, j):
        off = rng.multivariate_normal(np.zeros(3), covariance)
        return Link(i, j, Rotation.from_rotvec(off).as_matrix() @ truth[i].T @ truth[j], covariance)

    chain = [link(i, i + 1) for i in range(n - 1)]
    more = [link(i, i + gap) for gap in (2, 5, 12) for i in range(n - gap)]
    wrong = Link(3, 9, np.eye(3), covariance)

    def error(links):
        found, part = average_rotations(n, links)
        assert (part == 0).all()
        return degrees(found[0].T @ found[-1], truth[0].T @ truth[-1])

    assert error(chain + more + [wrong]) < 0.5 < 0.9 + error(chain)
    found, part = average_rotations(4, [Link(0, 1, R, covariance), Link(3, 2, R, covariance)])
    assert part[0] == part[1] != part[2] == part[3]
    np.testing.assert_allclose(found[0].T @ found[1], R, atol=1e-6)
    np.testing.assert_allclose(found[3].T @ found[2], R, atol=1e-6)


def film(rng, n=12, points=150):
    """Rotations, places and observations of a camera that looks around a table while it moves a little."""
    s = np.linspace(0, 1, n)
    turns = Rotation.from_rotvec(np.stack([0.1 * np.sin(6 * s), 0.3 * s, 0.05 * s], -1)).as_matrix()
    places = np.stack([0.1 * s, 0.03 * np.sin(5 * s), 0.05 * s], -1)
    world = rng.uniform([-0.6, -0.5, 0.6], [0.9, 0.5, 1.5], (points, 3))
    rows = []
    for k in range(n):
        camera = (world - places[k]) @ turns[k]
        for i in np.flatnonzero(camera[:, 2] > 0.2):
            rows.append((k, i, *(camera[i, :2] / camera[i, 2] + NOISE * rng.normal(size=2))))
    rows = np.array(rows)
    return turns, Observations(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2:])


def test_a_bundle_finds_rotations_from_rough_ones_and_knows_its_errors(rng):
    ratios = []
    for _ in range(6):
        turns, seen = film(rng)
        rough = Rotation.from_rotvec(0.03 * rng.normal(size=(len(turns), 3))).as_matrix() @ turns
        rough = rough[0].T @ rough
        found = adjust(rough, seen, NOISE, 0.01)
        errors = [degrees(found.R[0].T @ found.R[k], turns[0].T @ turns[k]) for k in range(1, 12)]
        assert max(errors) < 0.2 < max(degrees(rough[k], turns[0].T @ turns[k]) for k in range(1, 12))
        ratios += [np.radians(e) / found.deviation[0, k + 1] for k, e in enumerate(errors)]
    assert 0.3 < np.sqrt(np.mean(np.square(ratios))) < 2


def test_a_bundle_finds_the_focal_length_that_was_guessed_wrongly(rng):
    turns, seen = film(rng)
    wrong = Observations(seen.frame, seen.point, seen.place * 1.3)  # pixels over a focal length that is too small
    found = adjust(turns, wrong, 1.3 * NOISE, 0.3)
    assert abs(found.log_focal - np.log(1.3)) < 0.03
    assert abs(found.log_focal - np.log(1.3)) < 4 * found.covariance[-1, -1] ** 0.5
    assert found.misses.shape == (len(seen.frame),) and np.median(found.misses) < 2

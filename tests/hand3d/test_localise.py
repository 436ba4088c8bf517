import numpy as np

from vipa.geometry import Intrinsics, matrix_from_axis_angle, rigid, unproject_depth
from vipa.hand3d.localise import fit_plane, follow, locate_in_box

CAMERA = Intrinsics(120.0, 120.0, 79.5, 59.5, 160, 120, "calibrated")


def table_with_sphere(centre: np.ndarray, radius: float, noise: float = 0.0) -> np.ndarray:
    """The point map (H, W, 3) of a ball that rests on a table seen from above at 40 degrees."""
    down = np.array([0.0, np.cos(np.radians(40)), np.sin(np.radians(40))])  # in the camera
    rays = unproject_depth(np.ones((120, 160)), CAMERA.matrix)
    table = (centre @ down + radius) / (rays @ down)
    b, c = rays @ centre, centre @ centre - radius**2
    a = (rays**2).sum(-1)
    root = b**2 - a * c
    ball = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    z = np.minimum(ball, table)
    z = z * (1 + np.random.default_rng(0).normal(size=z.shape) * noise)
    return (rays * z[..., None]).astype(np.float32)


def box_of(centre: np.ndarray, radius: float) -> np.ndarray:
    u, v = centre[:2] / centre[2] * 120 + [79.5, 59.5]
    r = 120 * radius / centre[2]
    return np.array([u - r, v - r, u + r, v + r])


def test_the_centre_of_a_ball_is_inside_it_and_not_on_its_skin():
    centre, radius = np.array([0.05, 0.02, 0.6]), 0.04
    for noise in (0.0, 0.005):
        points = table_with_sphere(centre, radius, noise)
        found, extent, share = locate_in_box(points, box_of(centre, radius), np.zeros((120, 160), bool))
        assert np.linalg.norm(found - centre) < 0.015
        assert 0.06 < extent < 0.1
        assert share > 0.9


def test_a_box_that_a_hand_covers_says_so():
    centre, radius = np.array([0.05, 0.02, 0.6]), 0.04
    points = table_with_sphere(centre, radius)
    hand = np.zeros((120, 160), bool)
    left, top, right, bottom = box_of(centre, radius).astype(int)
    hand[top - 2 : bottom + 3, left - 2 : right + 3] = True
    assert locate_in_box(points, box_of(centre, radius), hand)[2] == 0.0
    hand[:, : (left + right) // 2] = False
    assert 0.0 < locate_in_box(points, box_of(centre, radius), hand)[2] < 0.75


def test_the_plane_is_found_among_outliers():
    rng = np.random.default_rng(0)
    normal = np.array([0.0, -0.8, -0.6])
    across = np.linalg.svd(normal[None])[2][1:]
    points = normal * -0.7 + rng.normal(size=(300, 2)) @ across * 0.1
    points[:120] += rng.uniform(0.02, 0.3, (120, 1)) * normal
    found = fit_plane(points)
    assert found is not None
    np.testing.assert_allclose(found[0], normal, atol=1e-3)
    assert fit_plane(rng.normal(size=(200, 3)) + [0, 0, 3]) is None


def test_a_resting_object_is_put_where_most_frames_saw_it():
    rng = np.random.default_rng(0)
    n = 8
    poses = rigid(matrix_from_axis_angle(rng.normal(size=(n, 3)) * 0.1), rng.normal(size=(n, 3)) * 0.1)
    world = np.tile([0.1, 0.2, 0.7], (n, 1)) + rng.normal(size=(n, 3)) * 0.003
    world[3] += 0.3  # a false sight
    world[5] = np.nan
    camera = np.einsum("nji,nj->ni", poses[:, :3, :3], world - poses[:, :3, 3])
    back = follow(camera, poses)
    again = np.einsum("nij,nj->ni", poses[:, :3, :3], back) + poses[:, :3, 3]
    known = np.arange(n) != 5
    assert np.isnan(back[5]).all()
    np.testing.assert_allclose(again[known], np.tile([0.1, 0.2, 0.7], (n - 1, 1)), atol=0.005)


def test_an_object_that_moves_keeps_its_places():
    world = np.array([[0.0, 0, 0.6], [0, 0, 0.6], [0.2, 0, 0.6], [0.4, 0, 0.6], [0.4, 0, 0.6]])
    poses = np.tile(np.eye(4), (5, 1, 1))
    np.testing.assert_allclose(follow(world, poses), world)

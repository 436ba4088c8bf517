import numpy as np

from vipa.geometry import Intrinsics, matrix_from_axis_angle, project, rigid, unproject_depth
from vipa.hand3d.estimators.pointmaps import DepthMaps
from vipa.hand3d.measure.calibration import THICKNESS
from vipa.hand3d.measure.handmask import ARM_RADIUS, Flesh, find_arm, hand_mask
from vipa.hand3d.measure.localise import fit_plane, follow, locate_in_box, others_mask, settle, window

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


def test_a_resting_object_is_put_in_the_middle_of_its_sights():
    rng = np.random.default_rng(0)
    n = 8
    poses = rigid(matrix_from_axis_angle(rng.normal(size=(n, 3)) * 0.1), rng.normal(size=(n, 3)) * 0.1)
    world = np.tile([0.1, 0.2, 0.7], (n, 1)) + rng.normal(size=(n, 3)) * 0.003
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


def brick_on_table(camera: Intrinsics, size: np.ndarray, yaw: float):
    """(depth image, box, centre) of a brick that stands on a table, seen from above at 45 degrees."""
    c, s, h = np.cos(yaw), np.sin(yaw), np.sqrt(0.5)
    R_world_camera = np.array([[1, 0, 0], [0, -h, h], [0, -h, -h]])  # world: z up, the table at 0
    eye, R_world_brick = np.array([-0.06, -0.45, 0.45]), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    rays = unproject_depth(np.ones((camera.height, camera.width)), camera.matrix) @ R_world_camera.T
    table = -eye[2] / rays[..., 2]
    with np.errstate(divide="ignore"):
        ends = (np.array([[-1], [1]]) * size / 2 - (eye - [0, 0, size[2] / 2]) @ R_world_brick)[:, None, None]
        t = np.sort(ends / (rays @ R_world_brick), axis=0)
    enter, leave = t[0].max(-1), t[1].min(-1)
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), -1).reshape(-1, 3) * size @ R_world_brick.T
    pixels = project((corners + [0, 0, size[2] / 2] - eye) @ R_world_camera, camera.matrix)
    box = np.concatenate([pixels.min(0), pixels.max(0)])
    centre = (np.array([0, 0, size[2] / 2]) - eye) @ R_world_camera
    return np.where(enter < leave, enter, table).astype(np.float32), box, centre


def test_the_centre_of_a_brick_is_known_better_than_a_pixel_whichever_way_it_stands():
    for yaw in (0.0, 0.3, 0.8):
        for size in ([0.05, 0.07, 0.06], [0.16, 0.12, 0.03], [0.05, 0.05, 0.15]):
            depth, box, centre = brick_on_table(CAMERA, np.array(size), yaw)
            points = unproject_depth(depth, CAMERA.matrix)
            found = locate_in_box(points, box, np.zeros(depth.shape, bool))[0]
            assert np.linalg.norm(found - centre) < 0.005  # a pixel is 5 mm wide


def test_a_fine_map_is_thinned_and_says_the_same():
    camera = CAMERA.resized(640, 480)
    depth, box, centre = brick_on_table(camera, np.array([0.07, 0.06, 0.08]), 0.5)
    rows, columns, thinned = window(camera, box)
    assert rows.step == columns.step > 1
    points = DepthMaps(np.array([0]), depth[None], camera, True).crop(0, rows, columns)
    assert max(points.shape[:2]) < 100
    np.testing.assert_allclose(points, unproject_depth(points[..., 2], thinned.matrix), atol=1e-6)
    inside = (box - np.array([columns.start, rows.start] * 2)) / rows.step
    found = locate_in_box(points, inside, np.zeros(points.shape[:2], bool))[0]
    assert np.linalg.norm(found - centre) < 0.004


def test_a_crop_is_that_part_of_all_points():
    depth = np.random.default_rng(0).uniform(0.3, 1.0, (2, 120, 160)).astype(np.float32)
    depth[1, 10:20] = 0.0
    maps = DepthMaps(np.array([0, 5]), depth, CAMERA, True)
    crop = maps.crop(1, slice(7, 50, 3), slice(20, 90, 3))
    np.testing.assert_allclose(crop, maps.points[1, 7:50:3, 20:90:3], rtol=1e-5)
    assert np.isnan(crop[1]).all() and np.isfinite(crop[0]).all()


def test_the_mask_of_a_hand_is_what_its_balls_cover():
    rng = np.random.default_rng(0)
    centres = rng.uniform([-0.5, -0.4, 0.3], [0.5, 0.4, 0.8], (40, 3))
    centres[3] = np.nan
    radii, depth = rng.uniform(0.01, 0.05, 40), rng.uniform(0.3, 0.8, (120, 160))
    mask = hand_mask(depth, CAMERA, Flesh(centres[None], radii, 2.0 * radii), 0)
    expected = np.zeros_like(mask)
    v, u = np.mgrid[:120, :160]
    for (x, y, z), r in zip(centres, radii):
        gap = np.hypot(u - 120 * x / z - 79.5, v - 120 * y / z - 59.5)
        expected |= (gap <= 120 * r / z + 1) & (np.abs(depth - z) < 2 * r)
    np.testing.assert_array_equal(mask, expected)
    assert 0.05 < mask.mean() < 0.95


def test_an_arm_is_found_where_the_depth_image_shows_it_and_else_straight_on():
    joints = np.zeros((1, 21, 3)) + [0.0, 0.0, 0.6]
    joints[0, [5, 9, 13, 17], 1] -= 0.09  # fingers up: the arm comes from below
    wall = np.full((1, 120, 160), 1.0)
    np.testing.assert_allclose(find_arm(joints, wall, 1.0, CAMERA), [[0, 1, 0]], atol=1e-9)
    elbow = joints[0, 0] + 0.4 * np.array([np.sin(0.8), np.cos(0.8), 0.0])
    t = np.linspace(0, 1, 40)[:, None]
    line = project(joints[0, 0] * (1 - t) + elbow * t, CAMERA.matrix)
    v, u = np.mgrid[:120, :160]
    gap = np.linalg.norm(np.stack([u, v], -1)[:, :, None] - line, axis=-1).min(-1)
    arm = np.where(gap < 120 * ARM_RADIUS / 0.6, 0.6 - ARM_RADIUS, wall)
    found = find_arm(joints, arm / 2.5, 2.5, CAMERA)[0]  # in another unit
    assert found @ [np.sin(0.8), np.cos(0.8), 0.0] > np.cos(np.radians(12))
    assert THICKNESS.max() < ARM_RADIUS


def test_what_lies_on_a_thing_is_cut_out_of_it_unless_nothing_would_be_left():
    plate, apple, crumb = [10.0, 10, 50, 40], [20.0, 15, 32, 27], [45.0, 30, 80, 60]
    mask = others_mask(np.array([plate, apple, crumb, [np.nan] * 4]), 0, (100, 100))
    assert mask[20, 25] and not mask[35, 48] and not mask[12, 12]
    assert not others_mask(np.array([plate, [10.0, 10, 43, 35]]), 0, (100, 100)).any()
    assert not others_mask(np.array([plate, apple]), 1, (100, 100)).any()


def test_a_sight_of_what_is_before_a_thing_gives_way_to_better_sights_on_the_same_line():
    n = 6
    poses = rigid(np.eye(3), np.linspace(0, 0.02, n)[:, None] * [1.0, 0, 0])
    place = np.array([0.05, 0.05, 0.6])
    centres = place - poses[:, :3, 3]
    u, v = (120 * centres[:, :2] / centres[:, 2:] + [79.5, 59.5]).T
    boxes = np.stack([u - 8, v - 8, u + 8, v + 8], -1)
    weights, seen = np.ones(n), centres.copy()
    seen[2] *= 0.75
    settled = settle(seen, weights, boxes, poses, CAMERA)
    np.testing.assert_allclose(settled, centres, atol=1e-9)
    boxes[2] += 40  # its box says that it is elsewhere
    np.testing.assert_array_equal(settle(seen, weights, boxes, poses, CAMERA), seen)
    seen[:] = np.nan
    assert np.isnan(settle(seen, weights, boxes, poses, CAMERA)).all()

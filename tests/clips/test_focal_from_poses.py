"""The focal length from known poses: points projected by NumPy alone, and real head cameras."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vipa.clips.field_of_view import guessed
from vipa.clips.focal_from_poses import fit_view, view_from_poses
from vipa.clips.point_tracks import Tracks
from vipa.clips.sources import SourceOptions, load_source

REAL = Path(__file__).parents[3] / "shared" / "real"
SIZE, TRUE = (640, 480), 500.0
GUESS = guessed(SIZE).intrinsics(*SIZE)


def path(turn: float = 0.4, move: float = 0.2, n: int = 12) -> np.ndarray:
    """T_world_camera of a head that looks around, and moves by so many metres."""
    s = np.linspace(0, 1, n)
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(turn * np.stack([0.3 * np.sin(5 * s), s, 0.1 * s], -1)).as_matrix()
    T[:, :3, 3] = move * np.stack([s, 0.2 * np.sin(4 * s), 0.5 * s], -1)
    return T


def seen(T: np.ndarray, noise: float = 0.3, wild: float = 0.05, focal: float = TRUE) -> Tracks:
    """Points 1 to 4 m away as a pinhole sees them; a share of them anywhere."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-3, -2, 1], [3, 2, 4], (300, 3))
    rows = []
    for k, pose in enumerate(T):
        x, y, z = (pose[:3, :3].T @ (points - pose[:3, 3]).T) + 1e-9
        pixels = np.stack([focal * x / z + 319.5, focal * y / z + 239.5], -1) + rng.normal(0, noise, (300, 2))
        pixels = np.where(rng.random((300, 1)) < wild, rng.uniform([0, 0], SIZE, (300, 2)), pixels)
        inside = (z > 0.1) & (pixels >= 0).all(-1) & (pixels < SIZE).all(-1)
        rows.append((np.full(inside.sum(), k), np.flatnonzero(inside), pixels[inside]))
    return Tracks(*(np.concatenate(column) for column in zip(*rows)), factor=1.0)


@pytest.mark.parametrize("move", [0.2, 0.0])
@pytest.mark.parametrize("focal", [300.0, TRUE, 900.0])
def test_it_is_found_whatever_was_guessed_with_points_that_lie_anywhere(move, focal):
    T = path(move=move)
    view = fit_view(T, seen(T, focal=focal), GUESS)
    assert view is not None
    assert view.intrinsics(*SIZE).fx == pytest.approx(focal, rel=0.01)
    true = np.degrees(2 * np.arctan(SIZE[0] / 2 / focal))
    assert view.low < true < view.high and view.origin.startswith("measured: its poses and its pictures (")


def test_the_unit_and_the_world_of_the_poses_do_not_matter():
    T, other = path(), path()
    other[:, :3, 3] *= 17.0
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = Rotation.from_rotvec([0.3, 1.2, -2.0]).as_matrix(), [5, -2, 1]
    a, b = fit_view(T, seen(T), GUESS), fit_view(world @ other, seen(T), GUESS)
    assert a is not None and b is not None
    assert a.degrees == pytest.approx(b.degrees, abs=0.01)


def test_the_interval_holds_the_truth_where_the_poses_err_and_is_wider():
    T, rng, held, widths = path(turn=0.2), np.random.default_rng(1), [], []
    for degrees in (0.0, 0.1):
        for _ in range(5):
            off = T.copy()
            off[:, :3, :3] = (
                Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=(12, 3))).as_matrix() @ T[:, :3, :3]
            )
            view = fit_view(off, seen(T, wild=0.0), GUESS)
            assert view is not None
            held.append(view.low < np.degrees(2 * np.arctan(SIZE[0] / 2 / TRUE)) < view.high)
            widths.append(view.high - view.low)
    assert np.mean(held) >= 0.9
    assert np.median(widths[5:]) > np.median(widths[:5])


def test_it_is_refused_where_the_camera_hardly_turns_and_where_the_poses_are_of_something_else():
    T = path()
    still, other, turned, nothing = path(turn=0.01), path(), path(), np.zeros(0, int)
    other[:, :3, 1:3] *= -1  # the axes of OpenGL
    turned[:, :3, :3] = turned[:, :3, :3].mT
    assert fit_view(still, seen(still), GUESS) is None
    assert fit_view(np.tile(np.eye(4), (12, 1, 1)), seen(path(0, 0)), GUESS) is None
    assert fit_view(other, seen(T), GUESS) is None
    assert fit_view(turned, seen(T), GUESS) is None
    assert fit_view(T[::-1], seen(T), GUESS) is None
    assert fit_view(T, Tracks(nothing, nothing, np.zeros((0, 2)), 1.0), GUESS) is None


@pytest.mark.slow  # python -m pytest -m slow tests/clips/test_focal_from_poses.py
@pytest.mark.parametrize("name", ["add_remove_lid/0", "basic_pick_and_place/0", "insert_remove/3"])
def test_a_head_cameras_own_poses_give_its_field_of_view(name, tmp_path):
    pytest.importorskip("cv2", reason="OpenCV, of the extra `video`, is not installed")
    root = REAL / "egodex_sample"
    if not root.is_dir():
        pytest.skip("the EgoDex sample is not here")
    (true,) = (c for c in load_source("egodex").read_clips(root) if str(c.source_video).endswith(name))
    (tmp_path / "video.mp4").symlink_to((root / "part1" / f"{name}.mp4").resolve())
    np.savez(tmp_path / "video.npz", T_world_camera=true.T_world_camera)
    (clip,) = load_source("folder").read_clips(tmp_path, SourceOptions(cache=tmp_path))
    view = view_from_poses(clip)
    assert view is not None and view.low < 105 < view.high
    assert view.intrinsics(1920, 1080).fx == pytest.approx(true.intrinsics.fx, rel=0.05)

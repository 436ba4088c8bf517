"""Changed pictures still show what is said about them."""

import numpy as np
import pytest

from vipa.data.augmentation import Change
from vipa.data.images import Pixels
from vipa.data.kinds import open_component
from vipa.data.spec import DataSpec
from vipa.geometry import project
from vipa.models.packing import Packer
from vipa.models.starts import load_start
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN

CROP_ONLY = {"colour": (1.0, 1.0, 1.0), "noise": 0.0, "quality": 100, "seed": 0}


def test_after_a_crop_a_point_of_the_world_is_seen_where_the_changed_intrinsics_say():
    """On a filmed frame: the pixels around a projected joint are the same before and after."""
    clip, compared = film_clip(TRAIN[0]), 0
    change = Change(keep=0.9, left=0.3, top=0.8, **CROP_ONLY)
    camera = change.intrinsics(clip.intrinsics)
    for frame in range(0, len(clip.timestamps), 10):
        image = np.asarray(clip.frames.read([frame])[0])
        after = change(image)
        assert after.shape[:2] == (camera.height, camera.width)
        joints = np.concatenate([hand.joints_camera[frame] for hand in clip.hands])
        joints = joints[np.isfinite(joints).all(1)]
        places = zip(project(joints, clip.intrinsics.matrix), project(joints, camera.matrix))
        for before_uv, after_uv in places:
            (u, v), (x, y) = np.round(before_uv).astype(int), np.round(after_uv).astype(int)
            here, there = image[v - 3 : v + 4, u - 3 : u + 4], after[y - 3 : y + 4, x - 3 : x + 4]
            if min(u, v, x, y) >= 3 and here.shape == there.shape == (7, 7, 3):
                np.testing.assert_array_equal(here, there)
                compared += 1
    assert compared >= 10


def test_strength_bounds_the_change_and_zero_is_none():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Change.drawn(0.0, np.random.default_rng(1))(image), image)
    for seed in range(50):
        change = Change.drawn(0.5, np.random.default_rng(seed))
        assert change.keep >= 0.95
        left, top, right, bottom = change.box(120, 90)
        assert 0 <= left < right <= 120
        assert 0 <= top < bottom <= 90
        assert (right - left) / (bottom - top) == pytest.approx(120 / 90, rel=0.03)
        smooth = np.full((64, 64, 3), 128, np.uint8)
        assert abs(change(smooth).astype(float).mean() / 128 - 1) < 0.17


def test_a_group_is_changed_as_one_and_by_its_moment_alone(hand3d_path, start):
    _, processor = load_start(start)
    spec = DataSpec("hand3d_visual", hand3d_path, batch=4, augment=1.0)
    component = open_component(spec, Packer(processor), 0)
    group = next(g for g in component.groups() if len(g) > 1)
    pixels = Pixels(component, processor, spatial=True)
    first = pixels.inputs([group], (0, 0, 5))
    again = Pixels(component, processor, spatial=True).inputs([group, group], (0, 0, 5))
    other = pixels.inputs([group], (0, 0, 6))
    for name in ("pixel_values", "spatial_pixel_values"):
        assert (again[name][: len(group)] == first[name]).all()
        assert (again[name][len(group) :] == first[name]).all()
        assert (other[name] != first[name]).any()

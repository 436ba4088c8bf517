import numpy as np
import pytest

from vipa.geometry import project, transform, unproject_depth
from vipa.worlds.hand import HAND_IDS
from vipa.worlds.scene import sample_scene
from vipa.worlds.stills import sequence, still
from vipa.worlds.studio import Studio

SEEDS = range(100, 140)


@pytest.fixture(scope="module")
def stills():
    return [still(seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_arrays(stills):
    again = still(SEEDS[5])
    for name in ("rgb", "depth", "segmentation", "centres", "visible"):
        np.testing.assert_array_equal(getattr(stills[5], name), getattr(again, name))
    assert again.joints_camera.keys() == stills[5].joints_camera.keys()


def test_shapes_and_ids(stills):
    for s in stills:
        assert s.rgb.shape == (112, 112, 3)
        assert s.depth.shape == s.segmentation.shape == (112, 112)
        assert np.isfinite(s.depth).all()
        assert 0.05 < s.depth.min() < s.depth.max() < 5.0
        assert set(np.unique(s.segmentation)) <= {-2, -1, *range(len(s.objects) + 1)}
    kinds = {tuple(sorted(s.joints_camera)) for s in stills}
    assert kinds == {(), ("left",), ("right",), ("left", "right")}


def test_visible_is_the_share_of_the_image_that_an_object_covers(stills):
    for s in stills:
        for i in range(len(s.objects)):
            assert s.visible[i] == pytest.approx((s.segmentation == i + 1).mean())


def test_objects_are_large_enough_to_recognise(stills):
    sides = []
    for s in stills:
        for i in range(len(s.objects)):
            v, u = np.nonzero(s.segmentation == i + 1)
            if len(v) > 20:
                sides.append(max(np.ptp(v), np.ptp(u)) + 1)
    assert np.quantile(sides, 0.05) > 8
    assert 12 < np.median(sides) < 25
    assert np.quantile(sides, 0.95) < 45


def test_joints_lie_on_their_hand_just_behind_its_surface(stills):
    """Where nothing hides it, a joint's pixel shows its own hand and a depth a little less than the joint's."""
    checked = on_hand = 0
    for s in stills:
        for side, joints in s.joints_camera.items():
            pixels = project(joints, s.intrinsics.matrix)
            for joint, pixel in zip(joints, pixels):
                if joint[2] <= 0.05 or not s.intrinsics.contains(pixel):
                    continue
                u, v = np.round(pixel).astype(int)
                depth = s.depth[v, u]
                assert depth < joint[2] + 0.004  # flesh, or something before it
                if depth > joint[2] - 0.03 and s.segmentation[v, u] <= 0:
                    checked += 1
                    on_hand += s.segmentation[v, u] == HAND_IDS[side]
    assert checked > 200
    assert on_hand / checked > 0.98


def test_depth_at_an_unoccluded_centre_is_that_of_the_object(stills):
    for s in stills:
        for i, thing in enumerate(s.objects):
            u, v = np.round(s.centres[i]).astype(int)
            if s.segmentation[v, u] == i + 1:
                half = np.linalg.norm(thing.size) / 2
                assert abs(s.depth[v, u] - s.centres_camera[i, 2]) < half + 0.005


def test_the_points_of_an_object_lie_in_its_box(stills):
    """Depth, segmentation, camera and object pose agree: unprojected pixels fall into the object's extent."""
    for s in stills:
        world = transform(s.T_world_camera, unproject_depth(s.depth.astype(float), s.intrinsics.matrix))
        for i, thing in enumerate(s.objects):
            seen = s.segmentation == i + 1
            if seen.sum() < 10:
                continue
            T = thing.T_world_object
            local = (world[seen] - T[:3, 3]) @ T[:3, :3] / (thing.size / 2)
            margin = 1.05 if thing.kind != "cup" else 1.6  # the cup's handle stands out
            assert np.quantile(np.abs(local), 0.98) < margin


def test_a_hand_hides_what_lies_behind_it(stills):
    hidden = 0
    for s in stills:
        if not s.joints_camera:
            continue
        bare = Studio(s.scene, 112, 112).shoot(s.T_world_camera, s.intrinsics, segmentation=True)
        hand = s.segmentation < 0
        assert (s.depth[hand] < bare.depth[hand] + 1e-4).mean() > 0.99
        np.testing.assert_array_equal(s.segmentation[~hand], bare.segmentation[~hand])
        hidden += (bare.segmentation[hand] > 0).sum()
    assert hidden > 500


def test_an_object_is_drawn_in_its_own_colour():
    for seed in SEEDS:
        scene = sample_scene(seed)
        shot = Studio(scene, 112, 112).shoot(scene.T_world_camera, scene.intrinsics(112, 112), segmentation=True)
        for i, thing in enumerate(scene.objects):
            if thing.kind in ("can", "book") or thing.colour in ("black", "white"):
                continue
            mean = shot.rgb[shot.segmentation == i + 1].mean(0)
            hue, true = mean / mean.sum(), np.array(thing.rgb) / sum(thing.rgb)
            assert np.abs(hue - true).max() < 0.12, (seed, thing.name)


def test_a_sequence_shows_one_place_from_several_sides():
    """Points of the table seen in the first frame fall on the same height in every other frame's geometry."""
    for seed in range(10):
        s = sequence(seed)
        assert s.rgb.shape == (4, 112, 112, 3)
        moved = np.linalg.norm(s.T_world_camera[-1, :3, 3] - s.T_world_camera[0, :3, 3])
        assert 0 < moved <= 0.15 + 1e-9
        for k in range(4):
            points = unproject_depth(s.depth[k].astype(float), s.intrinsics.matrix)
            z = transform(s.T_world_camera[k], points)[..., 2]
            assert (np.abs(z) < 0.001).mean() > 0.25  # the table top
            assert z.min() > -0.78

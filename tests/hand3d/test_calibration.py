from dataclasses import replace

import numpy as np
import pytest

from vipa.clips.clip import ClipError
from vipa.clips.example import example_clip
from vipa.geometry import Intrinsics, project
from vipa.hand3d.config import ScaleConfig
from vipa.hand3d.estimators.pointmaps import PointMaps
from vipa.hand3d.measure.calibration import (
    THICKNESS,
    estimate_scale,
    plain_median,
    robust_fit,
    sample_depth,
    self_visible,
    with_own_unit,
)


def joints_and_surface(rng, n=400, scale=0.37, flesh=1.0, noise=0.003):
    """Joint depths, and the depth image's values at their pixels, in the map's own unit."""
    thickness = THICKNESS[rng.integers(21, size=n)]
    z = rng.uniform(0.4, 0.8, n)
    surface = (z - flesh * thickness + rng.normal(size=n) * noise) / scale
    return z, surface, thickness


def test_the_fit_finds_scale_and_flesh_without_occlusion():
    rng = np.random.default_rng(0)
    for flesh in (0.7, 1.0, 1.6):
        scale, found, _ = robust_fit(*joints_and_surface(rng, flesh=flesh))
        assert abs(scale / 0.37 - 1) < 0.005
        assert abs(found - flesh) < 0.35


def test_occluded_joints_do_not_move_the_scale_but_move_the_plain_median():
    rng = np.random.default_rng(1)
    z, surface, thickness = joints_and_surface(rng)
    hidden = rng.random(len(z)) < 0.4
    surface = np.where(hidden, (z - rng.uniform(0.08, 0.13, len(z))) / 0.37, surface)  # an object is before them
    scale, _, inlier = robust_fit(z, surface, thickness)
    assert abs(scale / 0.37 - 1) < 0.01
    assert (inlier & hidden).sum() < 0.05 * hidden.sum()
    assert plain_median(z, surface, np.zeros(len(z))) / 0.37 - 1 > 0.02


def test_a_joint_behind_another_finger_is_hidden():
    joints = np.tile([0.0, 0.0, 0.6], (21, 1)) + np.arange(21)[:, None] * [0.03, 0.0, 0.0]
    K = np.array([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
    assert self_visible(joints, K).all()
    tip = joints.copy()
    tip[8] = 0.5 * (joints[17] + joints[18]) * [1, 1, 1.2]  # on the same ray, 12 cm behind the little finger
    visible = self_visible(tip, K)
    assert not visible[8]
    assert visible[[17, 18]].all()


def test_depth_is_read_at_the_joints_pixel():
    camera = Intrinsics(40.0, 40.0, 31.5, 23.5, 64, 48, "calibrated")
    depth = np.arange(48 * 64, dtype=float).reshape(48, 64)
    joints = np.array([[0.1, -0.05, 0.5], [0.0, 0.0, -1.0], [9.0, 0.0, 1.0], [np.nan, 0.0, 1.0]])
    u, v = np.rint(project(joints[:1], camera.matrix)[0]).astype(int)
    np.testing.assert_array_equal(sample_depth(depth, joints, camera), [depth[v, u], np.nan, np.nan, np.nan])


def maps_of(clip, frames, value):
    """A flat map that says `value(frame)` everywhere."""
    camera = clip.intrinsics
    points = np.zeros((len(frames), camera.height, camera.width, 3), np.float32)
    for i, f in enumerate(frames):
        points[i, ..., 2] = value(f)
    return PointMaps(np.asarray(frames), points, None, False)


def test_frames_that_disagree_are_refused_with_the_spread():
    clip = example_clip()
    hand = clip.hands[0]
    flat = hand.joints_camera * [1, 1, 0] + [0, 0, 0.5]
    clip = replace(clip, hands=(replace(hand, joints_camera=flat),))
    frames = [0, 10, 20, 30, 40, 50]
    steady = estimate_scale(clip, maps_of(clip, frames, lambda f: 0.25), ScaleConfig())
    assert abs(steady.scale - 2.0) < 0.12
    assert steady.low < steady.scale < steady.high
    wild = maps_of(clip, frames, lambda f: 0.25 * (1.0 + 0.02 * (f // 10)))
    with pytest.raises(ClipError, match="disagree by"):
        estimate_scale(clip, wild, ScaleConfig(spread=0.005))


def test_too_little_support_is_refused_and_a_metric_map_is_kept():
    clip = example_clip()
    maps = maps_of(clip, [0], lambda f: np.nan)
    with pytest.raises(ClipError, match="only 0 joints"):
        estimate_scale(clip, maps, ScaleConfig())
    kept = estimate_scale(clip, replace(maps, metric=True), ScaleConfig())
    assert (kept.scale, kept.low, kept.high, kept.calibrated) == (1.0, None, None, False)


def test_a_network_that_sees_hands_too_far_gets_the_edge_of_the_ratios_and_a_sensor_does_not():
    rng, truth = np.random.default_rng(3), 0.5
    clip = example_clip()
    hand = clip.hands[0]
    flat = np.broadcast_to(hand.joints_camera[:1] * [1, 1, 0] + [0, 0, 0.5], hand.joints_camera.shape)
    clip = replace(clip, hands=(replace(hand, joints_camera=flat + rng.normal(scale=0.003, size=flat.shape)),))
    frames = list(range(0, 60, 6))
    maps = maps_of(clip, frames, lambda f: (0.5 - THICKNESS.mean()) / truth)
    too_far = 1 + np.abs(rng.normal(scale=0.18, size=maps.points.shape[:3])).astype(np.float32)
    far = replace(maps, points=maps.points * too_far[..., None], confidence=too_far, edge=(0.82, 0.05))
    found = estimate_scale(clip, far, ScaleConfig())
    assert abs(found.scale / truth - 1) < 0.05
    assert found.low < truth < found.high
    assert found.plain_median is not None and found.plain_median / truth < 0.94
    exact = replace(maps, confidence=np.ones_like(too_far), edge=(0.82, 0.05))
    assert estimate_scale(clip, exact, ScaleConfig()) == estimate_scale(clip, maps, ScaleConfig())
    other = estimate_scale(
        clip, replace(far, edge=None), ScaleConfig()
    )  # of a network that says nothing of itself
    assert other == estimate_scale(clip, replace(far, edge=None, confidence=None), ScaleConfig())
    assert other != found


def test_a_networks_configuration_says_whether_its_edge_is_the_scale():
    from vipa.models.cut3r.configuration_cut3r import Cut3rConfig
    from vipa.nano.shipped import NANO
    from vipa.nano.sizes import nano_cut3r_config

    assert nano_cut3r_config().edge is None and nano_cut3r_config().unit_error is None
    assert Cut3rConfig.from_pretrained(NANO / "foundation" / "spatial").edge == (0.82, 0.05)


def test_a_networks_own_unit_is_one_more_observation():
    """Against the product of two normal densities of the scale's logarithm, on a grid."""
    scale, error, own = 1.2, 0.06, 0.08
    x = np.linspace(-1, 1, 200_001)
    density = np.exp(-0.5 * ((x - np.log(scale)) / (error / scale)) ** 2 - 0.5 * (x / own) ** 2)
    mean = (x * density).sum() / density.sum()
    spread = np.sqrt(((x - mean) ** 2 * density).sum() / density.sum())
    low, high = scale * np.exp(-1.96 * error / scale), scale * np.exp(1.96 * error / scale)
    combined, low, high = with_own_unit(scale, low, high, own)
    assert np.log(combined) == pytest.approx(mean, abs=1e-6)
    assert np.log([combined / low, high / combined]) == pytest.approx(1.96 * spread, rel=1e-4)
    clip = example_clip()
    hand = clip.hands[0]
    clip = replace(clip, hands=(replace(hand, joints_camera=hand.joints_camera * [1, 1, 0] + [0, 0, 0.5]),))
    maps = maps_of(clip, [0, 10, 20, 30], lambda f: 0.25)
    if_unknown = estimate_scale(clip, maps, ScaleConfig()).scale
    if_known = estimate_scale(clip, replace(maps, unit_error=1e-6), ScaleConfig()).scale
    if_hardly = estimate_scale(clip, replace(maps, unit_error=1e6), ScaleConfig()).scale
    assert (if_known, if_hardly) == (pytest.approx(1, abs=1e-6), pytest.approx(if_unknown, rel=1e-6))


@pytest.fixture(scope="module")
def filmed():
    """Four clips of the tabletop world with the truth's depth as a sensor of unknown unit gives it, and that unit."""
    from vipa.benchmarks.labels import SensorDepth, labels_of
    from vipa.hand3d.estimators.base import sample_frames
    from vipa.hand3d.estimators.depth_points import DepthPoints
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import seeds_of

    out = []
    for seed in seeds_of("test")[:4]:
        clip = film_clip(seed)
        sensed = labels_of("none")["sensor"].known(clip)
        assert isinstance(sensed.depth, SensorDepth)
        maps = DepthPoints()(sensed, sample_frames(clip, 1.0).tolist())
        assert maps is not None and not maps.metric
        out.append((clip, maps, sensed.depth.scale))
    return out


def deeper(clip, factor, metres=0.0):
    """The clip with its joints on the same rays, deeper by (factor - 1) * THICKNESS + metres."""
    hands = []
    for hand in clip.hands:
        z = hand.joints_camera[..., 2]
        below = (z + (factor - 1) * THICKNESS + metres) / z
        hands.append(replace(hand, joints_camera=hand.joints_camera * below[..., None]))
    return replace(clip, hands=tuple(hands))


@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.4])
@pytest.mark.parametrize(("factor", "metres"), [(0.5, 0), (1, 0), (1.5, 0), (2, 0), (1, 0.017), (1.6, 0.008)])
def test_the_interval_holds_the_true_scale_where_joints_lie_deeper_than_assumed(filmed, factor, metres, shift):
    """(1, 17 mm) is FPHA's kind: wrist 39 mm, fingers 25-28 mm behind the sensed surface. shift: metres that hands
    and surfaces are farther away, at 0.3 to 0.9 m."""
    for clip, maps, truth in filmed:
        maps = replace(maps, depth=maps.depth + np.float32(shift / truth))
        clip = deeper(clip, factor, metres + shift)
        found = estimate_scale(clip, maps, ScaleConfig())
        assert found.low < truth < found.high
        distance = np.nanmedian([h.joints_camera[..., 2] for h in clip.hands])
        assert found.high - found.low < 0.06 * truth / distance  # 6 cm of depth in all: not absurdly wide


def test_more_frames_do_not_narrow_what_is_common_to_all(filmed):
    clip, maps, truth = filmed[0]
    few = estimate_scale(clip, maps, ScaleConfig())
    often = [i for i in range(len(maps.frames)) for _ in range(50)]
    many = estimate_scale(clip, replace(maps, frames=maps.frames[often], depth=maps.depth[often]), ScaleConfig())
    assert many.low < 0.97 * truth
    assert few.low == pytest.approx(many.low, rel=0.01)


def test_a_metric_map_that_is_calibrated_all_the_same_gets_an_interval(filmed):
    clip, maps, truth = filmed[0]
    metric = replace(maps, depth=maps.depth * np.float32(truth), metric=True)
    found = estimate_scale(deeper(clip, 1.5), metric, ScaleConfig(force=True))
    assert found.low < 1 < found.high


def test_the_interval_holds_the_truth_with_things_before_a_third_of_the_joints(filmed):
    for clip, maps, truth in filmed:
        rng = np.random.default_rng(0)
        depth = maps.depth.copy()
        bad = rng.random(depth.shape) < 0.33
        depth[bad] -= (rng.uniform(0.05, 0.13, bad.sum()) / truth).astype(np.float32)
        found = estimate_scale(deeper(clip, 1.5), replace(maps, depth=depth), ScaleConfig())
        assert found.low < truth < found.high


def test_the_papers_median_is_taken_as_it_is(filmed):
    clip, maps, truth = filmed[0]
    ours = estimate_scale(clip, maps, ScaleConfig())
    median = estimate_scale(clip, maps, ScaleConfig(method="median", spread=1e-9))
    assert median.scale == median.plain_median == ours.plain_median != ours.scale
    assert (median.low, median.high, median.calibrated) == (None, None, True)
    assert abs(ours.scale / truth - 1) < 0.02 < median.scale / truth - 1 < 0.15  # joints lie inside the flesh
    few = replace(maps, frames=maps.frames[:4], depth=maps.depth[:4])
    with pytest.raises(ClipError, match="joints in 4 frames have a depth"):
        estimate_scale(clip, few, ScaleConfig(method="median", joints=10_000))


def test_a_sensor_sees_a_frame_alike_whenever_it_is_read(filmed):
    from vipa.benchmarks.labels import SensorDepth

    clip, _, truth = filmed[0]
    one, two = SensorDepth(clip), SensorDepth(clip)
    assert one.scale == two.scale == truth
    np.testing.assert_array_equal(one.read([3, 0])[::-1], two.read([0, 3]))
    missing = np.isnan(one.read([0])).mean()
    assert 0.02 < missing < 0.04
    error = one.read([0]) * truth / clip.depth.read([0]) - 1
    assert 0.003 < np.nanmedian(np.abs(error)) < 0.01

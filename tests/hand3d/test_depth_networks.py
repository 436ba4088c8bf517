"""Depth networks of transformers by name: each family with random weights, and a network that is right."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vipa.clips.clip import ClipError
from vipa.clips.example import example_clip
from vipa.hand3d.config import PointsConfig, ScaleConfig
from vipa.hand3d.estimators.base import open_points
from vipa.hand3d.estimators.transformers_points import KINDS, TransformersDepth, kind_of
from vipa.hand3d.measure.calibration import estimate_scale
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN


def dinov2(**changes):
    from transformers import Dinov2Config

    return Dinov2Config(**{
        "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
        "mlp_ratio": 2, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False, "apply_layernorm": True, **changes,
    })  # fmt: skip


def depth_anything(metric: bool):
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    said = {"depth_estimation_type": "metric", "max_depth": 20} if metric else {}
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=dinov2(), reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8, head_hidden_size=8, **said,
        )
    )  # fmt: skip


def dpt():
    from transformers import DPTConfig, DPTForDepthEstimation

    return DPTForDepthEstimation(
        DPTConfig(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=28,
            is_hybrid=False, patch_size=14, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
        )
    )  # fmt: skip


def zoedepth():
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation

    beit = BeitConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, use_relative_position_bias=True,
    )  # fmt: skip
    return ZoeDepthForDepthEstimation(
        ZoeDepthConfig(
            backbone_config=beit, backbone_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
            bottleneck_features=8, num_relative_features=8, bin_embedding_dim=8,
            bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
            num_attractors=[2, 2, 2, 2],
        )
    )  # fmt: skip


def depth_pro():
    from transformers import DepthProConfig, DepthProForDepthEstimation

    encoder = dinov2(num_hidden_layers=4, image_size=28).to_dict()
    return DepthProForDepthEstimation(
        DepthProConfig(
            fusion_hidden_size=8, patch_size=28, intermediate_hook_ids=[3, 1], intermediate_feature_dims=[8, 8],
            scaled_images_ratios=[0.25, 0.5, 1], scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
            scaled_images_feature_dims=[8, 8, 8], merge_padding_value=0, use_fov_model=True, num_fov_head_layers=0,
            image_model_config=encoder, patch_model_config=encoder, fov_model_config=encoder,
        )
    )  # fmt: skip


def glpn():
    from transformers import GLPNConfig, GLPNForDepthEstimation

    return GLPNForDepthEstimation(
        GLPNConfig(
            num_encoder_blocks=4, depths=[1, 1, 1, 1], sr_ratios=[2, 2, 1, 1], hidden_sizes=[8, 8, 8, 8],
            num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8,
        )
    )  # fmt: skip


PICTURES = {
    "depth_anything": {"image_processor_type": "DPTImageProcessor", "size": {"height": 28, "width": 28},
                       "keep_aspect_ratio": True, "ensure_multiple_of": 14},
    "dpt": {"image_processor_type": "DPTImageProcessor", "size": {"height": 28, "width": 28}},
    "zoedepth": {"image_processor_type": "ZoeDepthImageProcessor", "size": {"height": 32, "width": 32}},
    "depth_pro": {"image_processor_type": "DepthProImageProcessor", "size": {"height": 112, "width": 112}},
    "glpn": {"image_processor_type": "GLPNImageProcessor", "size_divisor": 32},
}  # fmt: skip
FAMILIES = {
    "depth_anything_relative": (lambda: depth_anything(False), "inverse"),
    "depth_anything_metric": (lambda: depth_anything(True), "metric"),
    "dpt": (dpt, "inverse"),
    "zoedepth": (zoedepth, "metric"),
    "depth_pro": (depth_pro, "canonical"),
    "glpn": (glpn, "metric"),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder as the hub has it, tiny and with random weights, of a family by its name; made once."""
    made = {}

    def of(name: str) -> str:
        if name not in made:
            torch.manual_seed(0)
            made[name] = tmp_path_factory.mktemp(name)
            model = FAMILIES[name][0]()
            model.save_pretrained(made[name])
            pictures = PICTURES[model.config.model_type]
            (made[name] / "preprocessor_config.json").write_text(json.dumps(pictures))
        return str(made[name])

    return of


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_runs_and_says_itself_whether_it_is_metric(weights, name):
    clip = replace(example_clip(), hands=())
    estimate = open_points(PointsConfig("transformers", weights(name)))
    assert estimate.kind == FAMILIES[name][1] and estimate.content
    if estimate.kind == "inverse":
        with pytest.raises(ClipError, match=r"relative, with an unknown shift.*take a metric network"):
            estimate(clip, [0, 5])
        return
    maps = estimate(clip, [0, 5])
    assert maps.metric and maps.depth.shape == (2, 48, 64) and np.isfinite(maps.depth).all()
    assert (maps.intrinsics.width, maps.intrinsics.fx) == (64, clip.intrinsics.fx)


def test_a_network_that_does_not_say_is_refused_and_the_message_names_those_that_do():
    class Config:
        model_type = "new_depth"

    with pytest.raises(ValueError, match=r"new_depth.*does not say whether.*zoedepth"):
        kind_of(Config(), "folder")
    assert "depth_anything" not in KINDS


def test_only_depth_pro_says_a_field_of_view_with_an_interval_and_its_origin(weights):
    clip = example_clip()
    assert TransformersDepth(weights("glpn")).field_of_view(clip, [0]) is None
    network = TransformersDepth(weights("depth_pro"))
    network.predict = lambda images, size: [(np.ones((2, 2)), 60.0 + float(i[0, 0, 0]) / 255) for i in images]
    view = network.field_of_view(clip, [0, 10, 20])
    assert 60 <= view.degrees <= 61 and view.low < 60 and view.high > 61 and view.origin == "estimated: depth_pro"


class Perfect(TransformersDepth):
    """A network that knows the truth, in the form that its kind predicts."""

    def __init__(self, kind, clip):
        self.kind, self.clip, self.device = kind, clip, "cpu"

    def predict(self, images, size):
        return [(self.one(image), None) for image in images]

    def one(self, image):
        frame = next(i for i in range(len(self.clip)) if np.array_equal(self.clip.frames.read([i])[0], image))
        depth = self.clip.depth.read([frame])[0]
        if self.kind == "canonical":
            return self.clip.intrinsics.fx / self.clip.intrinsics.width / depth
        if self.kind == "inverse":  # its own factor and shift for every picture
            return (1 / depth - 0.3 - 0.01 * frame) * (7 + frame)
        return depth


class Small(Perfect):
    """On a device that holds three pictures at once."""

    def __init__(self, clip, holds=3):
        super().__init__("metric", clip)
        self.device, self.holds, self.tried = "cuda", holds, []

    def predict(self, images, size):
        self.tried.append(len(images))
        if len(images) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().predict(images, size)


def test_a_full_gpu_halves_the_batch_and_changes_nothing():
    clip = film_clip(TRAIN[0], seconds=2.0)
    small, frames = Small(clip), list(range(11))
    maps = small(clip, frames)
    assert small.tried == [8, 4, 2, 2, 2, 2, 2, 1]
    np.testing.assert_array_equal(maps.depth, Perfect("metric", clip)(clip, frames).depth)
    with pytest.raises(torch.OutOfMemoryError):
        Small(clip, holds=0)(clip, frames)


@pytest.mark.parametrize("kind", ["metric", "canonical"])
def test_a_perfect_metric_network_gives_the_tabletops_points(kind):
    clip = film_clip(TRAIN[0], seconds=2.0)
    maps = Perfect(kind, clip)(clip, [0, 10])
    truth = open_points(PointsConfig("depth"))(clip, [0, 10])
    assert maps.metric
    np.testing.assert_allclose(maps.depth, truth.depth, rtol=1e-4)
    np.testing.assert_allclose(maps.points, truth.points, rtol=1e-3, atol=1e-4)


def film_of_two_distances():
    """A film whose hands are seen at two distances in some pictures."""
    for seed in TRAIN[:40]:
        clip = film_clip(seed, seconds=6.0, size=(224, 224))
        try:
            maps = Perfect("inverse", clip)(clip, list(range(0, len(clip), 5)))
        except ClipError:
            continue
        if np.isfinite(maps.depth).any((1, 2)).sum() >= 3:
            return clip, maps
    raise AssertionError("no film shows hands at two distances")


def test_a_perfect_relative_network_is_metric_near_hands_at_two_distances_and_silent_elsewhere():
    clip, maps = film_of_two_distances()
    truth = clip.depth.read(range(0, len(clip), 5))
    known = np.isfinite(maps.depth)
    assert not maps.metric and 0.02 < known.mean() < 0.99
    ratio = maps.depth[known] / truth[known]
    assert abs(np.median(ratio) - 1) < 0.05
    assert np.quantile(np.abs(ratio - 1), 0.9) < 0.15
    scale = estimate_scale(clip, maps, ScaleConfig())
    assert scale.calibrated and abs(scale.scale - 1) < 0.05 and scale.low < 1 < scale.high


def test_hands_at_one_distance_do_not_tell_the_shift():
    clip = film_clip(TRAIN[0], seconds=1.0)
    flat = tuple(replace(h, joints_camera=h.joints_camera * [1, 1, 0] + [0, 0, 0.5]) for h in clip.hands)
    with pytest.raises(ClipError, match="two distances"):
        Perfect("inverse", clip)(replace(clip, hands=flat), [0, 5])


def test_nanos_encoder_is_refused_on_anything_but_the_tabletop():
    from vipa.nano.shipped import NANO

    estimate = open_points(PointsConfig("cut3r", str(NANO / "foundation" / "spatial")))
    with pytest.raises(ClipError, match="has seen the tabletop world only"):
        estimate(example_clip(), [0])
    assert estimate(film_clip(TRAIN[0], seconds=1.0), [0]).points.shape[-1] == 3

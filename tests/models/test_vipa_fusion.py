import math

import pytest
import torch
from vipa_kit import assert_same_outputs, inputs, vipa

from vipa.models import FusionConfig
from vipa.models.fusion import SpatialFusion


def fusion(**changes) -> SpatialFusion:
    torch.manual_seed(0)
    config = {"spatial_width": 12, "attention_width": 16, "heads": 4, "dropout": 0.0}
    return SpatialFusion(FusionConfig(**config | changes), vision_width=20).eval()


SEMANTIC, SPATIAL = torch.randn(3, 16, 20), torch.randn(3, 1 + 9, 12)


def plain_cross_attention(module: SpatialFusion, semantic: torch.Tensor, spatial: torch.Tensor) -> torch.Tensor:
    """The formula, one image, one token, one head at a time."""
    branch = module.branch
    out = torch.zeros_like(semantic)
    for image in range(len(semantic)):
        keys = branch.key(branch.norm_spatial(spatial[image]))
        values = branch.value(branch.norm_spatial(spatial[image]))
        for token in range(semantic.shape[1]):
            query = branch.query(branch.norm_semantic(semantic[image, token]))
            heads = []
            for head in range(4):
                part = slice(head * 4, head * 4 + 4)
                weights = torch.softmax(keys[:, part] @ query[part] / math.sqrt(4), 0)
                heads.append(weights @ values[:, part])
            f = module.norm(branch.output(torch.cat(heads)))
            out[image, token] = semantic[image, token] + module.alpha * f
    return out


@torch.no_grad()
def test_cross_attention_equals_the_formula():
    module = fusion()
    expected = plain_cross_attention(module, SEMANTIC, SPATIAL)
    assert torch.allclose(module(SEMANTIC, SPATIAL), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["cross_attention", "gated", "concat"])
@torch.no_grad()
def test_an_image_sees_only_its_own_spatial_tokens(kind):
    module, changed = fusion(kind=kind), SPATIAL.clone()
    changed[1] += 1.0 * torch.randn(10, 12)
    difference = (module(SEMANTIC, changed) - module(SEMANTIC, SPATIAL)).abs().amax((1, 2))
    assert difference[1] > 1e-3
    assert difference[0] == 0
    assert difference[2] == 0


@pytest.mark.parametrize("kind", ["cross_attention", "gated", "concat"])
def test_everything_in_the_fusion_learns_except_what_softmax_cancels(kind):
    module = fusion(kind=kind)
    (module(SEMANTIC, SPATIAL) * torch.randn(3, 16, 20)).sum().backward()
    silent = [name for name, p in module.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7]
    # A bias of the keys adds the same to every score of a query: softmax removes it.
    assert set(silent) <= {"branch.key.bias"}


@torch.no_grad()
def test_concat_puts_a_spatial_patch_at_its_place_in_the_image():
    module, changed = fusion(kind="concat"), SPATIAL.clone()
    changed[:, 1] += 5 * torch.randn(12)  # top-left of 3 x 3 patches
    difference = (module(SEMANTIC, changed) - module(SEMANTIC, SPATIAL)).abs().amax((0, 2)).view(4, 4)
    assert difference[0, 0] > 1e-3
    assert difference[2:].max() == 0
    assert difference[:, 2:].max() == 0


@torch.no_grad()
def test_a_shut_gate_leaves_only_the_norms_bias():
    module = fusion(kind="gated")
    module.branch.gate.bias.fill_(-1e4)
    assert torch.allclose(module(SEMANTIC, SPATIAL), SEMANTIC, atol=1e-5)


@torch.no_grad()
def test_zero_control_does_not_depend_on_the_spatial_tokens():
    module = fusion()
    module.set_control("zero")
    assert_same_outputs(module(SEMANTIC, SPATIAL), module(SEMANTIC, 3 * SPATIAL))


@torch.no_grad()
def test_shuffle_control_gives_every_image_anothers_tokens():
    module = fusion()
    module.set_control("shuffle")
    shuffled = module(SEMANTIC, SPATIAL)
    module.set_control(None)
    own = [module(SEMANTIC, SPATIAL.roll(shift, 0)) for shift in (0, 1, 2)]
    for image in range(3):
        assert not torch.allclose(shuffled[image], own[0][image], atol=1e-4)
        assert any(torch.allclose(shuffled[image], other[image], atol=1e-5) for other in own[1:])


def test_shuffle_needs_two_images_and_controls_have_names():
    module = fusion()
    with pytest.raises(ValueError, match="choose one of"):
        module.set_control("noise")
    module.set_control("shuffle")
    with pytest.raises(ValueError, match="at least two images"):
        module(SEMANTIC[:1], SPATIAL[:1])


@torch.no_grad()
def test_diagnostics_are_alpha_and_the_ratio_of_norms():
    module = fusion()
    assert math.isnan(module.diagnostics()["norm_ratio"])
    output = module(SEMANTIC, SPATIAL)
    f = (output - SEMANTIC) / 0.5
    expected = f.norm(dim=-1).mean() / SEMANTIC.norm(dim=-1).mean()
    assert module.diagnostics()["alpha"] == 0.5
    assert module.diagnostics()["norm_ratio"] == pytest.approx(float(expected), rel=1e-4)


@torch.no_grad()
def test_the_semantic_source_needs_no_spatial_encoder():
    model, batch = vipa(fusion={"source": "semantic"}), inputs([2, 1], spatial=False)
    assert model.get_image_features(pixel_values=batch["pixel_values"]).pooler_output.shape == (3, 4, 48)
    assert model(**batch).logits.isfinite().all()


@torch.no_grad()
def test_frames_of_a_clip_are_seen_in_order_and_views_by_themselves():
    model, batch = vipa(), inputs([3], text=4)
    pixels = batch["spatial_pixel_values"]

    def spatial(clip_lengths, order=(0, 1, 2)):
        return model.encode_images(batch["pixel_values"], pixels[list(order)], clip_lengths)[1]

    clip, views = spatial([3]), spatial([1, 1, 1])
    assert_same_outputs(spatial(None), views)
    assert torch.allclose(clip[0], views[0], atol=1e-5)  # nothing before the first frame
    assert not torch.allclose(clip[1], views[1], atol=1e-3)
    assert torch.allclose(spatial([1, 2])[0], views[0], atol=1e-5)
    assert torch.allclose(spatial([2, 1])[:2], clip[:2], atol=1e-5)
    assert torch.allclose(spatial([2, 1])[2], views[2], atol=1e-5)


@torch.no_grad()
def test_cached_features_give_the_logits_of_pixels():
    model, batch = vipa(), inputs([2, 1])
    pixels = {name: batch.pop(name) for name in ("pixel_values", "spatial_pixel_values")}
    semantic, spatial = model.encode_images(**pixels, clip_lengths=[2, 1])
    assert semantic.shape == (3, 16, 32)
    assert spatial.shape == (3, 17, 24)
    cached = model(**batch, semantic_features=semantic, spatial_features=spatial).logits
    assert_same_outputs(cached, model(**batch, **pixels).logits)


def test_configurations_that_do_not_exist_are_refused():
    for fields, message in (
        ({"kind": "magic"}, "choose one of"),
        ({"source": "depth"}, "choose one of"),
        ({"attention_width": 30, "heads": 4}, "do not divide"),
    ):
        with pytest.raises(ValueError, match=message):
            FusionConfig(**fields)

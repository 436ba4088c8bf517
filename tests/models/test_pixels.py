"""Each encoder gets its pixels by one way, to the bit, whoever asks: transformers' for InternVL, PIL's to one level."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from transformers import GotOcr2ImageProcessor, GotOcr2ImageProcessorPil
from vipa_kit import tokenizer

from vipa.clips.example import example_clip
from vipa.models import VipaProcessor, image_processor
from vipa.models.cut3r import Cut3rProcessor
from vipa.models.pixels import IMAGENET_MEAN, IMAGENET_STD, resized, semantic_pixels, spatial_pixels


@pytest.fixture(scope="module")
def processor():
    return VipaProcessor(image_processor(56), tokenizer(), image_seq_length=4, spatial_size=64)


@pytest.mark.parametrize("shape", [(56, 56), (64, 64), (120, 90), (31, 40)])
def test_the_processor_s_pixels_are_those_of_internvl_s_image_processor(processor, shape):
    """The oracle is transformers' own, for the spatial encoder with mean and deviation one half."""
    noise = np.random.default_rng(0).uniform(0, 255, (*shape, 3))
    picture = gaussian_filter(noise, (1.5, 1.5, 0)).astype(np.uint8)  # as pictures are: what overshoots, both cut
    pixels = processor.pixels([picture, Image.fromarray(picture[::-1])])
    half = GotOcr2ImageProcessorPil(
        size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3, crop_to_patches=False
    )
    both = [Image.fromarray(picture), Image.fromarray(picture[::-1])]
    for name, oracle, spread in (
        ("pixel_values", image_processor(56), 0.224),
        ("spatial_pixel_values", half, 0.5),
    ):
        levels = 255 * spread * (pixels[name] - oracle(both, return_tensors="pt")["pixel_values"]).abs()
        assert levels.max() < 1.1, name


@pytest.mark.parametrize("shape", [(56, 56), (120, 90), (31, 40), (1080, 1920)])
def test_they_are_those_of_transformers_default_for_internvl(processor, shape):
    """Its torch backend, on noise, where every difference shows; needs torchvision."""
    pytest.importorskip("torchvision")
    square = {"height": 56, "width": 56}
    oracle = GotOcr2ImageProcessor(
        size=square, image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD), crop_to_patches=False
    )
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    expected = oracle([picture], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(processor.pixels([picture])["pixel_values"], expected, atol=1e-6, rtol=1e-6)


def test_every_value_of_a_pixel_is_scaled_as_cut3r_was_trained():
    values = torch.arange(256, dtype=torch.uint8)[:, None, None].expand(-1, 1, 3)
    torch.testing.assert_close(spatial_pixels(values)[0, :, 0], (torch.arange(256) / 255 - 0.5) / 0.5)
    assert semantic_pixels(values).shape == (3, 256, 1)


def test_annotation_training_and_clouds_give_cut3r_what_the_dual_encoder_gives_it(monkeypatch):
    """A square network: the processor of the model, of CUT3R, the estimator of point maps, stored sequences."""
    from vipa.hand3d.estimators.cut3r_points import Cut3rPoints
    from vipa.models.starts import beside
    from vipa.worlds.sequences import Sequences, batch_of

    points = Cut3rPoints(str(beside("nano:foundation", "spatial")))
    clip, seen = replace(example_clip(), source="tabletop"), []
    picture, step = clip.frames.read([0])[0], points.model.step
    monkeypatch.setattr(points.model, "step", lambda pixels, *a, **k: seen.append(pixels) or step(pixels, *a, **k))
    points(clip, [0])
    ours = VipaProcessor(image_processor(56), tokenizer(), image_seq_length=4, spatial_size=112).pixels([picture])
    assert torch.equal(seen[0], ours["spatial_pixel_values"])
    square = Cut3rProcessor.for_model(points.model.config)
    assert torch.equal(square([picture])["images"][0], ours["spatial_pixel_values"])

    small = resized([picture], (112, 112))[0].numpy()
    unknown = np.zeros((1, 1, 112, 112), np.uint16), np.eye(4)[None, None], np.eye(3)[None], np.zeros(1)
    stored = batch_of(Sequences(small[None, None], *unknown), np.array([0]))
    assert torch.equal(stored.images[0], ours["spatial_pixel_values"])

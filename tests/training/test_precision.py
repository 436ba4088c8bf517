"""One precision of encoder tokens, wherever they are computed."""

import numpy as np
import pytest
import torch

from vipa.data.images import EncodedImages, encoded
from vipa.models.starts import load_start


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cached_tokens_are_those_that_an_evaluation_or_a_policy_computes(start, precision, tmp_path):
    model, processor = load_start(start)
    model.config.encoder_precision = precision
    images = {str(i): np.random.default_rng(i).integers(0, 256, (90, 120, 3), dtype=np.uint8) for i in range(3)}
    groups = [("0", "1"), ("2",)]

    def read(group):
        return [images[key] for key in group]

    cached = EncodedImages.of(tmp_path / "tokens", model, processor, groups, read).inputs(groups)
    asked = encoded(model, processor, groups, read)
    assert all(torch.equal(cached[name], asked[name]) for name in (*cached, *asked))
    pixels = processor.pixels([images[key] for group in groups for key in group])
    for around in (False, True):  # a training's autocast changes nothing
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=around):
            semantic, spatial = model.encode_images(**pixels, clip_lengths=[2, 1])
        assert (
            semantic.dtype
            == cached["semantic_features"].dtype
            == {"fp32": torch.float32}.get(precision, torch.bfloat16)
        )
        torch.testing.assert_close(semantic, cached["semantic_features"], rtol=1e-2, atol=1e-4)
        torch.testing.assert_close(spatial, cached["spatial_features"], rtol=1e-2, atol=1e-4)
        if precision == "fp32":
            torch.testing.assert_close(semantic, cached["semantic_features"], rtol=1e-4, atol=1e-5)


def test_an_unknown_precision_is_named(start):
    config = load_start(start)[0].config.to_dict()
    from vipa.models import VipaConfig

    with pytest.raises(ValueError, match="encoder_precision 'fp16'"):
        VipaConfig.from_dict(config | {"encoder_precision": "fp16"})

"""One precision of encoder tokens, wherever they are computed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vipa.data.images import UNITS, EncodedImages, encoded
from vipa.models.starts import load_start
from vipa.training import parts
from vipa.training.checkpoints import state_of
from vipa.training.optimiser import make_optimiser
from vipa.training.parts import arithmetic


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


def test_products_are_in_bf16_where_the_device_has_instructions_for_them(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    for has in (True, False):
        monkeypatch.setattr(parts, "multiplies_bf16", lambda has=has: has)
        assert arithmetic("auto", gpu) == arithmetic("bf16", cpu) == "bf16"
        assert arithmetic("fp32", gpu) == "fp32"
        assert arithmetic("auto", cpu) == ("bf16" if has else "fp32")
        assert arithmetic("auto", cpu, torch.bfloat16) == "bf16", "frozen weights in bfloat16 are multiplied in it"
    with pytest.raises(ValueError, match="take bf16, or a start in float32"):
        arithmetic("fp32", cpu, torch.bfloat16)


def test_this_processors_answer_is_that_of_its_flags():
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("no /proc/cpuinfo of an x86 processor")
    assert parts.multiplies_bf16() == ("avx512bw" in flags or "avx_ne_convert" in flags)


def test_the_optimisers_state_is_on_the_device_of_its_parameter():
    """`fused` AdamW of a GPU refuses a step that counts elsewhere."""
    layer = torch.nn.Linear(3, 2, device="meta")
    optimiser = make_optimiser(layer, learning_rate=1e-3, weight_decay=0.0, betas=(0.9, 0.98), eps=1e-8)
    state = state_of(dict(layer.named_parameters()), optimiser, None)
    assert len(state) == 8
    assert {tensor.device.type for tensor in state.values()} == {"meta"}


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_other_processes_read_are_encoded_the_same_and_bad_ones_left_out(start, workers, tmp_path):
    model, processor = load_start(start)
    count = UNITS + 70  # two shards, the first of several batches
    pictures = np.random.default_rng(0).integers(0, 256, (4, 90, 120, 3), dtype=np.uint8)
    reads = tmp_path / "reads"

    def read(group):
        with reads.open("a") as file:
            file.write("x" * len(group))
        if "7" in group:
            raise OSError("its file is broken")
        return [pictures[int(key) % 4] for key in group]

    groups = [(str(i),) for i in range(count)]

    def encode():
        return EncodedImages.of(tmp_path / "tokens", model, processor, groups, read, workers=workers)

    cached = encode()
    assert len(reads.read_text()) == count, "each picture is read once"
    with pytest.raises(ValueError, match="7 could not be read"):
        cached.read(("7",))
    some = [("0",), ("6",), ("8",), (str(count - 1),)]
    there, asked = cached.inputs(some), encoded(model, processor, some, read)
    for name in asked:
        torch.testing.assert_close(there[name], asked[name], rtol=1e-4, atol=1e-5)
    (tmp_path / "tokens" / "index.json").unlink()
    (tmp_path / "tokens" / "shard-00001.safetensors").unlink()
    reads.write_text("")
    again = encode()
    assert len(reads.read_text()) == count - UNITS, "only the shard that was missing"
    assert again.places == cached.places
    (tmp_path / "tokens" / "index.json").unlink()
    save_file({"old": torch.zeros(1)}, tmp_path / "tokens" / "shard-00001.safetensors")
    assert encode().places == cached.places, "a shard of before, which does not say what it holds, is made again"


def test_a_shard_of_nothing_but_unreadable_images_is_empty(start, tmp_path):
    model, processor = load_start(start)

    def read(group):
        raise OSError("its file is broken")

    assert EncodedImages.of(tmp_path / "tokens", model, processor, [("1",)], read).places == {}

"""What is learned in float32 is not rounded between two stages."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from vipa.models.starts import load_start
from vipa.training.loop import train
from vipa.training.masters import MASTERS
from vipa.training.processes import Processes
from vipa.training.setup import build


@pytest.fixture
def bf16_start(start, tmp_path):
    model, processor = load_start(start)
    model.bfloat16().save_pretrained(tmp_path / "bf16")
    processor.save_pretrained(tmp_path / "bf16")
    return str(tmp_path / "bf16")


def test_the_next_stage_goes_on_from_the_float32_weights(run, bf16_start, tmp_path):
    first = train(replace(run, start=bf16_start, steps=2, learning_rate=1e-5)).model
    masters = load_file(first / MASTERS)
    stored = dict(load_start(first, dtype="auto")[0].named_parameters())
    assert set(masters) == {name for name in stored if ".fusion." in name}
    assert all(torch.equal(masters[name].bfloat16(), stored[name]) for name in masters)
    assert any(not torch.equal(masters[name], stored[name].float()) for name in masters), "something was rounded"
    team = Processes(0, 1, torch.device("cpu"))
    following = replace(run, start=str(first), out=tmp_path / "second")
    learned = dict(build(following, team).model.named_parameters())
    assert all(torch.equal(learned[name], masters[name]) for name in masters)

    changed = masters | {"model.fusion.alpha": masters["model.fusion.alpha"] + 1}
    save_file(changed, first / MASTERS)
    learned = dict(build(following, team).model.named_parameters())
    assert torch.equal(learned["model.fusion.alpha"], stored["model.fusion.alpha"].float()), "of other weights"


def test_a_model_that_is_stored_in_float32_needs_none(run):
    assert not (train(replace(run, steps=1)).model / MASTERS).exists()

"""The weights in the package are complete, small, and know what they are said to know."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from vipa.data.images import encoded
from vipa.nano.evaluation import read_column
from vipa.nano.foundation.picture_set import render_pictures
from vipa.nano.recipe import trained_parts
from vipa.nano.shipped import NANO, NANO_STAGES, load_nano
from vipa.worlds.seeds import FOUNDATION


def test_all_weights_together_are_under_40_megabytes():
    assert sum(path.stat().st_size for path in NANO.rglob("*") if path.is_file()) < 40e6


@pytest.mark.parametrize("stage", NANO_STAGES)
def test_every_stage_loads_whole_and_finite(stage):
    model, _ = load_nano(stage)
    assert sum(p.numel() for p in model.parameters()) <= 10e6
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("stage", NANO_STAGES[1:])
def test_a_stage_ships_what_it_trained_and_nothing_else(stage):
    model, _ = load_nano("foundation")
    trained = {id(p) for part in trained_parts(stage) for p in model.parts()[part].parameters()}
    with safe_open(NANO / f"{stage}.safetensors", "pt") as file:
        assert set(file.keys()) == {name for name, p in model.named_parameters() if id(p) in trained}


def test_the_foundation_finds_named_things_it_never_saw(tmp_path):
    middle = (FOUNDATION.start + FOUNDATION.stop) // 2
    data = render_pictures(tmp_path, range(middle, middle + 24), frames=1, workers=1)
    model, processor = load_nano("foundation")
    torch.nn.init.zeros_(model.model.fusion.alpha)
    asked = [(str(i), t) for i, p in enumerate(data.pictures) for t in p.objects if t.visible][:64]
    groups = [(key,) for key, _ in asked]
    inputs = processor.prompts([(1, f"Point at the {t.name}.") for _, t in asked])
    inputs |= encoded(model, processor, groups, lambda group: data.rgb[[int(key) for key in group]])
    said = model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    points = np.array([text.split() for text in processor.tokenizer.batch_decode(said, skip_special_tokens=True)])
    centres = np.array([t.centre for _, t in asked])
    error = np.abs(points.astype(float) / 100 - centres).mean()
    guess = np.abs(np.median(centres, axis=0) - centres).mean()
    assert error < 0.75 * guess


def test_the_report_finds_the_training_curves_of_every_stage():
    column = read_column(NANO / "results", "shipped nano", "shipped", "", NANO / "logs")
    assert list(column.losses) == list(NANO_STAGES[1:])

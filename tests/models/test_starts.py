"""Presets and their weights are found by name; the package works without any that others bring."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from vipa_kit import action_config, cut3r, internvl, tokenizer, vipa

from vipa.models import presets
from vipa.models.presets import Preset, Shipped, find_preset, preset_config, preset_names
from vipa.models.starts import beside, load_start, start_hash
from vipa.moved import NAMES


class Entry:
    """An entry point of another package."""

    name = "tiny"

    def __init__(self, preset: Preset):
        self.load = lambda: preset


@pytest.fixture
def others(monkeypatch):
    """Makes presets the only ones that packages bring."""

    def bring(*found):
        monkeypatch.setattr(presets, "entry_points", lambda group: list(found))

    return bring


def tiny_config():
    return vipa(action=action_config(embodiments={"arm": [3, 2]})).config


def test_another_package_brings_a_preset_with_weights(others):
    shipped = Shipped(
        ("only",), lambda stage: ("model", stage), lambda stage: "0" * 16, lambda stage, name: Path(name)
    )
    others(Entry(Preset(tiny_config, 64, shipped)))
    assert load_start("tiny:only") == ("model", "only")
    assert start_hash("tiny:only") == "0" * 16
    assert beside("tiny:only", "a.json") == Path("a.json")
    with pytest.raises(ValueError, match=r"tiny has no stage 'other'; stages: only"):
        load_start("tiny:other")
    with pytest.raises(ValueError, match=r"no model here; expected tiny:only, or a folder"):
        load_start("nowhere")


def test_two_parts_are_joined_with_the_sizes_of_their_preset(tmp_path, others):
    """And get motion tokens, which a public vocabulary does not have."""
    internvl().save_pretrained(tmp_path / "vlm")
    cut3r().save_pretrained(tmp_path / "spatial")
    tokenizer(motion=False).save_pretrained(tmp_path / "vlm")
    others(Entry(Preset(tiny_config, 64)))
    model, processor = load_start(tmp_path)
    assert model.config.action_config.embodiments == {"arm": [3, 2]}
    assert (processor.image_seq_length, processor.spatial_size) == (4, 64)
    assert processor.ids("<mx_0>") == [model.config.motion_token_start]
    inputs = processor([torch.zeros(8, 8, 3).byte().numpy()], processor.prompt("Where?"))
    assert model(**inputs).logits.isfinite().all()
    others()
    with pytest.raises(ValueError, match=r"width 48, 3 layers\) is that of no preset \(vipa-1b, vipa-2b\)"):
        load_start(tmp_path)


def test_vipa_1b_is_the_same_with_a_smaller_language_model():
    small, large = preset_config("vipa-1b"), preset_config("vipa-2b")
    assert (small.text_config.hidden_size, small.text_config.intermediate_size) == (1024, 3072)
    for part in ("vision_config", "spatial_config", "spatial_fusion_config", "action_config"):
        assert getattr(small, part).to_dict() == getattr(large, part).to_dict()
    assert "nano" in preset_names()
    with pytest.raises(ValueError, match="preset 'vipa-9b' is unknown: choose one of nano, vipa-1b, vipa-2b"):
        find_preset("vipa-9b")


WITHOUT_NANO = """
import importlib.metadata, pkgutil, sys
import vipa
found = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **k: [e for e in found(**k) if not e.value.startswith("vipa.nano")]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("vipa.nano"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import vipa.benchmarks.answering, vipa.robots.policy, vipa.training.loop
from vipa.data.kinds import kind_names
from vipa.models.presets import preset_names
from vipa.models.starts import load_start
print(preset_names(), kind_names())
model, processor = load_start(sys.argv[1])
print(processor.prompt("Where?", 0).splitlines()[0])
"""


def test_everything_below_nano_works_without_it(start):
    run = subprocess.run([sys.executable, "-c", WITHOUT_NANO, str(start)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    first, second = run.stdout.splitlines()
    assert first == "['vipa-1b', 'vipa-2b'] ['conversations', 'episodes', 'hand3d_action', 'hand3d_visual']"
    assert second == "<|im_start|>user"


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in NAMES.items() for n in names])
def test_a_name_is_found_at_its_old_place_with_a_word_of_its_new_one(module, name):
    old = __import__(f"vipa.{module}", fromlist=["x"])
    place, _, renamed = NAMES[module][name].partition(":")
    new = f"vipa.{place}.{renamed or name}"
    with pytest.warns(DeprecationWarning, match=f"vipa.{module}.{name} is now {new}$"):
        found = getattr(old, name)
    assert found is pkgutil.resolve_name(new)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = old.no_such_thing

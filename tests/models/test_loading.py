"""Weights that are not weights are a line that names the file; nothing that comes with weights is executed."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor
from vipa_kit import action_config, assert_same_weights, cut3r, internvl, tokenizer, vipa

from vipa.models import VipaForConditionalGeneration, VipaProcessor, image_processor
from vipa.models.cut3r import Cut3rModel
from vipa.models.loading import load_model, load_processor, load_tokenizer

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9126144\n"


@pytest.fixture
def encoder(tmp_path) -> Path:
    cut3r().save_pretrained(tmp_path / "spatial")
    return tmp_path / "spatial"


DAMAGES = {
    "pointer": (lambda path: path.write_text(POINTER), "Git LFS pointer"),
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "page": (lambda path: path.write_text("<!DOCTYPE html><html>404 not found</html>"), "web page"),
    "xml": (
        lambda path: path.write_text("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
        "web page",
    ),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cut short"),
    "cut in its header": (lambda path: path.write_bytes(path.read_bytes()[:100]), "damaged"),
    "message": (lambda path: path.write_text('{"error": "not found"}'), "damaged"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "pickle"),
    "gone": (lambda path: path.unlink(), "no model.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_named(encoder, damage):
    spoil, says = DAMAGES[damage]
    spoil(encoder / "model.safetensors")
    with pytest.raises(ValueError, match=says) as error:
        load_model(Cut3rModel, encoder, expected="cut3r")
    assert str(encoder) in str(error.value)
    assert "again" in str(error.value)


@pytest.mark.parametrize("damage", ["pointer", "empty", "page"])
def test_a_damaged_configuration_is_named(encoder, damage):
    spoil, says = DAMAGES[damage]
    spoil(encoder / "config.json")
    with pytest.raises(ValueError, match=f"config.json: not JSON.*{says}"):
        load_model(Cut3rModel, encoder)


def test_a_missing_or_damaged_shard_is_named(tmp_path):
    internvl().save_pretrained(tmp_path, max_shard_size="100KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.write_text(POINTER)
    with pytest.raises(ValueError, match=f"{shard.name}.*pointer"):
        VipaForConditionalGeneration.from_parts(tmp_path, None)
    shard.unlink()
    with pytest.raises(ValueError, match=f"{shard.name}: missing"):
        VipaForConditionalGeneration.from_parts(tmp_path, None)


def test_a_tokenizer_that_is_a_pointer_is_named(tmp_path):
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(POINTER)
    with pytest.raises(ValueError, match=r"tokenizer\.json: not JSON.*pointer"):
        load_tokenizer(tmp_path)


def test_weights_of_another_configuration_are_refused(encoder):
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"decoder_width": 32, "state_heads": 2}))
    with pytest.raises(ValueError, match=r"do not fit its config\.json"):
        load_model(Cut3rModel, encoder)
    (encoder / "config.json").write_text(json.dumps(config | {"encoder_depth": 2}))
    with pytest.raises(ValueError, match=r"weights of its config\.json are missing"):
        load_model(Cut3rModel, encoder)


def test_a_model_of_another_type_is_refused(tmp_path, encoder):
    with pytest.raises(ValueError, match="model type 'cut3r', expected vipa"):
        load_model(VipaForConditionalGeneration, encoder, expected="vipa")
    with pytest.raises(ValueError, match="'-HF' flavour"):
        VipaForConditionalGeneration.from_parts(encoder, None)
    internvl().save_pretrained(tmp_path / "vlm")
    with pytest.raises(ValueError, match="no spatial encoder"):
        VipaForConditionalGeneration.from_parts(tmp_path / "vlm", tmp_path / "vlm")
    for nowhere in (tmp_path / "absent", "./absent", "/absent"):
        with pytest.raises(ValueError, match="no such folder"):
            load_model(Cut3rModel, nowhere)


def test_pickled_weights_are_not_opened(encoder):
    weights = encoder / "model.safetensors"
    weights.rename(encoder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: pickled weights are not opened"):
        load_model(Cut3rModel, encoder)


def test_weights_are_float32_whatever_they_are_stored_in(encoder, tmp_path):
    half = load_model(Cut3rModel, encoder).half()
    half.save_pretrained(tmp_path / "half")
    loaded = load_model(Cut3rModel, tmp_path / "half")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert_same_weights(loaded.half(), half)


def test_the_shipped_encoder_computes_in_float32_where_points_are_made():
    from vipa.hand3d.estimators.cut3r_points import Cut3rPoints
    from vipa.nano.shipped import NANO

    points = Cut3rPoints(str(NANO / "foundation" / "spatial"))
    assert {p.dtype for p in points.model.parameters()} == {torch.float32}


# Nothing is executed


def write_trap(folder: Path, marker: Path, **files: dict) -> Path:
    """JSON files with an auto_map to a Python file that writes `marker`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / f"{name}.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | content))
    classes = "".join(f"class {name}:\n    pass\n" for name in ("Config", "Model", "Tokenizer", "Processor"))
    (folder / "trap.py").write_text(f"open({str(marker)!r}, 'w').write('executed')\n{classes}")
    return folder


def test_the_other_flavour_of_internvl_is_refused_without_executing_or_asking(tmp_path):
    auto = {"AutoConfig": "trap.Config", "AutoModel": "trap.Model", "AutoModelForImageTextToText": "trap.Model"}
    folder = write_trap(
        tmp_path / "chat", tmp_path / "marker", config={"model_type": "internvl_chat", "auto_map": auto}
    )
    code = (
        "import sys\nfrom vipa.models import VipaForConditionalGeneration as V\n"
        "try: V.from_parts(sys.argv[1], None)\nexcept ValueError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        input="y\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "-HF" in done.stdout
    assert "[y/N]" not in done.stdout
    assert not (tmp_path / "marker").exists()


def test_auto_maps_of_models_tokenizers_and_processors_are_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what a hurried user would answer
    marker, words = tmp_path / "marker", tokenizer()
    sources = {"vlm": internvl(), "vipa": vipa(vocabulary=len(words), action=action_config()), "spatial": cut3r()}
    auto = {
        "AutoConfig": "trap.Config",
        "AutoModel": "trap.Model",
        "AutoModelForImageTextToText": "trap.Model",
        "AutoTokenizer": ["trap.Tokenizer", "trap.Tokenizer"],
        "AutoProcessor": "trap.Processor",
        "AutoImageProcessor": "trap.Processor",
    }
    for name, model in sources.items():
        model.save_pretrained(tmp_path / name)
        VipaProcessor(image_processor(56), words, image_seq_length=4, spatial_size=64).save_pretrained(
            tmp_path / name
        )
        maps = {key: {"auto_map": auto} for key in ("config", "tokenizer_config", "processor_config")}
        write_trap(tmp_path / name, marker, **maps)
    load_model(VipaForConditionalGeneration, tmp_path / "vipa", expected="vipa")
    VipaForConditionalGeneration.from_parts(tmp_path / "vlm", tmp_path / "spatial")
    VipaProcessor.from_vlm(tmp_path / "vlm", image_size=56)
    load_processor(VipaProcessor, tmp_path / "vipa")
    load_processor(AutoProcessor, tmp_path / "vipa")
    assert not marker.exists()
    for kind in ("internvl_chat", "somebodys_own"):
        write_trap(tmp_path / "spatial", marker, config={"model_type": kind})
        with pytest.raises(ValueError, match="model type"):
            load_model(Cut3rModel, tmp_path / "spatial")
    assert not marker.exists()


def test_parts_of_two_precisions_become_a_model_of_one(tmp_path):
    """CUT3R is imported in float32, InternVL is released in bfloat16."""
    cut3r().save_pretrained(tmp_path / "spatial")
    internvl().bfloat16().save_pretrained(tmp_path / "vlm")
    model = VipaForConditionalGeneration.from_parts(tmp_path / "vlm", tmp_path / "spatial", dtype="auto")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from vipa_kit import (
    action_config,
    assert_same_outputs,
    assert_same_weights,
    cut3r,
    inputs,
    internvl,
    tokenizer,
    vipa,
)

from vipa.models import VipaForConditionalGeneration, VipaProcessor, add_motion_tokens, image_processor, selfcheck


def everything(model) -> dict:
    """Outputs of both heads for one batch."""
    batch = inputs([1, 2])
    with torch.no_grad():
        draw = torch.Generator().manual_seed(0)
        actions = model.generate_actions(**batch, state=torch.ones(2, 8), generator=draw)
        return {"logits": model(**batch).logits, "actions": actions}


def differences(first: dict, second: dict) -> set[str]:
    """Names of fields, at any depth, that differ."""
    found = set()
    for name in first.keys() | second.keys():
        a, b = first.get(name), second.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= differences(a, b)
        elif a != b:
            found.add(name)
    return found


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["cross_attention", "gated", "concat", "none"])
def test_saving_and_loading_keeps_every_bit_of_the_weights(tmp_path, kind, tied):
    model = vipa(fusion={"kind": kind}, action=action_config(connection="per_layer"), tied=tied)
    model.save_pretrained(tmp_path)
    loaded = VipaForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert differences(loaded.config.to_dict(), model.config.to_dict()) <= {
        "dtype",
        "architectures",
        "_name_or_path",
    }
    assert_same_weights(loaded, model)
    first, second = everything(model), everything(loaded)
    for name in first:
        assert_same_outputs(first[name], second[name])


def test_a_sharded_bf16_checkpoint_keeps_every_bit_of_the_weights(tmp_path):
    # Not `.to(bfloat16)`, which would round the rotary frequencies too.
    vipa(action=action_config()).save_pretrained(tmp_path / "fp32")
    model = VipaForConditionalGeneration.from_pretrained(tmp_path / "fp32", dtype=torch.bfloat16).eval()
    model.save_pretrained(tmp_path / "bf16", max_shard_size="200KB")
    assert len(list((tmp_path / "bf16").glob("*.safetensors"))) > 1
    assert not list((tmp_path / "bf16").glob("*.bin"))
    loaded = VipaForConditionalGeneration.from_pretrained(tmp_path / "bf16", dtype="auto").eval()
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert_same_weights(loaded, model)
    first, second = everything(model), everything(loaded)
    assert_same_outputs(first["logits"], second["logits"])
    assert_same_outputs(first["actions"].bfloat16(), second["actions"].bfloat16())


def test_added_parts_get_their_declared_start_when_a_checkpoint_lacks_them(tmp_path):
    plain = VipaForConditionalGeneration.from_parts(internvl(), None, fusion={"kind": "none"})
    plain.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["spatial_fusion_config"] |= {"kind": "cross_attention", "source": "semantic", "alpha_init": 0.25}
    config["action_config"] = action_config().to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = VipaForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.fusion_diagnostics()["alpha"] == 0.25
    assert (loaded.model.fusion.norm.weight == 1).all()
    assert loaded.action_head.action_lengths.tolist() == [7]
    assert (loaded.action_head.layers[0].modulation.weight == 0).all()
    assert all(p.isfinite().all() for p in loaded.parameters())


def test_parts_saved_as_folders_join_as_the_real_ones_would(tmp_path):
    vlm, spatial = internvl(), cut3r()
    vlm.save_pretrained(tmp_path / "vlm", max_shard_size="100KB")
    spatial.save_pretrained(tmp_path / "spatial")
    joined = VipaForConditionalGeneration.from_parts(
        tmp_path / "vlm", str(tmp_path / "spatial"), action=action_config()
    )
    for ours, theirs in (
        (joined.model.vision_tower, vlm.model.vision_tower),
        (joined.model.multi_modal_projector, vlm.model.multi_modal_projector),
        (joined.model.language_model, vlm.model.language_model),
        (joined.model.spatial_tower, spatial),
    ):
        assert_same_weights(ours, theirs)
    assert joined.config.spatial_fusion_config.spatial_width == 24
    assert all(not p.is_meta and p.isfinite().all() for p in joined.parameters())
    joined.save_pretrained(tmp_path / "joined")
    again = VipaForConditionalGeneration.from_pretrained(tmp_path / "joined").eval()
    assert_same_weights(again, joined)
    first, second = everything(joined), everything(again)
    assert_same_outputs(first["logits"], second["logits"])
    assert_same_outputs(first["actions"], second["actions"])
    # A joined model is a source of parts itself.
    without = VipaForConditionalGeneration.from_parts(tmp_path / "joined", None, fusion={"kind": "none"})
    assert_same_outputs(without(**inputs([1], spatial=False)).logits, vlm(**inputs([1], spatial=False)).logits)


def test_parts_of_another_kind_are_refused(tmp_path):
    internvl().model.language_model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'-HF' flavour"):
        VipaForConditionalGeneration.from_parts(tmp_path, None)


@pytest.mark.parametrize("tied", [True, False])
def test_resized_vocabularies_survive(tmp_path, tied):
    model, words = vipa(tied=tied), tokenizer(motion=False)
    add_motion_tokens(model, words)
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    loaded = VipaForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert loaded.config.motion_token_start == words.convert_tokens_to_ids("<mx_0>")
    shared = loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
    assert shared == tied
    batch = inputs([1])
    batch["input_ids"][0, -1] = loaded.config.motion_token_start + 3000
    assert_same_weights(loaded, model)
    assert_same_outputs(model(**batch).logits, loaded(**batch).logits)


def test_auto_classes_find_the_model_and_its_processor(tmp_path):
    words = tokenizer()
    vipa(vocabulary=len(words)).save_pretrained(tmp_path)
    VipaProcessor(image_processor(56), words, image_seq_length=4, spatial_size=64).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)).__name__ == "VipaConfig"
    assert isinstance(AutoModelForImageTextToText.from_pretrained(tmp_path), VipaForConditionalGeneration)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, VipaProcessor)
    assert (processor.image_seq_length, processor.spatial_size, processor.max_images) == (4, 64, 8)


def lora(model):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj")
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return adapted.eval()


def test_merged_adapters_give_the_outputs_of_unmerged_ones():
    model = vipa(action=action_config())
    before = everything(model)
    adapted = lora(model)
    unmerged = everything(adapted.base_model.model)
    assert not torch.allclose(before["logits"], unmerged["logits"], atol=1e-3)
    merged = everything(adapted.merge_and_unload())
    assert torch.allclose(unmerged["logits"], merged["logits"], atol=1e-4)
    assert torch.allclose(unmerged["actions"], merged["actions"], atol=1e-4)


def test_adapters_survive_saving_and_train_alone(tmp_path):
    peft = pytest.importorskip("peft")
    adapted = lora(vipa(action=action_config()))
    assert all("lora" in name for name, p in adapted.named_parameters() if p.requires_grad)
    adapted.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(vipa(action=action_config()), tmp_path).eval()
    first, second = (everything(m.base_model.model)["logits"] for m in (adapted, loaded))
    assert_same_weights(loaded, adapted)  # base weights too: both are built alike
    assert_same_outputs(first, second)


@pytest.mark.parametrize("kind", ["cross_attention", "none"])
def test_a_checkpoint_notices_when_it_computes_something_else(tmp_path, kind):
    model = vipa(fusion={"kind": kind}, action=action_config())
    with pytest.raises(ValueError, match="recorded input"):
        selfcheck.verify(tmp_path)
    model.save_pretrained(tmp_path)
    selfcheck.record(model, tmp_path)
    verdict = selfcheck.verify(tmp_path)
    assert verdict.sound
    assert verdict.weights
    assert verdict.difference < 1e-5
    for name in model.parts():
        changed = VipaForConditionalGeneration.from_pretrained(tmp_path)
        with torch.no_grad():
            for weight in changed.parts()[name].parameters():
                weight.add_(torch.randn_like(weight) * 0.05)
        if name != "spatial" or kind != "none":
            assert selfcheck.verify(tmp_path, changed).difference > 1e-4, name
        assert selfcheck.verify(tmp_path, changed).weights is False, name

"""Detectors of transformers that are told names: each family with random weights, against transformers' own reading of
what the networks say, and against networks that are right."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vipa.clips.example import example_clip
from vipa.hand3d.config import ObjectsConfig
from vipa.hand3d.estimators import batches
from vipa.hand3d.estimators.base import open_boxes

NAMES = ["Red_Cup", "plate", "t-shirt"]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]


def bert_tokenizer():
    from transformers import BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "-", "red", "cup", *LETTERS]
    return BertTokenizerFast(vocab={w: i for i, w in enumerate([*words, *(f"##{c}" for c in LETTERS)])})


def clip_tokenizer(length: int):
    from transformers import CLIPTokenizerFast

    characters = [*LETTERS, "-", ".", ","]
    words = ["!", *characters, *(f"{c}</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    return CLIPTokenizerFast(vocab=vocabulary, merges=[], pad_token="!", model_max_length=length)


def swin(out_indices):
    from transformers import SwinConfig

    return SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_indices=out_indices
    )  # fmt: skip


def grounding_dino(kind: str):
    import transformers
    from transformers import BertConfig

    config = getattr(transformers, f"{kind}Config")(
        backbone_config=swin([2, 3, 4]),
        text_config=BertConfig(
            vocab_size=61, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ),
        num_queries=10, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=4, decoder_attention_heads=4, d_model=32, disable_custom_kernels=True,
    )  # fmt: skip
    return getattr(transformers, f"{kind}ForObjectDetection")(config), bert_tokenizer()


def owl(kind: str):
    import transformers

    tokenizer = clip_tokenizer(40)
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 40}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 64, "patch_size": 16}  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision, projection_dim=16)
    return getattr(transformers, f"{kind}ForObjectDetection")(config), tokenizer


def omdet():
    from transformers import CLIPTextConfig, OmDetTurboConfig, OmDetTurboForObjectDetection

    tokenizer = clip_tokenizer(60)
    config = OmDetTurboConfig(
        backbone_config=swin([2, 3, 4]), image_size=64, disable_custom_kernels=True,
        apply_layernorm_after_vision_backbone=False,  # that is for timm's networks
        text_config=CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=60, projection_dim=16, eos_token_id=len(tokenizer) - 1,
        ),
        text_projection_in_dim=16, text_projection_out_dim=16, class_embed_dim=16, task_encoder_hidden_dim=16,
        num_queries=10, vision_features_channels=[32, 32, 32], encoder_in_channels=[16, 32, 64], encoder_hidden_dim=32,
        encoder_attention_heads=4, encoder_dim_feedforward=32, decoder_hidden_dim=32, decoder_num_heads=4,
        decoder_num_layers=2, decoder_dim_feedforward=32,
    )  # fmt: skip
    return OmDetTurboForObjectDetection(config), tokenizer


EDGES = {"size": {"shortest_edge": 64, "longest_edge": 96}, "image_processor_type": "GroundingDinoImageProcessor"}
SQUARE = {"size": {"height": 64, "width": 64}}
FAMILIES = {
    "grounding-dino": (lambda: grounding_dino("GroundingDino"), EDGES),
    "mm-grounding-dino": (lambda: grounding_dino("MMGroundingDino"), EDGES),
    "owlvit": (lambda: owl("OwlViT"), SQUARE | {"image_processor_type": "OwlViTImageProcessor"}),
    "owlv2": (lambda: owl("Owlv2"), SQUARE | {"image_processor_type": "Owlv2ImageProcessor"}),
    "omdet-turbo": (omdet, SQUARE | {"image_processor_type": "DetrImageProcessor"}),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder as the hub has it, tiny and with random weights, of a family by its name; made once."""
    made = {}

    def of(name: str) -> str:
        if name not in made:
            torch.manual_seed(0)
            folder = made[name] = tmp_path_factory.mktemp(name)
            make, pictures = FAMILIES[name]
            model, tokenizer = make()
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
        return str(made[name])

    return of


def opened(folder: str, threshold: float = 0.0, name: str = "zero-shot"):
    return open_boxes(ObjectsConfig(boxes=name, detector=folder, threshold=threshold))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_gives_the_boxes_of_its_network_in_pixels_of_a_picture_that_is_not_square(weights, family):
    clip, said = example_clip(), []
    detect = opened(weights(family))
    run = detect.run
    detect.run = lambda *given: said.append(run(*given)) or said[-1]
    boxes, scores = detect(clip, [0, 30], NAMES)
    assert boxes.shape == (3, 2, 4) and ((scores > 0) & (scores <= 1)).all() and detect.content
    assert (boxes >= -0.5).all() and (boxes[..., [0, 2]] <= 63.5).all() and (boxes[..., [1, 3]] <= 47.5).all()
    for i, out in enumerate(said):
        theirs = everything(detect, out, (48, 64))
        for box in boxes[:, i]:
            assert np.abs(theirs - box).max(-1).min() < 1e-3
    detect.threshold = 1.1
    boxes, scores = detect(clip, [0], NAMES)
    assert np.isnan(boxes).all() and (scores == 0).all() and detect(clip, [0], [])[0].shape == (0, 1, 4)


def everything(detect, out, size: tuple[int, int]) -> np.ndarray:
    """Every box of a network in pixels, clipped to the picture, as transformers' own code turns them."""
    from transformers.image_transforms import center_to_corners_format

    if "owl" in detect.model.config.model_type:
        boxes = detect.pictures.post_process_object_detection(out, threshold=0.0, target_sizes=[size])[0]["boxes"]
    else:
        shares = out.decoder_coord_logits[0] if "omdet" in detect.model.config.model_type else out.pred_boxes[0]
        boxes = center_to_corners_format(shares) * torch.tensor(size[::-1]).repeat(2)
    return np.clip(boxes.numpy(), 0, [*size[::-1], *size[::-1]]) - 0.5


@pytest.mark.parametrize("family", ["grounding-dino", "mm-grounding-dino", "owlvit", "owlv2"])
def test_what_a_network_is_given_is_what_transformers_own_processor_prepares(weights, family, monkeypatch):
    from transformers import GroundingDinoProcessor, Owlv2Processor, OwlViTProcessor

    detect, given = opened(weights(family)), {}
    model = detect.model
    monkeypatch.setattr(detect, "model", lambda **inputs: given.update(inputs) or model(**inputs))
    detect.model.config = model.config
    detect(clip := example_clip(), [3], NAMES)
    kind = {"owlvit": OwlViTProcessor, "owlv2": Owlv2Processor}.get(family, GroundingDinoProcessor)
    texts = ["red cup", "plate", "t-shirt"]
    prompt = [f"a photo of a {t}" for t in texts] if "owl" in family else "red cup. plate. t-shirt."
    picture = clip.frames.read([3])[0]
    theirs = kind(detect.pictures, detect.tokenizer)(images=picture, text=prompt, return_tensors="pt")
    assert set(given) == set(theirs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(given[name], torch.as_tensor(tensor), msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_is_right_gives_the_box_it_means(weights, family, monkeypatch):
    """The second name at pixels 10 ... 30 by 8 ... 40 of 64 by 48; the others nowhere."""
    detect = opened(weights(family), 0.5)
    extent = (64, 64) if family == "owlv2" else (64, 48)
    box = torch.tensor([20 / extent[0], 24 / extent[1], 20 / extent[0], 32 / extent[1]])
    boxes = torch.stack([torch.full((4,), 0.1), box])[None]
    logits = torch.full((1, 2, 30), -9.0)
    if "dino" in family:  # [CLS] red cup . p ##l ##a ##t ##e . t - s h ...
        logits[0, 1, 4:9] = 3.0
    else:
        logits[0, 1, 1] = 3.0
        logits = logits[..., :3]
    out = SimpleNamespace(logits=logits, pred_boxes=boxes, decoder_class_logits=logits, decoder_coord_logits=boxes)
    monkeypatch.setattr(detect, "run", lambda *given: out)
    found, scores = detect(example_clip(), [0], NAMES)
    np.testing.assert_allclose(found[1, 0], [9.5, 7.5, 29.5, 39.5], atol=1e-4)
    np.testing.assert_allclose(scores[:, 0], [0, 1 / (1 + np.exp(-3)), 0], atol=1e-6)
    assert np.isnan(found[[0, 2]]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_together_give_what_each_gives_alone_and_a_full_gpu_halves_the_batch(
    weights, family, monkeypatch
):
    clip, frames = example_clip(), list(range(0, 55, 5))
    detect = opened(weights(family))
    alone, run, tried = detect(clip, frames, NAMES), detect.run, []

    def small(images, *given):
        """Of a device that holds three pictures at once."""
        tried.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(images, *given)

    monkeypatch.setattr(detect, "run", small)
    monkeypatch.setattr(batches, "batch_size", lambda device: batches.AT_ONCE)
    together = detect(clip, frames, NAMES)
    assert tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert len(np.unique(alone[0].reshape(-1, len(frames), 4).round(2), axis=1)[0]) > 1  # pictures differ
    for one, other in zip(alone, together):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_the_name_that_was_there_before_gives_the_same(weights):
    clip = example_clip()
    old, new = (opened(weights("grounding-dino"), name=name) for name in ("grounding-dino", "zero-shot"))
    assert old.content == new.content
    np.testing.assert_array_equal(old(clip, [0], NAMES)[0], new(clip, [0], NAMES)[0])


@pytest.mark.parametrize("family", ["owlv2", "omdet-turbo"])
def test_names_that_a_network_cannot_read_are_refused(weights, family):
    with pytest.raises(ValueError, match="do not fit into"):
        opened(weights(family))(example_clip(), [0], ["cup", "a very long name " * 5])


def test_weights_that_are_no_such_detector_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="'bert', expected grounding-dino or mm-grounding-dino or owlv2"):
        opened(str(tmp_path))

import numpy as np
import pytest
import torch

from vipa.clips.example import example_clip
from vipa.hand3d.config import ObjectsConfig
from vipa.hand3d.estimators.base import open_boxes
from vipa.hand3d.estimators.zero_shot_boxes import best_boxes, prompt_of, token_spans

LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    ".",
    "-",
    "red",
    "cup",
    *LETTERS,
    *(f"##{c}" for c in LETTERS),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A GroundingDINO of transformers' own classes, tiny, with random weights, saved as a checkpoint is."""
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        SwinConfig,
    )
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        GroundingDinoImageProcessorPil,
    )

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_indices=[2, 3, 4],
    )
    bert = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        num_queries=10,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        d_model=32,
        disable_custom_kernels=True,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    sizes = {"shortest_edge": 64, "longest_edge": 96}
    GroundingDinoProcessor(GroundingDinoImageProcessorPil(size=sizes), tokenizer).save_pretrained(folder)
    return folder


def test_transformers_own_detector_gives_boxes_inside_the_image_or_none(weights):
    clip, names = example_clip(), ["red cup", "plate", "t-shirt"]
    detect = open_boxes(ObjectsConfig(boxes="grounding-dino", detector=str(weights), threshold=0.0))
    boxes, scores = detect(clip, [0, 30], names)
    assert boxes.shape == (3, 2, 4) and scores.shape == (3, 2)
    assert ((scores > 0) & (scores < 1)).all()
    assert (boxes >= -0.5).all() and (boxes[..., [0, 2]] <= 63.5).all() and (boxes[..., [1, 3]] <= 47.5).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    detect.threshold = 1.0
    boxes, scores = detect(clip, [0], names)
    assert np.isnan(boxes).all() and (scores == 0).all()
    assert detect(clip, [0], [])[0].shape == (0, 1, 4)


def test_a_prompt_knows_where_its_names_are():
    prompt, parts = prompt_of(["Red Cup", "t-shirt", "salt_shaker"])
    assert prompt == "red cup. t-shirt. salt shaker."
    assert [prompt[a:b] for a, b in parts] == ["red cup", "t-shirt", "salt shaker"]


def test_a_token_belongs_to_the_name_that_holds_it():
    offsets = [(0, 0), (0, 3), (4, 7), (7, 8), (9, 10), (10, 12), (12, 13), (0, 0)]  # red cup . t hi .
    assert token_spans(offsets, [(0, 7), (9, 12)]) == [[1, 2], [4, 5]]
    with pytest.raises(ValueError, match="number 2"):
        token_spans(offsets[:4], [(0, 7), (9, 12)])


def test_a_name_gets_the_box_on_which_all_its_words_agree():
    logits = torch.full((3, 6), -9.0)
    logits[0, 1:3] = torch.tensor([2.0, 2.0])  # red cup
    logits[1, 1:3] = torch.tensor([3.0, -9.0])  # something red
    logits[2, 4] = 0.0  # maybe a plate
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.4, 0.4]])
    found, scores = best_boxes(logits, boxes, [[1, 2], [4]], 0.4, (100, 50))
    np.testing.assert_allclose(found, [[39.5, 14.5, 59.5, 34.5], [69.5, 34.5, 99.5, 49.5]], atol=1e-4)
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-2)), 0.5], atol=1e-6)
    found, scores = best_boxes(logits, boxes, [[1, 2], [4]], 0.6, (100, 50))
    assert np.isnan(found[1]).all() and scores[1] == 0
    with pytest.raises(ValueError, match="do not fit"):
        best_boxes(logits, boxes, [[6]], 0.4, (100, 50))


def test_the_detector_counts_by_its_content(weights, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    def content(folder) -> str:
        return open_boxes(ObjectsConfig(boxes="grounding-dino", detector=str(folder))).content

    shutil.copytree(weights, tmp_path / "moved")
    assert content(weights) == content(tmp_path / "moved")
    tensors = load_file(tmp_path / "moved" / "model.safetensors")
    name = next(iter(sorted(tensors)))
    save_file(tensors | {name: tensors[name] + 0.1}, tmp_path / "moved" / "model.safetensors", {"format": "pt"})
    assert content(weights) != content(tmp_path / "moved")

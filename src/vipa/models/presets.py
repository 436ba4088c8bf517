"""Named sizes: `nano`, which every machine runs, and `vipa-2b`, the paper's."""

from dataclasses import dataclass
from typing import Any

from transformers import InternVLVisionConfig, PreTrainedConfig, Qwen3Config

from vipa.hands.motion_codec import MotionCodec
from vipa.models.configuration import ActionHeadConfig, FusionConfig, VipaConfig
from vipa.models.cut3r import Cut3rConfig, cut3r_512_config, nano_cut3r_config
from vipa.models.processing import IMAGE_TOKEN, VipaProcessor, image_processor

NANO_IMAGE_SIZE = 112
NANO_IMAGE_TOKENS = 64  # every patch: at 112 pixels a merged token would hold several things


PRESETS = ("nano", "vipa-2b")


Vocabulary = Any
"""A fast tokenizer (transformers' own types do not say what it has)."""


def nano_vlm_config(tokenizer: Vocabulary) -> VipaConfig:
    """InternVL at nano size, nothing added: 112 px, 8 x 8 patches, each an image token, tied embeddings (about 5 M).

    tokenizer: with image token and motion tokens in its vocabulary.
    """
    vision = InternVLVisionConfig(
        hidden_size=192,
        num_hidden_layers=5,
        num_attention_heads=6,
        intermediate_size=576,
        image_size=(NANO_IMAGE_SIZE, NANO_IMAGE_SIZE),
        patch_size=(14, 14),
        attention_bias=True,
    )
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=32,
        intermediate_size=512,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return VipaConfig(
        vision_config=vision,
        text_config=text,
        spatial_fusion_config=FusionConfig(kind="none", spatial_width=nano_cut3r_config().decoder_width),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=NANO_IMAGE_TOKENS,
        downsample_ratio=1.0,
        motion_token_start=tokenizer.convert_tokens_to_ids(MotionCodec().tokens[0]),
        tie_word_embeddings=True,
    )


def nano_vipa_config(
    tokenizer: Vocabulary,
    *,
    fusion: dict | None = None,
    embodiments: dict[str, list[int]] | None = None,
    horizon: int = 8,
) -> VipaConfig:
    """The whole model at nano size, at most about 10 M parameters with its 3D encoder.

    fusion: fields of FusionConfig to change. embodiments: name -> [state length, action length].
    """
    config = nano_vlm_config(tokenizer)
    config.spatial_config = nano_cut3r_config()
    width = {"spatial_width": config.spatial_config.decoder_width}
    config.spatial_fusion_config = FusionConfig(**width | nano_fusion() | (fusion or {}))
    config.action_config = nano_action_config(embodiments, horizon)
    return config


def nano_fusion() -> dict:
    """Fields of nano's FusionConfig. No dropout: at this size it costs more than it gives."""
    return {"attention_width": 192, "heads": 6, "dropout": 0.0}


def nano_action_config(embodiments: dict[str, list[int]] | None = None, horizon: int = 8) -> ActionHeadConfig:
    """nano's action head; unless told otherwise for the tabletop's gripper robot."""
    return ActionHeadConfig(
        horizon=horizon,
        queries=16,
        embodiments=embodiments or {"tabletop gripper": [8, 7]},
        width=128,
        layers=4,
        heads=4,
        timestep_channels=128,
    )


def nano_processor(tokenizer: Any) -> VipaProcessor:
    """The processor of a nano model."""
    return VipaProcessor(
        image_processor(NANO_IMAGE_SIZE),
        tokenizer,
        image_seq_length=NANO_IMAGE_TOKENS,
        spatial_size=NANO_IMAGE_SIZE,
        max_images=8,
    )


def vipa_2b_config(
    *,
    vocabulary: int = 151936,
    motion_token_start: int | None = None,
    fusion: dict | None = None,
    spatial: Cut3rConfig | PreTrainedConfig | None = None,
    embodiments: dict[str, list[int]] | None = None,
) -> VipaConfig:
    """InternVL3.5-2B + CUT3R, the paper's sizes; the vocabulary is the public checkpoint's unless given.

    Open in the paper: the sizes of fusion and action head. Here the fusion's attention space is the vision width
    and the action head is GR00T N1's (16 layers of width 1024).
    """
    text = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=2048,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=6144,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )
    vision = InternVLVisionConfig(attention_bias=True)
    return VipaConfig(
        vision_config=vision,
        text_config=text,
        spatial_config=spatial or cut3r_512_config(),
        spatial_fusion_config=FusionConfig(
            **{"spatial_width": 768, "attention_width": 1024, "heads": 16} | (fusion or {})
        ),
        action_config=ActionHeadConfig(embodiments=embodiments),
        image_token_id=151671,
        image_seq_length=256,
        motion_token_start=motion_token_start,
        tie_word_embeddings=True,
        encoder_precision="bf16",
    )


@dataclass(frozen=True)
class CountedVocabulary:
    """A vocabulary of known size whose words do not matter: InternVL's ids in front, motion tokens at the end."""

    size: int
    pad_token_id: int = 0
    eos_token_id: int = 2

    def __len__(self) -> int:
        return self.size

    def convert_tokens_to_ids(self, tokens: str) -> int:
        return 5 if tokens == IMAGE_TOKEN else self.size - len(MotionCodec().tokens)


def preset_config(name: str) -> VipaConfig:
    """The configuration of a named size, for arithmetic and random weights: no tokenizer needed.

    vipa-2b: motion tokens follow the 151,674 entries of InternVL3.5's tokenizer, rows in whole 64s.
    """
    motion = len(MotionCodec().tokens)
    if name == "nano":
        return nano_vipa_config(CountedVocabulary(1024 + motion))
    if name == "vipa-2b":
        return vipa_2b_config(vocabulary=-(-(151_674 + motion) // 64) * 64, motion_token_start=151_674)
    raise ValueError(f"preset {name!r} is unknown: choose one of {', '.join(PRESETS)}")

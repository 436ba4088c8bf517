"""The sizes of nano: InternVL and CUT3R in miniature, which every machine runs."""

from dataclasses import dataclass
from typing import Any

from transformers import InternVLVisionConfig, Qwen3Config

from vipa.hands.motion_codec import MotionCodec
from vipa.models.configuration import ActionHeadConfig, FusionConfig, VipaConfig
from vipa.models.cut3r import Cut3rConfig
from vipa.models.presets import processor_of
from vipa.models.processing import VipaProcessor
from vipa.models.prompt_layout import IMAGE_TOKEN

IMAGE_SIZE = 112
IMAGE_TOKENS = 64  # every patch: at 112 pixels a merged token would hold several things

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
        image_size=(IMAGE_SIZE, IMAGE_SIZE),
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
        image_seq_length=IMAGE_TOKENS,
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
    sizes: dict[str, Any] = {"spatial_width": nano_cut3r_config().decoder_width}
    config.spatial_fusion_config = FusionConfig(**sizes | nano_fusion() | (fusion or {}))
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


def nano_processor(tokenizer: Vocabulary) -> VipaProcessor:
    """The processor of a nano model."""
    return processor_of(nano_vlm_config(tokenizer), tokenizer, IMAGE_SIZE)


def nano_cut3r_config() -> Cut3rConfig:
    """The miniature that the project trains itself: 112 px, about 3 million parameters, no ray maps."""
    return Cut3rConfig(
        encoder_width=192,
        encoder_depth=4,
        encoder_heads=6,
        decoder_width=80,
        decoder_depth=4,
        decoder_heads=5,
        state_heads=5,
        state_size=64,
        memory_size=16,
        memory_depth=1,
        transform_depth=1,
        ray_map_depth=0,
        head="linear",
        mlp_ratio=2,
        image_size=112,
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

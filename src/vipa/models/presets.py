"""Named sizes: the paper's here, others (nano) from the entry point group `vipa.presets`."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from transformers import InternVLVisionConfig, PreTrainedConfig, Qwen3Config

from vipa.hands.motion_codec import MotionCodec
from vipa.models.configuration import ActionHeadConfig, FusionConfig, VipaConfig
from vipa.models.cut3r import Cut3rConfig, cut3r_512_config
from vipa.models.modeling import VipaForConditionalGeneration
from vipa.models.processing import VipaProcessor, image_processor

INTERNVL_ENTRIES = 151_674
"""Of InternVL3.5's tokenizer; the released embeddings have 151,936 rows."""


@dataclass(frozen=True)
class Shipped:
    """Weights that come with a preset: NAME:STAGE is a start.

    load: model (float32, evaluation mode) and processor after a stage. content: sixteen hex digits of all files that
    decide it. beside: where a file lies that belongs to a stage's model; it need not be there.
    """

    stages: tuple[str, ...]
    load: Callable[[str], tuple[VipaForConditionalGeneration, VipaProcessor]]
    content: Callable[[str], str]
    beside: Callable[[str, str], Path]


@dataclass(frozen=True)
class Preset:
    """A named size. config: for arithmetic and random weights, no tokenizer needed. spatial_size: pixels, both sides,
    of the spatial encoder's input."""

    config: Callable[[], VipaConfig]
    spatial_size: int
    shipped: Shipped | None = None


def vipa_2b_config(
    *,
    vocabulary: int = 151936,
    motion_token_start: int | None = None,
    fusion: dict | None = None,
    spatial: Cut3rConfig | PreTrainedConfig | None = None,
    embodiments: dict[str, list[int]] | None = None,
    width: int = 2048,
    feed_forward: int = 6144,
) -> VipaConfig:
    """InternVL3.5-2B + CUT3R, the paper's sizes; the vocabulary is the public checkpoint's unless given.

    Open in the paper: the sizes of fusion and action head. Here the fusion's attention space is the vision width
    and the action head is GR00T N1's (16 layers of width 1024). width, feed_forward: of the language model.
    """
    text = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=feed_forward,
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


def vipa_1b_config(**changes: Any) -> VipaConfig:
    """InternVL3.5-1B (Qwen3-0.6B) + CUT3R, for one 24-GB GPU; the rest as `vipa_2b_config`."""
    return vipa_2b_config(**{"width": 1024, "feed_forward": 3072} | changes)


def _with_motion(config: Callable[..., VipaConfig]) -> Callable[[], VipaConfig]:
    """The public vocabulary with motion tokens after its last entry, rows in whole 64s."""
    rows = -(-(INTERNVL_ENTRIES + len(MotionCodec().tokens)) // 64) * 64
    return lambda: config(vocabulary=rows, motion_token_start=INTERNVL_ENTRIES)


OWN = {
    "vipa-1b": Preset(_with_motion(vipa_1b_config), spatial_size=432),
    "vipa-2b": Preset(_with_motion(vipa_2b_config), spatial_size=432),
}


def preset_names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted({*OWN, *(entry.name for entry in entry_points(group="vipa.presets"))})


def find_preset(name: str) -> Preset:
    """The preset of that name. ValueError for an unknown one."""
    for entry in entry_points(group="vipa.presets"):
        if entry.name == name:
            return entry.load()
    if name not in OWN:
        raise ValueError(f"preset {name!r} is unknown: choose one of {', '.join(preset_names())}")
    return OWN[name]


def preset_config(name: str) -> VipaConfig:
    """The configuration of a named size, for arithmetic and random weights. ValueError for an unknown name."""
    return find_preset(name).config()


def processor_of(config: VipaConfig, tokenizer: Any, spatial_size: int) -> VipaProcessor:
    """The processor of a model of this configuration."""
    return VipaProcessor(
        image_processor(config.vision_config.image_size[0]),
        tokenizer,
        image_seq_length=config.image_seq_length,
        spatial_size=spatial_size,
        max_images=config.max_images,
    )

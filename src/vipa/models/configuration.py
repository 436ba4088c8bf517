"""Configuration: InternVL's fields plus spatial encoder, fusion, motion tokens and action head."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, InternVLConfig, InternVLVisionConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

FUSION_KINDS = ("cross_attention", "gated", "concat", "none")
VLM_FIELDS = (
    "vision_config",
    "text_config",
    "image_token_id",
    "image_seq_length",
    "downsample_ratio",
    "projector_hidden_act",
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "tie_word_embeddings",
)
FUSION_SOURCES = ("spatial", "semantic")


@strict
class FusionConfig(PreTrainedConfig):
    """How spatial tokens enter the semantic ones (section 3.2.2).

    kind: `cross_attention` (the paper's), `gated`, `concat` or `none` (plain InternVL).
    source: what the fusion reads besides V_sem: `spatial` tokens, or `semantic` ones (a control: same parameters,
        same training, no 3D).
    spatial_width: width of the spatial encoder's decoder tokens.
    attention_width, heads: the shared attention space.
    alpha_init: starting value of the learnable scale; 0.0 (alpha-zero) starts as plain InternVL.
    branch_init: starting weight of the branch's layer norm; 0.0 is a second way to start as InternVL, in which
        alpha keeps its 0.5 and the branch's norm learns first.
    dropout: after the residual, as in the paper.
    """

    model_type = "vipa_fusion"
    base_config_key = "spatial_fusion_config"

    kind: str = "cross_attention"
    source: str = "spatial"
    spatial_width: int = 768
    attention_width: int = 1024
    heads: int = 16
    alpha_init: float = 0.5
    branch_init: float = 1.0
    dropout: float = 0.1

    def __post_init__(self, **kwargs: Any):
        super().__post_init__(**kwargs)
        if self.kind not in FUSION_KINDS:
            raise ValueError(f"spatial_fusion_config.kind {self.kind!r}: choose one of {', '.join(FUSION_KINDS)}")
        if self.source not in FUSION_SOURCES:
            raise ValueError(
                f"spatial_fusion_config.source {self.source!r}: choose one of {', '.join(FUSION_SOURCES)}"
            )
        if self.attention_width % self.heads:
            raise ValueError(
                f"spatial_fusion_config: heads {self.heads} do not divide attention_width {self.attention_width}"
            )

    @property
    def reads_spatial(self) -> bool:
        """Whether the model needs a spatial encoder at all."""
        return self.kind != "none" and self.source == "spatial"


@strict
class ActionHeadConfig(PreTrainedConfig):
    """The flow-matching action head (section 3.2.2) and the queries that condition it.

    horizon: steps in an action chunk. queries: learnable tokens appended to the VLM's input.
    embodiments: name -> [state length, action length]. Ids are their places in the order of the names, which is also
        the order of a saved configuration.
    width, layers, heads: of the diffusion transformer. Even layers attend to the queries, odd ones to the chunk.
    connection: `last` (the paper's: last hidden state of the queries) or `per_layer` (each cross-attending layer
        reads its own learned mixture of the language model's layers).
    tau: `uniform` (the paper's) or `beta`, (0.999 - Beta(1.5, 1)) / 0.999.
    max_delay: most first actions of a chunk that training gave as already sent (`continuation.py`); the paper's: none.
    """

    model_type = "vipa_action_head"
    base_config_key = "action_config"

    horizon: int = 16
    queries: int = 64
    embodiments: dict[str, list[int]] | None = None
    width: int = 1024
    layers: int = 16
    heads: int = 16
    connection: str = "last"
    tau: str = "uniform"
    max_delay: int = 0
    timestep_buckets: int = 1000
    timestep_channels: int = 256
    dropout: float = 0.0

    def __post_init__(self, **kwargs: Any):
        super().__post_init__(**kwargs)
        self.embodiments = dict(sorted((self.embodiments or {"tabletop": [8, 7]}).items()))
        if self.connection not in ("last", "per_layer"):
            raise ValueError(f"action_config.connection {self.connection!r}: choose 'last' or 'per_layer'")
        if self.tau not in ("uniform", "beta"):
            raise ValueError(f"action_config.tau {self.tau!r}: choose 'uniform' or 'beta'")
        if self.width % self.heads:
            raise ValueError(f"action_config.width {self.width} is not a multiple of heads {self.heads}")

    @property
    def state_length(self) -> int:
        """Longest state of any embodiment."""
        return max(state for state, _ in self.embodiments.values())

    @property
    def action_length(self) -> int:
        """Longest action of any embodiment."""
        return max(action for _, action in self.embodiments.values())


@strict
class VipaConfig(InternVLConfig):
    """InternVL's configuration with the parts that VIPA adds; each added part may be None (absent).

    motion_token_start: id of the first motion token (`<mx_0>`); the others follow in `MotionCodec.tokens` order.
        None: the vocabulary has no motion tokens.
    motion_bins: bins per axis.
    max_images: the largest number of images one sample may have.
    conventions: of the motion tokens and direction words that it learned (`hand3d.conventions`); None where training
        did not say.
    encoder_precision: of the encoders' arithmetic and their tokens, wherever the model is used: `fp32` (none but the
        weights' own: training and evaluation load them as float32) or `bf16` (autocast, tokens rounded to bfloat16).
    """

    model_type = "vipa"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="qwen3"),
        "vision_config": SubConfigSpec(config_class=InternVLVisionConfig),
        "spatial_config": SubConfigSpec(config_class=AutoConfig, model_type="cut3r", optional=True),
        "spatial_fusion_config": SubConfigSpec(config_class=FusionConfig),
        "action_config": SubConfigSpec(config_class=ActionHeadConfig, optional=True),
    }

    spatial_config: dict | PreTrainedConfig | None = None
    spatial_fusion_config: dict | PreTrainedConfig | None = None
    action_config: dict | PreTrainedConfig | None = None
    motion_token_start: int | None = None
    motion_bins: int = 1024
    max_images: int = 8
    conventions: dict[str, Any] | None = None
    encoder_precision: str = "fp32"

    def __post_init__(self, **kwargs: Any):
        super().__post_init__(**kwargs)
        if self.encoder_precision not in ("fp32", "bf16"):
            raise ValueError(f"encoder_precision {self.encoder_precision!r}: choose 'fp32' or 'bf16'")

    @property
    def motion_token_count(self) -> int:
        """Rows that motion takes in the vocabulary: three axes and four delimiters."""
        return 3 * self.motion_bins + 4


def vipa_config_of(
    vlm: InternVLConfig,
    spatial: PreTrainedConfig | None,
    fusion: dict | None = None,
    action: ActionHeadConfig | None = None,
) -> VipaConfig:
    """The configuration of pretrained parts put together; the fusion takes their widths unless told else."""
    own = {name: getattr(vlm, name) for name in VLM_FIELDS}
    motion = {
        name: getattr(vlm, name)
        for name in ("motion_token_start", "motion_bins", "conventions")
        if hasattr(vlm, name)
    }
    vision = vlm.vision_config
    size = {"attention_width": vision.hidden_size, "heads": vision.num_attention_heads}
    if spatial is not None:
        size["spatial_width"] = spatial.decoder_width
    return VipaConfig(
        **own,
        **motion,
        spatial_config=spatial,
        spatial_fusion_config=FusionConfig(**size | (fusion or {})),
        action_config=action,
    )

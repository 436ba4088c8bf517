"""Sizes of a CUT3R network (docs/cut3r.md): the released ones and any other."""

import math
from typing import Any

from transformers import PretrainedConfig

HEADS = ("dpt", "linear")


class Cut3rConfig(PretrainedConfig):
    """Everything that shapes a CUT3R network. The defaults are the released 224 model.

    encoder_*: the image encoder. decoder_*: both decoders, of one width and depth; decoder_heads of the image
    decoder, the memory and the cross-view head; state_heads of the state decoder. state_size: learned state tokens.
    memory_size: slots of the local memory, each twice the decoder's width. memory_depth, transform_depth: blocks of
    the pose retriever (reading and writing, each) and of the cross-view head. ray_map_depth: encoder blocks for ray
    maps; 0 builds a model without ray-map encoder and without the rgb head, which exists to answer ray-map queries.
    ray_map_heads: None is 16, as the authors have it at any width, or encoder_heads where 16 do not fit.
    head: "dpt" or "linear". image_size: pixels that Cut3rProcessor aims at. unit_error: of weights trained in metres,
    the relative standard deviation of their unit from clip to clip, where it was measured. edge: of weights that run
    hands into what lies behind them, (quantile, relative error): the quantile of joint depth / depth in the map, over
    a clip's visible joints, that is the scale where most joints agree on none (see `hand3d.calibration`). source: of
    weights that know the pictures of one source of clips only, its name; None: of any.

    Raises ValueError where sizes do not fit together.
    """

    model_type = "cut3r"

    def __init__(
        self,
        encoder_width: int = 1024,
        encoder_depth: int = 24,
        encoder_heads: int = 16,
        decoder_width: int = 768,
        decoder_depth: int = 12,
        decoder_heads: int = 12,
        state_heads: int = 16,
        state_size: int = 768,
        memory_size: int = 256,
        memory_depth: int = 2,
        transform_depth: int = 2,
        ray_map_depth: int = 2,
        ray_map_heads: int | None = None,
        head: str = "linear",
        mlp_ratio: int = 4,
        patch_size: int = 16,
        image_size: int = 224,
        unit_error: float | None = None,
        edge: tuple[float, float] | None = None,
        source: str | None = None,
        **kwargs: Any,
    ):
        self.encoder_width = encoder_width
        self.encoder_depth = encoder_depth
        self.encoder_heads = encoder_heads
        self.decoder_width = decoder_width
        self.decoder_depth = decoder_depth
        self.decoder_heads = decoder_heads
        self.state_heads = state_heads
        self.state_size = state_size
        self.memory_size = memory_size
        self.memory_depth = memory_depth
        self.transform_depth = transform_depth
        self.ray_map_depth = ray_map_depth
        self.ray_map_heads = ray_map_heads or (encoder_heads if encoder_width % 64 else 16)
        self.head = head
        self.mlp_ratio = mlp_ratio
        self.patch_size = patch_size
        self.image_size = image_size
        self.unit_error = unit_error
        self.edge = None if edge is None else (float(edge[0]), float(edge[1]))
        self.source = source
        super().__init__(**kwargs)
        if head not in HEADS:
            raise ValueError(f"Cut3rConfig: head {head!r} is unknown; expected one of {HEADS}")
        for name, width, heads in (
            ("encoder", encoder_width, encoder_heads),
            ("ray-map encoder", encoder_width, self.ray_map_heads),
            ("decoder", decoder_width, decoder_heads),
            ("state decoder", decoder_width, state_heads),
        ):
            if width % (4 * heads):
                raise ValueError(
                    f"Cut3rConfig: {name} width {width} over {heads} heads is {width / heads:g} a head; the "
                    f"rotary embedding needs a multiple of 4"
                )
        if head == "dpt" and decoder_depth % 4:
            raise ValueError(
                f"Cut3rConfig: the DPT head reads half and three quarters of the decoder; depth "
                f"{decoder_depth} is not a multiple of 4"
            )

    @property
    def hooks(self) -> tuple[int, ...]:
        """Decoder layers (counted from 1) that the head reads besides the encoder and the last layer: none, or two."""
        return (self.decoder_depth // 2, self.decoder_depth * 3 // 4) if self.head == "dpt" else ()

    @property
    def state_grid_width(self) -> int:
        """Columns of the grid on which the state tokens stand: floor(sqrt(n)) made even (28 for 768)."""
        root = math.isqrt(self.state_size)
        return root + root % 2


def cut3r_512_config() -> Cut3rConfig:
    """The released `cut3r_512_dpt_4_64`: 793,307,858 parameters."""
    return Cut3rConfig(head="dpt", image_size=512)


def cut3r_224_config() -> Cut3rConfig:
    """The released `cut3r_224_linear_4`: 748,443,655 parameters."""
    return Cut3rConfig(head="linear", image_size=224)

"""The CUT3R network (Continuous 3D Perception Model with Persistent State), described in docs/cut3r.md.

Two ways to run, same numbers: a batch of clips at once (`forward`), and streaming (`step`), whose state has a
constant size however long the video. Encoders and heads see all frames of a batch together; only the recurrence
over frames is sequential.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel, initialization
from transformers.utils import ModelOutput

from vipa.models.cut3r.configuration_cut3r import Cut3rConfig
from vipa.models.cut3r.heads import HEAD_NAMES, DptHead, HeadName, LinearHead
from vipa.models.cut3r.layers import DecoderBlock, EncoderBlock, Rope, grid_positions, layer_norm, rope_at
from vipa.models.cut3r.memory import PoseRetriever


@dataclass(frozen=True)
class Cut3rState:
    """What is carried from frame to frame; the same size for a clip of any length.

    started: whether a frame has been kept yet. A stream's first frame uses the learned pose token, later frames one
    retrieved from memory.
    """

    tokens: Float[Tensor, "batch state_size width"]
    memory: Float[Tensor, "batch memory_size 2*width"]
    started: Bool[Tensor, "batch"]

    def detach(self) -> "Cut3rState":
        """The same numbers without their history: for training on parts of a long clip."""
        return replace(self, tokens=self.tokens.detach(), memory=self.memory.detach())


@dataclass
class Cut3rOutput(ModelOutput):
    """What the network says of every frame; None for heads that were not asked for.

    Points are in metres where training was metric. Camera frames are OpenCV (x right, y down, z forward); the world is
    the first frame's camera.
    """

    points_self: Float[Tensor, "batch frames h w 3"] | None = None  # in each frame's own camera
    conf_self: Float[Tensor, "batch frames h w"] | None = None  # > 1
    points_world: Float[Tensor, "batch frames h w 3"] | None = None  # in the first frame's camera
    conf_world: Float[Tensor, "batch frames h w"] | None = None
    rgb: Float[Tensor, "batch frames h w 3"] | None = None  # in (-1, 1)
    camera_pose: Float[Tensor, "batch frames 7"] | None = (
        None  # translation, quaternion wxyz: camera -> first frame
    )
    encoder_tokens: Float[Tensor, "batch frames patches encoder_width"] | None = None
    decoder_tokens: Float[Tensor, "batch frames 1+patches width"] | None = (
        None  # camera token first, after dec_norm
    )
    state: Cut3rState | None = None  # after the last frame


class Encoded(NamedTuple):
    """All that the recurrence needs of the images of a batch of clips."""

    tokens: Float[Tensor, "batch frames patches encoder_width"]
    patches: Float[Tensor, "batch frames patches width"]
    keys: Float[Tensor, "batch frames width"]
    rows: int
    columns: int


class PatchEmbedding(nn.Module):
    """Non-overlapping patches, row by row.

    Surprising: written as one matrix product, its last bits depend on how many frames there are, and the encoder's
    rounding to fp16 makes 3e-5 of them: streaming would no longer equal the batch.
    """

    def __init__(self, channels: int, width: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, patch_size)

    def forward(self, x: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n patches width"]:
        return self.proj(x).flatten(2).transpose(1, 2).contiguous()  # else every block inherits the layout


class Cut3rModel(PreTrainedModel):
    """CUT3R. `model(images)` for clips, `model.step(frame, state)` for streams, `model.decoder_tokens(images)` for the
    dual encoder. Attributes are named as in the released checkpoints.
    """

    config_class = Cut3rConfig
    config: Cut3rConfig
    main_input_name = "images"
    base_model_prefix = "cut3r"
    _no_split_modules = ["EncoderBlock", "DecoderBlock"]  # noqa: RUF012
    _tied_weights_keys = {  # noqa: RUF012
        rf"downstream_head.dpt_{head}.scratch.layer_rn.{i}.weight": (
            f"downstream_head.dpt_{head}.scratch.layer{i + 1}_rn.weight"
        )
        for head in ("self", "cross", "rgb")
        for i in range(4)
    }

    def __init__(self, config: Cut3rConfig):
        super().__init__(config)
        if config.head != "dpt":
            self._tied_weights_keys = {}
        elif not config.ray_map_depth:
            self._tied_weights_keys = {k: v for k, v in self._tied_weights_keys.items() if "dpt_rgb" not in k}
        e, c = config.encoder_width, config.decoder_width
        self.pose_token = nn.Parameter(torch.zeros(1, 1, c))
        if config.ray_map_depth:
            self.masked_img_token = nn.Parameter(torch.zeros(1, e))
            self.masked_ray_map_token = nn.Parameter(torch.zeros(1, e))
        self.patch_embed = PatchEmbedding(3, e, config.patch_size)
        encoder = (e, config.encoder_heads, config.mlp_ratio, True)
        self.enc_blocks = nn.ModuleList(EncoderBlock(*encoder) for _ in range(config.encoder_depth))
        self.enc_norm = layer_norm(e)
        self.decoder_embed = nn.Linear(e, c)
        image, state = ((c, heads, config.mlp_ratio) for heads in (config.decoder_heads, config.state_heads))
        self.dec_blocks = nn.ModuleList(DecoderBlock(*image) for _ in range(config.decoder_depth))
        self.dec_norm = layer_norm(c)
        if config.ray_map_depth:
            self.patch_embed_ray_map = PatchEmbedding(6, e, config.patch_size)
            rays = (e, config.ray_map_heads, config.mlp_ratio, False)
            self.enc_blocks_ray_map = nn.ModuleList(EncoderBlock(*rays) for _ in range(config.ray_map_depth))
            self.enc_norm_ray_map = layer_norm(e)
        self.pose_retriever = PoseRetriever(config)
        self.register_tokens = nn.Embedding(config.state_size, e)
        self.decoder_embed_state = nn.Linear(e, c)
        self.dec_blocks_state = nn.ModuleList(DecoderBlock(*state) for _ in range(config.decoder_depth))
        self.dec_norm_state = layer_norm(c)
        self.downstream_head = DptHead(config) if config.head == "dpt" else LinearHead(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            initialization.xavier_uniform_(module.weight)
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.LayerNorm):
            initialization.ones_(module.weight)
            initialization.zeros_(module.bias)
        elif isinstance(module, PoseRetriever):
            initialization.normal_(module.masked_token, std=0.02)
            initialization.normal_(module.mem, std=0.02)
        elif isinstance(module, Cut3rModel):
            for name in ("pose_token", "masked_img_token", "masked_ray_map_token"):
                if hasattr(module, name):
                    initialization.normal_(getattr(module, name), std=0.02)

    # The parts of a frame's way

    def encode(
        self,
        images: Float[Tensor, "batch frames 3 h w"],
        ray_maps: Float[Tensor, "batch frames 6 h w"] | None = None,
        img_mask: Bool[Tensor, "batch frames"] | None = None,
        ray_mask: Bool[Tensor, "batch frames"] | None = None,
    ) -> Encoded:
        """All frames of all clips at once. A frame without an image (img_mask False) counts as the learned token."""
        batch, frames, _, height, width = images.shape
        rows, columns = height // self.config.patch_size, width // self.config.patch_size
        positions = grid_positions(rows, columns, images.device)
        rope = rope_at(positions, self.config.encoder_width // self.config.encoder_heads)

        x = self.patch_embed(images.flatten(0, 1).to(self.dtype))
        for block in self.enc_blocks:
            x = block(x, rope)
        tokens = self.enc_norm(x).unflatten(0, (batch, frames))
        if img_mask is not None:
            tokens = torch.where(img_mask[..., None, None], tokens, self.masked_img_token)
        if ray_maps is not None:
            rope = rope_at(positions, self.config.encoder_width // self.config.ray_map_heads)
            x = self.patch_embed_ray_map(ray_maps.flatten(0, 1).to(self.dtype))
            for block in self.enc_blocks_ray_map:
                x = block(x, rope)
            rays = self.enc_norm_ray_map(x).unflatten(0, (batch, frames))
            if ray_mask is not None:
                rays = torch.where(ray_mask[..., None, None], rays, self.masked_ray_map_token)
            tokens = tokens + rays
        keys = self.pose_retriever.key(tokens.mean(2))
        return Encoded(tokens, self.decoder_embed(tokens), keys, rows, columns)

    def initial_state(self, batch: int) -> Cut3rState:
        """The learned state and memory of streams that have seen nothing."""
        tokens = self.decoder_embed_state(self.register_tokens.weight)
        started = torch.zeros(batch, dtype=torch.bool, device=tokens.device)
        return Cut3rState(tokens.expand(batch, -1, -1), self.pose_retriever.initial(batch), started)

    def _ropes(self, rows: int, columns: int, device: torch.device) -> tuple[Rope, Rope, Rope, Rope]:
        """Rotations of the image and state tokens, for the head width of the image and of the state decoder."""
        config = self.config
        pose = torch.full((1, 2), -1, device=device)
        image = torch.cat([pose, grid_positions(rows, columns, device)])
        grid = config.state_grid_width
        state = grid_positions(-(-config.state_size // grid), grid, device)[: config.state_size]
        wide, narrow = config.decoder_width // config.decoder_heads, config.decoder_width // config.state_heads
        return rope_at(image, wide), rope_at(state, wide), rope_at(state, narrow), rope_at(image, narrow)

    def decode(
        self,
        patches: Float[Tensor, "batch patches width"],
        key: Float[Tensor, "batch width"],
        state: Cut3rState,
        ropes: tuple[Rope, Rope, Rope, Rope],
    ) -> tuple[list[Tensor], Cut3rState]:
        """One frame: image and state streams attend to each other, both from the previous layer's pair.

        Returns image tokens (batch, 1 + patches, width) of the hooked layers and, after dec_norm, of the last.
        """
        retrieved = self.pose_retriever.read(key, state.memory)[:, None]
        pose = torch.where(state.started[:, None, None], retrieved, self.pose_token)
        x, s, hooked = torch.cat([pose, patches], 1), state.tokens, []
        for i, (image_block, state_block) in enumerate(zip(self.dec_blocks, self.dec_blocks_state), 1):
            x, s = image_block(x, s, ropes[0], ropes[1]), state_block(s, x, ropes[2], ropes[3])
            if i in self.config.hooks:
                hooked.append(x)
        x = self.dec_norm(x)
        memory = self.pose_retriever.write(state.memory, key, x[:, 0])
        return [*hooked, x], Cut3rState(self.dec_norm_state(s), memory, torch.ones_like(state.started))

    def recur(
        self,
        encoded: Encoded,
        state: Cut3rState,
        keep: Bool[Tensor, "batch frames"] | None,
        reset: Bool[Tensor, "batch frames"] | None,
    ) -> tuple[list[Float[Tensor, "batch frames n width"]], Cut3rState]:
        """The sequential part: frame by frame through `decode`, what is kept going into the state.

        keep: frames whose state and memory stay. reset: frames after which the stream gets the learned state and memory
        back (its next pose token still comes from that memory: not the same as a new clip).
        """
        ropes = self._ropes(encoded.rows, encoded.columns, encoded.patches.device)
        initial = self.initial_state(len(encoded.patches)) if reset is not None else state
        layers: list[list[Tensor]] = []
        for t in range(encoded.patches.shape[1]):
            before = state
            hooked, state = self.decode(encoded.patches[:, t], encoded.keys[:, t], before, ropes)
            layers.append(hooked)
            if keep is not None:
                state = select(keep[:, t], state, before)
            if reset is not None:
                state = select(reset[:, t], replace(initial, started=state.started), state)
        return [torch.stack(frames, 1) for frames in zip(*layers)], state

    def read_out(
        self, encoded: Encoded, layers: list[Tensor], heads: Sequence[HeadName]
    ) -> dict[str, Float[Tensor, "batch frames *_"]]:
        """The wanted heads' outputs for all frames, from what `encode` and `recur` returned."""
        batch, frames = encoded.tokens.shape[:2]
        patches = [encoded.tokens, *(layer[:, :, 1:] for layer in layers)]
        positions = grid_positions(encoded.rows, encoded.columns, encoded.tokens.device)
        rope = rope_at(positions, self.config.decoder_width // self.config.decoder_heads)
        outputs = self.downstream_head(
            [layer.flatten(0, 1) for layer in patches],
            layers[-1][:, :, 0].flatten(0, 1),
            encoded.rows,
            encoded.columns,
            rope,
            heads,
        )
        return {name: value.unflatten(0, (batch, frames)) for name, value in outputs.items()}

    # The ways to run it

    def forward(
        self,
        images: Float[Tensor, "batch frames 3 h w"],
        *,
        ray_maps: Float[Tensor, "batch frames 6 h w"] | None = None,
        img_mask: Bool[Tensor, "batch frames"] | None = None,
        ray_mask: Bool[Tensor, "batch frames"] | None = None,
        update: Bool[Tensor, "batch frames"] | None = None,
        reset: Bool[Tensor, "batch frames"] | None = None,
        state: Cut3rState | None = None,
        heads: Sequence[HeadName] | None = None,
        **_: object,
    ) -> Cut3rOutput:
        """A batch of clips, or its continuation from the `state` of an earlier call; causal over frames.

        images: in [-1, 1], height and width multiples of the patch size. ray_maps: rays instead of, or with, images.
        img_mask, ray_mask: which frames have an image, a ray map (default all that are given). With ray_maps given, a
        frame without one gets the learned token in its place; without ray_maps nothing is added.
        update=False: the frame is answered but leaves no trace. reset=True: after the frame, the stream forgets.
        heads: of "self", "world", "rgb", "pose"; default all that the model has; () gives tokens only.

        ValueError for clips without frames, sizes that do not divide, values out of range, ray maps without encoder.
        """
        wanted = self._wanted(heads)
        self._check(images, ray_maps, img_mask=img_mask, ray_mask=ray_mask, update=update, reset=reset)
        encoded = self.encode(images, ray_maps, img_mask, ray_mask)
        masks = [mask for mask in (img_mask, update) if mask is not None]
        keep = torch.stack(masks).all(0) if masks else None
        start = state if state is not None else self.initial_state(len(images))
        layers, state = self.recur(encoded, start, keep, reset)
        outputs = self.read_out(encoded, layers, wanted) if wanted else {}
        return Cut3rOutput(**outputs, encoder_tokens=encoded.tokens, decoder_tokens=layers[-1], state=state)

    def step(
        self,
        frame: Float[Tensor, "batch 3 h w"],
        state: Cut3rState | None = None,
        *,
        ray_map: Float[Tensor, "batch 6 h w"] | None = None,
        img_mask: Bool[Tensor, "batch"] | None = None,
        ray_mask: Bool[Tensor, "batch"] | None = None,
        update: Bool[Tensor, "batch"] | None = None,
        reset: Bool[Tensor, "batch"] | None = None,
        heads: Sequence[HeadName] | None = None,
    ) -> tuple[Cut3rOutput, Cut3rState]:
        """The next frame of one or several streams; `state` None begins them. As `forward`, without the frames axis."""
        if frame.ndim != 4:
            raise ValueError(f"Cut3rModel.step: frame must be (batch, 3, height, width), got {tuple(frame.shape)}")
        more = {"img_mask": img_mask, "ray_mask": ray_mask, "update": update, "reset": reset, "ray_maps": ray_map}
        more = {name: None if value is None else value[:, None] for name, value in more.items()}
        out = self(frame[:, None], state=state, heads=heads, **more)
        squeezed = {name: value[:, 0] for name, value in out.items() if isinstance(value, Tensor)}
        return Cut3rOutput(**squeezed, state=out.state), out.state

    def decoder_tokens(self, images: Float[Tensor, "batch frames 3 h w"]) -> Float[Tensor, "batch frames n width"]:
        """Camera token and patch tokens (n = 1 + patches) of every frame after dec_norm, no head run: what the dual
        encoder fuses (VIPA-VLA section 3.1)."""
        return self(images, heads=()).decoder_tokens

    # Borders

    def _wanted(self, heads: Sequence[HeadName] | None) -> Sequence[HeadName]:
        available = HEAD_NAMES if self.config.ray_map_depth else tuple(h for h in HEAD_NAMES if h != "rgb")
        for head in heads or ():
            if head not in available:
                raise ValueError(f"Cut3rModel: head {head!r} does not exist here; this model has {available}")
        return available if heads is None else heads

    def _check(
        self, images: Tensor, ray_maps: Tensor | None, **masks: Bool[Tensor, "batch frames"] | None
    ) -> None:
        if not isinstance(images, Tensor) or images.ndim != 5 or images.shape[2] != 3:
            shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"Cut3rModel: images must be one tensor (batch, frames, 3, height, width), all frames of one size, got "
                f"{shape}; Cut3rProcessor makes it"
            )
        batch, frames, _, height, width = images.shape
        if batch == 0 or frames == 0:
            raise ValueError(f"Cut3rModel: empty clip: images have shape {tuple(images.shape)}")
        patch = self.config.patch_size
        if height == 0 or width == 0 or height % patch or width % patch:
            raise ValueError(
                f"Cut3rModel: images are {height} x {width}; both must be multiples of {patch}: crop or resize them "
                f"(Cut3rProcessor does)"
            )
        if not images.is_floating_point():
            raise ValueError(
                f"Cut3rModel: images must be float in [-1, 1], got {images.dtype}; use Cut3rProcessor"
            )
        if images.device.type != "meta" and not torch.compiler.is_compiling():
            low, high = (float(x) for x in images.detach().aminmax())
            if not (low >= -1.01 and high <= 1.01):
                raise ValueError(
                    f"Cut3rModel: image values span [{low:.4g}, {high:.4g}]; expected [-1, 1], that is "
                    f"(x / 255 - 0.5) / 0.5 without NaN"
                )
        if ray_maps is not None and not self.config.ray_map_depth:
            raise ValueError(
                "Cut3rModel: ray maps were given to a model without ray-map encoder (ray_map_depth 0)"
            )
        if ray_maps is not None and ray_maps.shape != (batch, frames, 6, height, width):
            raise ValueError(
                f"Cut3rModel: ray_maps must be {(batch, frames, 6, height, width)}, got {tuple(ray_maps.shape)}"
            )
        if masks["ray_mask"] is not None and ray_maps is None:
            raise ValueError("Cut3rModel: ray_mask was given without ray_maps")
        if masks["img_mask"] is not None and not self.config.ray_map_depth:
            raise ValueError("Cut3rModel: img_mask needs the masked-image token of a model with ray-map encoder")
        for name, mask in masks.items():
            if mask is not None and (mask.shape != (batch, frames) or mask.dtype != torch.bool):
                raise ValueError(
                    f"Cut3rModel: {name} must be bool {(batch, frames)}, got {mask.dtype} {tuple(mask.shape)}"
                )


def select(mask: Bool[Tensor, "batch"], yes: Cut3rState, no: Cut3rState) -> Cut3rState:
    """Stream by stream, the one state or the other."""
    wide = mask[:, None, None]
    return Cut3rState(
        torch.where(wide, yes.tokens, no.tokens),
        torch.where(wide, yes.memory, no.memory),
        torch.where(mask, yes.started, no.started),
    )

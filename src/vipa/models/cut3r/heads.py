"""What is read out of the decoder: point maps with confidence, colours and the camera's pose.

Heads see all frames of a batch at once, as `frames` below (batch x frames).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vipa.models.cut3r.configuration_cut3r import Cut3rConfig
from vipa.models.cut3r.layers import AdaptiveBlock, Mlp, Rope

HeadName = str
HEAD_NAMES: tuple[HeadName, ...] = ("self", "world", "rgb", "pose")

DPT_CHUNK = 4
"""Frames that a DPT head works on at a time without gradients: at 512 px one frame needs 0.3 GB."""


def points_and_confidence(
    raw: Float[Tensor, "*b 4"], facing_forward: bool = False
) -> tuple[Float[Tensor, "*b 3"], Float[Tensor, "*b"]]:
    """points p / |p| * expm1(|p|), metres; confidence 1 + exp(x) > 1. In fp32 whatever comes in.

    facing_forward: p is first multiplied by the sign of its z.
    """
    xyz, confidence = raw.float().split((3, 1), -1)
    if facing_forward:
        xyz = xyz * xyz[..., 2:].sign()
    norm = xyz.norm(dim=-1, keepdim=True)
    return xyz * (torch.expm1(norm) / norm.clamp_min(1e-8)), 1 + confidence[..., 0].exp()


def camera_pose(raw: Float[Tensor, "*b 7"]) -> Float[Tensor, "*b 7"]:
    """Translation t * expm1(|t|) / |t| in metres and unit quaternion wxyz with w >= 0."""
    translation, quaternion = raw.float().split((3, 4), -1)
    norm = translation.norm(dim=-1, keepdim=True)
    translation = translation / norm.clamp_min(1e-8) * torch.expm1(norm)
    quaternion = F.normalize(quaternion, dim=-1)
    return torch.cat([translation, torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)], -1)


def colours(raw: Tensor) -> Tensor:
    """Colours in (-1, 1)."""
    return (torch.sigmoid(raw.float()) * (1 - 2e-6) + 1e-6 - 0.5) * 2


class PoseHead(nn.Module):
    """The camera's pose from the pose token."""

    def __init__(self, config: Cut3rConfig):
        super().__init__()
        self.mlp = Mlp(config.decoder_width, config.decoder_width * config.mlp_ratio, 7)

    def forward(self, pose_token: Float[Tensor, "frames c"]) -> Float[Tensor, "frames 7"]:
        return camera_pose(self.mlp(pose_token))


class Head(nn.Module):
    """What both kinds of heads share: which output needs which tokens.

    facing_forward: whether self-view points are multiplied by the sign of z.
    """

    facing_forward = False

    def __init__(self, config: Cut3rConfig):
        super().__init__()
        self.patch_size = config.patch_size

    def add_shared(self, config: Cut3rConfig) -> None:
        """Modules that both kinds have, added where their state dict lists them."""
        sizes = (config.decoder_width, config.decoder_heads, config.mlp_ratio)
        self.final_transform = nn.ModuleList(AdaptiveBlock(*sizes) for _ in range(config.transform_depth))

    def maps(self, name: HeadName, layers: Sequence[Tensor], rows: int, columns: int) -> Tensor:
        """Raw (frames, H, W, channels) of a head from its layers' tokens."""
        raise NotImplementedError

    def forward(
        self,
        layers: Sequence[Float[Tensor, "frames n _"]],
        pose_token: Float[Tensor, "frames c"],
        rows: int,
        columns: int,
        rope: Rope,
        wanted: Sequence[HeadName],
    ) -> dict[str, Tensor]:
        """The wanted outputs, by their names in Cut3rOutput.

        layers: patch tokens of the encoder, of the hooked decoder layers and of the last one.
        """
        out: dict[str, Tensor] = {}
        if "self" in wanted:
            raw = self.maps("self", layers, rows, columns)
            out["points_self"], out["conf_self"] = points_and_confidence(raw, self.facing_forward)
        if "world" in wanted:
            tokens = layers[-1]
            for block in self.final_transform:
                tokens = block(tokens, pose_token, rope)
            raw = self.maps("world", [*layers[:-1], tokens], rows, columns)
            out["points_world"], out["conf_world"] = points_and_confidence(raw)
        if "rgb" in wanted:
            out["rgb"] = colours(self.maps("rgb", layers, rows, columns))
        if "pose" in wanted:
            out["camera_pose"] = self.pose_head(pose_token)
        return out


class LinearHead(Head):
    """Each patch token gives its own pixels: the 224 model and nano.

    Surprising: self-view xyz (not cross-view) is multiplied by the sign of z before it becomes a point, so z is
    never negative and outputs jump where the raw z crosses 0.
    """

    facing_forward = True

    def __init__(self, config: Cut3rConfig):
        super().__init__(config)
        width, hidden = config.decoder_width, config.decoder_width * config.mlp_ratio
        pixels = config.patch_size**2
        self.proj = Mlp(width, hidden, 4 * pixels)
        if config.ray_map_depth:
            self.rgb_proj = Mlp(width, hidden, 3 * pixels)
        self.pose_head = PoseHead(config)
        self.add_shared(config)
        self.cross_proj = Mlp(width, hidden, 4 * pixels)

    def maps(self, name: HeadName, layers: Sequence[Tensor], rows: int, columns: int) -> Tensor:
        mlp = {"self": "proj", "world": "cross_proj", "rgb": "rgb_proj"}[name]
        tokens = getattr(self, mlp)(layers[-1]).transpose(1, 2).unflatten(2, (rows, columns))
        return F.pixel_shuffle(tokens, self.patch_size).permute(0, 2, 3, 1)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions behind rectifiers, around a residual."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(F.relu(x)))) + x


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class Refinement(nn.Module):
    """Joins a finer feature map to a coarser one and doubles the size.

    The coarsest stage (refinenet4) has nothing to join: its first residual unit has weights that nothing uses.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)

    def forward(self, fine: Tensor, coarse: Tensor | None = None) -> Tensor:
        x = fine if coarse is None else coarse + self.resConfUnit1(fine)
        return self.out_conv(doubled(self.resConfUnit2(x)))


class Scratch(nn.Module):
    """Projections of the four levels to one width, and their refinement. layer1_rn is layer_rn[0], and so on."""

    def __init__(self, levels: Sequence[int], channels: int):
        super().__init__()
        for i, level in enumerate(levels, 1):
            setattr(self, f"layer{i}_rn", nn.Conv2d(level, channels, 3, padding=1, bias=False))
        self.layer_rn = nn.ModuleList(getattr(self, f"layer{i}_rn") for i in range(1, len(levels) + 1))
        for i in range(1, len(levels) + 1):
            setattr(self, f"refinenet{i}", Refinement(channels))


class Dpt(nn.Module):
    """Dense prediction from tokens of four depths, brought to 4, 2, 1 and 1/2 times the patch grid."""

    LEVELS = (96, 192, 384, 768)
    CHANNELS, LAST = 256, 128

    def __init__(self, config: Cut3rConfig, out: int):
        super().__init__()
        self.scratch = Scratch(self.LEVELS, self.CHANNELS)
        self.head = nn.Sequential(
            nn.Conv2d(self.CHANNELS, self.CHANNELS // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(self.CHANNELS // 2, self.LAST, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(self.LAST, out, 1),
        )
        widths = (config.encoder_width, *3 * (config.decoder_width,))
        a, b, _, d = self.LEVELS
        resize = (
            [nn.ConvTranspose2d(a, a, 4, 4)],
            [nn.ConvTranspose2d(b, b, 2, 2)],
            [],
            [nn.Conv2d(d, d, 3, 2, 1)],
        )
        self.act_postprocess = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, level, 1), *change)
            for width, level, change in zip(widths, self.LEVELS, resize)
        )

    def forward(self, layers: Sequence[Float[Tensor, "frames n _"]], rows: int, columns: int) -> Tensor:
        scratch, x = self.scratch, None
        for i in (4, 3, 2, 1):
            level = self.act_postprocess[i - 1](layers[i - 1].transpose(1, 2).unflatten(2, (rows, columns)))
            level = getattr(scratch, f"layer{i}_rn")(level)
            if x is not None:  # an odd grid was rounded up at half size
                x = x[..., : level.shape[-2], : level.shape[-1]]
            x = getattr(scratch, f"refinenet{i}")(level, x)
        return self.head(x).permute(0, 2, 3, 1)


class DptHead(Head):
    """Convolutional heads over several depths: the 512 model."""

    def __init__(self, config: Cut3rConfig):
        super().__init__(config)
        self.dpt_self = Dpt(config, 4)
        self.add_shared(config)
        self.dpt_cross = Dpt(config, 4)
        if config.ray_map_depth:
            self.dpt_rgb = Dpt(config, 3)
        self.pose_head = PoseHead(config)

    def maps(self, name: HeadName, layers: Sequence[Tensor], rows: int, columns: int) -> Tensor:
        dpt = getattr(self, {"self": "dpt_self", "world": "dpt_cross", "rgb": "dpt_rgb"}[name])
        if torch.is_grad_enabled():
            return dpt(layers, rows, columns)
        chunks = zip(*(layer.split(DPT_CHUNK) for layer in layers))
        return torch.cat([dpt(chunk, rows, columns) for chunk in chunks])

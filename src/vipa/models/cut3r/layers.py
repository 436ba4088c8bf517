"""Building blocks of CUT3R: rotary embedding over a plane, attention, and the blocks made of it.

Parameter names are those of the released checkpoints, so that a state dict needs no renaming.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vipa.models.attention import attend

LAYER_NORM_EPSILON = 1e-6
ROPE_BASE = 100.0


class Rope(NamedTuple):
    """The rotation of each token's head features: x cos + swapped(x) sin, fp32."""

    cos: Float[Tensor, "tokens d"]
    sin: Float[Tensor, "tokens d"]


def grid_positions(rows: int, columns: int, device: torch.device | None = None) -> Int[Tensor, "n 2"]:
    """(y, x) of rows x columns patches, row by row."""
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return torch.stack([y, x], -1).reshape(-1, 2)


def rope_at(positions: Int[Tensor, "n 2"], head_width: int) -> Rope:
    """The rotation at integer positions (y, x), which may be negative: the pose token stands at (-1, -1).

    A head is split into a y half and an x half, each [u | v] of Q = head_width / 4 frequencies 100^(-k / Q).
    """
    q = head_width // 4
    exponents = torch.arange(q, device=positions.device, dtype=torch.float32) / q
    angles = positions[..., None].float() / ROPE_BASE**exponents
    cos, sin = angles.cos(), angles.sin()
    return Rope(torch.cat([cos, cos], -1).flatten(1), torch.cat([-sin, sin], -1).flatten(1))


def rotate(x: Float[Tensor, "*b n d"], rope: Rope) -> Float[Tensor, "*b n d"]:
    """x turned by its token's position, in fp32 at least; returned in that precision."""
    swapped = x.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)
    return x * rope.cos + swapped * rope.sin


class Attention(nn.Module):
    """Multi-head self-attention with a rotary embedding.

    fp16_rotation: q and k are rounded to fp16 before and after the rotation, as the released image encoder (only) does
    even in fp32. Surprising: skipping it moves encoder tokens by about 1e-4.
    """

    def __init__(self, width: int, heads: int, fp16_rotation: bool = False):
        super().__init__()
        self.heads, self.fp16_rotation = heads, fp16_rotation
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n c"], rope: Rope | None) -> Float[Tensor, "b n c"]:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        qk, v = qkv[:2], qkv[2]
        if rope is not None:
            rounded = self.fp16_rotation and v.dtype == torch.float32
            qk = rotate(qk.half(), rope).half() if rounded else rotate(qk, rope)
        q, k = qk
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head attention from one token sequence to another, each rotated by its own positions.

    Where the context is a single token every query gets all of it, whatever it asks: nothing is compared.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "b m c"],
        rope: Rope | None,
        rope_context: Rope | None,
    ) -> Float[Tensor, "b n c"]:
        if context.shape[1] == 1:
            return self.proj(self.projv(context)).expand(-1, x.shape[1], -1)
        q, k, v = (
            linear(t).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, t in ((self.projq, x), (self.projk, context), (self.projv, context))
        )
        if rope is not None and rope_context is not None:
            q, k = rotate(q, rope), rotate(k, rope_context)
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int, out: int | None = None):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out or width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def layer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)


class EncoderBlock(nn.Module):
    """Self-attention and MLP, pre-norm: a block of the image encoder (fp16_rotation) and of the ray-map encoder."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, fp16_rotation: bool):
        super().__init__()
        self.norm1 = layer_norm(width)
        self.attn = Attention(width, heads, fp16_rotation)
        self.norm2 = layer_norm(width)
        self.mlp = Mlp(width, width * mlp_ratio)

    def forward(self, x: Float[Tensor, "b n c"], rope: Rope) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x), rope)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to a context, MLP; pre-norm, the context normalised too.

    Without ropes (the pose retriever) nothing is rotated.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.norm1 = layer_norm(width)
        self.attn = Attention(width, heads)
        self.cross_attn = CrossAttention(width, heads)
        self.norm2 = layer_norm(width)
        self.norm3 = layer_norm(width)
        self.mlp = Mlp(width, width * mlp_ratio)
        self.norm_y = layer_norm(width)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "b m c"],
        rope: Rope | None = None,
        rope_context: Rope | None = None,
    ) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x), rope)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(context), rope, rope_context)
        return x + self.mlp(self.norm3(x))


class AdaptiveNorm(nn.Module):
    """LayerNorm whose shift and scale come from a condition, one vector per sequence."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = layer_norm(width)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Float[Tensor, "b n c"], condition: Float[Tensor, "b c"]) -> Float[Tensor, "b n c"]:
        shift, scale = self.mlp(condition)[:, None].chunk(2, -1)
        return self.norm(x) * (1 + scale) + shift


class AdaptiveBlock(nn.Module):
    """Self-attention and MLP with adaptive norms: turns self-view tokens into cross-view tokens, given the pose."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.norm1 = AdaptiveNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = AdaptiveNorm(width)
        self.mlp = Mlp(width, width * mlp_ratio)

    def forward(
        self, x: Float[Tensor, "b n c"], condition: Float[Tensor, "b c"], rope: Rope | None
    ) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x, condition), rope)
        return x + self.mlp(self.norm2(x, condition))

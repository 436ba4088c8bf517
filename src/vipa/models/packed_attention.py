"""Attention of packed turns: several independent turns that share one prefix (`training.packing`), each attending to
the prefix and to itself. Costs what the turns cost one by one, not the square of the whole row."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vipa.models.attention import attend

PACKED_TURNS = "packed_turns"
"""The name for `set_attn_implementation`; without `turn_slots` it is plain attention."""


@dataclass(frozen=True)
class TurnSlots:
    """Where the turns of packed rows lie. Rows hold [prefix | turn | turn | ... | padding]; a slot is as long as the
    batch's longest turn, the prefix slot as its longest prefix."""

    prefix: int
    own: Int64[Tensor, "batch turns slot"]  # token of its row at this place of the slot; 0 where there is none
    back: Int64[Tensor, "batch length"]  # where a token is in [prefix slot | turn slots]; 0 for padding

    @classmethod
    def of(cls, segments: Int64[Tensor, "batch length"]) -> tuple["TurnSlots", Bool[Tensor, "rows 1 slot keys"]]:
        """Slots and attention mask of rows. segments: 0 prefix, 1.. turns, -1 padding, in this order.

        The mask has a row per turn of the batch; keys are the prefix slot, then the turn's own slot. Places where a
        turn has no token attend to the row's first token, so that no softmax is empty.
        """
        batch, length = segments.shape
        numbers = torch.arange(1, int(segments.max()) + 1, device=segments.device)
        members = segments[:, None] == numbers[:, None]  # (batch, turns, length)
        sizes, starts = members.sum(2), members.int().argmax(2)
        prefixes = (segments == 0).sum(1)
        prefix, size = int(prefixes.max()), int(sizes.max())
        place = torch.arange(size, device=segments.device)
        real = place < sizes[..., None]
        own = torch.where(real, starts[..., None] + place, 0)
        causal = place[:, None] >= place
        sees_prefix = torch.arange(prefix, device=segments.device) < prefixes[:, None]
        mask = torch.cat(
            [
                sees_prefix[:, None, None].expand(-1, len(numbers), size, -1) & real[..., None],
                causal & real[:, :, None] & real[..., None],
            ],
            dim=3,
        )
        mask[..., 0] |= ~real
        back = torch.arange(length, device=segments.device).expand(batch, -1)
        turn = (segments - 1).clamp_min(0)
        in_slot = prefix + turn * size + back - starts.gather(1, turn)
        back = torch.where(segments > 0, in_slot, torch.where(segments == 0, back, 0))
        return cls(prefix, own, back), mask.flatten(0, 1)[:, None]

    def whole_rows(self) -> Bool[Tensor, "batch 1 length length"]:
        """The same attention as one mask over whole rows: to the prefix, and to the own turn, up to itself. Padding is
        behind everything and counts as prefix, so that no softmax is empty."""
        size = self.own.shape[2]
        turn = torch.where(self.back < self.prefix, 0, 1 + (self.back - self.prefix) // size)
        sees = (turn[:, None, :] == 0) | (turn[:, None, :] == turn[:, :, None])
        return (sees & torch.ones_like(sees[0]).tril())[:, None]

    def to(self, device: torch.device) -> "TurnSlots":
        return TurnSlots(self.prefix, self.own.to(device), self.back.to(device))


def mask_for(implementation: str, mask: Any, slots: TurnSlots | None, dtype: torch.dtype) -> Any:
    """What an attention of transformers takes as its mask. mask: (batch, keys), for PACKED_TURNS of turns in `slots`,
    or (batch, 1, queries, keys), bool. ValueError for flash attention of packed turns, which takes no mask of their
    form."""
    if slots is not None and implementation != PACKED_TURNS:
        if implementation.startswith("flash"):
            if slots.own.shape[1] > 1:
                raise ValueError(f"attention {implementation}: it takes rows of one turn; set `turns` to 1")
            return (slots.back > 0) | (torch.arange(slots.back.shape[1], device=slots.back.device) == 0)
        mask = slots.whole_rows()
    if not isinstance(mask, Tensor) or mask.ndim != 4 or mask.dtype != torch.bool:
        return mask
    if implementation == "eager":  # adds it to the scores
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    if implementation == "flex_attention":
        batch, _, queries, keys = mask.shape
        return create_block_mask(
            lambda b, h, q, k: mask[b, 0, q, k], batch, None, queries, keys, device=str(mask.device)
        )
    return mask


def packed_turns_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    turn_slots: TurnSlots | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers: query (batch, heads, length, head_dim) -> (batch, length, heads, dim)."""
    if turn_slots is None and not torch.is_grad_enabled():
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if turn_slots is None:
        attended = attend(query, key, value, attention_mask, dropout, scaling, causal=attention_mask is None)
        return attended.transpose(1, 2).contiguous(), None
    slots, (batch, heads, length, dim) = turn_slots, query.shape
    _, turns, size = slots.own.shape
    rows = torch.arange(batch, device=query.device)
    own = (length * rows[:, None, None] + slots.own).flatten()

    def in_slots(tokens: Tensor) -> Tensor:
        """(batch, h, length, dim) -> (batch, turns, h, slot, dim)."""
        flat = tokens.transpose(1, 2).flatten(2).flatten(0, 1)
        return flat.index_select(0, own).view(batch, turns, size, -1, dim).transpose(2, 3)

    def keys(tokens: Tensor) -> Tensor:
        """(batch, h, length, dim) -> (batch * turns, h, prefix + slot, dim)."""
        prefix = tokens[:, None, :, : slots.prefix].expand(-1, turns, -1, -1, -1)
        return torch.cat([prefix, in_slots(tokens)], dim=3).flatten(0, 1)

    queries = in_slots(query).flatten(0, 1)
    in_turns = attend(queries, keys(key), keys(value), attention_mask, dropout, scaling)
    prefix = [x[:, :, : slots.prefix] for x in (query, key, value)]
    in_prefix = attend(*prefix, None, dropout, scaling, causal=True).transpose(1, 2)
    in_turns = in_turns.unflatten(0, (batch, turns)).transpose(2, 3).reshape(batch, turns * size, heads, dim)
    together = torch.cat([in_prefix, in_turns], dim=1)
    back = (together.shape[1] * rows[:, None] + slots.back).flatten()
    return together.flatten(2).flatten(0, 1).index_select(0, back).view(batch, length, heads, dim), None


AttentionInterface.register(PACKED_TURNS, packed_turns_attention)
AttentionMaskInterface.register(PACKED_TURNS, sdpa_mask)

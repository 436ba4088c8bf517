"""Packing: several independent question-answer turns about the same images share one image prefix.

A pack is laid out as [prefix | turn 1 | turn 2 | ...]. Every turn attends to the prefix and to itself alone, and
its positions continue from the prefix, so that each turn sees exactly what it would see by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from vipa.models.packed_attention import TurnSlots
from vipa.models.processing import VipaProcessor

IGNORE = -100


@dataclass(frozen=True)
class Conversation:
    """Some images and the independent turns about them: (prompt, answer) texts."""

    images: tuple[str, ...]  # keys of the frames, oldest first
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PackedBatch:
    """What the language model reads. Rows are padded at the end; `labels` is -100 where there is no loss."""

    input_ids: Int64[Tensor, "batch length"]
    position_ids: Int64[Tensor, "batch length"]
    attention_mask: Bool[Tensor, "rows 1 slot keys"]  # of the turns in their slots
    turn_slots: TurnSlots
    labels: Int64[Tensor, "batch length"]  # aligned with input_ids; the model shifts them
    images: tuple[str, ...]  # keys, in reading order over the whole batch
    images_per_row: tuple[int, ...]
    num_turns: int


class Packer:
    """Conversations -> PackedBatch, in the prompt layout of a processor."""

    def __init__(self, processor: VipaProcessor):
        self.processor = processor
        tokenizer = processor.tokenizer
        self._pad: int = tokenizer.convert_tokens_to_ids(str(tokenizer.pad_token))

    def __call__(self, conversations: Sequence[Conversation]) -> PackedBatch:
        rows = [self._row(conversation) for conversation in conversations]
        length = max(len(ids) for ids, *_ in rows)
        shape = (len(rows), length)
        pad = self._pad
        input_ids = torch.full(shape, pad, dtype=torch.int64)
        labels = torch.full(shape, IGNORE, dtype=torch.int64)
        positions = torch.zeros(shape, dtype=torch.int64)
        segments = torch.full(shape, -1, dtype=torch.int64)  # 0: prefix; 1, 2, ...: turns; -1: padding
        for row, (ids, row_labels, row_positions, row_segments) in enumerate(rows):
            n = len(ids)
            input_ids[row, :n], labels[row, :n] = torch.tensor(ids), torch.tensor(row_labels)
            positions[row, :n], segments[row, :n] = torch.tensor(row_positions), torch.tensor(row_segments)
        slots, mask = TurnSlots.of(segments)
        return PackedBatch(
            input_ids,
            positions,
            mask,
            slots,
            labels,
            tuple(key for conversation in conversations for key in conversation.images),
            tuple(len(conversation.images) for conversation in conversations),
            sum(len(conversation.turns) for conversation in conversations),
        )

    def _row(self, conversation: Conversation) -> tuple[list[int], list[int], list[int], list[int]]:
        known, layout = self.processor.ids, self.processor.layout
        prefix = known(layout.images(len(conversation.images)))
        ids, labels = list(prefix), [IGNORE] * len(prefix)
        positions, segments = list(range(len(prefix))), [0] * len(prefix)
        for number, (prompt, answer) in enumerate(conversation.turns, start=1):
            prompt_ids, answer_ids = known(prompt + layout.turn), known(answer + layout.end)
            ids += prompt_ids + answer_ids
            labels += [IGNORE] * len(prompt_ids) + answer_ids
            size = len(prompt_ids) + len(answer_ids)
            positions += range(len(prefix), len(prefix) + size)
            segments += [number] * size
        return ids, labels, positions, segments

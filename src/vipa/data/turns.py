"""Pairs of question and answer about images that are fixed in advance: Hand3D, conversations of other data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from vipa.data.component import Group, TextLoss
from vipa.data.spec import DataSpec
from vipa.data.turn_index import TurnIndex
from vipa.hands.conventions import Conventions
from vipa.models.packing import Conversation, PackedBatch, Packer


class Turns(TextLoss):
    """A row is a pair of question and answer.

    An epoch passes each pair once; with a `spec.temperature` above 1 as many pairs, drawn by category. Pairs about the
    same images lie together in packs of at most `spec.turns`, cut anew in every epoch, and a pack shares one image
    prefix (two where the border of a step cuts it). The loss is the mean over the answer tokens of a step, so within a
    step a longer answer weighs more; since every step has `spec.batch` pairs, no pair weighs more for the company that
    its images bring.
    """

    views = False

    def __init__(
        self,
        spec: DataSpec,
        index: TurnIndex,
        read: Callable[[Group], Sequence[np.ndarray]],
        packer: Packer,
        conventions: Conventions,
    ):
        if not len(index):
            raise ValueError(f"{spec.path}: no {spec.kind} records of the split {spec.split} to train on")
        self.spec, self.index, self.read, self.packer, self.conventions = spec, index, read, packer, conventions

    def __len__(self) -> int:
        return len(self.index)

    def group(self, row: int) -> Group:
        return self.index.images(self.index.of(row))

    def groups(self) -> Iterable[Group]:
        return (self.index.images(i) for i in range(self.index.conversations))

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Pairs of a conversation shuffled and cut into packs of about equal size; then the packs shuffled."""
        rows, again = self._drawn(rng)
        conversation = np.searchsorted(self.index.starts, rows, side="right") - 1
        # a pair that is drawn again is in another pack: beside itself it would only weigh more
        apart = again * self.index.conversations + conversation
        _, of, sizes = np.unique(apart, return_inverse=True, return_counts=True)
        shuffled = np.lexsort((rng.random(len(rows)), of))  # rows of a conversation stay together
        of = of[shuffled]
        packs = -(-sizes // self.spec.turns)
        rank = np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[of]
        pack = (np.cumsum(packs) - packs)[of] + rank * packs[of] // sizes[of]
        return rows[shuffled][np.argsort(rng.permutation(packs.sum())[pack], kind="stable")]

    def _drawn(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The rows of an epoch, and how often each came before."""
        if self.spec.temperature == 1:
            return np.arange(len(self)), np.zeros(len(self), int)
        return drawn_by_category(self.index.categories(), self.spec.temperature, rng)

    def inputs(
        self, rows: Sequence[int], draws: Sequence[np.random.Generator]
    ) -> tuple[dict[str, Any], list[Group], int]:
        some: list[tuple[int, list[tuple[str, str]]]] = []
        for row in map(int, rows):
            of = self.index.of(row)
            if not some or some[-1][0] != of or len(some[-1][1]) == self.spec.turns:
                some.append((of, []))
            some[-1][1].append(self.index.turn(row))
        packs = [Conversation(self.index.images(of), tuple(turns)) for of, turns in some]
        packed = self.packer(packs)
        return text_inputs(packed), [pack.images for pack in packs], packed.num_turns


def drawn_by_category(
    categories: Int[np.ndarray, "n"], temperature: float, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """As many rows as there are, those of a category in a share that goes with the 1/temperature-th power of their
    number (as mT5 draws languages, Xue et al. 2021, section 3.1): of a common one a part, a rare one several times.
    And how often each row came before."""
    names, counts = np.unique(categories, return_counts=True)
    shares = counts ** (1 / temperature)
    ends = np.round(np.cumsum(shares) / shares.sum() * len(categories)).astype(int)
    rows, again = [], []
    for name, count, wanted in zip(names, counts, np.diff(ends, prepend=0)):
        rows.append(np.resize(rng.permutation(np.flatnonzero(categories == name)), wanted))
        again.append(np.arange(wanted) // count)
    return np.concatenate(rows), np.concatenate(again)


def text_inputs(packed: PackedBatch) -> dict[str, Any]:
    """Packed conversations as the model's keyword arguments."""
    return {
        "input_ids": packed.input_ids,
        "position_ids": packed.position_ids,
        "attention_mask": packed.attention_mask,
        "turn_slots": packed.turn_slots,
        "labels": packed.labels,
    }

"""What a run learns from: components of a mixture, each giving the model's inputs of a step.

The samples of a step follow from (run seed, component, step) alone, so a resumed run sees what it would have seen.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vipa.data.spec import DataSpec
from vipa.data.tokens import EncodedImages, Group, ReadImages
from vipa.hands.conventions import Conventions
from vipa.models import VipaForConditionalGeneration
from vipa.models.packing import Conversation, PackedBatch, Packer


class Component(Protocol):
    """A source of samples."""

    spec: DataSpec

    def groups(self) -> Iterable[Group]:
        """Every group of images that may be asked for."""
        ...

    def read(self, group: Group) -> Sequence[np.ndarray]:
        """The images of a group; see `ReadImages`."""
        ...

    views: bool  # the images of a group are views of one instant, not frames of a clip
    conventions: Conventions  # that a model learns from it

    @property
    def readout(self) -> nn.Module | None:
        """Learned beside the model for this loss, and thrown away after the run."""
        ...

    def inputs(self, rng: np.random.Generator, rows: np.ndarray) -> tuple[dict[str, Any], list[Group], int]:
        """Text side of the model's inputs for these rows, their image groups, and the number of samples."""
        ...

    def loss(self, model: VipaForConditionalGeneration, inputs: dict[str, Any]) -> Tensor:
        """Of one batch, with gradients."""
        ...

    def __len__(self) -> int:
        """Rows: what a batch counts and an epoch passes once."""
        ...

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Every row once, in the order of an epoch."""
        ...


class ModelLoss:
    """The model's own loss, over rows in any order."""

    conventions = Conventions()

    @property
    def readout(self) -> nn.Module | None:
        return None

    def __len__(self) -> int:
        raise NotImplementedError

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(self))

    def loss(self, model: VipaForConditionalGeneration, inputs: dict[str, Any]) -> Tensor:
        return model(**inputs).loss


class Turns(ModelLoss):
    """Pairs of question and answer about images that are fixed in advance (Hand3D); a row is a pair.

    An epoch passes each pair once. Pairs about the same images lie together in packs of at most `spec.turns`, cut anew
    in every epoch, and a pack shares one image prefix (two where the border of a step cuts it). The loss is the mean
    over the answer tokens of a step, so within a step a longer answer weighs more; since every step has `spec.batch`
    pairs, no pair weighs more for the company that its images bring.
    """

    views = False

    def __init__(
        self,
        spec: DataSpec,
        conversations: list[Conversation],
        read: ReadImages,
        packer: Packer,
        conventions: Conventions,
    ):
        if not conversations:
            raise ValueError(f"{spec.path}: no {spec.kind} records to train on")
        self.spec, self.conversations, self._read, self.packer = spec, conversations, read, packer
        self.conventions = conventions
        sizes = np.array([len(conversation.turns) for conversation in conversations])
        self._starts = np.cumsum(sizes) - sizes  # row of a conversation's first pair
        self._of = np.repeat(np.arange(len(sizes)), sizes)  # conversation of a row

    def __len__(self) -> int:
        return len(self._of)

    def groups(self) -> Iterable[Group]:
        return (conversation.images for conversation in self.conversations)

    def read(self, group: Group) -> Sequence[np.ndarray]:
        return self._read(group)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Pairs of a conversation shuffled and cut into packs of about equal size; then the packs shuffled."""
        shuffled = np.lexsort((rng.random(len(self)), self._of))  # rows of a conversation stay together
        sizes = np.bincount(self._of)
        packs = -(-sizes // self.spec.turns)
        of = self._of  # sorted, so it is that of `shuffled` too
        rank = np.arange(len(self)) - self._starts[of]
        pack = (np.cumsum(packs) - packs)[of] + rank * packs[of] // sizes[of]
        return shuffled[np.argsort(rng.permutation(packs.sum())[pack], kind="stable")]

    def inputs(self, rng: np.random.Generator, rows: np.ndarray) -> tuple[dict[str, Any], list[Group], int]:
        some: list[tuple[int, list[tuple[str, str]]]] = []
        for row in rows:
            of = int(self._of[row])
            if not some or some[-1][0] != of or len(some[-1][1]) == self.spec.turns:
                some.append((of, []))
            some[-1][1].append(self.conversations[of].turns[row - self._starts[of]])
        packs = [Conversation(self.conversations[of].images, tuple(turns)) for of, turns in some]
        packed = self.packer(packs)
        return text_inputs(packed), [pack.images for pack in packs], packed.num_turns


def text_inputs(packed: PackedBatch) -> dict[str, Any]:
    return {
        "input_ids": packed.input_ids,
        "position_ids": packed.position_ids,
        "attention_mask": packed.attention_mask,
        "turn_slots": packed.turn_slots,
        "labels": packed.labels,
    }


class Mixture:
    """Components with their cached encoder tokens: `batches(step)` gives the model's inputs of each."""

    def __init__(self, components: list[tuple[Component, EncodedImages]], seed: int, device: torch.device):
        self.components, self.seed, self.device = components, seed, device
        readouts = [component.readout for component, _ in components if component.readout is not None]
        self.readouts = nn.ModuleList(readouts).to(device)
        self._order = lru_cache(maxsize=2 * len(components))(self._epoch_order)

    def epochs(self, steps: int) -> list[float]:
        """How often each component has been passed after so many steps."""
        return [steps * component.spec.batch / len(component) for component, _ in self.components]

    def batches(self, step: int) -> list[tuple[float, dict[str, Any], int]]:
        """(loss weight, inputs, samples) per component."""
        out = []
        for number, (component, encoded) in enumerate(self.components):
            rng = np.random.default_rng([self.seed, number, step])
            rows = self._rows(number, step)
            inputs, groups, samples = component.inputs(rng, rows)
            inputs = {k: v.to(self.device) if hasattr(v, "to") else v for k, v in inputs.items()}
            inputs |= encoded.inputs(groups, self.device)
            out.append((component.spec.weight, inputs, samples))
        return out

    def _rows(self, number: int, step: int) -> np.ndarray:
        """Rows of a component's step: one epoch after another, batches run on across their borders."""
        component = self.components[number][0]
        places = np.arange(component.spec.batch) + step * component.spec.batch
        epochs = places // len(component)
        return np.concatenate(
            [self._order(number, int(e))[places[epochs == e] % len(component)] for e in np.unique(epochs)]
        )

    def _epoch_order(self, number: int, epoch: int) -> np.ndarray:
        return self.components[number][0].order(np.random.default_rng([self.seed, number, 7, epoch]))

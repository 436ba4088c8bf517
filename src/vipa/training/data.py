"""What a run learns from: components of a mixture, each giving the model's inputs of a step.

The samples of a step follow from (run seed, component, step) alone, so a resumed run sees what it would have seen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vipa.models import VipaForConditionalGeneration
from vipa.training.features import EncodedImages, Group, ReadImages
from vipa.training.packing import Conversation, PackedBatch, Packer

ComponentKind = Literal["hand3d_visual", "hand3d_action", "foundation", "episodes"]


@dataclass(frozen=True)
class DataSpec:
    """One component of a mixture.

    kind: `hand3d_visual` and `hand3d_action` (a Hand3D folder), `foundation` (a folder of foundation pictures),
    `episodes` (a folder of robot demonstrations). batch: image groups a step (demonstration steps for episodes).
    weight: of its loss in the sum. turns: most turns that share one image prefix. noise_draws: flow-matching draws
    per demonstration step.
    """

    kind: ComponentKind
    path: Path
    batch: int
    weight: float = 1.0
    turns: int = 12
    noise_draws: int = 4


class Component(Protocol):
    """A source of samples."""

    spec: DataSpec

    def groups(self) -> Iterable[Group]:
        """Every group of images that may be asked for."""
        ...

    read: ReadImages
    views: bool  # the images of a group are views of one instant, not frames of a clip

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


class ModelLoss:
    """The model's own loss."""

    readout: nn.Module | None = None

    def loss(self, model: VipaForConditionalGeneration, inputs: dict[str, Any]) -> Tensor:
        return model(**inputs).loss


class Turns(ModelLoss):
    """Conversations about images that are fixed in advance (Hand3D); a row is an image group with all its turns."""

    views = False

    def __init__(self, spec: DataSpec, conversations: list[Conversation], read: ReadImages, packer: Packer):
        if not conversations:
            raise ValueError(f"{spec.path}: no {spec.kind} records to train on")
        self.spec, self.conversations, self.read, self.packer = spec, conversations, read, packer

    def __len__(self) -> int:
        return len(self.conversations)

    def groups(self) -> Iterable[Group]:
        return (conversation.images for conversation in self.conversations)

    def inputs(self, rng: np.random.Generator, rows: np.ndarray) -> tuple[dict[str, Any], list[Group], int]:
        some = []
        for row in rows:
            conversation = self.conversations[row]
            if len(conversation.turns) > self.spec.turns:
                chosen = rng.choice(len(conversation.turns), self.spec.turns, replace=False)
                turns = tuple(conversation.turns[i] for i in chosen)
                conversation = Conversation(conversation.images, turns)
            some.append(conversation)
        packed = self.packer(some)
        return text_inputs(packed), [c.images for c in some], packed.num_turns


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

    def batches(self, step: int) -> list[tuple[float, dict[str, Any], int]]:
        """(loss weight, inputs, samples) per component."""
        out = []
        for number, (component, encoded) in enumerate(self.components):
            rng = np.random.default_rng([self.seed, number, step])
            rows = epoch_rows(len(component), component.spec.batch, step, (self.seed, number))
            inputs, groups, samples = component.inputs(rng, rows)
            inputs = {k: v.to(self.device) if hasattr(v, "to") else v for k, v in inputs.items()}
            inputs |= encoded.inputs(groups, self.device)
            out.append((component.spec.weight, inputs, samples))
        return out


def epoch_rows(size: int, batch: int, step: int, seed: tuple[int, int]) -> np.ndarray:
    """Rows of a step: epochs are shuffled by (seed, epoch), and batches run on across their borders."""
    places = np.arange(step * batch, (step + 1) * batch)
    rows = [
        np.random.default_rng([*seed, 7, int(epoch)]).permutation(size)[places[places // size == epoch] % size]
        for epoch in np.unique(places // size)
    ]
    return np.concatenate(rows)

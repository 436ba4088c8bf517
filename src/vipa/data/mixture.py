"""What a run learns from: components with their images, and which rows of them a step takes.

The samples of a step follow from (run seed, component, step) alone, whoever makes them: a resumed run sees what it
would have seen, and processes and micro-batches share out the same rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from vipa.data.component import Component, Items
from vipa.data.images import Images

TRIES = 20
"""Other rows tried in the place of one whose images cannot be read."""


@dataclass(frozen=True)
class Share:
    """Whose part of a step: one of `world` processes, which does its own in `parts` micro-batches."""

    rank: int = 0
    world: int = 1
    parts: int = 1


@dataclass(frozen=True)
class Batch:
    """Rows of one component for one forward pass. number: of the component. inputs: the model's. samples: in it.
    items: what the terms of its loss are means over. replaced: why rows were replaced by others."""

    number: int
    inputs: dict[str, Any]
    samples: int
    items: Items
    replaced: tuple[str, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        return self._with(lambda value: value.to(device) if hasattr(value, "to") else value)

    def pin_memory(self) -> "Batch":
        return self._with(lambda value: value.pin_memory() if isinstance(value, torch.Tensor) else value)

    def _with(self, change: Callable[[Any], Any]) -> "Batch":
        return replace(self, inputs={name: change(value) for name, value in self.inputs.items()})


class Mixture:
    """Components with their images. ValueError where a component has fewer rows in a step than shares."""

    def __init__(self, components: Sequence[tuple[Component, Images]], seed: int, share: Share = Share()):
        self.components, self.seed, self.share = list(components), seed, share
        for component, _ in self.components:
            spec = component.spec
            if spec.batch < share.world * share.parts:
                raise ValueError(
                    f"data {spec.path}: a batch of {spec.batch} cannot be shared out to {share.world} processes with "
                    f"{share.parts} micro-batches each; lower `accumulate`, or raise the batch"
                )
        self._order = lru_cache(maxsize=2 * len(self.components))(self._epoch_order)

    def __getstate__(self) -> dict[str, Any]:
        return {"components": self.components, "seed": self.seed, "share": self.share}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    @property
    def readouts(self) -> nn.ModuleList:
        """What is learned beside the model."""
        readouts = [component.readout for component, _ in self.components]
        return nn.ModuleList([readout for readout in readouts if readout is not None])

    def epochs(self, steps: int) -> list[float]:
        """How often each component has been passed after so many steps."""
        return [steps * component.spec.batch / len(component) for component, _ in self.components]

    def step(self, step: int) -> list[list[Batch]]:
        """This share of a step: the batches of each of its micro-batches, one per component."""
        pieces = [self._pieces(number, step) for number in range(len(self.components))]
        return [list(batches) for batches in zip(*pieces)]

    def _pieces(self, number: int, step: int) -> list[Batch]:
        first = self.share.rank * self.share.parts
        rows = self._rows(number, step)
        pieces = np.array_split(np.arange(len(rows)), self.share.world * self.share.parts)
        return [self._batch(number, step, rows, p) for p in pieces[first : first + self.share.parts]]

    def _batch(self, number: int, step: int, rows: np.ndarray, places: np.ndarray) -> Batch:
        """places: of the step's rows, those of this batch."""
        component, images = self.components[number]
        replaced: list[str] = []
        chosen = [self._readable(number, step, int(rows[place]), int(place), replaced) for place in places]
        draws = [np.random.default_rng([self.seed, number, step, int(place)]) for place in places]
        inputs, groups, samples = component.inputs(chosen, draws)
        items = component.items(inputs)
        return Batch(
            number, inputs | images.inputs(groups, (self.seed, number, step)), samples, items, tuple(replaced)
        )

    def _readable(self, number: int, step: int, row: int, place: int, replaced: list[str]) -> int:
        """The row, or where its images cannot be read another one. ValueError where those cannot be read either."""
        component, images = self.components[number]
        other, tried = np.random.default_rng([self.seed, number, step, place, 1]), row
        for _ in range(TRIES):
            try:
                images.read(component.group(tried))
            except (ValueError, OSError, KeyError) as error:
                replaced.append(f"{component.spec.path}: row {tried}: {error}")
                tried = int(other.integers(len(component)))
            else:
                return tried
        raise ValueError(f"{replaced[-1]}; nor could the {TRIES - 1} rows tried in its place")

    def _rows(self, number: int, step: int) -> np.ndarray:
        """Rows of a component's step: one epoch after another, batches run on across their borders."""
        component = self.components[number][0]
        places = np.arange(component.spec.batch) + step * component.spec.batch
        epochs = places // len(component)
        return np.concatenate(
            [self._order(number, int(e))[places[epochs == e] % len(component)] for e in np.unique(epochs)]
        )

    def _epoch_order(self, number: int, epoch: int) -> np.ndarray:
        order = self.components[number][0].order(np.random.default_rng([self.seed, number, 7, epoch]))
        return order.astype(np.min_scalar_type(len(order)))

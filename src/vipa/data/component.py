"""What a component of a mixture is: one kind of data as rows, the model's inputs of some rows, and their loss."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from torch import Tensor, nn

from vipa.data.spec import DataSpec
from vipa.hands.conventions import Conventions
from vipa.models.packing import IGNORE

Group = tuple[str, ...]
"""Keys of images that belong together as one clip, in reading order."""
Items = dict[str, float]
"""Of each term of a loss, how many numbers it is a mean over: tokens, actions."""


class Component(Protocol):
    """A source of samples. It is copied into the processes that load, so it holds nothing that grows with the data."""

    spec: DataSpec
    views: bool  # the images of a group are views of one instant, not frames of a clip
    conventions: Conventions  # that a model learns from it

    readout: nn.Module | None  # learned beside the model for this loss, and thrown away after the run

    def __len__(self) -> int:
        """Rows: what a batch counts, and as many as an epoch passes."""
        ...

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The rows of an epoch in their order: each once, or drawn by category (`DataSpec.temperature`)."""
        ...

    def group(self, row: int) -> Group:
        """The images of a row."""
        ...

    def groups(self) -> Iterable[Group]:
        """Every group of images that may be asked for."""
        ...

    def read(self, group: Group, /) -> Sequence[UInt8[np.ndarray, "height width 3"]]:
        """The images of a group, RGB; they may differ in size. ValueError or OSError where they cannot be read."""
        ...

    def inputs(
        self, rows: Sequence[int], draws: Sequence[np.random.Generator]
    ) -> tuple[dict[str, Any], list[Group], int]:
        """All of the model's inputs for these rows but their images, the groups of images in their order, and the
        number of samples. draws: each row's own source of randomness, so that rows may be shared out at will."""
        ...

    def items(self, inputs: dict[str, Any]) -> Items:
        """What the terms of the loss of these inputs are means over."""
        ...

    def loss(self, model: nn.Module, inputs: dict[str, Any], items: Items) -> Tensor:
        """The batch's share of the loss, with gradients: its sums over `items`, those of the whole step."""
        ...


class TextLoss:
    """The model's own cross-entropy over answer tokens."""

    conventions = Conventions()
    readout: nn.Module | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(self))

    def items(self, inputs: dict[str, Any]) -> Items:
        return {"text": float((inputs["labels"][:, 1:] != IGNORE).sum())}

    def loss(self, model: nn.Module, inputs: dict[str, Any], items: Items) -> Tensor:
        return model(**inputs, num_items_in_batch=items["text"]).loss

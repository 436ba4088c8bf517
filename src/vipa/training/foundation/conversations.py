"""Foundation questions as a component of a training mixture: fresh ones at every step."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from vipa.training.data import DataSpec, text_inputs
from vipa.training.features import Group
from vipa.training.foundation.pictures import Pictures
from vipa.training.foundation.questions import sample_turns
from vipa.training.packing import Conversation, Packer

NOTHING = ("How many objects are there?", "0")
"""Asked of a picture that shows too little for any other question."""


class FoundationQuestions:
    """A row is a single picture, or two pictures of a sequence with what changed between them."""

    views = False

    def __init__(self, spec: DataSpec, data: Pictures, packer: Packer):
        self.spec, self.data, self.packer = spec, data, packer
        singles = [(row,) for row in range(len(data))]
        pairs = [(row, row + data.frames - 1) for row in range(0, len(data), data.frames)]
        self._rows = singles + (pairs if data.frames > 1 else [])

    def __len__(self) -> int:
        return len(self._rows)

    def groups(self) -> Iterable[Group]:
        return (tuple(str(i) for i in row) for row in self._rows)

    def read(self, group: Group) -> np.ndarray:
        return self.data.rgb[[int(key) for key in group]]

    def inputs(self, rng: np.random.Generator, rows: np.ndarray) -> tuple[dict[str, Any], list[Group], int]:
        conversations = []
        for row in rows:
            pictures = self._rows[row]
            first, last = (self.data.pictures[i] for i in (pictures[0], pictures[-1]))
            if len(pictures) == 1:
                first = last
            turns = sample_turns(first, last, self.spec.turns, rng) or [NOTHING]
            conversations.append(Conversation(tuple(str(i) for i in pictures), tuple(turns)))
        packed = self.packer(conversations)
        return text_inputs(packed), [c.images for c in conversations], packed.num_turns

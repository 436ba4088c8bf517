"""Foundation questions as a component of a training mixture: fresh ones at every step."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vipa.data.component import Group, Items, TextLoss
from vipa.data.spec import DataSpec
from vipa.data.turns import text_inputs
from vipa.models.packing import IGNORE, Conversation, Packer
from vipa.nano.foundation.picture_questions import Picture, Turn, sample_turns
from vipa.nano.foundation.picture_set import Pictures, load_pictures

NOTHING = Turn("How many objects are there?", "0")
"""Asked of a picture that shows too little for any other question."""

POINTING_WEIGHT = 5.0
MENTION_LAYER = 3
"""Language layers after which a named thing should have been found."""


class Pointing(nn.Module):
    """Linear readouts of image coordinates from hidden states of the language model."""

    def __init__(self, width: int):
        super().__init__()
        self.named = nn.Linear(width, 2)  # of the thing, from the words of its name
        self.asked = nn.Linear(width, 4)  # of the asked thing and its anchor, from a prompt's last token


class FoundationQuestions(TextLoss):
    """A row is a single picture, or two pictures of a sequence with what changed between them. width: of the model's
    hidden states."""

    views = False

    def __init__(self, spec: DataSpec, data: Pictures, packer: Packer, width: int):
        self.spec, self.data, self.packer = spec, data, packer
        self.readout = Pointing(width)
        singles = [(row,) for row in range(len(data))]
        pairs = [(row, row + data.frames - 1) for row in range(0, len(data), data.frames)]
        self._rows = singles + (pairs if data.frames > 1 else [])

    def __len__(self) -> int:
        return len(self._rows)

    def group(self, row: int) -> Group:
        return tuple(str(i) for i in self._rows[row])

    def groups(self) -> Iterable[Group]:
        return map(self.group, range(len(self)))

    def read(self, group: Group) -> list[np.ndarray]:
        return list(self.data.rgb[[int(key) for key in group]])

    def inputs(
        self, rows: Sequence[int], draws: Sequence[np.random.Generator]
    ) -> tuple[dict[str, Any], list[Group], int]:
        conversations, points, pictures = [], [], []
        for row, rng in zip(rows, draws):
            keys = self._rows[row]
            first, last = (self.data.pictures[i] for i in (keys[0], keys[-1]))
            if len(keys) == 1:
                first = last
            turns = sample_turns(first, last, self.spec.turns, rng) or [NOTHING]
            texts = tuple((turn.prompt, turn.answer) for turn in turns)
            conversations.append(Conversation(tuple(str(i) for i in keys), texts))
            points += [_padded(turn.points) for turn in turns]
            pictures.append(last)
        packed = self.packer(conversations)
        mentions = torch.stack([self._mentions(*row) for row in zip(packed.input_ids, packed.labels, pictures)])
        inputs = text_inputs(packed) | {"points": torch.tensor(points), "mentions": mentions}
        return inputs, [c.images for c in conversations], packed.num_turns

    def _mentions(self, ids: Tensor, labels: Tensor, picture: Picture) -> Tensor:
        """Image fractions (length, 2) of the thing that a prompt's token is part of the name of; NaN elsewhere."""
        found = torch.full((len(ids), 2), torch.nan)
        for thing in (*picture.objects, *picture.hands):
            name = torch.tensor(self.packer.processor.ids(f" {thing.name}"))
            if thing.visible:
                here = (ids.unfold(0, len(name), 1) == name).all(1) & (labels[: 1 - len(name)] == IGNORE)
                for offset in range(len(name)):
                    found[offset : offset + len(here)][here] = torch.tensor(thing.centre)
        return found

    def items(self, inputs: dict[str, Any]) -> Items:
        known, some = ~inputs["points"].isnan(), ~inputs["mentions"].isnan()
        return super().items(inputs) | {"asked": float(known.sum()), "named": float(some.sum())}

    def loss(self, model: nn.Module, inputs: dict[str, Any], items: Items) -> Tensor:
        """Cross-entropy, and that the model looks where it is asked to: image coordinates can be read from the words
        of a name after MENTION_LAYER, and from a prompt's last state. See `foundation.start` for what happens without.
        """
        assert isinstance(self.readout, Pointing)
        inputs = dict(inputs)
        points, mentions = inputs.pop("points"), inputs.pop("mentions")
        output = model(**inputs, num_items_in_batch=items["text"], output_hidden_states=True)
        learned = inputs["labels"] != IGNORE
        before_answer = learned[:, 1:] & ~learned[:, :-1]  # the prompt's last token, row by row, turn by turn
        asked = self.readout.asked(output.hidden_states[-1][:, :-1][before_answer].float())
        some = ~mentions.isnan().any(-1)
        named = self.readout.named(output.hidden_states[MENTION_LAYER][some].float())
        pointing = _distance(asked, points, items["asked"]) + _distance(named, mentions[some], items["named"])
        return output.loss + POINTING_WEIGHT * pointing


def _distance(read: Tensor, truth: Tensor, items: float) -> Tensor:
    """Absolute errors where the truth is known, over `items`; 0 where none is."""
    known = ~truth.isnan()
    return (read - truth)[known].abs().sum() / max(items, 1.0)


def _padded(points: tuple[tuple[float, float], ...]) -> list[float]:
    flat = [coordinate for point in points for coordinate in point]
    return flat + [float("nan")] * (4 - len(flat))


def open_component(spec: DataSpec, packer: Packer, width: int) -> FoundationQuestions:
    """The kind of data `foundation`: a folder of foundation pictures."""
    return FoundationQuestions(spec, load_pictures(spec.path), packer, width)

"""Hand3D records as conversations: all questions about the same images share their prefix (stages 1 and 2)."""

from typing import Literal

import numpy as np

from vipa.data.mixture import Turns
from vipa.data.spec import DataSpec
from vipa.data.tokens import Group
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hands.conventions import Conventions
from vipa.models.packing import Conversation, Packer


def hand3d_turns(
    spec: DataSpec, table: Literal["visual", "action"], packer: Packer, split: str = "train"
) -> Turns:
    """The records of one table and split, grouped by their images."""
    data = Hand3D(spec.path)
    said = data.conventions
    grouped: dict[Group, list[tuple[str, str]]] = {}
    if table == "visual":
        for record in data.visual(split):
            grouped.setdefault(tuple(record.frame_ids), []).append((record.question, record.answer))
    else:
        for record in data.action(split):
            grouped.setdefault((record.frame_id,), []).append((record.prompt, record.response))
    conversations = [Conversation(group, tuple(turns)) for group, turns in grouped.items()]

    def read(group: Group) -> list[np.ndarray]:
        return [data.image(frame) for frame in group]

    taught = Conventions(gamma=said.gamma) if table == "visual" else Conventions(codec=said.codec)
    return Turns(spec, conversations, read, packer, taught)

"""Hand3D records as conversations: all questions about the same images share their prefix (stages 1 and 2)."""

from collections.abc import Iterator
from itertools import groupby
from typing import Literal

import numpy as np

from vipa.data.component import Group
from vipa.data.spec import DataSpec
from vipa.data.turn_index import CACHED, Pair, TurnIndex
from vipa.data.turns import Turns
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hands.conventions import Conventions
from vipa.io.cache import cache_folder
from vipa.models.packing import Packer

Table = Literal["visual", "action"]


class FrameImages:
    """The images of a Hand3D data set by their frames; a copy in another process opens the data set again."""

    def __init__(self, data: Hand3D):
        self.data = data

    def __call__(self, group: Group) -> list[np.ndarray]:
        return [self.data.image(frame) for frame in group]


def hand3d_turns(spec: DataSpec, table: Table, packer: Packer) -> Turns:
    """The records of one table and of the split of `spec`, grouped by their images."""
    data = Hand3D(spec.path)
    said = data.conventions
    content = data.content_hash((table,), spec.split)
    index = TurnIndex.made(
        cache_folder(CACHED, f"{table}-{spec.split}-{content}"), lambda: pairs_of(data, table, spec.split)
    )
    taught = Conventions(gamma=said.gamma) if table == "visual" else Conventions(codec=said.codec)
    return Turns(spec, index, FrameImages(data), packer, taught)


def pairs_of(data: Hand3D, table: Table, split: str) -> Iterator[Iterator[Pair]]:
    """Its pairs clip by clip: images are of one clip."""
    if table == "visual":
        for _, records in groupby(data.visual(split), lambda r: r.clip_id):
            yield (Pair(tuple(r.frame_ids), r.question, r.answer, r.category) for r in records)
    else:
        for _, motions in groupby(data.action(split), lambda r: r.clip_id):
            yield (Pair((r.frame_id,), r.prompt, r.response, r.task) for r in motions)

"""Pictures that a policy goes without: nothing attends to them, and everything else stays where it is."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

MissingViews = Literal["refuse", "mask"]


def complete(
    images: Mapping[str, np.ndarray], views: Sequence[str], missing: MissingViews
) -> tuple[list[np.ndarray], list[bool]]:
    """An observation's pictures in the order of the contract's views, and which of them are real.

    An absent one is grey, of the size of the first that is there. ValueError naming absent views, unless they are
    masked and at least one is there.
    """
    absent = [view for view in views if view not in images]
    if absent and (missing == "refuse" or len(absent) == len(views)):
        raise ValueError(
            f"views missing: {', '.join(absent)}; there are {', '.join(images) or 'none'}"
            + ("" if len(views) == 1 else " (missing_views='mask' masks some, not all)")
        )
    grey = np.full_like(next(iter(images[view] for view in views if view in images)), 127) if absent else None
    pictures = [images.get(view, grey) for view in views]
    return [p for p in pictures if p is not None], [view in images for view in views]


def mask_absent(
    inputs: Mapping[str, Tensor], present: Sequence[Sequence[bool]], image_token: int
) -> dict[str, Tensor]:
    """The model's inputs with absent views hidden: zero in attention_mask at their tokens, and position_ids of the
    whole prompt, so that every token is as far from the others as in training.

    inputs: input_ids and attention_mask (rows, length), every row with len(present[row]) pictures in order.
    """
    if all(all(row) for row in present):
        return dict(inputs)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    places = ids == image_token  # (rows, length), as many in every row
    real = torch.tensor(present, device=ids.device)
    tokens = int(places[0].sum()) // real.shape[1]
    hidden = torch.zeros_like(places)
    hidden[places] = ~real.repeat_interleave(tokens, dim=1).flatten()
    positions = (mask.long().cumsum(1) - 1).clamp_min(0)
    return {**inputs, "attention_mask": mask.masked_fill(hidden, 0), "position_ids": positions}

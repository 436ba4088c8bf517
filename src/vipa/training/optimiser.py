"""AdamW of every training here, and what of a model decays."""

from typing import Any

from torch import nn
from torch.optim import AdamW

from vipa.models.action_head import PerEmbodimentLinear

MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, PerEmbodimentLinear)
"""Layers whose `weight` decays."""


def make_optimiser(
    model: nn.Module, *, learning_rate: float, weight_decay: float, betas: tuple[float, float], eps: float
) -> AdamW:
    """Over the parameters that learn."""
    groups = weight_decay_groups(model, weight_decay)
    return AdamW(groups, lr=learning_rate, betas=betas, eps=eps, fused=True)


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Only the matrices of linear layers and convolutions decay: no bias (of whatever shape), norm, scale, embedding
    (an output layer tied to one is one), learned token, query or position."""
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, MATRICES)} - tables
    learned = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learned if id(p) in matrices], "weight_decay": weight_decay},
        {"params": [p for p in learned if id(p) not in matrices], "weight_decay": 0.0},
    ]

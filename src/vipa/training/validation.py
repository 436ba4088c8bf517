"""What a model makes of data that it does not learn from, while it trains."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vipa.models import VipaForConditionalGeneration
from vipa.training.processes import Processes
from vipa.training.setup import Built

STEPS = 16
"""Batches of held-out data; always the same ones."""


@torch.no_grad()
def validate(
    called: nn.Module,
    built: Built,
    team: Processes,
    watch: Callable[[VipaForConditionalGeneration, Any], dict[str, float]] | None,
) -> dict[str, float]:
    """Losses of the held-out mixture by kind, over its first rows, and what `watch` (in the first process) finds.

    called: gives the loss of a batch; the held-out components are numbered after the others."""
    assert built.validation is not None
    built.model.eval()
    figures: dict[str, float] = {}
    for number, (component, _) in enumerate(built.validation.components):
        total = count = 0.0
        for step in range(max(1, min(STEPS, len(component) // component.spec.batch))):
            batch = built.validation.step(step)[0][number].to(team.device)
            loss = called(len(built.mixture.components) + number, batch.inputs, batch.items)
            total, count = total + float(loss) * batch.samples, count + batch.samples
        total, count = team.sum([total, count])
        figures[f"validation_{component.spec.kind}"] = total / count
    if watch is not None and team.first:
        figures |= watch(built.model, built.processor)
    built.model.train()
    return figures

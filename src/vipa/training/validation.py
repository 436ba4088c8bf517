"""What a model makes of data that it does not learn from, while it trains."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from vipa.models import VipaForConditionalGeneration, VipaProcessor
from vipa.training.processes import Processes
from vipa.training.setup import Built

STEPS = 16
"""Batches of held-out data; always the same ones."""
Watch = Callable[[VipaForConditionalGeneration, VipaProcessor], dict[str, float]]
"""What is to be known of a model beside its losses, by name; `benchmarks.watching` asks it."""


@torch.no_grad()
def validate(called: nn.Module, built: Built, team: Processes, watch: Watch | None) -> dict[str, Any]:
    """Losses of the held-out mixture by kind, over its first rows, and what `watch` (in the first process) finds; it is
    not called where the model is shared out.

    called: gives the loss of a batch; the held-out components are numbered after the others."""
    assert built.validation is not None
    built.model.eval()
    figures: dict[str, Any] = {}
    with torch.autocast(team.device.type, torch.bfloat16, enabled=built.precision == "bf16"):
        for number, (component, _) in enumerate(built.validation.components):
            total = count = 0.0
            for step in range(max(1, min(STEPS, len(component) // component.spec.batch))):
                batch = built.validation.step(step)[0][number].to(team.device)
                loss = called(len(built.mixture.components) + number, batch.inputs, batch.items)
                total, count = total + float(loss) * batch.samples, count + batch.samples
            total, count = team.sum([total, count])
            figures[f"validation_{component.spec.kind}"] = total / count
        if watch is not None and not isinstance(called, FSDPModule):  # which no process could ask alone
            figures |= watch(built.model, built.processor) if team.first else {}
            team.wait()
    built.model.train()
    return figures

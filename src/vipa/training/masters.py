"""Learned weights in float32 beside a model that is stored in bfloat16, so that the next stage goes on from them.

    model/model.safetensors      everything, in the precision of the run's start
    model/masters.safetensors    what the run learned, as it learned it

A step of 1e-5 is less than half a bfloat16 step of most weights: rounded between two stages, small changes are lost.
What only reads models does not look at this file, and it may be deleted.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

MASTERS = "masters.safetensors"


def masters_of(model: nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Of what learns, what storing it in `dtype` would round."""
    if dtype == torch.float32:
        return {}
    return {n: p.data.cpu() for n, p in model.named_parameters() if p.requires_grad and p.dtype == torch.float32}


def save_masters(folder: Path, masters: dict[str, torch.Tensor]) -> None:
    if masters:
        save_file({name: tensor.contiguous() for name, tensor in masters.items()}, folder / MASTERS)


@torch.no_grad()
def take_masters(model: nn.Module, start: str, dtype: torch.dtype) -> int:
    """Into what learns, where the start has them and rounds to the same weights; how many parameters."""
    path, taken = Path(start) / MASTERS, 0
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        for name, parameter in model.named_parameters():
            if name in names and parameter.requires_grad:
                master = file.get_tensor(name).to(parameter.device)
                if master.shape == parameter.shape and torch.equal(master.to(dtype), parameter.to(dtype)):
                    parameter.copy_(master)
                    taken += 1
    return taken

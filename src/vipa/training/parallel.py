"""Several processes on one model: each holds it whole (DDP), or its share of what learns (FSDP2)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from vipa.training.processes import Processes

PARALLEL = ("ddp", "fsdp")


def distribute(learner: nn.Module, layers: list[nn.Module], how: str, processes: Processes) -> nn.Module:
    """The module to call in the place of `learner`. how: ddp or fsdp.

    fsdp: parameters that learn, their gradients and their optimiser state are shared out, a group for each of `layers`
    and one for the rest; frozen parameters stay whole in every process (in bfloat16 they are small beside the rest),
    and so do single numbers, which cannot be shared out (`exchange_rest`).
    """
    if processes.world == 1:
        return learner
    if how == "ddp":
        devices = [processes.device] if processes.device.type == "cuda" else None
        return DistributedDataParallel(learner, device_ids=devices, find_unused_parameters=True)
    stay = {p for p in learner.parameters() if not p.requires_grad or p.ndim == 0}
    for layer in layers:
        if any(p.requires_grad for p in layer.parameters()):
            fully_shard(layer, ignored_params=stay)
    fully_shard(learner, ignored_params=stay)
    return learner


@contextmanager
def gradients_stay(module: nn.Module, stay: bool) -> Iterator[None]:
    """Where stay, gradients are summed up in this process and not exchanged yet."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(not stay)
        module.set_is_last_backward(not stay)
        yield
    elif isinstance(module, DistributedDataParallel) and stay:
        with module.no_sync():
            yield
    else:
        yield


def exchange_rest(learner: nn.Module, processes: Processes) -> None:
    """After a step's last backward pass: gradients that are nobody's to exchange become the mean over processes."""
    if processes.world == 1 or not isinstance(learner, FSDPModule):
        return
    for parameter in learner.parameters():
        if parameter.grad is not None and not isinstance(parameter, DTensor):
            dist.all_reduce(parameter.grad)
            parameter.grad /= processes.world


def clip(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Scales the gradients down to a norm of at most `largest`; their norm before, over all processes."""
    learned = [p for p in parameters if p.grad is not None]
    kinds = ([p for p in learned if isinstance(p, DTensor)], [p for p in learned if not isinstance(p, DTensor)])
    norms = [
        whole(nn.utils.get_total_norm([p.grad for p in some if p.grad is not None])) for some in kinds if some
    ]
    total = torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))
    for some in kinds:
        nn.utils.clip_grads_with_norm_(some, largest, total)
    return float(total)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Of a shared-out tensor all of it. Every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Of a shared-out tensor this process's part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

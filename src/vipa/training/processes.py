"""The processes of a training: one, or those that torchrun, `accelerate launch` or Slurm started.

They are told apart by the usual environment variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """This process among `world`, and the device that it trains on."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this one writes logs, records and models."""
        return self.rank == 0

    def sum(self, numbers: list[float]) -> list[float]:
        """Of every number over all processes."""
        if self.world == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Joins the other processes, where there are any. device: auto, or torch's name; of several processes on GPUs each
    takes its own. ValueError for one that this machine does not have."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield Processes(0, 1, device_of(device))
        return
    local = int(os.environ.get("LOCAL_RANK", 0))
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    own = device_of(f"cuda:{local}" if kind == "cuda" else kind)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    joined = not dist.is_initialized()
    if joined:
        dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), own)
    finally:
        if joined:
            dist.destroy_process_group()


def device_of(name: str) -> torch.device:
    """ValueError for one that this machine does not have. auto: a GPU where there is one.

    On a GPU cuDNN's attention is switched off: with masks its gradients are NaN at some lengths (torch 2.11 to 2.13,
    H100 and H200, https://github.com/pytorch/pytorch/issues/196678)."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {name!r} cannot be used here ({reason}); `vipa doctor` says what this machine has"
        ) from None
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device

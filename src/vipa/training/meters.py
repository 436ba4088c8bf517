"""What a training costs: waiting for data, operations against what the device can do, memory."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

MATRIX = {"cpu": 1024, "cuda": 8192}
"""Side of the matrices by which a device's rate is measured: some milliseconds of it."""


class Meters:
    """Counts since the last line of the log."""

    def __init__(self, device: torch.device):
        self.device = device
        self.rate: float | None = None  # of the device, operations a second
        self.operations_per_token: float | None = None
        self.start()

    def start(self) -> None:
        self.began, self.waited, self.samples, self.tokens, self.steps = time.monotonic(), 0.0, 0, 0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    def count(self, samples: int, tokens: int) -> None:
        self.samples, self.tokens, self.steps = self.samples + samples, self.tokens + tokens, self.steps + 1

    @contextmanager
    def counting_operations(self, tokens: int, dtype: torch.dtype) -> Iterator[None]:
        """Of one micro-batch, forward and backward; the device's own rate is measured beside it. The time is not
        counted."""
        began = time.monotonic()
        self.rate = matrix_rate(self.device, dtype)
        with FlopCounterMode(display=False) as counter:
            yield
        self.operations_per_token = counter.get_total_flops() / tokens
        self.began += time.monotonic() - began

    def line(self) -> dict[str, float]:
        """samples and tokens a second of this process; share of the time that it waited for data; share of the device's
        measured matrix rate that was used (recomputed activations count as work); GB: the most memory held."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        line = {
            "samples_per_second": self.samples / seconds,
            "tokens_per_second": self.tokens / seconds,
            "data_wait": self.waited / seconds,
            "memory_gb": peak_memory(self.device) / 1e9,
        }
        if self.operations_per_token and self.rate:
            line["utilisation"] = self.operations_per_token * self.tokens / seconds / self.rate
        return line


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a matrix product on this device, the best of a few."""
    size = MATRIX.get(device.type, MATRIX["cpu"])
    a, best = torch.randn(size, size, device=device).to(dtype), float("inf")
    for _ in range(4):
        began = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def peak_memory(device: torch.device) -> float:
    """Bytes: of the GPU, or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0

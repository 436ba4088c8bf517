"""Speed and memory of CUT3R: frames/s by size, precision, way of running, clip length, device, compiled or not.

    python speed/cut3r.py --models nano --frames 1 4 16 64 --out speed/cut3r_cpu.txt
    python speed/cut3r.py --models 224 --frames 16 --precisions fp32 --public CHECKOUT

With --public, a checkout of the authors' code runs beside ours instead: same weights, same clip, outputs compared, then
in turns in one process (ours, theirs, ours, ...).

Weights are random: speed does not depend on them. Memory is the peak beyond weights and images: on a GPU what torch
allocated, on a CPU (Linux) the highest resident set during the runs, less what was resident before them.
"""

import copy
import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from cut3r_public import public_model, public_outputs, public_views

from vipa.models.cut3r import Cut3rConfig, Cut3rModel, cut3r_224_config, cut3r_512_config
from vipa.nano.sizes import nano_cut3r_config

CONFIGS = {"nano": nano_cut3r_config, "224": cut3r_224_config, "512": cut3r_512_config}
CONFIGS["224-short"] = lambda: Cut3rConfig(encoder_depth=6, decoder_depth=4)
"""The released 224 model with a quarter of its encoder and a third of its decoder layers: for slow machines."""

SIZES = {"nano": (112, 112), "224": (224, 224), "224-short": (224, 224), "512": (384, 512)}
Name = Literal["nano", "224", "224-short", "512"]
Precision = Literal["fp32", "bf16"]
Way = Literal["batch", "stream", "tokens"]


@dataclass(frozen=True)
class Benchmark:
    """tokens: a batch without heads, as the dual encoder runs it. clock: `cpu` counts the time that the processor gave
    to this process, which on a shared machine with one thread is what a free core would need."""

    models: tuple[Name, ...] = ("nano", "224", "512")
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    ways: tuple[Way, ...] = ("batch", "stream", "tokens")
    frames: tuple[int, ...] = (1, 4, 16, 64)
    compiled: tuple[bool, ...] = (False,)
    device: Literal["cpu", "cuda"] = "cpu"
    clock: Literal["wall", "cpu"] = "wall"
    repeats: int = 3
    public: Path | None = None
    out: Path | None = None


def run_once(model: Cut3rModel, way: Way, images: torch.Tensor) -> None:
    if way == "stream":
        state = None
        for t in range(images.shape[1]):
            _, state = model.step(images[:, t], state)
    else:
        model(images, heads=None if way == "batch" else ())
    if images.is_cuda:
        torch.cuda.synchronize()


class PeakMemory:
    """The highest memory use since this object was made, beyond what was in use then. MB."""

    def __init__(self, device: str):
        self.device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / 1e6
        else:
            ctypes.CDLL(None).malloc_trim(0)  # else what earlier runs have freed counts as in use
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            self.before = resident("VmRSS")

    def more(self) -> float:
        peak = torch.cuda.max_memory_allocated() / 1e6 if self.device == "cuda" else resident("VmHWM")
        return peak - self.before


def resident(field: str) -> float:
    """A line of /proc/self/status, MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 1e3


@torch.inference_mode()
def sweep(bench: Benchmark) -> list[str]:
    """Ours alone, in every combination asked for."""
    clock = time.perf_counter if bench.clock == "wall" else time.process_time
    lines = shown([], "model      precision  way     compiled  frames  frames/s   memory MB")
    for name in bench.models:
        for precision in bench.precisions:
            for compiled in bench.compiled:
                model = ours(bench, name, precision)
                if compiled:
                    for block in (*model.enc_blocks, *model.dec_blocks, *model.dec_blocks_state):
                        block.compile()
                for way in bench.ways:
                    for frames in bench.frames:
                        images = clip(bench, name, frames)
                        peak = PeakMemory(bench.device)
                        run_once(model, way, images)
                        times = []
                        for _ in range(bench.repeats):
                            start = clock()
                            run_once(model, way, images)
                            times.append(clock() - start)
                        rate, more = frames / min(times), peak.more()
                        shown(
                            lines,
                            f"{name:<10} {precision:<10} {way:<7} {compiled!s:<9} {frames:<7} {rate:<10.2f} {more:.0f}",
                        )
    return lines


@torch.inference_mode()
def beside_public(bench: Benchmark, checkout: Path) -> list[str]:
    """Ours and the authors' in turns; seconds are the least over the repeats, the ratio is the median over turns."""
    lines = shown(
        [], "model      precision  frames  ours s  public s  ratio  (clock)   largest relative difference"
    )
    for name in bench.models:
        for precision in bench.precisions:
            model = ours(bench, name, "fp32")
            public = public_model(checkout, model)
            if precision == "bf16":  # theirs keeps its weights in fp32 and runs under autocast
                model = copy.deepcopy(model).bfloat16()
            for frames in bench.frames:
                images = clip(bench, name, frames)
                views, rough = public_views(images), precision == "bf16"
                with torch.autocast(bench.device, torch.bfloat16, enabled=rough):
                    theirs = public_outputs(public, views)
                mine = model(images)
                apart = {k: float((mine[k] - v).norm() / v.norm()) for k, v in theirs.items()}
                sides = (lambda: run_once(model, "batch", images), lambda: run_public(public, views, rough))  # noqa: B023
                turns = [[clocked(side) for side in sides] for _ in range(bench.repeats)]
                for i, clock in enumerate(("wall", "cpu")):
                    least = [min(turn[side][i] for turn in turns) for side in (0, 1)]
                    ratio = statistics.median(turn[1][i] / turn[0][i] for turn in turns)
                    shown(
                        lines,
                        f"{name:<10} {precision:<10} {frames:<7} {least[0]:<7.2f} {least[1]:<9.2f} {ratio:<6.2f} "
                        f"({clock})     {max(apart.values()):.1e} ({max(apart, key=apart.__getitem__)})",
                    )
    return lines


def run_public(public: Any, views: list[dict[str, torch.Tensor]], autocast: bool) -> None:
    with torch.autocast(views[0]["img"].device.type, torch.bfloat16, enabled=autocast):
        public(views)
    if views[0]["img"].is_cuda:
        torch.cuda.synchronize()


def clocked(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def ours(bench: Benchmark, name: Name, precision: Precision) -> Cut3rModel:
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    return Cut3rModel(CONFIGS[name]()).to(bench.device, dtype).eval()


def clip(bench: Benchmark, name: Name, frames: int) -> torch.Tensor:
    return torch.rand(1, frames, 3, *SIZES[name], device=bench.device) * 2 - 1


def shown(lines: list[str], line: str) -> list[str]:
    print(line, flush=True)
    lines.append(line)
    return lines


def main(bench: Benchmark) -> None:
    place = torch.cuda.get_device_name() if bench.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    lines = shown([], f"torch {torch.__version__}, {place}, {bench.clock} clock")
    lines += sweep(bench) if bench.public is None else beside_public(bench, bench.public)
    if bench.out is not None:
        bench.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))

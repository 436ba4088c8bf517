"""Speed and memory of CUT3R: frames/s by size, precision, way of running, clip length, device, compiled or not.

    python benchmarks/cut3r.py --models nano --frames 1 4 16 64 --out benchmarks/cut3r_cpu.txt

Weights are random: speed does not depend on them. Memory is the peak beyond the weights: on a GPU what torch
allocated, on a CPU the growth of the process's resident set (Linux), zero where earlier runs already needed as much.
"""

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from vipa.models.cut3r import Cut3rModel, cut3r_224_config, cut3r_512_config, nano_cut3r_config

CONFIGS = {"nano": nano_cut3r_config, "224": cut3r_224_config, "512": cut3r_512_config}
SIZES = {"nano": (112, 112), "224": (224, 224), "512": (384, 512)}
Precision = Literal["fp32", "bf16"]
Way = Literal["batch", "stream", "tokens"]


@dataclass(frozen=True)
class Benchmark:
    """tokens: a batch without heads, as the dual encoder runs it. clock: `cpu` counts the time that the processor gave
    to this process, which on a shared machine with one thread is what a free core would need."""

    models: tuple[Literal["nano", "224", "512"], ...] = ("nano", "224", "512")
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    ways: tuple[Way, ...] = ("batch", "stream", "tokens")
    frames: tuple[int, ...] = (1, 4, 16, 64)
    compiled: tuple[bool, ...] = (False,)
    device: Literal["cpu", "cuda"] = "cpu"
    clock: Literal["wall", "cpu"] = "wall"
    repeats: int = 3
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


def memory(device: str) -> float:
    """Peak, MB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


@torch.inference_mode()
def main(bench: Benchmark) -> None:
    place = torch.cuda.get_device_name() if bench.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    clock = time.perf_counter if bench.clock == "wall" else time.process_time
    lines = [
        f"torch {torch.__version__}, {place}, {bench.clock} clock",
        "model  precision  way     compiled  frames  frames/s   memory MB",
    ]
    print("\n".join(lines))
    for name in bench.models:
        for precision in bench.precisions:
            dtype = torch.float32 if precision == "fp32" else torch.bfloat16
            for compiled in bench.compiled:
                model = Cut3rModel(CONFIGS[name]()).to(bench.device, dtype).eval()
                if compiled:
                    for block in (*model.enc_blocks, *model.dec_blocks, *model.dec_blocks_state):
                        block.compile()
                for way in bench.ways:
                    for frames in bench.frames:
                        images = torch.rand(1, frames, 3, *SIZES[name], device=bench.device) * 2 - 1
                        if bench.device == "cuda":
                            torch.cuda.reset_peak_memory_stats()
                        before = torch.cuda.memory_allocated() / 1e6 if bench.device == "cuda" else memory("cpu")
                        run_once(model, way, images)
                        times = []
                        for _ in range(bench.repeats):
                            start = clock()
                            run_once(model, way, images)
                            times.append(clock() - start)
                        rate, more = frames / min(times), memory(bench.device) - before
                        lines.append(
                            f"{name:<6} {precision:<10} {way:<7} {compiled!s:<9} {frames:<7} {rate:<10.2f} {more:.0f}"
                        )
                        print(lines[-1], flush=True)
    if bench.out is not None:
        bench.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))

"""What a unit of each part of an ablation costs: processor seconds of one thread, from a short and a longer job.

python speed/ablation.py --out FOLDER [--parts stage1 stage2 ...]

The difference of two sizes leaves out loading and warming up. Processor time of one thread is what a quiet core would
need; jobs beside it make it a little longer.
"""

import importlib
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
import tyro

from vipa.benchmarks.ablation.arms import BUDGETS
from vipa.benchmarks.ablation.plan import Ablation, plan
from vipa.io.files import remove
from vipa.io.jobs import Job

SIZES = {
    "clips": (2, 10),
    "demonstrations": (2, 14),
    "stage1": (4, 16),
    "stage2": (4, 16),
    "stage3": (4, 16),
    "questions": (32, 96),
    "motions": (16, 48),
    "tabletop": (2, 8),
}
"""Units of the two jobs."""
FIELDS = {
    "demonstrations": "count", "questions": "limit", "motions": "limit", "tabletop": "episodes",
}  # fmt: skip


def sized(job: Job, units: int) -> Job:
    """The same job with so many units."""
    if job.name == "clips":
        return replace(job, settings={**job.settings, "clips": {"train": units}})
    if job.name in FIELDS:
        return replace(job, settings={**job.settings, FIELDS[job.name]: units})
    return replace(job, settings={**job.settings, "run": {**job.settings["run"], "steps": units}})


def seconds(job: Job, store: Path) -> tuple[float, float]:
    """Wall and processor seconds of a job made anew."""
    remove(job.folder(store))
    module, _, function = job.make.partition(":")
    make = getattr(importlib.import_module(module), function)
    needs = {role: need.folder(store) for role, need in job.needs.items()}
    wall, cpu = time.monotonic(), time.process_time()
    make(
        job.folder(store),
        dict(job.settings),
        needs,
        dict(job.options) | ({"threads": 1} if "run" in job.settings else {}),
    )
    return time.monotonic() - wall, time.process_time() - cpu


def main(out: Path, parts: tuple[str, ...] = ()) -> None:
    """out: folder of the jobs. parts: their names; left out, all."""
    torch.set_num_threads(1)
    run = Ablation(**asdict(replace(BUDGETS["tiny"], tasks=("place",))), out=out, arms=("full",), seeds=(0,))
    jobs = {job.name: job for p in plan(run) for job in p.jobs}
    store = out / "store"
    for name, job in jobs.items():
        if not job.folder(store).exists():
            seconds(job, store)
        if name not in SIZES or (parts and name not in parts):
            continue
        (wall0, cpu0), (wall1, cpu1) = (seconds(sized(job, units), store) for units in SIZES[name])
        more = SIZES[name][1] - SIZES[name][0]
        begin = max(cpu0 - SIZES[name][0] * (cpu1 - cpu0) / more, 0.0)
        unit, walls = (cpu1 - cpu0) / more, (wall1 - wall0) / more
        print(f"{name:<16} {begin:6.1f} s to begin, {unit:6.3f} s a unit (wall {walls:.3f})")


if __name__ == "__main__":
    tyro.cli(main)

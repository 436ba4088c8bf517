"""The tabletop's steps a second with nano: our own loop in one process and several, and vla-eval's runner.

`python speed/tabletop.py --out speed/results/tabletop.json`, where vla-eval is installed. Our loop and vla-eval's play
by turns in this process, with one thread for torch; what several processes reach includes that they begin.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro

from vipa.benchmarks.tabletop_benchmark import TabletopEvaluation, evaluate_tabletop
from vipa.io.provenance import provenance
from vipa.robots.policy import VipaPolicy

BENCHMARK = "vipa.benchmarks.vla_eval_tabletop:TabletopBenchmark"


def own(policy: VipaPolicy, episodes: int, processes: int = 1) -> int:
    """Steps of so many episodes of each task."""
    with tempfile.TemporaryDirectory() as out:
        run = TabletopEvaluation(
            Path(out), "nano", split="validation", episodes=episodes, videos=0, processes=processes
        )
        return sum(outcome.steps for outcome in evaluate_tabletop(policy, run).outcomes)


def theirs(policy: VipaPolicy, episodes: int) -> int:
    """The same through vla-eval, pictures uncompressed."""
    import vla_eval
    from vla_eval.protocol.numpy_codec import set_image_format

    from vipa.robots.serving.vla_eval_server import PolicyModelServer

    set_image_format("raw")
    params = {"split": "validation", "send_wrist_image": True}
    entry = {"benchmark": BENCHMARK, "episodes_per_task": episodes, "params": params}
    server = PolicyModelServer(policy, 4, {"agent": "agentview"})
    with tempfile.TemporaryDirectory() as out:
        config = {"output_dir": out, "benchmarks": [entry]}
        results = vla_eval.evaluate(server, config, docker=False, no_save=True)
    return sum(e["steps"] for result in results for task in result["tasks"] for e in task["episodes"])


def timed(play: Callable[[VipaPolicy, int], int], policy: VipaPolicy, episodes: int) -> dict[str, float]:
    clock, processor = time.perf_counter(), time.process_time()
    steps = play(policy, episodes)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return {
        "steps": steps,
        "per second": round(steps / clock, 1),
        "per second of processor": round(steps / processor, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def main(out: Path, episodes: int = 2, rounds: int = 2, many: int = 50) -> None:
    """episodes: of each task, in a turn. rounds: turns of each loop, after one that does not count. many: episodes of
    each task, for as many processes as there are cores."""
    torch.set_num_threads(1)
    policy = VipaPolicy.from_pretrained("nano:stage3")
    timed(own, policy, 1)
    rows = [
        {"own": timed(own, policy, episodes), "vla-eval": timed(theirs, policy, episodes)} for _ in range(rounds)
    ]
    processes = os.cpu_count() or 1
    clock = time.perf_counter()
    steps = own(policy, many, processes)
    clock = time.perf_counter() - clock
    whole = {
        "processes": processes,
        "episodes a task": many,
        "steps": steps,
        "per second": round(steps / clock, 1),
    }
    result = {"episodes a task": episodes, "rounds": rows, "processes": whole, "made": provenance()}
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(out.read_text())


if __name__ == "__main__":
    tyro.cli(main)

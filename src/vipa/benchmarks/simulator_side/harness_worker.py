"""One process of an evaluation through vla-eval, in the simulator's own environment; `vla_eval_run.py` starts it.

PYTHON harness_worker.py RUN.json probe          the tasks, versions and a first observation, as a JSON line
PYTHON harness_worker.py RUN.json SHARD SHARDS   plays what the shared queue still has

RUN.json: {"config": vla-eval's own configuration, "eval_id": name of its recording, "raw_images": bool}.
It ends when its standard input does, so that it does not outlive whoever started it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import threading

PACKAGES = ("vla-eval", "mujoco", "robosuite", "hf-libero", "libero", "robocasa", "simpler-env", "numpy")


def main(path: str, shard: str, shards: str = "1") -> None:
    with open(path) as file:
        run = json.load(file)
    # Our own end of the pipe, before a simulator asks for words on standard input.
    keep_alive = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    answers, sys.stdout = sys.stdout, sys.stderr  # simulators print
    if shard == "probe":
        answers.write("\n" + json.dumps(probed(run["config"])) + "\n")
        answers.flush()
        os._exit(0)  # renderers complain while Python ends
    threading.Thread(target=_end_with, args=(keep_alive,), daemon=True).start()
    play(run, int(shard), int(shards))


def _end_with(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os._exit(1)


def play(run: dict, shard: int, shards: int) -> None:
    import logging

    import anyio
    from vla_eval import watchdog
    from vla_eval.orchestrator import Orchestrator
    from vla_eval.protocol.numpy_codec import set_image_format

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if run["raw_images"]:
        set_image_format("raw")
    watchdog.start(1200.0)
    anyio.run(Orchestrator(run["config"], shard_id=shard, num_shards=shards, eval_id=run["eval_id"]).run)


def probed(config: dict) -> dict:
    """{"error": one line} or {"tasks": {entry: names}, "versions", "observation": {key: shape}, "state", "views"}."""
    try:
        import anyio
        from vla_eval.registry import resolve_import_string
        from vla_eval.render import apply_render_mode
    except ImportError as error:
        return {"error": f"vla-eval is not there ({error}); pip install vla-eval"}
    tasks = {}
    first = None
    for entry in config["benchmarks"]:
        try:
            kind = resolve_import_string(entry["benchmark"])
            apply_render_mode(kind, config["render"], entry["name"])
            benchmark = kind(**entry["params"])
            found = benchmark.get_tasks()
            tasks[entry["name"]] = [task["name"] for task in found]
            first = first or (entry["name"], benchmark, {**found[0], "episode_idx": 0})
        except EOFError:
            hint = "LIBERO: a config.yaml in the folder LIBERO_CONFIG_PATH answers it"
            return {"error": f"{entry['name']}: asks a question when it is imported ({hint})"}
        except Exception as error:
            return {"error": f"{entry['name']}: {_line(error)}"}
    if first is None:
        return {"error": "no tasks"}
    name, benchmark, task = first

    async def look() -> dict:
        await benchmark.start_episode(task)
        return await benchmark.get_observation()

    try:
        observation = anyio.run(look)
    except Exception as error:
        return {"error": f"{name} does not start: {_line(error)}"}
    state = observation.get("states", observation.get("state"))
    return {
        "tasks": tasks,
        "versions": {package: version for package in PACKAGES if (version := _version(package))},
        "views": {view: list(image.shape) for view, image in observation.get("images", {}).items()},
        "state": None if state is None else len(state),
    }


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main(*sys.argv[1:])

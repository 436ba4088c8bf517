"""What vla-eval and a policy's server cost beside LIBERO itself: steps a second of the bare simulator and of the same
simulator played through both, in turns of a few steps, so that whatever else the machine does falls on both.

    python speed/libero_harness.py PYTHON        PYTHON: of LIBERO's environment

Prints one JSON line. The policy answers at once, so its own time is not in it.
"""

import argparse
import json
import os
import subprocess
import time

STEPS = 8  # of a turn


def serve(python: str, turns: str) -> None:
    from dataclasses import replace

    import numpy as np

    from vipa.benchmarks.vla_eval_run import surroundings
    from vipa.robots.known import libero
    from vipa.robots.serving.vla_eval_server import PolicyModelServer, serving

    class Still:
        contract = replace(libero.contract(), horizon=1)
        identity = {"policy": "still"}  # noqa: RUF012

        def __call__(self, observations):
            return np.zeros((len(observations), 1, 7))

    with serving(PolicyModelServer(Still(), 1)) as url:
        subprocess.run([python, __file__, url, "--turns", turns], env=surroundings(), check=True)


def measure(url: str, turns: str) -> None:
    os.environ.update(MUJOCO_GL="osmesa", PYOPENGL_PLATFORM="osmesa", LIBGL_ALWAYS_SOFTWARE="1")
    import anyio
    import numpy as np
    from vla_eval.benchmarks.libero.benchmark import LIBEROBenchmark
    from vla_eval.connection import Connection
    from vla_eval.protocol.numpy_codec import set_image_format
    from vla_eval.recording import NullEpisodeRecorder

    set_image_format("raw")
    world = LIBEROBenchmark("libero_object", send_state=True, send_wrist_image=True, num_steps_wait=1)
    world._recorder = NullEpisodeRecorder()
    task = {**world.get_tasks()[0], "episode_idx": 0}
    world.reset(task)
    action = [0.0] * 6 + [-1.0]

    async def run() -> None:
        bare, through = [], []
        async with Connection(url) as server:
            await server.start_episode({"task": {"name": "still"}})
            seen = world.make_obs(world.step({"actions": np.array(action)}).obs, task)
            await server.act(seen)
            for _ in range(int(turns)):
                start = time.perf_counter()
                for _ in range(STEPS):
                    world._env.step(action)
                bare.append(time.perf_counter() - start)
                start = time.perf_counter()
                for _ in range(STEPS):
                    answer = await server.act(seen)
                    seen = world.make_obs(world.step(answer).obs, task)
                through.append(time.perf_counter() - start)
        rates = {"bare": STEPS / np.median(bare), "through": STEPS / np.median(through)}
        ratio = float(np.sum(bare) / np.sum(through))
        said = {name: round(float(rate), 2) for name, rate in rates.items()}
        print(json.dumps({"steps_per_second": said, "through_of_bare": round(ratio, 3), "turns": int(turns)}))

    anyio.run(run)
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("python", help="of LIBERO's environment (or, from there, the server's address)")
    parser.add_argument("--turns", default="8")
    given = parser.parse_args()
    (measure if given.python.startswith("ws://") else serve)(given.python, given.turns)

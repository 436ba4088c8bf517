"""LIBERO behind a pipe, one action at a time, in the simulator's own environment; `libero_recorder.py` starts it.

PYTHON libero_steps.py PARAMS        PARAMS: of `LIBEROWorlds`, as JSON

Messages both ways are msgpack behind four bytes of length. It begins with {"tasks": words of each}; to {"task",
"scene"} and to {"action"} it answers an observation with "done". It ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any

os.environ.update(MUJOCO_GL="osmesa", PYOPENGL_PLATFORM="osmesa", LIBGL_ALWAYS_SOFTWARE="1")

import msgpack
import numpy as np
from libero_worlds import LIBEROWorlds
from vla_eval.protocol.numpy_codec import decode_ndarray, encode_ndarray, set_image_format
from vla_eval.recording import NullEpisodeRecorder


def main(params: str) -> None:
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # simulators print
    set_image_format("raw")
    world = LIBEROWorlds(**json.loads(params))
    world._recorder = NullEpisodeRecorder()
    tasks = world.get_tasks()
    send(answers, {"tasks": [task["name"] for task in tasks]})
    task: dict = {}
    while (order := receive(orders)) is not None:
        if "task" in order:
            task, done = {**tasks[order["task"]], "episode_idx": order["scene"]}, False
            seen = world.reset(task)
        else:
            result = world.step({"actions": np.array(order["action"])})
            seen, done = result.obs, bool(result.done)
        send(answers, {**world.make_obs(seen, task), "done": done})
    os._exit(0)  # renderers complain while Python ends


def send(pipe: Any, message: dict) -> None:
    data: Any = msgpack.packb(message, default=encode_ndarray)
    pipe.write(struct.pack("<I", len(data)) + data)
    pipe.flush()


def receive(pipe: Any) -> dict | None:
    head = pipe.read(4)
    if len(head) < 4:
        return None
    return msgpack.unpackb(pipe.read(struct.unpack("<I", head)[0]), object_hook=decode_ndarray)


if __name__ == "__main__":
    main(*sys.argv[1:])

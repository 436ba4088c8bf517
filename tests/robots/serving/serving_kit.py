"""A real server on a loopback port, in a thread of its own event loop; a raw client; policies to serve."""

import asyncio
import threading
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
from websockets.sync.client import connect

from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.serving.arrays import pack, unpack
from vipa.robots.serving.server import PolicyServer
from vipa.worlds.robot_env import VIEWS

IMAGE, WRIST = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)


class Echo:
    """Answers each observation with its own state and noise key, in every row; takes `seconds` a batch."""

    contract = tabletop_contract(VIEWS)
    identity: ClassVar[dict] = {"weights": "none"}

    def __init__(self, seconds: float = 0.0):
        self.seconds, self.batches = seconds, []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, observations):
        self.batches.append(len(observations))
        self.may_answer.wait(10)
        threading.Event().wait(self.seconds)
        if any(o.text == "break" for o in observations):
            raise ZeroDivisionError("it broke")
        rows = np.stack([[*o.state[:5], *map(float, o.key)] for o in observations])
        return np.repeat(rows[:, None], 8, axis=1)


@contextmanager
def serving(policy, **options):
    """Yields (port, server) of a server that is stopped afterwards."""
    server, ready, found = PolicyServer(policy, **options), threading.Event(), []

    def run():
        async def main():
            found.append(asyncio.get_running_loop())
            await server.run("127.0.0.1", 0, lambda port: (found.append(port), ready.set()))

        asyncio.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    server.thread = thread
    server.stop_now = lambda: found[0].call_soon_threadsafe(server.stop)
    try:
        yield found[1], server
    finally:
        if thread.is_alive():
            server.stop_now()
        thread.join(30)
        assert not thread.is_alive()


class Raw:
    """A client without openpi-client: frames in, frames out."""

    def __init__(self, port, **options):
        self.socket = connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, **options)
        self.metadata = unpack(self.socket.recv(10))

    def ask(self, message):
        self.send(message)
        return self.answer()

    def send(self, message):
        self.socket.send(message if isinstance(message, bytes | str) else pack(message))

    def answer(self, timeout=20):
        """A decoded answer, or the text of an error."""
        frame = self.socket.recv(timeout)
        return frame if isinstance(frame, str) else unpack(frame)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def images(message):
    return {view: message[f"observation/{view}"] for view in VIEWS}


def request(state=0.0, **changes):
    message = {
        "observation/agent": IMAGE,
        "observation/wrist": WRIST,
        "observation/state": np.full(8, state, np.float32),
        "prompt": "touch the red cup",
    }
    return {k: v for k, v in (message | changes).items() if v is not None}

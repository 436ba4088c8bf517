"""What `vipa serve nano:stage3` does when clients misbehave: what each is told, what an honest client notices, memory.

    python speed/serving_faults.py

Written into the same file as `speed/serving.py` writes.
"""

import os
import signal
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
import tyro
from serving import MODEL, Client, message, own_answer, save, server
from websockets.exceptions import ConnectionClosed

from vipa.robots.policy import VipaPolicy
from vipa.robots.serving.arrays import pack, unpack


def handshaken(port: int, receives: int = 2**16) -> socket.socket:
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    plain.connect(("127.0.0.1", port))
    plain.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert plain.recv(1000).startswith(b"HTTP/1.1 101")
    return plain


def frame(data: bytes) -> bytes:
    return b"\x82" + struct.pack("!BQ", 0x80 | 127, len(data)) + bytes(4) + data


def told(port: int, sent: Any) -> str:
    """What a client is told of a message: the error, or how its connection ended."""
    client = Client(port)
    try:
        client.infer(sent)
        return "answered"
    except (RuntimeError, ConnectionClosed) as error:
        return str(error)
    finally:
        client.close()


def vanish(port: int) -> None:
    """A hundred clients that are gone in the header, in the message, or while they are answered."""
    whole = frame(pack(message()))
    for k in range(100):
        plain = handshaken(port)
        plain.sendall(whole[: (1, 9, 5000, len(whole))[k % 4]])
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plain.close()


def read_nothing(port: int) -> list[socket.socket]:
    """Four clients that ask and ask, and never read."""
    sockets = [handshaken(port, receives=2048) for _ in range(4)]
    sent = frame(pack({f"{k:02}" * 20: 0 for k in range(12)}))

    def flood(plain: socket.socket) -> None:
        with suppress(OSError):
            for _ in range(30_000):
                plain.sendall(sent)

    threads = [threading.Thread(target=flood, args=(plain,)) for plain in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return sockets


def come_and_go(port: int, count: int = 1000) -> None:
    """So many connects and disconnects, every other without a goodbye."""
    for k in range(count):
        if k % 2:
            Client(port).close()
        else:
            handshaken(port).close()


def faults() -> None:
    """Every fault beside a client that goes on asking; what each was told, and the server's memory."""
    policy = VipaPolicy.from_pretrained(MODEL)
    own, going, worst, count = own_answer(policy, message(1)), threading.Event(), [0.0], [0]
    image = message()["observation/agent"]
    bad = {
        "garbage": b"\xc1" + os.urandom(200),
        "a text": "hello",
        "a frame of 100 MB": b"\0" * 100_000_000,
        "state of 7": message(**{"observation/state": np.zeros(7)}),
        "state of texts": message(**{"observation/state": ["a"] * 8}),
        "picture of floats": message(**{"observation/agent": image / 255.0}),
        "picture, channels first": message(**{"observation/agent": image.transpose(2, 0, 1)}),
        "NaN": message(**{"observation/state": np.full(8, np.nan)}),
        "view missing": {k: v for k, v in message().items() if k != "observation/agent"},
        "image token in the words": message(prompt="<IMG_CONTEXT>"),
        "an array of objects": pack(message()).replace(b"|u1", b"|O8"),
    }
    with server() as process:

        def honest() -> None:
            client = Client(process.port)
            while not going.is_set():
                worst[0] = max(worst[0], float(np.abs(client.infer(message(1))["actions"] - own).max()))
                count[0] += 1
            client.close()

        thread = threading.Thread(target=honest)
        thread.start()
        said = {name: told(process.port, sent) for name, sent in bad.items()}
        memory = {"after bad messages": process.megabytes}
        for name, fault in (
            ("vanished", vanish),
            ("1,000 connections", come_and_go),
            ("readers of nothing", read_nothing),
        ):
            fault(process.port)
            memory[f"after {name}"] = process.megabytes
        come_and_go(process.port)
        memory["after come_and_go again"] = process.megabytes
        going.set()
        thread.join()
        clients = {str(k): Client(process.port) for k in range(4)}
        for k, client in clients.items():
            client.socket.send(pack(message(int(k), request_id=int(k))))
        time.sleep(0.05)
        process.process.send_signal(signal.SIGTERM)
        finished = sum(unpack(c.socket.recv(20))["request_id"] == int(k) for k, c in clients.items())
        code = process.process.wait(60)
    save(
        "faults",
        {
            "told": said,
            "honest_client": {"answers": count[0], "largest_difference_from_its_own": worst[0]},
            "megabytes": {name: round(value) for name, value in memory.items()},
            "sigterm": {"requests_under_way": len(clients), "answered": finished, "exit_code": code},
        },
    )


if __name__ == "__main__":
    tyro.cli(faults)

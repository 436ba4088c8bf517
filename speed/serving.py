"""What `vipa serve nano:stage3` does under load, and what serving costs. Writes one JSON file.

    python speed/serving.py closed-loop --episodes 5     # openpi-client (if installed) against in-process
    python speed/serving.py latency
    python speed/serving.py load --clients 16 --seconds 120
    python speed/serving.py batching

Servers are processes of their own (`vipa serve`), clients are threads here. Nothing else may run beside `latency` and
`load`. OMP_NUM_THREADS is the server's number of threads.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from websockets.sync.client import connect

from vipa.benchmarks.tabletop_benchmark import TabletopEvaluation, evaluate_tabletop
from vipa.robots.contract import ActionContract
from vipa.robots.policy import Observation, VipaPolicy
from vipa.robots.serving.arrays import pack, unpack
from vipa.worlds.robot_env import VIEWS

MODEL = "nano:stage3"
OUT = Path("docs/results/serving.json")
TEXTS = (
    "touch the red cup",
    "push the blue can to the left",
    "pick up the green box",
    "put the red cup on the plate",
)


class Client:
    """openpi's protocol in a few lines, where openpi-client is not installed or less is wanted."""

    def __init__(self, port: int):
        self.socket = connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None)
        self.told = unpack(self.socket.recv(20))

    def get_server_metadata(self) -> dict[str, Any]:
        return self.told

    def infer(self, message: Any) -> dict[str, Any]:
        self.socket.send(message if isinstance(message, bytes | str) else pack(message))
        answer = self.socket.recv(60)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return unpack(answer)

    def close(self) -> None:
        self.socket.close()


class Server:
    """A `vipa serve` process."""

    def __init__(self, *options: str, threads: int | None = None):
        command = [sys.executable, "-W", "ignore", "-m", "vipa", "serve", MODEL, "--port", "0", *options]
        env = {**os.environ} | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout is not None
        line = next((line for line in self.process.stdout if line.startswith("serving")), "")
        self.port = int(line.partition("127.0.0.1:")[2].partition(";")[0])

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def server(*options: str, threads: int | None = None) -> Iterator[Server]:
    made = Server(*options, threads=threads)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.stop()


def message(number: int = 0, size: int = 112, **changes: Any) -> dict[str, Any]:
    """A client's own observation: its picture, state, words and noise tell its answer from every other's."""
    rng = np.random.default_rng(number)
    start = {
        **{f"observation/{view}": rng.integers(0, 256, (size, size, 3)).astype(np.uint8) for view in VIEWS},
        "observation/state": np.array([0.1 * rng.normal(), 0, 0.3, 0, 0, 0, 0.04, -0.04]),
        "prompt": TEXTS[number % 4],
        "noise_key": [number, 0],
    }
    return start | changes


def observation(sent: dict[str, Any]) -> Observation:
    images = {view: sent[f"observation/{view}"] for view in VIEWS}
    return Observation(images, sent["observation/state"], sent["prompt"], tuple(sent["noise_key"]))


def own_answer(policy: VipaPolicy, sent: dict[str, Any]) -> np.ndarray:
    return policy.infer(observation(sent))


def milliseconds(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.quantile(np.array(seconds) * 1e3, [0.5, 0.95, 0.99])
    return {"p50_ms": round(p50, 2), "p95_ms": round(p95, 2), "p99_ms": round(p99, 2), "count": len(seconds)}


def save(name: str, result: dict[str, Any]) -> None:
    everything = json.loads(OUT.read_text()) if OUT.exists() else {}
    model = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "?: ?")
    machine = {"cpu": model.partition(": ")[2], "cores": os.cpu_count(), "python": platform.python_version()}
    everything[name] = {
        "command": " ".join(["python", *sys.argv]),
        "machine": machine,
        **result,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(everything, indent=1) + "\n")
    print(json.dumps(everything[name], indent=1))


# -- closed loop


class Remote:
    """A served policy as a policy, one request an observation."""

    def __init__(self, client: Any, contract: ActionContract, identity: dict[str, Any]):
        self.client, self.contract, self.identity = client, contract, identity

    def __call__(self, observations):
        answers = []
        for o in observations:
            sent = {f"observation/{view}": image for view, image in o.images.items()}
            sent |= {"observation/state": o.state, "prompt": o.text, "noise_key": list(o.key)}
            answers.append(self.client.infer(sent)["actions"])
        return np.stack(answers)


class Recorded:
    """A policy, and every chunk that it gave."""

    def __init__(self, policy: Any):
        self.policy, self.contract, self.identity = policy, policy.contract, policy.identity
        self.chunks: dict[tuple[str, int, int], np.ndarray] = {}

    def __call__(self, observations):
        chunks = self.policy(observations)
        self.chunks |= {(o.text, *o.key): chunk for o, chunk in zip(observations, chunks)}
        return chunks


def closed_loop(episodes: int = 5) -> None:
    """Success in the tabletop world through openpi-client and in process, on the same seeds; episodes of each task."""
    try:
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        name, make = "openpi-client", lambda port: WebsocketClientPolicy("127.0.0.1", port)
    except ImportError:
        name, make = "raw", Client
    local = VipaPolicy.from_pretrained(MODEL)
    with server() as process, tempfile.TemporaryDirectory() as folder:
        client = make(process.port)
        told = client.get_server_metadata()["identity"]
        assert told == local.identity, f"another policy: {told}"
        players = {"in process": Recorded(local), "served": Recorded(Remote(client, local.contract, told))}
        outcomes, scores = {}, {}
        for player, policy in players.items():
            run = TabletopEvaluation(Path(folder) / player, player, episodes=episodes, videos=0, batch=1)
            result = evaluate_tabletop(policy, run)
            outcomes[player] = [asdict(outcome) for outcome in result.outcomes]
            scores[player] = {task: str(score) for task, score in result.scores.items()}
    a, b = players["in process"].chunks, players["served"].chunks
    save(
        "closed_loop",
        {
            "client": name,
            "scores": scores,
            "episodes_that_went_the_same_way": sum(x == y for x, y in zip(*outcomes.values())),
            "episodes": len(outcomes["served"]),
            "chunks": len(b),
            "the_same_moments": a.keys() == b.keys(),
            "largest_difference_of_an_action": max(float(np.abs(a[key] - b[key]).max()) for key in a.keys() & b),
        },
    )


# -- load


def ask_for(seconds: float, client: Client, sent: dict[str, Any], check: Callable[[dict[str, Any]], None]) -> list:
    times, end, count = [], time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        start = time.perf_counter()
        answer = client.infer(sent | {"request_id": count})
        times.append(time.perf_counter() - start)
        assert answer["request_id"] == count
        check(answer)
        count += 1
    return times


def together(port: int, clients: int, seconds: float, own: list[np.ndarray]) -> dict[str, Any]:
    """Clients that ask without a pause; every answer is compared with its client's own."""
    times: list[float] = []
    errors: list[str] = []
    worst = [0.0] * clients

    def one(number: int) -> None:
        def check(answer: dict[str, Any]) -> None:
            worst[number] = max(worst[number], float(np.abs(answer["actions"] - own[number]).max()))

        try:
            client = Client(port)
            times.extend(ask_for(seconds, client, message(number), check))
            client.close()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "clients": clients,
        "chunks_per_second": round(len(times) / seconds, 2),
        **milliseconds(times),
        "errors": errors,
        "largest_difference_from_the_client_s_own": max(worst),
    }


def load(clients: int = 16, seconds: float = 120, alone: float = 15) -> None:
    """Many clients without a pause, and the same one at a time: alone, and with batches of one."""
    policy = VipaPolicy.from_pretrained(MODEL)
    own = [own_answer(policy, message(number)) for number in range(clients)]
    apart = [float(np.abs(own[i] - own[j]).max()) for i in range(clients) for j in range(i)]
    with server() as process:
        single = together(process.port, 1, alone, own)
        before = process.megabytes
        many = together(process.port, clients, seconds, own)
        after = process.megabytes
        rows = metric(process.port, "vipa_batch_rows")
    with server("--max-batch", "1") as process:
        unbatched = together(process.port, clients, alone, own)
    save(
        "load",
        {
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "one_client": single,
            "together": many,
            "together_in_batches_of_one": unbatched,
            "gain_over_one_client": round(many["chunks_per_second"] / single["chunks_per_second"], 2),
            "gain_over_batches_of_one": round(many["chunks_per_second"] / unbatched["chunks_per_second"], 2),
            "smallest_difference_of_two_clients_answers": min(apart),
            "batches": rows,
            "megabytes": {"before": round(before), "after": round(after)},
        },
    )


def metric(port: int, name: str) -> dict[str, str]:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: plain.recv(65536), b"")).decode()
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name))


def latency(chunks: int = 200) -> None:
    """A chunk in process and served, one thread and two; and what the way costs, with a policy that costs nothing."""
    result = {}
    for threads in (1, 2):
        code = (
            "import json, sys; sys.path.insert(0, 'speed'); from serving import in_process; "
            f"print(json.dumps(in_process({chunks})))"
        )
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, text=True, check=True
        )
        inside = json.loads(done.stdout.splitlines()[-1])
        with server(threads=threads) as process:
            client = Client(process.port)
            times, waits = [], []
            for _ in range(chunks):
                start = time.perf_counter()
                answer = client.infer(message())
                times.append(time.perf_counter() - start)
                waits.append(times[-1] - answer["server_timing"]["infer_ms"] / 1e3)
            client.close()
        result[f"{threads} threads"] = {
            "in_process": inside,
            "served": milliseconds(times),
            "served_beyond_the_policy_s_own_time": milliseconds(waits),
        }
    save("latency", result)


def batching(rounds: int = 10, rows: int = 16) -> None:
    """Rows in one batch against one at a time, in process and in turns, so that a busy machine slows both alike."""
    policy = VipaPolicy.from_pretrained(MODEL)
    seen = [observation(message(number)) for number in range(rows)]
    policy(seen)
    apart, whole = [], []
    for _ in range(rounds):
        start, cpu = time.perf_counter(), time.process_time()
        for one in seen:
            policy([one])
        middle, cpu_middle = time.perf_counter(), time.process_time()
        policy(seen)
        apart.append((middle - start, cpu_middle - cpu))
        whole.append((time.perf_counter() - middle, time.process_time() - cpu_middle))
    (apart_wall, apart_cpu), (whole_wall, whole_cpu) = np.median(apart, axis=0), np.median(whole, axis=0)
    save(
        "batching",
        {
            "rows": rows,
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "one_at_a_time_ms_a_row": round(apart_wall / rows * 1e3, 2),
            "one_batch_ms_a_row": round(whole_wall / rows * 1e3, 2),
            "gain": round(apart_wall / whole_wall, 2),
            "gain_in_cpu_time": round(apart_cpu / whole_cpu, 2),
        },
    )


def in_process(chunks: int) -> dict[str, float]:
    policy = VipaPolicy.from_pretrained(MODEL)
    policy.warm_up((1,))
    times = []
    for _ in range(chunks):
        start = time.perf_counter()
        own_answer(policy, message())
        times.append(time.perf_counter() - start)
    return milliseconds(times)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"closed-loop": closed_loop, "latency": latency, "load": load, "batching": batching}
    )

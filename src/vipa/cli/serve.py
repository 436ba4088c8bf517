"""A trained policy behind a port, for openpi-client and every robot stack built on it, or for vla-eval."""

import os
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

TOKEN = "VIPA_SERVE_TOKEN"


@dataclass(frozen=True)
class Serve:
    """Serves action chunks of MODEL until SIGTERM, which lets what was begun finish.

    model: a folder after stage 3, a name on the hub, or nano:stage3. protocol: openpi (websocket and msgpack, as
    openpi-client speaks it) or vla-eval (its benchmarks; the extra `vla-eval`). host: other than a loopback address,
    others can reach it: set a token then, in the environment variable VIPA_SERVE_TOKEN. views: VIEW=KEY, where
    clients send a view under another key than observation/VIEW (vla-eval: VIEW). missing_views: whether a request
    without one of several views is refused, or that view masked. robot: of a model that was trained on several.
    steps: Euler steps. execute: of vla-eval, actions played of a chunk. max_message: MB. deadline: seconds within
    which every request is answered, if only by an error.
    """

    model: Annotated[str, tyro.conf.Positional]
    protocol: Literal["openpi", "vla-eval"] = "openpi"
    host: str = "127.0.0.1"
    port: int = 8000
    device: str | None = None
    steps: int = 4
    seed: int = 0
    views: tuple[str, ...] = ()
    missing_views: Literal["refuse", "mask"] = "refuse"
    execute: int = 4
    robot: str | None = None
    max_clients: int = 64
    max_batch: int = 16
    max_message: int = 16
    deadline: float = 30.0


def main(args: list[str]) -> None:
    run = tyro.cli(Serve, args=args, prog="vipa serve")
    if run.protocol == "openpi":
        _openpi(run)
    else:
        _vla_eval(run)


def _openpi(run: Serve) -> None:
    from vipa.robots.policy import VipaPolicy
    from vipa.robots.serving.requests import Keys, parse_views
    from vipa.robots.serving.server import Limits, PolicyServer, serve_until_signal

    token = os.environ.get(TOKEN) or None
    policy = VipaPolicy.from_pretrained(
        run.model,
        device=run.device,
        steps=run.steps,
        seed=run.seed,
        missing_views=run.missing_views,
        robot=run.robot,
    )
    policy.warm_up((1, run.max_batch))
    limits = Limits(
        message=run.max_message * 2**20, clients=run.max_clients, batch=run.max_batch, deadline=run.deadline
    )
    server = PolicyServer(
        policy,
        keys=Keys.of(policy.contract, parse_views(run.views)),
        token=token,
        limits=limits,
        missing_views=run.missing_views,
    )
    if token is None and not _is_loopback(run.host):
        print(f"anyone who reaches {run.host} may use this server; {TOKEN} sets a token", flush=True)

    def ready(port: int) -> None:
        print(f"serving {run.model} at ws://{run.host}:{port}; also /healthz and /metrics", flush=True)

    serve_until_signal(server, run.host, run.port, ready)


def _vla_eval(run: Serve) -> None:
    from vipa.robots.serving import vla_eval_server

    server = vla_eval_server.VipaModelServer(
        run.model,
        execute=run.execute,
        views=",".join(run.views),
        missing_views=run.missing_views,
        steps=run.steps,
        seed=run.seed,
        max_batch_size=run.max_batch,
    )
    if not _is_loopback(run.host):
        print(f"anyone who reaches {run.host} may use this server; vla-eval's protocol has no token", flush=True)
    print(f"serving {run.model} at ws://{run.host}:{run.port} for vla-eval", flush=True)
    vla_eval_server.run(server, run.host, run.port)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")

"""vla-eval's model-server protocol, through its own base class: its loop, its batching and its chunk buffer.

`vipa serve MODEL --protocol vla-eval` runs it; so does vla-eval itself, from a configuration that names this file:

    script: .../vipa/robots/serving/vla_eval_server.py
    args: {model: "nano:stage3", views: "agent=agentview"}

Imported only where that protocol is asked for: it needs the extra `vla-eval`. The server loop is vla-eval's, so it has
neither token nor limits; keep it on a loopback address.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from vla_eval.api import serve_background
from vla_eval.model_servers.base import SessionContext
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import run_server, serve
from vla_eval.specs import IMAGE_RGB, LANGUAGE, DimSpec

from vipa.robots.contract import ActionContract, Dimension
from vipa.robots.policy import Observation, Policy, VipaPolicy
from vipa.robots.serving.requests import Keys, Reader, parse_views
from vipa.robots.views import MissingViews

GRIPPERS = {
    "-1 open, +1 closed": ("binary_close_positive", (-1.0, 1.0)),
    "+1 open, -1 closed": ("binary_close_negative", (-1.0, 1.0)),
    "0 open, 1 closed": ("binary_close_01", (0.0, 1.0)),
}
ROTATIONS = {"axis_angle": 3, "euler_xyz": 3}


class PolicyModelServer(PredictModelServer):
    """Any policy for vla-eval's benchmarks.

    execute: actions of a chunk that are played before the next is asked for. views: camera of each of the policy's
    views where a benchmark calls it otherwise. ValueError where `execute` is not within 1 .. the contract's horizon.
    """

    def __init__(
        self,
        policy: Policy,
        execute: int = 4,
        views: Mapping[str, str] | None = None,
        missing_views: MissingViews = "refuse",
        max_batch_size: int = 16,
        max_wait_time: float = 0.003,
    ):
        super().__init__(chunk_size=execute, max_batch_size=max_batch_size, max_wait_time=max_wait_time)
        contract = policy.contract
        if not 1 <= execute <= contract.horizon:
            raise ValueError(f"execute={execute} must be within 1 .. {contract.horizon}, the chunk's length")
        cameras = Keys.of(contract, {view: view for view in contract.views} | dict(views or {}))
        self.policy = policy
        self.reader = Reader(contract, Keys(cameras.views, "state", "task_description"), missing_views)
        self._episodes: dict[str, int] = {}

    async def on_episode_start(self, config: dict[str, Any], ctx: SessionContext) -> None:
        task = json.dumps(config.get("task", {}), sort_keys=True, default=str)
        self._episodes[ctx.session_id] = zlib.crc32(task.encode()) >> 1
        await super().on_episode_start(config, ctx)

    async def on_episode_end(self, result: dict[str, Any], ctx: SessionContext) -> None:
        self._episodes.pop(ctx.session_id, None)
        await super().on_episode_end(result, ctx)

    async def on_observation(self, obs: dict[str, Any], ctx: SessionContext) -> None:
        """Checked before it joins a batch, so that a bad one is its client's error alone."""
        self.read(obs, (0, 0))
        await super().on_observation(obs, ctx)

    def predict_batch(self, obs_batch: list[Any], ctx_batch: list[SessionContext]) -> list[dict[str, Any]]:
        observations = [
            self.read(obs, (self._episodes.get(ctx.session_id, 0), ctx.step))
            for obs, ctx in zip(obs_batch, ctx_batch)
        ]
        return [{"actions": chunk.astype(np.float32)} for chunk in self.policy(observations)]

    def read(self, obs: dict[str, Any], key: tuple[int, int]) -> Observation:
        """vla-eval's observation, checked; LIBERO's benchmark calls the state `states`. key: of its noise.

        ValueError, one line, for what does not fit.
        """
        images = obs.get("images")
        state = obs.get("state") if obs.get("states") is None else obs.get("states")
        named = images if isinstance(images, dict) else {}
        message = {**named, "state": state, "task_description": obs.get("task_description")}
        return self.reader.read(message, key).observation

    def get_action_spec(self) -> dict[str, DimSpec]:
        return action_specs(self.policy.contract)

    def get_observation_spec(self) -> dict[str, DimSpec]:
        state = DimSpec("state", len(self.policy.contract.state), "raw")
        return {"image": IMAGE_RGB, "state": state, "language": LANGUAGE}

    def get_observation_params(self) -> dict[str, Any]:
        return {"send_state": True, "send_wrist_image": len(self.policy.contract.views) > 1}


class VipaModelServer(PolicyModelServer):
    """The policy of a model, as vla-eval's own configuration can name it.

    model: a folder, hub name or nano:stage3. views: "view=camera" pairs, with commas.
    """

    def __init__(
        self,
        model: str = "nano:stage3",
        execute: int = 4,
        views: str = "",
        missing_views: MissingViews = "refuse",
        steps: int = 4,
        seed: int = 0,
        max_batch_size: int = 16,
        max_wait_time: float = 0.003,
    ):
        policy = VipaPolicy.from_pretrained(model, steps=steps, seed=seed, missing_views=missing_views)
        super().__init__(
            policy, execute, parse_views(views.split(",")), missing_views, max_batch_size, max_wait_time
        )
        policy.warm_up((1, max_batch_size))


def action_specs(contract: ActionContract) -> dict[str, DimSpec]:
    """Position, rotation and gripper where the contract's action is these; else one plain vector."""
    turns, gripper = ROTATIONS.get(contract.rotation, 0), GRIPPERS.get(contract.gripper)
    position, rotation, rest = contract.action[:3], contract.action[3 : 3 + turns], contract.action[3 + turns :]
    modes = {d.mode for d in position}
    if not (_all(position, "metre") and _all(rotation, "radian") and gripper and len(rest) == len(modes) == 1):
        return {"action": DimSpec("action", len(contract.action), "raw")}
    form, span = gripper
    return {
        "position": DimSpec("position", 3, f"{modes.pop()}_xyz"),
        "rotation": DimSpec("rotation", turns, contract.rotation),
        "gripper": DimSpec("gripper", 1, form, span),
    }


def _all(dimensions: tuple[Dimension, ...], unit: str) -> bool:
    return len(dimensions) == 3 and all(d.unit == unit for d in dimensions)


@contextmanager
def serving(server: PolicyModelServer) -> Iterator[str]:
    """Serves beside the block, at a free port of this machine; yields the address."""
    with serve_background(server) as handle:
        yield handle.url


def run(server: PolicyModelServer, host: str, port: int) -> None:
    """Serves until the process ends."""
    serve(server, host=host, port=port)


if __name__ == "__main__":
    run_server(VipaModelServer)

"""Policies: observations in, chunks of actions out; and how chunks are executed over many environments."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vipa.robots.contract import ActionContract
from vipa.robots.transforms import Normalise, Pipeline


@dataclass(frozen=True)
class Observation:
    """What one robot sees, feels and was told. images: per view (h, w, 3); state (s,) in the contract's units.

    key: (episode, step) numbers from which a sampling policy draws its noise, so that an episode goes the same
    way whatever else is in its batch.
    """

    images: dict[str, UInt8[np.ndarray, "h w 3"]]
    state: Float[np.ndarray, "s"]
    text: str
    key: tuple[int, int] = (0, 0)


class Policy(Protocol):
    """contract: what its actions mean, its rate, horizon and views."""

    contract: ActionContract

    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch horizon a"]:
        """Action chunks in the contract's units, one per observation."""
        ...


@dataclass(frozen=True)
class BlankImages:
    """The same policy seeing nothing: every image mid-grey. What it still achieves needs no eyes."""

    policy: Policy

    @property
    def contract(self) -> ActionContract:
        return self.policy.contract

    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch horizon a"]:
        def blank(o: Observation) -> Observation:
            return replace(o, images={view: np.full_like(image, 127) for view, image in o.images.items()})

        return self.policy([blank(o) for o in observations])


@dataclass
class VipaPolicy:
    """A loaded VIPA model as a policy.

    encode: observations -> the model's inputs as tensors (text, images of the contract's views in order), all
    but the state. model: has `generate_actions(state=..., embodiment=..., noise=..., **inputs)` giving
    normalised chunks (batch, horizon, a or wider). contract: with normalisation and statistics, as the
    checkpoint has it. before: transforms ahead of the normaliser, as in training. steps: Euler steps.
    """

    model: Any
    encode: Callable[[Sequence[Observation]], dict[str, torch.Tensor]]
    contract: ActionContract
    embodiment: str
    before: Pipeline = field(default_factory=Pipeline)
    steps: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        normalise = Normalise.of(self.contract, self.before)
        self._pipeline = Pipeline((*self.before.transforms, normalise))

    def _noise(self, keys: Sequence[tuple[int, int]], width: int) -> torch.Tensor:
        rows = [
            np.random.default_rng([self.seed, *key]).standard_normal((self.contract.horizon, width))
            for key in keys
        ]
        return torch.from_numpy(np.stack(rows)).float()

    @torch.no_grad()
    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch horizon a"]:
        width, device = len(self.contract.action), next(self.model.parameters()).device
        state = np.stack([o.state for o in observations])
        sample = self._pipeline.forward({"state": state})
        inputs = {k: v.to(device) for k, v in self.encode(observations).items()}
        chunk = self.model.generate_actions(
            state=torch.from_numpy(sample["state"]).float().to(device),
            embodiment=self.embodiment,
            steps=self.steps,
            noise=self._noise([o.key for o in observations], width).to(device),
            **inputs,
        )
        action = chunk[..., :width].float().cpu().numpy()
        return self._pipeline.inverse({"state": sample["state"], "action": action})["action"]


class ChunkExecutor:
    """Turns chunks into single actions for many environments: each plays `execute` steps of its chunk, then asks.

    ValueError where `execute` is not within 1 .. the contract's horizon.
    """

    def __init__(self, policy: Policy, execute: int):
        if not 1 <= execute <= policy.contract.horizon:
            raise ValueError(
                f"execute={execute} must be within 1 .. {policy.contract.horizon}, the chunk's length"
            )
        self.policy, self.execute = policy, execute
        self._queues: dict[int, deque[np.ndarray]] = {}

    def forget(self, environment: int) -> None:
        """Drop what is left of an environment's chunk: its episode is over."""
        self._queues.pop(environment, None)

    def act(self, observations: dict[int, Callable[[], Observation]]) -> dict[int, Float[np.ndarray, "a"]]:
        """One action per environment. observations: by environment, made only where a new chunk is needed."""
        empty = [e for e in observations if not self._queues.get(e)]
        if empty:
            chunks = self.policy([observations[e]() for e in empty])
            expected = (len(empty), self.policy.contract.horizon, len(self.policy.contract.action))
            if chunks.shape != expected:
                raise ValueError(f"policy gave chunks of shape {chunks.shape}, its contract says {expected}")
            for environment, chunk in zip(empty, chunks):
                self._queues[environment] = deque(chunk[: self.execute])
        return {e: self._queues[e].popleft() for e in observations}

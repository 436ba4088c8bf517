"""Policies: observations in, chunks of actions out; and how chunks are executed over many environments."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vipa.io.hashing import digest
from vipa.models.selfcheck import fingerprint
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
    """contract: what its actions mean, its rate, horizon and views. identity: what decides its actions, as JSON: an
    evaluation is gone on with only while it is the same."""

    @property
    def contract(self) -> ActionContract: ...

    @property
    def identity(self) -> dict[str, Any]: ...

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

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.policy.identity, "images": "blank"}

    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch horizon a"]:
        def blank(o: Observation) -> Observation:
            return replace(o, images={view: np.full_like(image, 127) for view, image in o.images.items()})

        return self.policy([blank(o) for o in observations])


@dataclass
class VipaPolicy:
    """A loaded VIPA model as a policy.

    model: VipaForConditionalGeneration (any object with its `generate_actions`). processor: VipaProcessor.
    contract: with normalisation and statistics, as the checkpoint has it; its robot is the model's embodiment.
    before: transforms ahead of the normaliser, as in training. steps: Euler steps. seed: of the flow's noise. Its
    identity is that of the weights when the policy was made.
    ValueError where the contract has no statistics, or has them behind other transforms.
    """

    model: Any
    processor: Any
    contract: ActionContract
    before: Pipeline = field(default_factory=Pipeline)
    steps: int = 4
    seed: int = 0
    identity: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        normalise = Normalise.of(self.contract, self.before)
        self._pipeline = Pipeline((*self.before.transforms, normalise))
        self.identity = {
            "weights": fingerprint(self.model),
            "contract": digest(self.contract.to_json()),
            "transforms": self._pipeline.hash,
            "euler_steps": self.steps,
            "seed": self.seed,
        }

    def _noise(self, keys: Sequence[tuple[int, int]], width: int) -> torch.Tensor:
        shape = (self.contract.horizon, width)
        rows = [np.random.default_rng([self.seed, *key]).standard_normal(shape) for key in keys]
        return torch.from_numpy(np.stack(rows)).float()

    def inputs(self, observations: Sequence[Observation]) -> dict[str, torch.Tensor]:
        """The model's text and images: one user turn a row, the contract's views before the instruction."""
        views = self.contract.views
        return self.processor(
            images=[[o.images[view] for view in views] for o in observations],
            text=[self.processor.prompt(o.text, len(views)) for o in observations],
            views=True,
        )

    @torch.no_grad()
    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch horizon a"]:
        device = next(self.model.parameters()).device
        sample = self._pipeline.forward({"state": np.stack([o.state for o in observations])})
        chunk = self.model.generate_actions(
            state=torch.from_numpy(sample["state"]).float().to(device),
            embodiment=self.contract.robot,
            steps=self.steps,
            noise=self._noise([o.key for o in observations], self.model.config.action_config.action_length).to(
                device
            ),
            **{name: value.to(device) for name, value in self.inputs(observations).items()},
        )
        action = chunk[..., : len(self.contract.action)].float().cpu().numpy()
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

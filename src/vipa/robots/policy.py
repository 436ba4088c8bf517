"""Policies: observations in, chunks of actions out; and how chunks are executed over many environments."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vipa.models.continuation import continue_actions
from vipa.models.selfcheck import fingerprint
from vipa.robots.checkpoint import open_checkpoint
from vipa.robots.contract import ActionContract
from vipa.robots.transforms import Normalise, Pipeline
from vipa.robots.views import MissingViews, complete, mask_absent


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
    before: transforms ahead of the normaliser, as in training. steps: Euler steps. seed: of the flow's noise.
    missing_views: an observation without one of several views is refused, or that view masked. Its identity is that
    of the weights when the policy was made.
    ValueError where the contract has no statistics, or has them behind other transforms.
    """

    model: Any
    processor: Any
    contract: ActionContract
    before: Pipeline = field(default_factory=Pipeline)
    steps: int = 4
    seed: int = 0
    missing_views: MissingViews = "refuse"
    identity: dict[str, Any] = field(init=False)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | None = None,
        revision: str | None = None,
        check: bool = True,
        **options: Any,
    ) -> "VipaPolicy":
        """The policy of a model after stage 3: a folder, a name on the hub, or nano:stage3; see `open_checkpoint`.

        options: `before`, `steps`, `seed` and `missing_views` of this class. ValueError where there is no policy, or
        where the model no longer computes what it computed when it was saved.
        """
        loaded = open_checkpoint(source, device=device, revision=revision, check=check)
        return cls(loaded.model, loaded.processor, loaded.contract, **options)

    def __post_init__(self) -> None:
        normalise = Normalise.of(self.contract, self.before)
        self._pipeline = Pipeline((*self.before.transforms, normalise))
        self.identity = {
            "weights": fingerprint(self.model),
            "contract": sha256(self.contract.to_json().encode()).hexdigest()[:16],
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
        pictures = [complete(o.images, views, self.missing_views) for o in observations]
        inputs = self.processor(
            images=[images for images, _ in pictures],
            text=[self.processor.prompt(o.text, len(views)) for o in observations],
            views=True,
        )
        present = [real for _, real in pictures]
        return inputs if all(map(all, present)) else mask_absent(inputs, present, self.processor.image_token_id)

    def infer(
        self, observation: Observation, *, playing: Float[np.ndarray, "k a"] | None = None, sent: int = 0
    ) -> Float[np.ndarray, "horizon a"]:
        """One robot's chunk, in its own units.

        Real-time chunking: playing: what the chunk that is being played has for the new one's first k steps; the first
        `sent` of them will have been played when this one comes, and are kept. ValueError where they do not fit.
        """
        if playing is None:
            return self([observation])[0]
        playing, device = np.asarray(playing, dtype=np.float64), next(self.model.parameters()).device
        if playing.ndim != 2 or playing.shape[1] != len(self.contract.action) or not np.isfinite(playing).all():
            raise ValueError(
                f"playing: shape {playing.shape}; expected finite actions (k, {len(self.contract.action)})"
            )
        sample = self._pipeline.forward({"state": observation.state[None], "action": playing[None]})
        chunk = continue_actions(
            self.model,
            known=torch.from_numpy(sample["action"]).float().to(device),
            sent=sent,
            state=torch.from_numpy(sample["state"]).float().to(device),
            embodiment=self.contract.robot,
            steps=self.steps,
            noise=self._noise([observation.key], self.model.config.action_config.action_length).to(device),
            **{name: value.to(device) for name, value in self.inputs([observation]).items()},
        )
        action = chunk[..., : len(self.contract.action)].float().cpu().numpy()
        return self._pipeline.inverse({"state": sample["state"], "action": action})["action"][0]

    def warm_up(self, batches: Sequence[int] = (1,), size: int = 224) -> None:
        """Runs batches of grey pictures, so that no robot waits for what only the first call does."""
        images = {view: np.full((size, size, 3), 127, np.uint8) for view in self.contract.views}
        statistics = self.contract.state_statistics
        state = np.zeros(len(self.contract.state)) if statistics is None else np.array(statistics.mean)
        for batch in sorted(set(batches)):
            self([Observation(images, state, "wait")] * batch)

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


class EnsembleExecutor:
    """Temporal ensembling: every step asks for a chunk and plays the mean of all that speak of it.

    decay: the i-th oldest chunk weighs exp(-decay * i), so 0 is the plain mean (as in ACT). keep: chunks that have a
    say. Grippers and deltas are averaged as numbers. ValueError where absolute rotations would be, which is no mean.
    """

    def __init__(self, policy: Policy, decay: float = 0.01, keep: int | None = None):
        contract = policy.contract
        turns = any(d.unit == "radian" and d.mode == "absolute" for d in contract.action)
        if contract.rotation != "none" and turns:
            raise ValueError(f"ensembling: absolute rotations ({contract.rotation}) have no mean number by number")
        keep = contract.horizon if keep is None else keep
        if not 1 <= keep <= contract.horizon:
            raise ValueError(f"keep={keep} must be within 1 .. {contract.horizon}, the chunk's length")
        self.policy, self.decay, self.keep = policy, decay, keep
        self._chunks: dict[int, deque[np.ndarray]] = {}  # the rows still to be played, oldest first

    def forget(self, environment: int) -> None:
        """Drop an environment's chunks: its episode is over."""
        self._chunks.pop(environment, None)

    def act(self, observations: dict[int, Callable[[], Observation]]) -> dict[int, Float[np.ndarray, "a"]]:
        """One action per environment."""
        asked = self.policy([make() for make in observations.values()])
        actions = {}
        for environment, chunk in zip(observations, asked):
            chunks = self._chunks.setdefault(environment, deque(maxlen=self.keep))
            chunks.append(chunk)
            weights = np.exp(-self.decay * np.arange(len(chunks)))
            actions[environment] = np.average([c[0] for c in chunks], axis=0, weights=weights)
            left = [c[1:] for c in chunks if len(c) > 1]
            self._chunks[environment] = deque(left, maxlen=self.keep)
        return actions

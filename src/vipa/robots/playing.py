"""Policies: observations in, chunks of actions out; and how chunks are executed over many environments."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from vipa.robots.contract import ActionContract


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


def checked_chunks(
    policy: Policy, observations: Sequence[Observation], execute: int
) -> Float[np.ndarray, "batch execute a"]:
    """What a policy answers, as far as it is played. ValueError where `execute` is not within 1 .. the contract's
    horizon, or the answer has another shape than the contract says."""
    horizon, width = policy.contract.horizon, len(policy.contract.action)
    if not 1 <= execute <= horizon:
        raise ValueError(f"execute={execute} must be within 1 .. {horizon}, the chunk's length")
    chunks, expected = policy(observations), (len(observations), horizon, width)
    if chunks.shape != expected:
        raise ValueError(f"policy gave chunks of shape {chunks.shape}, its contract says {expected}")
    return chunks[:, :execute]


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
            chunks = checked_chunks(self.policy, [observations[e]() for e in empty], self.execute)
            self._queues |= {environment: deque(chunk) for environment, chunk in zip(empty, chunks)}
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

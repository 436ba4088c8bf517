"""Chunks that come late: a robot that plays on while the next chunk is computed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float

from vipa.robots.contract import ActionContract
from vipa.robots.playing import Observation

Switching = Literal["naive", "in_painting", "conditioned"]


class ContinuingPolicy(Protocol):
    """A policy whose chunks can go on from others: `VipaPolicy`."""

    @property
    def contract(self) -> ActionContract: ...

    def __call__(self, observations: Sequence[Observation]) -> Float[np.ndarray, "batch horizon a"]: ...

    def go_on(
        self,
        observations: Sequence[Observation],
        playing: Float[np.ndarray, "batch k a"],
        sent: int,
        way: Literal["in_painting", "conditioned"] | None = None,
    ) -> Float[np.ndarray, "batch horizon a"]: ...


@dataclass
class _Playing:
    """One environment. plan: what is left of its chunk, of which `left` are still to be played; new, wait, played: the
    chunk that was asked for, the steps until it comes, and the actions played since."""

    plan: Float[np.ndarray, "k a"]
    left: int
    last: Float[np.ndarray, "a"]
    new: Float[np.ndarray, "horizon a"] | None = None
    wait: int = 0
    played: int = 0


class RealTimeExecutor:
    """Plays chunks that come `delay` steps after their observation, over many environments.

    Every chunk has `execute` of its actions played. The next is asked for `delay` steps before they end, but with no
    more than can be played meanwhile and still leave `execute` of a new chunk: then the robot stands still for the
    rest of the delay (deltas of 0, absolute numbers as they were). When a chunk comes, as many of its first actions are
    dropped as were played since its observation. An episode's first chunk is waited for before its clock starts.

    switching: `naive`: the new chunk knows nothing of the old. Otherwise it goes on from it (`models/continuation.py`).
    With no delay and `naive` this is `ChunkExecutor`. ValueError for numbers that do not fit the horizon.
    """

    def __init__(self, policy: ContinuingPolicy, execute: int, delay: int = 0, switching: Switching = "naive"):
        contract = policy.contract
        if not 1 <= execute <= contract.horizon or delay < 0:
            raise ValueError(
                f"execute={execute} must be within 1 .. {contract.horizon}, the chunk's length, and delay={delay} not "
                "negative"
            )
        self.policy, self.execute, self.delay = policy, execute, delay
        self.switching: Switching = switching
        self.sent = min(delay, execute, contract.horizon - execute)
        self._holds = np.array([d.mode == "absolute" for d in contract.action])
        self._playing: dict[int, _Playing] = {}

    def forget(self, environment: int) -> None:
        """Drop an environment's chunks: its episode is over."""
        self._playing.pop(environment, None)

    def act(self, observations: dict[int, Callable[[], Observation]]) -> dict[int, Float[np.ndarray, "a"]]:
        """One action per environment. observations: by environment, made only where a chunk is asked for."""
        self._deliver(observations)
        fresh = [e for e in observations if e not in self._playing]
        due = [e for e in observations if e not in fresh and self._due(self._playing[e])]
        if fresh:
            for e, chunk in zip(fresh, self.policy([observations[e]() for e in fresh])):
                self._playing[e] = _Playing(chunk, self.execute, chunk[0])
        due += [e for e in fresh if self._due(self._playing[e])]
        if due:
            for e, chunk in self._ask({e: observations[e]() for e in due}):
                playing = self._playing[e]
                playing.new, playing.wait, playing.played = chunk, self.delay, 0
            self._deliver(due)
        return {e: self._play(self._playing[e]) for e in observations}

    def _due(self, playing: _Playing) -> bool:
        return playing.new is None and playing.left <= self.sent

    def _ask(self, seen: dict[int, Observation]) -> Iterator[tuple[int, Float[np.ndarray, "horizon a"]]]:
        way = self.switching
        if way == "naive":
            yield from zip(seen, self.policy(list(seen.values())))
            return
        plans = {e: self._playing[e].plan for e in seen}
        for length in sorted({len(plan) for plan in plans.values()}):  # an episode's first plan is longer
            same = [e for e in seen if len(plans[e]) == length]
            playing = np.stack([plans[e] for e in same])
            yield from zip(same, self.policy.go_on([seen[e] for e in same], playing, self.sent, way))

    def _deliver(self, environments: Iterable[int]) -> None:
        for e in environments:
            playing = self._playing.get(e)
            if playing is not None and playing.new is not None and playing.wait == 0:
                playing.plan, playing.left, playing.new = playing.new[playing.played :], self.execute, None

    def _play(self, playing: _Playing) -> Float[np.ndarray, "a"]:
        playing.wait -= 1
        if not playing.left:
            return np.where(self._holds, playing.last, 0.0)
        playing.last, playing.plan = playing.plan[0], playing.plan[1:]
        playing.left, playing.played = playing.left - 1, playing.played + 1
        return playing.last

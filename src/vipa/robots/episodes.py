"""Robot demonstrations in memory: one typed record, opened when indexed. On disk they are LeRobot sets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from vipa.clips.clip import Frames
from vipa.moved import old_name
from vipa.robots.contract import ActionContract
from vipa.robots.transforms import Sample


@dataclass(frozen=True)
class Episode:
    """One demonstration. Row t: what was seen at step t and the action taken there.

    views: images per camera, decoded lazily. state (n, s), action (n, a): in the contract's units.
    ValueError where lengths differ or numbers are not finite.
    """

    id: str
    views: dict[str, Frames]
    state: Float[np.ndarray, "n s"]
    action: Float[np.ndarray, "n a"]
    text: str
    rate: float  # Hz
    success: bool | None = None  # None: not known
    task: str | None = None
    seed: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("state", "action"):
            shape = np.shape(getattr(self, name))
            if len(shape) != 2:
                raise ValueError(f"episode {self.id!r}: {name} needs (rows, dimensions), it has shape {shape}")
        n = len(self.action)
        if n == 0:
            raise ValueError(f"episode {self.id!r} is empty")
        lengths = {"state": len(self.state), **{f"view {k!r}": len(v) for k, v in self.views.items()}}
        for name, length in lengths.items():
            if length != n:
                raise ValueError(f"episode {self.id!r}: {name} has {length} rows, action has {n}")
        for name in ("state", "action"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"episode {self.id!r}: {name} holds values that are not finite")

    def __len__(self) -> int:
        return len(self.action)

    def chunk(self, start: int, horizon: int) -> tuple[Float[np.ndarray, "horizon a"], np.ndarray]:
        """Actions start .. start + horizon, the last one repeated past the end, and which of them are real."""
        indices = np.arange(start, start + horizon)
        return self.action[np.minimum(indices, len(self) - 1)], indices < len(self)

    def samples(self, horizon: int) -> Iterator[Sample]:
        """One {"state" (s,), "action" (k, a)} per step: of the chunk that starts there the k <= horizon real actions,
        which are those that a loss counts."""
        for t in range(len(self)):
            yield {"state": self.state[t], "action": self.action[t : t + horizon]}


@dataclass(frozen=True)
class EpisodeSet:
    """Demonstrations that share one contract; map-style, episodes are opened when indexed.

    paths: what `open` takes.
    """

    contract: ActionContract
    paths: tuple[Any, ...]
    open: Callable[[Any], Episode]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Episode:
        return self.open(self.paths[index])

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def samples(self) -> Iterator[Sample]:
        """States and the real actions of chunks over all episodes, without images; see `Episode.samples`."""
        for episode in self:
            yield from episode.samples(self.contract.horizon)


def __getattr__(name: str) -> Any:
    return old_name(__name__, name)

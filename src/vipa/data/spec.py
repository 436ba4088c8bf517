"""What a training reads: one component of a mixture, in numbers."""

from dataclasses import dataclass
from pathlib import Path

from vipa.robots.contract import Scheme


@dataclass(frozen=True)
class DataSpec:
    """One component of a mixture.

    kind: a name of `data.kinds`, such as `hand3d_visual` and `hand3d_action` (a Hand3D folder), `foundation` (a
    folder of foundation pictures), `episodes` (a folder of robot demonstrations). batch: samples a step: pairs of
    question and answer, for `foundation` pictures (with fresh questions each time), for `episodes` demonstration
    steps. weight: of its loss in the sum. turns: most pairs that share one image prefix. noise_draws: flow-matching
    draws per demonstration step. max_delay: each draw gives up to so many first actions of its chunk as already sent,
    so that the policy can go on from them (training-time real-time chunking; 0: the paper's). normalisation: of the
    robot's actions and states. robot: whose file in `robots/known` reads the folder (`vipa robots list`); None: the
    folder says itself what its numbers mean. split: of a Hand3D folder. statistics: action_contract.json of a policy,
    whose normalisation is taken instead of the data's own, to go on from that policy. augment: strength of changes of
    the pictures (`data.augmentation`), 0 to 1. ValueError for a number out of its range.
    """

    kind: str
    path: Path
    batch: int
    weight: float = 1.0
    turns: int = 12
    temperature: float = 1.0
    noise_draws: int = 4
    max_delay: int = 0
    normalisation: Scheme = "quantiles"
    split: str = "train"
    augment: float = 0.0
    robot: str | None = None
    statistics: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.augment <= 1:
            raise ValueError(f"data {self.path}: augment must be in 0..1, got {self.augment}")
        if self.max_delay < 0:
            raise ValueError(f"data {self.path}: max_delay must not be negative, got {self.max_delay}")
        if not self.temperature >= 1:
            raise ValueError(f"data {self.path}: temperature must be at least 1, got {self.temperature}")
        for name in ("batch", "turns", "noise_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"data {self.path}: {name} must be at least 1, got {getattr(self, name)}")

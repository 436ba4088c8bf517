"""Invertible transforms between a robot's numbers and a model's numbers.

A sample is a dict with "state" (..., s) and, in training and after inference, "action" (..., horizon, a).
`forward` takes the robot's numbers to the model's; `inverse` undoes it. Inference runs the reversed list.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from jaxtyping import Bool, Float

from vipa.io.hashing import digest
from vipa.robots.contract import ActionContract, Dimension, GripperSign, Mode, Scheme, Statistics, Unit

Sample = dict[str, np.ndarray]


class Transform(Protocol):
    """A frozen dataclass; its repr enters the hash of a pipeline, so it must show all that matters."""

    def forward(self, sample: Sample) -> Sample: ...

    def inverse(self, sample: Sample) -> Sample: ...


@dataclass(frozen=True)
class Pipeline:
    """Transforms in order; the inverse is the reversed list of inverses."""

    transforms: tuple[Transform, ...] = ()

    def forward(self, sample: Sample) -> Sample:
        for step in self.transforms:
            sample = step.forward(sample)
        return sample

    def inverse(self, sample: Sample) -> Sample:
        for step in reversed(self.transforms):
            sample = step.inverse(sample)
        return sample

    @property
    def hash(self) -> str:
        return digest(repr(self.transforms))


@dataclass(frozen=True)
class DeltaFromState:
    """Absolute actions become differences from the state at the start of the chunk, and back.

    pairs: (action index, state index) of what is turned; positions and joint angles only (rotations do not add).
    """

    pairs: tuple[tuple[int, int], ...]

    def _moved(self, sample: Sample, sign: int) -> Sample:
        if "action" not in sample:
            return sample
        action = np.array(sample["action"], dtype=np.float64)
        for a, s in self.pairs:
            action[..., a] += sign * np.asarray(sample["state"])[..., None, s]
        return {**sample, "action": action}

    def forward(self, sample: Sample) -> Sample:
        return self._moved(sample, -1)

    def inverse(self, sample: Sample) -> Sample:
        return self._moved(sample, 1)


@dataclass(frozen=True)
class GripperForm:
    """The gripper's number in another of the contract's forms: 0 ... 1 or -1 ... 1, open or closed first.

    source, target: before and after `forward`. index: of the action. state_index: of the state's gripper, where it has
    the same form. ValueError for a form that is none, and in `forward` for numbers that are not of the source's form.
    """

    source: GripperSign
    target: GripperSign
    index: int = -1
    state_index: int | None = None

    def __post_init__(self) -> None:
        for form in (self.source, self.target):
            if form not in OPEN_CLOSED:
                raise ValueError(f"gripper form {form!r} cannot be changed; forms are {', '.join(OPEN_CLOSED)}")

    def _changed(self, sample: Sample, source: GripperSign, target: GripperSign, checked: bool) -> Sample:
        (opened, closed), (new_opened, new_closed) = OPEN_CLOSED[source], OPEN_CLOSED[target]
        out = dict(sample)
        for name, index in (("action", self.index), ("state", self.state_index)):
            if index is None or name not in sample:
                continue
            array = np.array(sample[name], dtype=np.float64)
            share = (array[..., index] - closed) / (opened - closed)  # 0 closed, 1 open
            if checked and not (np.abs(share - 0.5) <= FORM_SLACK).all():
                worst = array[..., index].flat[np.abs(share - 0.5).argmax()]
                raise ValueError(f"gripper: {name} holds {worst:g}, which is not of the form {source!r}")
            array[..., index] = new_closed + share * (new_opened - new_closed)
            out[name] = array
        return out

    def forward(self, sample: Sample) -> Sample:
        return self._changed(sample, self.source, self.target, checked=True)

    def inverse(self, sample: Sample) -> Sample:
        return self._changed(sample, self.target, self.source, checked=False)


OPEN_CLOSED: dict[str, tuple[float, float]] = {
    "-1 open, +1 closed": (-1.0, 1.0),
    "+1 open, -1 closed": (1.0, -1.0),
    "0 closed, 1 open": (1.0, 0.0),
    "0 open, 1 closed": (0.0, 1.0),
}
"""Gripper form of a contract -> its number when open, and when closed."""

FORM_SLACK = 0.75
"""How far from a form's middle, in lengths of its range, a number of it may be: 0 ... 1 may overshoot a little."""


@dataclass(frozen=True)
class FlipGripper:
    """Open and closed change places within the form: -x for -1 ... 1, 1 - x for 0 ... 1. form: of the data."""

    form: GripperSign
    index: int = -1
    state_index: int | None = None

    def __post_init__(self) -> None:
        self._steps  # noqa: B018  # a form that cannot be flipped is refused here

    @property
    def _steps(self) -> GripperForm:
        flipped = tuple(reversed(OPEN_CLOSED.get(self.form, ())))
        other = next((form for form, values in OPEN_CLOSED.items() if values == flipped), "none")
        return GripperForm(self.form, cast(GripperSign, other), self.index, self.state_index)

    def forward(self, sample: Sample) -> Sample:
        return self._steps.forward(sample)

    def inverse(self, sample: Sample) -> Sample:
        return self._steps.inverse(sample)


@dataclass(frozen=True)
class PadTo:
    """Zeros after the last dimension up to a model's fixed widths; the inverse cuts them off."""

    state: int
    action: int
    state_width: int
    action_width: int

    def forward(self, sample: Sample) -> Sample:
        def pad(array: np.ndarray, expected: int, width: int, name: str) -> np.ndarray:
            if array.shape[-1] != expected or expected > width:
                raise ValueError(
                    f"padding: {name} has {array.shape[-1]} dimensions, expected {expected} <= {width}"
                )
            return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, width - expected)])

        out = {**sample, "state": pad(np.asarray(sample["state"]), self.state, self.state_width, "state")}
        if "action" in sample:
            out["action"] = pad(np.asarray(sample["action"]), self.action, self.action_width, "action")
        return out

    def inverse(self, sample: Sample) -> Sample:
        out = {**sample, "state": sample["state"][..., : self.state]}
        if "action" in sample:
            out["action"] = sample["action"][..., : self.action]
        return out


FURTHEST = 5.0
"""Largest normalised value of a row of the statistics, under quantiles."""

NARROW: dict[Unit, float] = {"radian": 5e-3, "metre": 1e-3, "none": 1e-3}
"""A dimension that spreads less than this, in its unit, holds noise (a joint that rests, an unused gripper). A tenth of
it where it is a delta, which is one step's."""

NARROW_BESIDE = (1 / 200, 10.0)
"""So does one that spreads less than this share of the widest dimension of its unit and mode, up to so many times
NARROW: what spreads more moves, whatever the others do."""


@dataclass(frozen=True)
class Normaliser:
    """An affine map per dimension, model = (robot - shift) / scale, and its exact inverse.

    mean_std: to mean 0, deviation 1. min_max, quantiles: [minimum, maximum] or [1 %, 99 %] to [-1, 1]; nothing
    is clipped, so the inverse is exact outside too. Where most rows of a dimension hardly move (a gripper that seldom
    turns), its quantiles are widened until the extremes lie within FURTHEST: a few rows of hundreds would own the loss.
    Surprising: a narrow dimension (`is_narrow`) is divided by 1, in both directions (dividing by a tiny
    deviation turned one joint's rest position into -3200 in a public project); a warning names it.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def of(
        cls,
        scheme: Scheme,
        statistics: Statistics,
        names: Sequence[str],
        dimensions: Sequence[Dimension] | None = None,
    ) -> "Normaliser":
        """names: for the warning. dimensions: their units, modes and scales; None: plain numbers without a unit."""
        s = statistics
        if scheme == "none":
            return cls((0.0,) * len(s.mean), (1.0,) * len(s.mean))
        if scheme == "mean_std":
            shift, scale = np.array(s.mean), np.array(s.std)
        elif scheme in ("min_max", "quantiles"):
            low, high = (s.minimum, s.maximum) if scheme == "min_max" else (s.quantile_01, s.quantile_99)
            shift = (np.array(high) + np.array(low)) / 2
            scale = (np.array(high) - np.array(low)) / 2
            reach = np.maximum(np.array(s.maximum) - shift, shift - np.array(s.minimum))
            scale = np.maximum(scale, reach / FURTHEST)
        else:
            raise ValueError(f"normalisation {scheme!r} is unknown; expected none, mean_std, min_max or quantiles")
        narrow = is_narrow(scale, dimensions or [Dimension(name, "none", "absolute") for name in names])
        if narrow.any():
            which = ", ".join(f"{n} ({x:.2g})" for n, x, f in zip(names, scale, narrow) if f)
            warnings.warn(f"hardly any spread, normalised by a shift only: {which}", stacklevel=2)
        return cls(tuple(shift.tolist()), tuple(np.where(narrow, 1.0, scale).tolist()))

    def normalise(self, values: Float[np.ndarray, "*b d"]) -> Float[np.ndarray, "*b d"]:
        return (np.asarray(values, dtype=np.float64) - self.shift) / self.scale

    def restore(self, values: Float[np.ndarray, "*b d"]) -> Float[np.ndarray, "*b d"]:
        return np.asarray(values, dtype=np.float64) * self.scale + self.shift


def is_narrow(spread: Float[np.ndarray, "d"], dimensions: Sequence[Dimension]) -> Bool[np.ndarray, "d"]:
    """Which dimensions hardly move: less than NARROW says of their unit, or NARROW_BESIDE of the widest of its kind.

    spread: half of the range or the deviation, in the dimensions' own numbers.
    """
    kinds: list[tuple[Unit, Mode]] = [(d.unit, d.mode) for d in dimensions]
    spread = np.asarray(spread, dtype=np.float64) * [abs(d.scale) for d in dimensions]
    widest = {kind: max(s for s, k in zip(spread, kinds) if k == kind) for kind in kinds}
    least = np.array([NARROW[unit] * (0.1 if mode == "delta" else 1.0) for unit, mode in kinds])
    share, most = NARROW_BESIDE
    return spread < np.clip(share * np.array([widest[kind] for kind in kinds]), least, most * least)


@dataclass(frozen=True)
class Normalise:
    """Normalises "state" and "action" of a sample by their normalisers."""

    state: Normaliser
    action: Normaliser

    @classmethod
    def of(cls, contract: ActionContract, before: Pipeline | None = None) -> "Normalise":
        """From a contract's own scheme and statistics.

        ValueError where the contract is not normalised, or where its statistics were computed behind other
        transforms than `before`.
        """
        if contract.action_statistics is None or contract.state_statistics is None:
            raise ValueError(f"action contract of {contract.robot!r} has no statistics to normalise by")
        expected = (before or Pipeline()).hash
        for name, s in (("action", contract.action_statistics), ("state", contract.state_statistics)):
            if s.pipeline != expected:
                raise ValueError(
                    f"{name} statistics were computed behind the transforms {s.pipeline}, not {expected}: "
                    "compute them again on these transforms"
                )
        scheme = contract.normalisation

        def normaliser(name: str, dimensions: tuple[Dimension, ...], statistics: Statistics) -> Normaliser:
            return Normaliser.of(scheme, statistics, [f"{name} {d.name}" for d in dimensions], dimensions)

        return cls(
            normaliser("state", contract.state, contract.state_statistics),
            normaliser("action", contract.action, contract.action_statistics),
        )

    def forward(self, sample: Sample) -> Sample:
        out = {**sample, "state": self.state.normalise(sample["state"])}
        if "action" in sample:
            out["action"] = self.action.normalise(sample["action"])
        return out

    def inverse(self, sample: Sample) -> Sample:
        out = {**sample, "state": self.state.restore(sample["state"])}
        if "action" in sample:
            out["action"] = self.action.restore(sample["action"])
        return out


def compute_statistics(samples: Iterable[Sample], before: Pipeline | None = None) -> tuple[Statistics, Statistics]:
    """(action, state) statistics of samples run through the transforms that precede the normaliser.

    samples: dicts with "state" (s,) and "action" (k, a), no padding among them: rows that a loss does not see have no
    part in its normalisation. The returned statistics carry the hash of
    `before`; `Normalise.of` refuses them behind other transforms. ValueError where there are no samples.
    """
    before = before or Pipeline()
    states, actions = [], []
    for sample in samples:
        out = before.forward(sample)
        states.append(np.atleast_2d(out["state"]))
        actions.append(np.asarray(out["action"]).reshape(-1, np.asarray(out["action"]).shape[-1]))
    if not states:
        raise ValueError("statistics: there are no samples")
    return (
        Statistics.of(np.concatenate(actions), before.hash),
        Statistics.of(np.concatenate(states), before.hash),
    )

"""Invertible transforms between a robot's numbers and a model's numbers.

A sample is a dict with "state" (..., s) and, in training and after inference, "action" (..., horizon, a).
`forward` takes the robot's numbers to the model's; `inverse` undoes it. Inference runs the reversed list on what
`forward` gave, with the model's action: a sample keeps there what an inverse needs. `dimensions` says what the numbers
mean after it. A transform is data too: `as_data` and `pipeline_of` go between it and the JSON of a contract.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Protocol, cast

import numpy as np
from jaxtyping import Bool, Float

from vipa.io.hashing import digest
from vipa.robots.contract import ActionContract, Dimension, Mode, Scheme, Statistics, Unit
from vipa.robots.number_transforms import OPEN_CLOSED as OPEN_CLOSED
from vipa.robots.number_transforms import (
    DeltaFromState,
    Dimensions,
    FlipGripper,
    GripperForm,
    PadTo,
    Sample,
    Subset,
)
from vipa.robots.rotation_forms import ChangeRotation, RotationFromState


class Transform(Protocol):
    """A frozen dataclass; its repr enters the hash of a pipeline, so it must show all that matters."""

    def forward(self, sample: Sample) -> Sample: ...

    def inverse(self, sample: Sample) -> Sample: ...

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        """(state, action) after `forward`. ValueError where there are no such numbers to change."""
        ...


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

    def dimensions(self, contract: ActionContract) -> tuple[Dimensions, Dimensions]:
        """(state, action) that a model sees of this robot."""
        state, action = contract.state, contract.action
        for step in self.transforms:
            state, action = step.dimensions(state, action)
        return state, action

    @property
    def hash(self) -> str:
        return digest(repr(self.transforms))


TRANSFORMS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (DeltaFromState, RotationFromState, ChangeRotation, GripperForm, FlipGripper, PadTo, Subset)
}
"""What a contract may name."""


def as_data(*transforms: Transform) -> tuple[dict[str, Any], ...]:
    """As a contract holds them: {"name": ..., parameters}."""
    assert all(is_dataclass(step) for step in transforms)
    data = [{"name": type(step).__name__, **asdict(cast(Any, step))} for step in transforms]
    return tuple(json.loads(json.dumps(data)))


def pipeline_of(contract: ActionContract) -> Pipeline:
    """The transforms of a contract. ValueError, naming it, for one that is unknown, with wrong parameters, or that
    does not fit the contract's numbers."""
    steps: list[Transform] = []
    for entry in contract.transforms:
        given = {name: _tuples(value) for name, value in entry.items() if name != "name"}
        kind = TRANSFORMS.get(str(entry.get("name")))
        if kind is None:
            raise ValueError(
                f"action contract of {contract.robot!r}: transform {entry.get('name')!r} is unknown; known: "
                f"{', '.join(TRANSFORMS)}"
            )
        try:
            steps.append(kind(**given))
        except (TypeError, ValueError) as error:
            known = ", ".join(f.name for f in fields(kind))
            raise ValueError(
                f"action contract of {contract.robot!r}: transform {kind.__name__}: {error}; parameters: {known}"
            ) from None
    pipeline = Pipeline(tuple(steps))
    try:
        pipeline.dimensions(contract)
    except ValueError as error:
        raise ValueError(f"action contract of {contract.robot!r}: {error}") from None
    return pipeline


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


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
    deviation turned one joint's rest position into -3200 in a public project); `still` names it, with its spread, and
    a training says so.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    still: tuple[str, ...] = field(default=(), repr=False, compare=False)  # follows from the others

    @classmethod
    def of(
        cls,
        scheme: Scheme,
        statistics: Statistics,
        names: Sequence[str],
        dimensions: Sequence[Dimension] | None = None,
    ) -> "Normaliser":
        """names: for `still`. dimensions: their units, modes and scales; None: plain numbers without a unit."""
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
        still = tuple(f"{name} ({spread:.2g})" for name, spread, rests in zip(names, scale, narrow) if rests)
        return cls(tuple(shift.tolist()), tuple(np.where(narrow, 1.0, scale).tolist()), still)

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
        """From a contract's own scheme and statistics. before: None: the contract's own transforms.

        ValueError where the contract is not normalised, or where its statistics were computed behind other
        transforms than `before`, or are of other lengths.
        """
        if contract.action_statistics is None or contract.state_statistics is None:
            raise ValueError(f"action contract of {contract.robot!r} has no statistics to normalise by")
        before = pipeline_of(contract) if before is None else before
        state, action = before.dimensions(contract)
        expected = before.hash
        for name, s, dimensions in (
            ("action", contract.action_statistics, action),
            ("state", contract.state_statistics, state),
        ):
            if s.pipeline != expected or len(s.mean) != len(dimensions):
                raise ValueError(
                    f"{name} statistics of {len(s.mean)} numbers were computed behind the transforms {s.pipeline}, not "
                    f"of {len(dimensions)} behind {expected}: "
                    "compute them again on these transforms"
                )
        scheme = contract.normalisation

        def normaliser(name: str, dimensions: tuple[Dimension, ...], statistics: Statistics) -> Normaliser:
            return Normaliser.of(scheme, statistics, [f"{name} {d.name}" for d in dimensions], dimensions)

        return cls(
            normaliser("state", state, contract.state_statistics),
            normaliser("action", action, contract.action_statistics),
        )

    @property
    def still(self) -> tuple[str, ...]:
        return self.state.still + self.action.still

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

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        return state, action


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

"""ActionContract: what the numbers of a robot's actions and states mean; it travels with data and checkpoints."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from vipa.io.files import atomic_write

Unit = Literal["metre", "radian", "none"]
Mode = Literal["absolute", "delta"]
RotationForm = Literal["axis_angle", "euler_xyz", "quaternion_wxyz", "matrix_6d", "none"]
GripperSign = Literal["-1 open, +1 closed", "+1 open, -1 closed", "0 closed, 1 open", "0 open, 1 closed", "none"]
Scheme = Literal["none", "mean_std", "min_max", "quantiles"]

VERSION = 1


@dataclass(frozen=True)
class Dimension:
    """One number of a state or action. scale: what 1.0 stands for, in `unit` (0.05: 1.0 is five centimetres)."""

    name: str
    unit: Unit
    mode: Mode
    scale: float = 1.0


@dataclass(frozen=True)
class Statistics:
    """Per-dimension statistics of the numbers that reach the normaliser, tuples of one float per dimension.

    quantile_01, quantile_99: of all rows. count: rows. pipeline: hash of the transforms that the rows went
    through before, so that statistics of another representation are refused.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    quantile_01: tuple[float, ...]
    quantile_99: tuple[float, ...]
    count: int
    pipeline: str

    @classmethod
    def of(cls, rows: Float[np.ndarray, "n d"], pipeline: str) -> "Statistics":
        """Population statistics of finite rows. ValueError naming the first bad column."""
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or len(rows) == 0:
            raise ValueError(f"statistics: expected rows (n, d) with n > 0, got shape {rows.shape}")
        bad = ~np.isfinite(rows).all(0)
        if bad.any():
            raise ValueError(f"statistics: column {int(np.argmax(bad))} holds values that are not finite")
        low, high = np.quantile(rows, [0.01, 0.99], axis=0)
        columns = (rows.mean(0), rows.std(0), rows.min(0), rows.max(0), low, high)
        return cls(*(tuple(c.tolist()) for c in columns), count=len(rows), pipeline=pipeline)


@dataclass(frozen=True)
class ActionContract:
    """Meaning of a robot's action and state vectors; compared with `check` before the first step.

    frame: the coordinate frame of positions and rotations, in words that both sides share.
    rotation: form of the rotation dimensions. gripper: which sign opens. rate: actions a second (Hz).
    horizon: actions in one predicted chunk. views: camera names in the order that the policy sees them.
    normalisation: scheme with the statistics of actions and states; "none" for a robot or simulator, which
    speaks in the plain numbers; a policy's normalisation is its own affair and is not compared. transforms: what a
    model's numbers go through before it, each a name of `robots.transforms` with its parameters, as JSON
    (`transforms.as_data` makes it); not compared either. Statistics are of the numbers behind them. keys: what a
    server's clients call a view, "state" and "prompt", where it is not observation/<view>, observation/state, prompt.
    """

    robot: str
    action: tuple[Dimension, ...]
    state: tuple[Dimension, ...]
    frame: str
    rotation: RotationForm
    gripper: GripperSign
    rate: float
    horizon: int
    views: tuple[str, ...]
    normalisation: Scheme = "none"
    action_statistics: Statistics | None = None
    state_statistics: Statistics | None = None
    transforms: tuple[dict[str, Any], ...] = ()
    keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.horizon < 1 or not self.action:
            raise ValueError(
                f"action contract of {self.robot!r}: rate and horizon must be positive and actions named, got "
                f"rate={self.rate}, horizon={self.horizon}, {len(self.action)} action dimensions"
            )
        if unknown := set(self.keys) - {*self.views, "state", "prompt"}:
            raise ValueError(
                f"action contract of {self.robot!r}: keys name {', '.join(sorted(unknown))}; known: "
                f"{', '.join(self.views)}, state, prompt"
            )
        needs = self.normalisation != "none"
        for name, dimensions, statistics in (
            ("action", self.action, self.action_statistics),
            ("state", self.state, self.state_statistics),
        ):
            if len({d.name for d in dimensions}) != len(dimensions):
                raise ValueError(f"action contract of {self.robot!r}: {name} names a dimension twice")
            if needs and statistics is None:
                raise ValueError(
                    f"action contract of {self.robot!r}: {self.normalisation} normalisation needs {name} "
                    "statistics; compute them with robots.transforms.compute_statistics"
                )
            # Behind transforms they may be of another length, which `Normalise.of` checks.
            if statistics is not None and not self.transforms and len(statistics.mean) != len(dimensions):
                raise ValueError(
                    f"action contract of {self.robot!r}: {name} has {len(dimensions)} dimensions, its "
                    f"statistics {len(statistics.mean)}"
                )

    def mismatches(self, other: "ActionContract") -> list[str]:
        """What two parties understand differently, one line each; horizon and normalisation may differ."""
        lines = []
        for name in ("frame", "rotation", "gripper", "rate", "views"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                lines.append(f"{name}: {mine!r} against {theirs!r}")
        for name in ("action", "state"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if len(mine) != len(theirs):
                lines.append(f"{name}: {len(mine)} dimensions against {len(theirs)}")
                continue
            for i, (a, b) in enumerate(zip(mine, theirs)):
                for part in fields(Dimension):
                    x, y = getattr(a, part.name), getattr(b, part.name)
                    if x != y:
                        lines.append(f"{name}[{i}] {a.name!r} {part.name}: {x!r} against {y!r}")
        return lines

    def check(self, other: "ActionContract") -> None:
        """ValueError listing every mismatch with what `other` understands."""
        lines = self.mismatches(other)
        if lines:
            raise ValueError(f"action contracts of {self.robot!r} and {other.robot!r} differ: " + "; ".join(lines))

    def normalised(self, scheme: Scheme, action: Statistics | None, state: Statistics | None) -> "ActionContract":
        """The same contract with a normalisation."""
        return replace(self, normalisation=scheme, action_statistics=action, state_statistics=state)

    def summary(self) -> str:
        """One line for people."""
        numbers = f"{len(self.action)} action and {len(self.state)} state numbers"
        return f"{self.robot}: {numbers}, {self.rate:g} Hz, views {', '.join(self.views)}; frame: {self.frame}"

    def to_json(self) -> str:
        data = asdict(self)
        for name in ("transforms", "keys"):
            if not data[name]:
                del data[name]
        return json.dumps({"version": VERSION, **data}, indent=2)

    @classmethod
    def from_json(cls, text: str, origin: str = "action contract") -> "ActionContract":
        """Inverse of `to_json`. ValueError naming `origin` and the fields that are missing or unknown."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{origin}: not JSON ({error})") from None
        if not isinstance(data, dict) or data.pop("version", None) != VERSION:
            raise ValueError(f"{origin}: expected a version {VERSION} action contract")
        known = {f.name for f in fields(cls)}
        data = {"transforms": [], "keys": {}} | data
        if wrong := sorted(known ^ set(data)):
            raise ValueError(f"{origin}: fields missing or unknown: {', '.join(wrong)}")
        for name in ("action", "state"):
            data[name] = tuple(Dimension(**d) for d in data[name])
        for name in ("action_statistics", "state_statistics"):
            if data[name] is not None:
                entries: dict[str, Any] = {
                    k: tuple(v) if isinstance(v, list) else v for k, v in data[name].items()
                }
                data[name] = Statistics(**entries)
        return cls(**{**data, "views": tuple(data["views"]), "transforms": tuple(data["transforms"])})

    def save(self, path: Path) -> None:
        atomic_write(Path(path), self.to_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> "ActionContract":
        """ValueError where the file does not parse, FileNotFoundError where it is not there."""
        return cls.from_json(Path(path).read_text(), str(path))


CONTRACT = "action_contract.json"
"""Beside a model: the contract of the robot it was trained on; see `contract_name`."""


def contract_name(robot: str, robots: Sequence[str]) -> str:
    """The file of a robot's contract beside a model of these robots: the first's is CONTRACT."""
    if robot == robots[0]:
        return CONTRACT
    slug = re.sub(r"[^a-z0-9]+", "_", robot.lower()).strip("_")
    return CONTRACT.replace(".json", f".{slug}.json")


def read_contracts(first: Path) -> dict[str, ActionContract]:
    """Robot -> contract of a model whose CONTRACT is `first`, and those beside it, in the order of their names."""
    pattern = CONTRACT.replace(".json", ".*.json")
    found = [ActionContract.load(path) for path in (first, *sorted(first.parent.glob(pattern)))]
    return {contract.robot: contract for contract in found}

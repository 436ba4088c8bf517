"""Transforms of a robot's numbers one by one: differences from the state, grippers, subsets, padding."""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from vipa.robots.contract import Dimension, GripperSign

Dimensions = tuple[Dimension, ...]
Sample = dict[str, np.ndarray]


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

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        after = list(action)
        for a, s in self.pairs:
            if not (0 <= a < len(action) and 0 <= s < len(state)):
                raise ValueError(
                    f"delta from state: no action {a} or no state {s} among {len(action)} and {len(state)}"
                )
            if action[a].unit != state[s].unit or action[a].scale != state[s].scale:
                raise ValueError(
                    f"delta from state: action {action[a].name!r} and state {state[s].name!r} differ in unit or scale"
                )
            after[a] = replace(action[a], mode="delta")
        return state, tuple(after)


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

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        return state, action


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

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        return state, action


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

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        def padded(dimensions: Dimensions, width: int) -> Dimensions:
            empty = (Dimension(f"padding_{i}", "none", "absolute") for i in range(len(dimensions), width))
            return (*dimensions, *empty)

        return padded(state, self.state_width), padded(action, self.action_width)


@dataclass(frozen=True)
class Subset:
    """Only some of the state's numbers are seen, or of the action's given; the inverse puts the others back.

    state, action: places to keep, in their new order; None: all. fill: what the robot is sent for the actions that are
    left out, in their order. The state's others are kept in the sample.
    """

    state: tuple[int, ...] | None = None
    action: tuple[int, ...] | None = None
    fill: tuple[float, ...] = ()

    @property
    def _key(self) -> str:
        return f"whole state of {self}"

    def forward(self, sample: Sample) -> Sample:
        out = dict(sample)
        if self.state is not None:
            whole = np.asarray(sample["state"])
            out |= {self._key: whole, "state": whole[..., list(self.state)]}
        if self.action is not None and "action" in sample:
            out["action"] = np.asarray(sample["action"])[..., list(self.action)]
        return out

    def inverse(self, sample: Sample) -> Sample:
        out = dict(sample)
        if self.state is not None:
            whole = np.array(out.pop(self._key), dtype=np.float64)
            whole[..., list(self.state)] = sample["state"]
            out["state"] = whole
        if self.action is not None and "action" in sample:
            width = len(self.action) + len(self.fill)
            action = np.empty((*np.shape(sample["action"])[:-1], width))
            action[..., list(self.action)] = sample["action"]
            action[..., [i for i in range(width) if i not in self.action]] = self.fill
            out["action"] = action
        return out

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        for name, places, there in (("state", self.state, state), ("action", self.action, action)):
            if places is not None and (
                len(set(places)) != len(places) or not set(places) <= set(range(len(there)))
            ):
                raise ValueError(f"subset: {name} {places} are not different places among {len(there)} numbers")
        if self.action is not None and len(self.action) + len(self.fill) != len(action):
            left_out = len(action) - len(self.action)
            raise ValueError(f"subset: {left_out} actions are left out, {len(self.fill)} are to be filled in")
        kept_state = state if self.state is None else tuple(state[i] for i in self.state)
        return kept_state, action if self.action is None else tuple(action[i] for i in self.action)

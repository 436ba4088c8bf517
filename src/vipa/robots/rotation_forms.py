"""Rotations among the forms of a contract, and as differences from the state: transforms for `robots.transforms`."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from vipa.robots.contract import Dimension, RotationForm
from vipa.robots.number_transforms import Dimensions, Sample

Where = Literal["state", "action"]

WIDTHS: dict[RotationForm, int] = {"axis_angle": 3, "euler_xyz": 3, "quaternion_wxyz": 4, "matrix_6d": 6}
SUFFIXES: dict[RotationForm, tuple[str, ...]] = {
    "axis_angle": ("x", "y", "z"),
    "euler_xyz": ("roll", "pitch", "yaw"),
    "quaternion_wxyz": ("w", "x", "y", "z"),
    "matrix_6d": ("x1", "y1", "z1", "x2", "y2", "z2"),
}


def matrix_of(form: RotationForm, numbers: Float[np.ndarray, "*b w"]) -> Float[np.ndarray, "*b 3 3"]:
    """euler_xyz: about the fixed axes x, y, z in turn, radians. matrix_6d: the first two columns, one after the other,
    made orthonormal. quaternion_wxyz: of any norm but 0. ValueError for a form that is none, or another width."""
    numbers = np.asarray(numbers, dtype=np.float64)
    if form not in WIDTHS or numbers.shape[-1] != WIDTHS[form]:
        raise ValueError(f"rotation: {numbers.shape[-1]} numbers as {form!r}; forms and widths are {WIDTHS}")
    flat = numbers.reshape(-1, WIDTHS[form])
    if form == "matrix_6d":
        first, second = flat[:, :3], flat[:, 3:]
        x = first / np.linalg.norm(first, axis=1, keepdims=True)
        y = second - (x * second).sum(1, keepdims=True) * x
        y = y / np.linalg.norm(y, axis=1, keepdims=True)
        matrix = np.stack([x, y, np.cross(x, y)], axis=-1)
    elif form == "quaternion_wxyz":
        matrix = Rotation.from_quat(flat, scalar_first=True).as_matrix()
    elif form == "euler_xyz":
        matrix = Rotation.from_euler("xyz", flat).as_matrix()
    else:
        matrix = Rotation.from_rotvec(flat).as_matrix()
    return matrix.reshape(*numbers.shape[:-1], 3, 3)


def numbers_of(
    form: RotationForm, matrix: Float[np.ndarray, "*b 3 3"], near: tuple[float, ...] | None = None
) -> Float[np.ndarray, "*b w"]:
    """near: of the two quaternions or axis-angles (the short way round and the long one) of a rotation, the one that is
    nearer to these numbers, so that a rest rotation of half a turn does not jump; None: w >= 0, angles up to pi."""
    rotation = Rotation.from_matrix(matrix.reshape(-1, 3, 3))
    if form == "matrix_6d":
        flat = rotation.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    elif form == "quaternion_wxyz":
        flat = rotation.as_quat(canonical=True, scalar_first=True)
        flat = flat if near is None else _nearer(flat, -flat, near)
    elif form == "euler_xyz":
        flat = rotation.as_euler("xyz", suppress_warnings=True)
    else:
        flat = rotation.as_rotvec()
        if near is not None:
            angle = np.linalg.norm(flat, axis=1, keepdims=True)
            other = np.where(angle > 1e-9, flat * (1 - 2 * np.pi / np.maximum(angle, 1e-9)), flat)
            flat = _nearer(flat, other, near)
    return flat.reshape(*matrix.shape[:-2], WIDTHS[form])


def _nearer(a: np.ndarray, b: np.ndarray, near: tuple[float, ...]) -> np.ndarray:
    first, second = (np.linalg.norm(x - np.array(near), axis=1, keepdims=True) for x in (a, b))
    return np.where(first <= second, a, b)


@dataclass(frozen=True)
class ChangeRotation:
    """A rotation's numbers in another form; those after it move up or down where the widths differ.

    where: of the state or the action. start: its first number. scale: radians that 1.0 stands for, of forms in radians.
    near: see `numbers_of`, of the target. The inverse gives the same rotation, with w >= 0 and angles up to pi (or,
    with source_near, the one nearer to that).
    """

    where: Where
    start: int
    source: RotationForm
    target: RotationForm
    scale: float = 1.0
    near: tuple[float, ...] | None = None
    source_near: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for form in (self.source, self.target):
            if form not in WIDTHS:
                raise ValueError(f"rotation form {form!r} cannot be changed; forms are {', '.join(WIDTHS)}")

    def _changed(self, sample: Sample, source: RotationForm, target: RotationForm, near) -> Sample:
        if self.where not in sample:
            return sample
        array = np.asarray(sample[self.where], dtype=np.float64)
        stop = self.start + WIDTHS[source]
        numbers = array[..., self.start : stop] * (self.scale if _in_radians(source) else 1.0)
        turned = numbers_of(target, matrix_of(source, numbers), near)
        turned = turned / (self.scale if _in_radians(target) else 1.0)
        joined = np.concatenate([array[..., : self.start], turned, array[..., stop:]], axis=-1)
        return {**sample, self.where: joined}

    def forward(self, sample: Sample) -> Sample:
        return self._changed(sample, self.source, self.target, self.near)

    def inverse(self, sample: Sample) -> Sample:
        return self._changed(sample, self.target, self.source, self.source_near)

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        before = state if self.where == "state" else action
        stop = self.start + WIDTHS[self.source]
        if self.start < 0 or stop > len(before):
            raise ValueError(f"rotation: {self.where} has no numbers {self.start} to {stop - 1}")
        first, radians = before[self.start], _in_radians(self.target)
        new = tuple(
            Dimension(
                f"{first.name}_{suffix}",
                "radian" if radians else "none",
                first.mode,
                self.scale if radians else 1.0,
            )
            for suffix in SUFFIXES[self.target]
        )
        after = (*before[: self.start], *new, *before[stop:])
        return (after, action) if self.where == "state" else (state, after)


@dataclass(frozen=True)
class RotationFromState:
    """Absolute rotations of the action become turns from the state's, and back: composed, not subtracted.

    action, state: first numbers of the two rotations, of the same form. frame: `tool`, R_state^T R_action; `base`,
    R_action R_state^T. near: of the inverse's numbers, see `numbers_of`.
    """

    action: int
    state: int
    form: RotationForm
    frame: Literal["tool", "base"] = "tool"
    near: tuple[float, ...] | None = None

    def _turned(self, sample: Sample, back: bool) -> Sample:
        if "action" not in sample:
            return sample
        width = WIDTHS[self.form]
        out = np.array(sample["action"], dtype=np.float64)
        place = slice(self.action, self.action + width)
        state = np.asarray(sample["state"])[..., None, self.state : self.state + width]
        start, given = matrix_of(self.form, state), matrix_of(self.form, out[..., place])
        start = start if back else np.swapaxes(start, -1, -2)
        turned = start @ given if self.frame == "tool" else given @ start
        out[..., place] = numbers_of(self.form, turned, self.near if back else None)
        return {**sample, "action": out}

    def forward(self, sample: Sample) -> Sample:
        return self._turned(sample, back=False)

    def inverse(self, sample: Sample) -> Sample:
        return self._turned(sample, back=True)

    def dimensions(self, state: Dimensions, action: Dimensions) -> tuple[Dimensions, Dimensions]:
        stop = self.action + WIDTHS[self.form]
        if self.action < 0 or stop > len(action) or self.state + WIDTHS[self.form] > len(state):
            raise ValueError(f"rotation from state: the numbers {self.action} to {stop - 1} are not all there")
        turned = tuple(replace(d, mode="delta") for d in action[self.action : stop])
        return state, (*action[: self.action], *turned, *action[stop:])


def _in_radians(form: RotationForm) -> bool:
    return form in ("axis_angle", "euler_xyz")

"""MANO fitted to 21 joints by gradient: for data that has joints only (EgoDex, FPHA, trackers).

All frames of a clip are fitted at once with one hand shape. The start is closed form: the palm's rotation from
its joints, then each finger bone turned onto the observed one. L-BFGS does the rest, with three weak priors:
the mean pose (a bone's twist leaves no trace in joints), a small shape, and little acceleration, which also
carries the hand through gaps.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vipa.geometry import axis_angle_from_matrix
from vipa.hands.mano import ManoLayer, matrix_from_axis_angle
from vipa.hands.mano_files import Convention

_PALM = (0, 1, 5, 9, 13, 17)
_CHAINS = ((1, 2, 3, 4, 12), (5, 6, 7, 8, 0), (9, 10, 11, 12, 3), (13, 14, 15, 16, 9), (17, 18, 19, 20, 6))
"""A finger's four joints (order of 21) and the first of its three rotations (MANO's order of 15)."""

_POSE_PRIOR = 0.03  # mm^2 per rad^2
_SHAPE_PRIOR = 0.3  # mm^2 per unit^2
_CHUNK = 1500  # frames fitted together


@dataclass(frozen=True)
class ManoFit:
    """MANO over a clip, in the frame the joints were in; what `clips.Mano` holds, and how well it fits."""

    global_orientation: Float[np.ndarray, "frames 3 3"]
    pose: Float[np.ndarray, "frames 15 3 3"]  # absolute; gaps are bridged, those of many seconds are NaN
    betas: Float[np.ndarray, "10"]
    wrist: Float[np.ndarray, "frames 3"]  # metres
    joints: Float[np.ndarray, "frames 21 3"]  # metres, of the fitted hand
    error: Float[np.ndarray, "frames"]  # metres, mean over the observed joints; NaN where none was


def fit_mano(
    layer: ManoLayer,
    joints: Float[np.ndarray, "frames 21 3"],
    confidence: Float[np.ndarray, "frames 21"] | None = None,
    *,
    tips: Convention,
    betas: Float[np.ndarray, "10"] | None = None,
    smoothness: float = 0.02,
    iterations: int = 80,
) -> ManoFit:
    """Fit one hand over a clip.

    layer: of the hand's side. joints: metres, consecutive frames; NaN where unknown. confidence: weights
    0 ... 1; all known joints count fully without it. tips: what the data's fingertips are nearest to. betas: a
    known shape, kept. smoothness: weight of joint accelerations (mm per frame^2) against joint errors (mm);
    0 fits every frame alone.
    ValueError where the shapes are wrong or no frame shows three joints of the palm.
    """
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (21, 3):
        raise ValueError(f"fit_mano: joints must have shape (frames, 21, 3), got {joints.shape}")
    known = np.asarray(np.isfinite(joints).all(-1))
    if confidence is not None and np.shape(confidence) != known.shape:
        raise ValueError(f"fit_mano: confidence has shape {np.shape(confidence)}, joints need {known.shape}")
    weight = known * (1.0 if confidence is None else np.nan_to_num(np.asarray(confidence, dtype=np.float64)))
    usable = (weight[:, _PALM] > 0).sum(-1) >= 3
    if not usable.any():
        raise ValueError("fit_mano: no frame shows three joints of the palm (wrist and finger bases)")
    target = torch.tensor(np.where(known[..., None], joints, 0.0))
    shape = None if betas is None else torch.tensor(np.asarray(betas, dtype=np.float64))
    parts = []
    layer = layer if layer.template.dtype == torch.float64 else copy.deepcopy(layer).double()
    for start in range(0, len(joints), _CHUNK):
        part = slice(start, start + _CHUNK)
        if not usable[part].any():
            parts.append(_unknown(len(target[part])))
            continue
        fit = _Fit(layer, target[part], torch.tensor(weight[part]), usable[part], tips, shape)
        fit.solve(smoothness, iterations)
        shape = fit.betas.detach() if shape is None else shape  # the first chunk decides the shape
        parts.append(fit.result())
    assert shape is not None  # some frame is usable, so a chunk was fitted
    orientation, pose, wrist, fitted = (np.concatenate(x) for x in zip(*parts))
    distance = np.linalg.norm(np.where(known[..., None], joints, 0.0) - fitted, axis=-1)
    with np.errstate(invalid="ignore"):
        error = (distance * (weight > 0)).sum(-1) / np.where(usable, (weight > 0).sum(-1), np.nan)
    return ManoFit(orientation, pose, shape.numpy(), wrist, fitted, error)


def _unknown(n: int) -> tuple[np.ndarray, ...]:
    """What `_Fit.result` gives for frames that show nothing, too many to bridge."""
    return tuple(np.full((n, *shape), np.nan) for shape in ((3, 3), (15, 3, 3), (3,), (21, 3)))


class _Fit:
    """One chunk of frames: unknowns, start, loss."""

    def __init__(
        self, layer: ManoLayer, target: Tensor, weight: Tensor, usable: np.ndarray, tips: Convention,
        betas: Tensor | None,
    ):  # fmt: skip
        self.layer, self.target, self.weight = layer, target, weight
        self.tips: Convention = tips
        self.fixed_shape = betas is not None
        self.betas = torch.zeros(10, dtype=torch.float64) if betas is None else betas.clone()
        orientation, pose = self._start(torch.as_tensor(usable))
        self.orientation = orientation
        self.turn = torch.zeros(len(target), 3, dtype=torch.float64)
        self.pose = pose
        self.place = 10 * _fill(self._palm_place(), torch.as_tensor(usable))

    def _palm_place(self) -> Tensor:
        """Where the wrist is (F, 3) if the palm's rest joints lie on the seen ones in the mean."""
        palm = list(_PALM)
        offset = self.rest[palm] - self.rest[0]
        weight = self.weight[:, palm, None]
        turned = torch.einsum("fij,pj->fpi", self.orientation, offset)
        return (weight * (self.target[:, palm] - turned)).sum(1) / weight.sum(1).clamp_min(1e-9)

    def _start(self, usable: Tensor) -> tuple[Tensor, Tensor]:
        """Orientation (F, 3, 3) and finger angles (F, 15, 3) of the hand with the mean shape."""
        n = len(self.target)
        eye = torch.eye(3, dtype=torch.float64)
        rest = self.rest = self.layer.joints(eye, eye.expand(15, 3, 3), self.betas, tips=self.tips)
        palm = list(_PALM)
        orientation = _kabsch(rest[palm], self.target[:, palm], self.weight[:, palm])
        orientation = orientation[_nearest(usable)]
        angles = self.layer.pose_mean.reshape(15, 3).expand(n, 15, 3).clone()
        for *chain, first in _CHAINS:
            R = orientation
            for k in range(3):
                a, b = chain[k], chain[k + 1]
                seen = (self.weight[:, a] > 0) & (self.weight[:, b] > 0)
                now = torch.einsum("fij,j->fi", R, rest[b] - rest[a])
                swing = _swing(now, self.target[:, b] - self.target[:, a])
                local = R.mT @ swing @ R
                angle = torch.where(seen[:, None], _axis_angle(local), angles[:, first + k])
                angles[:, first + k] = angle
                R = R @ matrix_from_axis_angle(angle)
        return orientation, angles

    @property
    def wrist(self) -> Tensor:
        """(F, 3) metres; the unknown is in decimetres, about as sensitive as the angles are."""
        return self.place / 10

    def joints(self) -> Tensor:
        R = self.orientation @ matrix_from_axis_angle(self.turn)
        pose = matrix_from_axis_angle(self.pose)
        return self.layer.joints(R, pose, self.betas.expand(len(R), 10), wrist=self.wrist, tips=self.tips)

    def loss(self, smoothness: float) -> Tensor:
        fitted = 1000 * self.joints()
        loss = (self.weight[..., None] * (fitted - 1000 * self.target) ** 2).sum()
        loss = loss + _POSE_PRIOR * (self.pose - self.layer.pose_mean.reshape(15, 3)).square().sum()
        loss = loss + _SHAPE_PRIOR * self.betas.square().sum()
        if smoothness > 0 and len(fitted) > 2:
            loss = loss + smoothness * (fitted[2:] - 2 * fitted[1:-1] + fitted[:-2]).square().sum()
        return loss

    def solve(self, smoothness: float, iterations: int) -> None:
        unknowns = [self.turn, self.pose, self.place] + ([] if self.fixed_shape else [self.betas])
        for x in unknowns:
            x.requires_grad_(True)
        optimizer = torch.optim.LBFGS(
            unknowns, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-9
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(smoothness)
            loss.backward()
            return loss

        optimizer.step(closure)

    def result(self) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            R = self.orientation @ matrix_from_axis_angle(self.turn)
            parts = R, matrix_from_axis_angle(self.pose), self.wrist, self.joints()
        return tuple(x.numpy() for x in parts)


def _kabsch(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Rotations (F, 3, 3) that turn source (n, 3) onto target (F, n, 3), weighted (F, n)."""
    share = weight / weight.sum(-1, keepdim=True).clamp_min(1e-9)
    from_mean = source - (share[..., None] * source).sum(1, keepdim=True)
    to_mean = target - (share[..., None] * target).sum(1, keepdim=True)
    U, _, Vh = torch.linalg.svd((share[..., None] * from_mean).mT @ to_mean)
    sign = torch.ones_like(U[..., 0])
    sign[..., 2] = torch.linalg.det(U @ Vh).sign()
    return (Vh.mT * sign[:, None]) @ U.mT


def _swing(source: Tensor, target: Tensor) -> Tensor:
    """The smallest rotations (F, 3, 3) that turn directions (F, 3) onto others."""
    a, b = (x / x.norm(dim=-1, keepdim=True).clamp_min(1e-9) for x in (source, target))
    axis = torch.linalg.cross(a, b)
    sine, cosine = axis.norm(dim=-1, keepdim=True), (a * b).sum(-1, keepdim=True)
    return matrix_from_axis_angle(axis / sine.clamp_min(1e-9) * torch.atan2(sine, cosine))


def _axis_angle(matrix: Tensor) -> Tensor:
    return torch.as_tensor(axis_angle_from_matrix(matrix.numpy()))


def _nearest(usable: Tensor) -> Tensor:
    """Index (F,) of the nearest usable frame."""
    good = usable.nonzero()[:, 0]
    frames = torch.arange(len(usable))
    return good[(frames[:, None] - good).abs().argmin(-1)]


def _fill(values: Tensor, usable: Tensor) -> Tensor:
    """Values (F, 3), linear in time between usable frames."""
    good, frames = np.flatnonzero(usable.numpy()), np.arange(len(usable))
    filled = [np.interp(frames, good, column[good]) for column in values.numpy().T]
    return torch.tensor(np.stack(filled, -1))

"""MANO in torch: shape and pose blend shapes, linear blend skinning; batched, differentiable.

Joints leave in the project's order of 21. Every convention that data sets differ in is a named argument
(docs/hands.md); nothing is guessed.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vipa.hands.mano_files import NATIVE_TO_21, PARENTS_16, TIP_VERTICES, Convention, ManoModel
from vipa.hands.skeleton import Side

PoseForm = Literal["axis_angle", "pca", "quaternion_wxyz", "matrix"]


class ManoOutput(NamedTuple):
    vertices: Float[Tensor, "*b 778 3"]  # metres
    joints: Float[Tensor, "*b 21 3"]  # metres, the order of `skeleton.JOINT_NAMES`


def matrix_from_axis_angle(axis_angle: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rodrigues' formula with finite gradients everywhere, zero included. Radians."""
    x, y, z = axis_angle.unbind(-1)
    square = (axis_angle * axis_angle).sum(-1)
    small = square < 1e-8
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)[..., None, None]
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)[..., None, None]
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return torch.eye(3, dtype=K.dtype, device=K.device) + a * K + b * (K @ K)


def matrix_from_quaternion_wxyz(wxyz: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotations of quaternions, scalar first, any norm but zero."""
    w, x, y, z = (wxyz / wxyz.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*w.shape, 3, 3)


class ManoLayer(nn.Module):
    """One MANO hand. float64 buffers by default; `.float()` and `.to(device)` as any module."""

    template: Tensor
    shape_directions: Tensor
    pose_directions: Tensor
    joint_regressor: Tensor
    weights: Tensor
    pose_components: Tensor
    pose_mean: Tensor

    def __init__(self, model: ManoModel):
        super().__init__()
        self.side: Side = model.side
        self.faces = model.faces
        for name in (
            "template", "shape_directions", "pose_directions", "joint_regressor",
            "weights", "pose_components", "pose_mean",
        ):  # fmt: skip
            self.register_buffer(name, torch.as_tensor(getattr(model, name), dtype=torch.float64))

    def pose_matrices(
        self, pose: Float[Tensor, "..."], form: PoseForm, *, add_mean: bool
    ) -> Float[Tensor, "*b 15 3 3"]:
        """Rotations of the 15 finger joints, MANO's order, from any of the forms data sets use.

        pose: axis_angle (*b, 45) or (*b, 15, 3); pca (*b, n) coefficients, n <= 45; quaternion_wxyz
        (*b, 15, 4); matrix (*b, 15, 3, 3). add_mean: add the model's mean pose (what other layers call
        flat_hand_mean=False); only in axis_angle and pca. ValueError where shape or form does not fit.

        Surprising: smplx turns PCA off for 45 components, so that DexYCB's coefficients are read there as
        angles (0.2 m off); here pca always means coefficients.
        """
        if form in ("quaternion_wxyz", "matrix"):
            if add_mean:
                raise ValueError(f"MANO pose: a mean pose cannot be added to a pose given as {form}")
            expected = (15, 4) if form == "quaternion_wxyz" else (15, 3, 3)
            if tuple(pose.shape[-len(expected) :]) != expected:
                raise ValueError(f"MANO pose: {form} needs (..., {expected}), got {tuple(pose.shape)}")
            return matrix_from_quaternion_wxyz(pose) if form == "quaternion_wxyz" else pose
        if form == "pca":
            if pose.shape[-1] > 45:
                raise ValueError(f"MANO pose: at most 45 PCA coefficients, got {pose.shape[-1]}")
            pose = pose @ self.pose_components[: pose.shape[-1]]
        elif form != "axis_angle":
            raise ValueError(f"MANO pose: unknown form {form!r}; known: axis_angle, pca, quaternion_wxyz, matrix")
        if tuple(pose.shape[-2:]) == (15, 3):
            pose = pose.flatten(-2)
        if pose.shape[-1] != 45:
            raise ValueError(f"MANO pose: axis_angle needs (..., 45) or (..., 15, 3), got {tuple(pose.shape)}")
        if add_mean:
            pose = pose + self.pose_mean
        return matrix_from_axis_angle(pose.unflatten(-1, (15, 3)))

    def rest_joints(self, betas: Float[Tensor, "*b 10"]) -> Float[Tensor, "*b 16 3"]:
        """The 16 joints of the shaped, unposed hand, metres; [..., 0, :] is the wrist that `translation` moves."""
        regressed = torch.einsum("jv,vcs->jcs", self.joint_regressor, self.shape_directions)
        return self.joint_regressor @ self.template + torch.einsum("jcs,...s->...jc", regressed, betas)

    def forward(
        self,
        global_orientation: Float[Tensor, "*b 3 3"],
        pose: Float[Tensor, "*b 15 3 3"],
        betas: Float[Tensor, "*b 10"],
        *,
        translation: Float[Tensor, "*b 3"] | None = None,
        wrist: Float[Tensor, "*b 3"] | None = None,
        tips: Convention,
    ) -> ManoOutput:
        """Mesh and joints, metres.

        pose: absolute rotations (`pose_matrices`). Where the hand is, one of: `translation`, added to the
        un-centred model (smplx `transl`, manopth `th_trans`: HOI4D, H2O, DexYCB, ARCTIC); `wrist`, where the
        wrist is (manotorch, centre_idx=0: TACO, OakInk2); neither: the model's own place.
        tips: whose fingertip vertices.
        """
        ids = torch.arange(self.template.shape[0], device=self.template.device)
        vertices, joints16 = self._skin(global_orientation, pose, betas, ids)
        tip_vertices = vertices[..., list(TIP_VERTICES[tips][self.side]), :]
        joints = torch.cat([joints16, tip_vertices], -2)[..., list(NATIVE_TO_21), :]
        offset = self._offset(joints, translation, wrist)
        return ManoOutput(vertices + offset, joints + offset)

    def joints(
        self,
        global_orientation: Float[Tensor, "*b 3 3"],
        pose: Float[Tensor, "*b 15 3 3"],
        betas: Float[Tensor, "*b 10"],
        *,
        translation: Float[Tensor, "*b 3"] | None = None,
        wrist: Float[Tensor, "*b 3"] | None = None,
        tips: Convention,
    ) -> Float[Tensor, "*b 21 3"]:
        """`forward`'s joints alone, without the mesh: fifty times less work."""
        ids = torch.tensor(TIP_VERTICES[tips][self.side], device=self.template.device)
        tip_vertices, joints16 = self._skin(global_orientation, pose, betas, ids)
        joints = torch.cat([joints16, tip_vertices], -2)[..., list(NATIVE_TO_21), :]
        return joints + self._offset(joints, translation, wrist)

    @staticmethod
    def _offset(joints: Tensor, translation: Tensor | None, wrist: Tensor | None) -> Tensor:
        if translation is not None and wrist is not None:
            raise ValueError("MANO: give translation or wrist, not both")
        if wrist is not None:
            return (wrist - joints[..., 0, :])[..., None, :]
        return torch.zeros_like(joints[..., :1, :]) if translation is None else translation[..., None, :]

    def _skin(self, orientation: Tensor, pose: Tensor, betas: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices `ids` (*b, n, 3) and the 16 joints (*b, 16, 3), un-centred."""
        rest = self.rest_joints(betas)
        local = torch.cat([orientation[..., None, :, :], pose], -3)
        rotations, joints = [local[..., 0, :, :]], [rest[..., 0, :].expand(*local.shape[:-3], 3)]
        for i, parent in enumerate(PARENTS_16[1:], start=1):
            rotations.append(rotations[parent] @ local[..., i, :, :])
            bone = rest[..., i, :] - rest[..., parent, :]
            joints.append(joints[parent] + (rotations[parent] @ bone[..., None])[..., 0])
        R, J = torch.stack(rotations, -3), torch.stack(joints, -2)

        feature = (pose - torch.eye(3, dtype=pose.dtype, device=pose.device)).flatten(-3)
        shaped = self.template[ids] + torch.einsum("vcs,...s->...vc", self.shape_directions[ids], betas)
        posed = shaped + torch.einsum("vcp,...p->...vc", self.pose_directions[ids], feature)
        weights = self.weights[ids]
        blended = torch.einsum("vj,...jab->...vab", weights, R)
        moved = torch.einsum("vj,...ja->...va", weights, J - (R @ rest[..., None])[..., 0])
        return (blended @ posed[..., None])[..., 0] + moved, J


def translation_to_wrist(translation: Any, rest_wrist: Any) -> Any:
    """Where the wrist is for a smplx-like translation: rest_wrist + translation, (..., 3) metres.

    rest_wrist: `ManoLayer.rest_joints(betas)[..., 0, :]`.
    """
    return rest_wrist + translation


def rotate_translation(rotation: Any, offset: Any, translation: Any, rest_wrist: Any) -> Any:
    """The smplx-like translation of a posed MANO carried into another frame x -> rotation @ x + offset.

    The global orientation becomes rotation @ orientation; the translation is not simply transformed, because
    the hand turns about its wrist and not about the origin: R (J0 + t) + offset - J0. Arrays or tensors,
    rotation (..., 3, 3), others (..., 3) metres.
    """
    return (rotation @ (rest_wrist + translation)[..., None])[..., 0] + offset - rest_wrist


def mano_joints(
    layer: ManoLayer,
    global_orientation: Float[np.ndarray, "*b 3 3"],
    pose: Float[np.ndarray, "*b 15 3 3"],
    betas: Float[np.ndarray, "*#b 10"] | Sequence[float],
    wrist: Float[np.ndarray, "*b 3"],
    *,
    tips: Convention,
) -> Float[np.ndarray, "*b 21 3"]:
    """numpy in, numpy out: the 21 joints of the parameters a `clips.Mano` holds, in the same frame, float64."""

    def to(array: Any) -> Tensor:
        return torch.tensor(np.asarray(array), dtype=layer.template.dtype)

    with torch.no_grad():
        out = layer.joints(to(global_orientation), to(pose), to(betas), wrist=to(wrist), tips=tips)
    return out.numpy()

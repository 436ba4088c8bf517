"""The layer against independent public ones (smplx 0.1.28, manotorch), on the same synthetic file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vipa.hands.mano import ManoLayer, matrix_from_axis_angle, matrix_from_quaternion_wxyz
from vipa.hands.mano_files import NATIVE_TO_21, TIP_VERTICES, read_official
from vipa.hands.mano_synthetic import synthetic_mano, write_official_like_pkl

RECORDED = Path(__file__).resolve().parents[1] / "data" / "mano_smplx.json"
MANOTORCH_RECORDED = RECORDED.with_name("mano_manotorch.json")
MANOTORCH_CASES = [(s, f) for s in ("right", "left") for f in ("axis_angle", "pca", "quaternion_wxyz")]
CASES = [(pca, flat, side) for pca in (0, 6, 15) for flat in (True, False) for side in ("right", "left")]


def inputs(pca: int):
    """The same numbers on every platform: no random generator whose stream could change."""
    n = pca or 45
    k = np.arange(3 * n).reshape(3, n)
    return (
        torch.tensor(0.9 * np.sin(1.7 * k[:, :3] + 0.3)),
        torch.tensor(0.5 * np.sin(0.9 * k + 0.1) if pca == 0 else 0.8 * np.sin(0.9 * k + 0.1)),
        torch.tensor(np.cos(2.3 * np.arange(30).reshape(3, 10))),
        torch.tensor(0.4 * np.cos(np.arange(9.0).reshape(3, 3))),
    )


def ours(model, pca: int, flat: bool):
    orient, pose, betas, transl = inputs(pca)
    layer = ManoLayer(model)
    rotations = layer.pose_matrices(pose, "pca" if pca else "axis_angle", add_mean=not flat)
    return layer(matrix_from_axis_angle(orient), rotations, betas, translation=transl, tips="smplx")


def theirs(model, path: Path, pca: int, flat: bool):
    smplx = pytest.importorskip("smplx")
    write_official_like_pkl(model, path, chumpy=False)
    layer = smplx.MANO(
        str(path), is_rhand=model.side == "right", use_pca=pca > 0, num_pca_comps=pca or 45,
        flat_hand_mean=flat, batch_size=3, dtype=torch.float64,
    )  # fmt: skip
    orient, pose, betas, transl = inputs(pca)
    with torch.no_grad():
        out = layer(global_orient=orient, hand_pose=pose, betas=betas, transl=transl)
    tips = torch.tensor(TIP_VERTICES["smplx"]["right"])
    joints = torch.cat([out.joints[:, :16], out.vertices[:, tips]], 1)[:, list(NATIVE_TO_21)]
    return out.vertices, joints


@pytest.mark.parametrize(("pca", "flat", "side"), CASES)
def test_mesh_and_joints_equal_smplx_to_a_micrometre(tmp_path, pca, flat, side):
    model = synthetic_mano(3, side)
    path = tmp_path / f"MANO_{side.upper()}.pkl"
    vertices, joints = theirs(model, path, pca, flat)
    out = ours(read_official(path, side), pca, flat)
    assert (out.vertices - vertices).abs().max() < 1e-6
    assert (out.joints - joints).abs().max() < 1e-6


@pytest.mark.parametrize(("pca", "flat", "side"), CASES)
def test_numbers_recorded_from_smplx_are_met_without_it(pca, flat, side):
    recorded = json.loads(RECORDED.read_text())[f"pca={pca} flat={flat} {side}"]
    out = ours(synthetic_mano(3, side), pca, flat)
    np.testing.assert_allclose(out.joints.numpy(), recorded["joints"], atol=1e-6)
    np.testing.assert_allclose(out.vertices[:, ::37].numpy(), recorded["vertices"], atol=1e-6)


def manotorch_inputs(form: str):
    """Global orientation and pose in `form`, and betas."""
    if form != "quaternion_wxyz":
        orient, pose, betas, _ = inputs(0)
        return orient, pose, betas
    wxyz = torch.tensor(np.sin(1.3 * np.arange(3 * 64).reshape(3, 16, 4) + 0.5))
    wxyz = wxyz / wxyz.norm(dim=-1, keepdim=True)
    return wxyz[:, 0], wxyz[:, 1:], inputs(0)[2]


@pytest.mark.parametrize(("side", "form"), MANOTORCH_CASES)
def test_wrist_centred_hands_equal_manotorchs_recorded_ones(side, form):
    recorded = json.loads(MANOTORCH_RECORDED.read_text())[f"{side} {form}"]
    orient, pose, betas = manotorch_inputs(form)
    layer = ManoLayer(synthetic_mano(3, side))
    turn = matrix_from_quaternion_wxyz(orient) if form == "quaternion_wxyz" else matrix_from_axis_angle(orient)
    rotations = layer.pose_matrices(pose, form, add_mean=form == "pca")
    out = layer(turn, rotations, betas, wrist=torch.zeros(3, 3, dtype=torch.float64), tips="manopth")
    np.testing.assert_allclose(out.joints.numpy(), recorded["joints"], atol=1e-6)
    np.testing.assert_allclose(out.vertices[:, ::37].numpy(), recorded["vertices"], atol=1e-6)


def record(folder: Path) -> None:
    """Write the numbers that are met without smplx; run this file to make them again."""
    out = {}
    for pca, flat, side in CASES:
        model = synthetic_mano(3, side)
        vertices, joints = theirs(model, folder / f"MANO_{side.upper()}.pkl", pca, flat)
        out[f"pca={pca} flat={flat} {side}"] = {
            "joints": joints.numpy().round(8).tolist(),
            "vertices": vertices[:, ::37].numpy().round(8).tolist(),
        }
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(out))


if __name__ == "__main__":  # PYTHONPATH=src python tests/hands/test_mano_oracle.py   (needs smplx)
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        record(Path(scratch))

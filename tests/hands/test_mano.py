"""MANO: conventions, mirroring, gradients, official files and what is wrong with some of them."""

import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vipa import cli
from vipa.hands.mano import (
    ManoLayer,
    mano_joints,
    matrix_from_axis_angle,
    matrix_from_quaternion_wxyz,
    rotate_translation,
    translation_to_wrist,
)
from vipa.hands.mano_files import import_mano, load_mano, read_official, save_mano
from vipa.hands.mano_synthetic import synthetic_mano, write_official_like_pkl
from vipa.hands.skeleton import BONES, JOINT_NAMES, mirror_joints, mirror_rotation

MODEL = synthetic_mano(0)
LAYER = ManoLayer(MODEL)


def random_hand(seed: int, n: int = 4):
    rng = np.random.default_rng(seed)
    t = torch.tensor
    return (
        t(Rotation.random(n, rng).as_matrix()),
        matrix_from_axis_angle(t(rng.normal(scale=0.4, size=(n, 15, 3)))),
        t(rng.normal(size=(n, 10))),
        t(rng.normal(size=(n, 3))),
    )


def test_synthetic_joints_look_like_a_human_hand():
    identity = torch.eye(3, dtype=torch.float64)
    j = LAYER.joints(identity, identity.expand(15, 3, 3), torch.zeros(10, dtype=torch.float64), tips="smplx")
    name = {n: j[i].numpy() for i, n in enumerate(JOINT_NAMES)}
    lengths = {b: float((j[b[0]] - j[b[1]]).norm()) for b in BONES}
    assert all(0.015 < length < 0.11 for length in lengths.values())
    assert 0.16 < np.linalg.norm(name["middle_3"] - name["wrist"]) < 0.20
    assert name["index_0"][2] > name["middle_0"][2] > name["ring_0"][2] > name["little_0"][2]
    assert np.argmax([np.linalg.norm(name[f"{f}_3"] - name["wrist"]) for f in ("index", "middle", "ring")]) == 1


def test_adding_the_mean_pose_bends_the_fingers_towards_the_palm():
    zero = torch.zeros(45, dtype=torch.float64)
    identity, betas = torch.eye(3, dtype=torch.float64), torch.zeros(10, dtype=torch.float64)
    flat, bent = (
        LAYER.joints(identity, LAYER.pose_matrices(zero, "axis_angle", add_mean=m), betas, tips="smplx")
        for m in (False, True)
    )
    assert all(bent[tip, 1] < flat[tip, 1] - 0.005 for tip in (8, 12, 16, 20))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 0.3, 3.1])
def test_axis_angle_and_quaternions_agree_with_scipy(angle):
    axis = np.array([[0.6, 0.0, 0.8], [-1, 2, 2] / np.float64(3)])
    expected = Rotation.from_rotvec(axis * angle)
    np.testing.assert_allclose(
        matrix_from_axis_angle(torch.tensor(axis * angle)), expected.as_matrix(), atol=1e-12
    )
    quaternion = torch.tensor(-2.5 * expected.as_quat(scalar_first=True))
    np.testing.assert_allclose(matrix_from_quaternion_wxyz(quaternion), expected.as_matrix(), atol=1e-12)


def test_all_pose_forms_of_one_pose_give_one_hand():
    rng = np.random.default_rng(1)
    coefficients = torch.tensor(rng.normal(size=(2, 45)))
    angles = coefficients @ LAYER.pose_components + LAYER.pose_mean
    wxyz = torch.tensor(
        Rotation.from_rotvec(angles.reshape(-1, 3).numpy()).as_quat(scalar_first=True).reshape(2, 15, 4)
    )
    expected = LAYER.pose_matrices(angles, "axis_angle", add_mean=False)
    for pose, form, mean in (
        (coefficients, "pca", True),
        (angles - LAYER.pose_mean, "axis_angle", True),
        (angles.reshape(2, 15, 3), "axis_angle", False),
        (wxyz, "quaternion_wxyz", False),
        (expected, "matrix", False),
    ):
        torch.testing.assert_close(LAYER.pose_matrices(pose, form, add_mean=mean), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("shape", "form", "mean", "message"),
    [
        ((15, 4), "quaternion_wxyz", True, "mean pose cannot"),
        ((46,), "pca", False, "at most 45"),
        ((48,), "axis_angle", False, "needs"),
        ((16, 4), "quaternion_wxyz", False, "needs"),
        ((45,), "euler", False, "unknown form"),
    ],
)
def test_a_pose_that_does_not_fit_its_form_is_an_error(shape, form, mean, message):
    with pytest.raises(ValueError, match=message):
        LAYER.pose_matrices(torch.zeros(shape, dtype=torch.float64), form, add_mean=mean)


def test_translation_moves_the_uncentred_model_and_wrist_says_where_the_wrist_is():
    orient, pose, betas, place = random_hand(2)
    free = LAYER(orient, pose, betas, tips="smplx")
    moved = LAYER(orient, pose, betas, translation=place, tips="smplx")
    centred = LAYER(orient, pose, betas, wrist=place, tips="smplx")
    torch.testing.assert_close(moved.vertices, free.vertices + place[:, None])
    torch.testing.assert_close(centred.joints[:, 0], place)
    rest = LAYER.rest_joints(betas)[:, 0]
    torch.testing.assert_close(moved.joints[:, 0], translation_to_wrist(place, rest))
    torch.testing.assert_close(
        LAYER(orient, pose, betas, wrist=translation_to_wrist(place, rest), tips="smplx").vertices, moved.vertices
    )
    assert rest.norm(dim=-1).min() > 0.05
    with pytest.raises(ValueError, match="not both"):
        LAYER(orient, pose, betas, translation=place, wrist=place, tips="smplx")


def test_a_posed_hand_carried_into_another_frame_is_the_rotated_mesh():
    orient, pose, betas, place = random_hand(3)
    R, t = torch.tensor(Rotation.random(rng=np.random.default_rng(9)).as_matrix()), torch.tensor([0.3, -0.2, 1.0])
    expected = LAYER(orient, pose, betas, translation=place, tips="manopth").vertices @ R.T + t
    rest = LAYER.rest_joints(betas)[:, 0]
    there = LAYER(
        R @ orient, pose, betas, translation=rotate_translation(R, t, place, rest), tips="manopth"
    ).vertices
    torch.testing.assert_close(there, expected)


def test_the_two_fingertip_conventions_differ_by_millimetres_and_nothing_else_does():
    hand = random_hand(4)
    a = LAYER.joints(*hand[:3], wrist=hand[3], tips="smplx")
    b = LAYER.joints(*hand[:3], wrist=hand[3], tips="manopth")
    tips = [4, 8, 12, 16, 20]
    others = [i for i in range(21) if i not in tips]
    torch.testing.assert_close(a[:, others], b[:, others])
    distance = (a - b)[:, tips].norm(dim=-1)
    assert distance.min() > 0.001
    assert distance.max() < 0.02


def test_joints_alone_equal_the_joints_of_the_mesh():
    hand = random_hand(5)
    for tips in ("smplx", "manopth"):
        full = LAYER(*hand[:3], wrist=hand[3], tips=tips)
        torch.testing.assert_close(LAYER.joints(*hand[:3], wrist=hand[3], tips=tips), full.joints)


def test_gradients_are_finite_at_zero_pose_and_right_elsewhere():
    zero = torch.zeros(48, dtype=torch.float64, requires_grad=True)

    def tips(theta):
        return LAYER.joints(
            matrix_from_axis_angle(theta[:3]), LAYER.pose_matrices(theta[3:], "axis_angle", add_mean=True),
            torch.zeros(10, dtype=torch.float64), tips="smplx",
        )  # fmt: skip

    tips(zero).square().sum().backward()
    assert torch.isfinite(zero.grad).all()
    theta = torch.randn(48, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.3
    assert torch.autograd.gradcheck(lambda x: tips(x)[[0, 4, 20]], theta.requires_grad_(), atol=1e-6)


def test_a_left_mesh_is_the_right_mesh_in_the_mirror():
    orient, pose, betas, place = random_hand(6)
    left = ManoLayer(MODEL.mirrored())
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    right = LAYER(orient, pose, betas, wrist=place, tips="smplx")
    out = left(
        torch.tensor(mirror_rotation(orient.numpy())), torch.tensor(mirror_rotation(pose.numpy())), betas,
        wrist=torch.tensor(mirror_joints(place.numpy())), tips="smplx",
    )  # fmt: skip
    torch.testing.assert_close(out.vertices, right.vertices * mirror)
    np.testing.assert_allclose(out.joints, mirror_joints(right.joints.numpy()), atol=1e-12)


def test_mirrored_mean_and_components_mean_the_same_pose():
    left = ManoLayer(MODEL.mirrored())
    coefficients = torch.tensor(np.random.default_rng(0).normal(size=(3, 15)))
    a = LAYER.pose_matrices(coefficients, "pca", add_mean=True).numpy()
    b = left.pose_matrices(coefficients, "pca", add_mean=True).numpy()
    np.testing.assert_allclose(b, mirror_rotation(a), atol=1e-12)


def test_mirroring_twice_changes_nothing():
    twice = MODEL.mirrored().mirrored()
    for name in ("template", "shape_directions", "pose_directions", "pose_components", "pose_mean", "faces"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(MODEL, name))
    R = random_hand(7)[1].numpy()
    np.testing.assert_array_equal(mirror_rotation(mirror_rotation(R)), R)


def test_numpy_helper_gives_the_layers_joints():
    hand = random_hand(8)
    out = mano_joints(LAYER, *(x.numpy() for x in hand), tips="manopth")
    np.testing.assert_allclose(out, LAYER.joints(*hand[:3], wrist=hand[3], tips="manopth"))


# ---- files


@pytest.mark.parametrize("chumpy", [True, False])
def test_an_official_pickle_is_read_without_chumpy(tmp_path, chumpy):
    path = write_official_like_pkl(MODEL, tmp_path / "MANO_RIGHT.pkl", chumpy=chumpy)
    read = read_official(path, "right")
    for name in ("template", "shape_directions", "pose_directions", "joint_regressor", "weights", "faces"):
        np.testing.assert_array_equal(getattr(read, name), getattr(MODEL, name))


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_both_sides_are_imported_once_and_loaded_equal(tmp_path, form):
    left = MODEL.mirrored()
    source = tmp_path / "mano_v1_2" / "models"
    source.mkdir(parents=True)
    for model, name in ((MODEL, "MANO_RIGHT.pkl"), (left, "MANO_LEFT.pkl")):
        write_official_like_pkl(model, source / name)
    path = tmp_path / "mano_v1_2"
    if form == "zip":
        path = tmp_path / "mano.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in source.iterdir():
                archive.write(file, f"mano_v1_2/models/{file.name}")
    written = import_mano(path, tmp_path / "out")
    assert sorted(written) == ["left", "right"]
    np.testing.assert_array_equal(load_mano("right", tmp_path / "out").template, MODEL.template)
    assert not load_mano("left", tmp_path / "out").left_shape_fixed
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["mano_left.npz", "mano_right.npz"]


def test_the_sign_fault_of_left_files_is_repaired_and_can_be_had_back(tmp_path):
    left = MODEL.mirrored()
    faulty = replace(left, shape_directions=left.shape_directions * [[-1.0], [1.0], [1.0]])
    write_official_like_pkl(MODEL, tmp_path / "MANO_RIGHT.pkl")
    write_official_like_pkl(faulty, tmp_path / "MANO_LEFT.pkl")
    import_mano(tmp_path, tmp_path / "out")
    read = load_mano("left", tmp_path / "out")
    assert read.left_shape_fixed
    np.testing.assert_array_equal(read.shape_directions, left.shape_directions)
    np.testing.assert_array_equal(read.as_distributed().shape_directions, faulty.shape_directions)


def test_a_left_file_alone_is_refused_because_its_sign_cannot_be_checked(tmp_path):
    write_official_like_pkl(MODEL.mirrored(), tmp_path / "MANO_LEFT.pkl")
    with pytest.raises(ValueError, match="only MANO_LEFT"):
        import_mano(tmp_path, tmp_path / "out")


def test_broken_model_files_give_one_line_that_names_them(tmp_path):
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(pickle.dumps({"v_template": np.zeros((778, 3))}))
    with pytest.raises(ValueError, match=r"MANO_RIGHT\.pkl: not a MANO file.*shapedirs"):
        import_mano(tmp_path / "MANO_RIGHT.pkl", tmp_path)
    with pytest.raises(FileNotFoundError, match="import-weights mano"):
        load_mano("left", tmp_path)
    (tmp_path / "mano_left.npz").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="import it again"):
        load_mano("left", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no MANO_RIGHT"):
        import_mano(tmp_path / "empty", tmp_path)
    with pytest.raises(ValueError, match="template must be finite"):
        save_mano(replace(MODEL, template=np.full((778, 3), np.nan)), tmp_path / "x.npz")


def test_files_named_alike_are_found_and_exchanged_ones_refused(tmp_path):
    for left, right in (("MANO_LEFT_C.pkl", "MANO_RIGHT_C.pkl"), ("mano_v1_left.pkl", "mano_v1_right.pkl")):
        folder = tmp_path / left
        (folder / "models").mkdir(parents=True)
        write_official_like_pkl(MODEL.mirrored(), folder / "models" / left)
        write_official_like_pkl(MODEL, folder / "models" / right)
        written = import_mano(folder, folder / "out")
        assert sorted(written) == ["left", "right"]
        np.testing.assert_array_equal(load_mano("right", folder / "out").template, MODEL.template)
    (tmp_path / "exchanged").mkdir()
    write_official_like_pkl(MODEL, tmp_path / "exchanged" / "MANO_LEFT.pkl")
    write_official_like_pkl(MODEL.mirrored(), tmp_path / "exchanged" / "MANO_RIGHT.pkl")
    with pytest.raises(ValueError, match="holds the other hand"):
        import_mano(tmp_path / "exchanged", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_verb_of_the_docs_puts_mano_where_readers_look(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIPA_MANO", str(tmp_path / "mano"))
    (tmp_path / "files").mkdir()
    for side, model in (("LEFT", MODEL.mirrored()), ("RIGHT", MODEL)):
        write_official_like_pkl(model, tmp_path / "files" / f"MANO_{side}.pkl")
    cli.main(["import-weights", "mano", str(tmp_path / "files")])
    assert str(tmp_path / "mano" / "mano_left.npz") in capsys.readouterr().out
    np.testing.assert_array_equal(load_mano("right").template, MODEL.template)
    cli.main(["import-weights", "mano", str(tmp_path / "files"), "--out", str(tmp_path / "else")])
    assert "VIPA_MANO=" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["import-weights", "mano", str(tmp_path / "absent")])
    assert capsys.readouterr().err.count("\n") == 1

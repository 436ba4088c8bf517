import numpy as np
import torch

from vipa.geometry import invert, matrix_from_axis_angle, rigid, transform


def random_rigid(rng, *shape):
    return rigid(matrix_from_axis_angle(rng.normal(size=(*shape, 3))), rng.normal(size=(*shape, 3)))


def test_invert_is_the_matrix_inverse():
    T = random_rigid(np.random.default_rng(0), 5, 2)
    np.testing.assert_allclose(invert(T), np.linalg.inv(T), atol=1e-12)


def test_invert_leaves_its_argument_alone():
    T = random_rigid(np.random.default_rng(0))
    before = T.copy()
    invert(T)
    np.testing.assert_array_equal(T, before)


def test_transform_is_homogeneous_multiplication():
    rng = np.random.default_rng(1)
    T, points = random_rigid(rng, 4), rng.normal(size=(4, 7, 3))
    homogeneous = np.concatenate([points, np.ones((4, 7, 1))], -1)
    expected = np.einsum("bij,bnj->bni", T, homogeneous)[..., :3]
    np.testing.assert_allclose(transform(T, points), expected, atol=1e-12)


def test_transforms_chain_by_their_names():
    rng = np.random.default_rng(2)
    T_a_b, T_b_c, points_c = random_rigid(rng), random_rigid(rng), rng.normal(size=(6, 3))
    np.testing.assert_allclose(
        transform(T_a_b @ T_b_c, points_c), transform(T_a_b, transform(T_b_c, points_c)), atol=1e-12
    )


def test_torch_gives_what_numpy_gives():
    rng = np.random.default_rng(3)
    T, points = random_rigid(rng, 3), rng.normal(size=(3, 5, 3))
    np.testing.assert_allclose(transform(torch.tensor(T), torch.tensor(points)).numpy(), transform(T, points))
    np.testing.assert_allclose(invert(torch.tensor(T)).numpy(), invert(T))

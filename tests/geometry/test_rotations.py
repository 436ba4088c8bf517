import numpy as np
import pytest
from scipy.linalg import expm

from vipa.geometry import (
    axis_angle_from_matrix,
    matrix_from_axis_angle,
    matrix_from_quaternion_wxyz,
    quaternion_wxyz_from_matrix,
)


@pytest.fixture
def axis_angles():
    rng = np.random.default_rng(0)
    axis = rng.normal(size=(200, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return axis * rng.uniform(0, np.pi - 1e-3, size=(200, 1))


def skew(w):
    return np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])


def test_axis_angle_matrix_is_the_matrix_exponential_of_the_skew_matrix(axis_angles):
    expected = np.stack([expm(skew(w)) for w in axis_angles])
    np.testing.assert_allclose(matrix_from_axis_angle(axis_angles), expected, atol=1e-12)


def test_axis_angle_returns_from_its_matrix(axis_angles):
    np.testing.assert_allclose(axis_angle_from_matrix(matrix_from_axis_angle(axis_angles)), axis_angles, atol=1e-9)


def test_quaternion_is_scalar_first_with_the_half_angle(axis_angles):
    angle = np.linalg.norm(axis_angles, axis=1, keepdims=True)
    expected = np.concatenate([np.cos(angle / 2), axis_angles / angle * np.sin(angle / 2)], -1)
    quaternion = quaternion_wxyz_from_matrix(matrix_from_axis_angle(axis_angles))
    np.testing.assert_allclose(quaternion, expected, atol=1e-9)


def test_quaternion_of_any_length_and_either_sign_gives_the_same_rotation(axis_angles):
    quaternion = quaternion_wxyz_from_matrix(matrix_from_axis_angle(axis_angles))
    for factor in (1.0, -1.0, 7.5):
        np.testing.assert_allclose(
            matrix_from_quaternion_wxyz(factor * quaternion), matrix_from_axis_angle(axis_angles), atol=1e-12
        )


def test_quarter_turn_about_z_takes_x_to_y():
    turn = matrix_from_quaternion_wxyz(np.array([1.0, 0.0, 0.0, 1.0]))
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_leading_batch_shapes_are_kept(axis_angles):
    batch = axis_angles[:24].reshape(2, 3, 4, 3)
    matrices = matrix_from_axis_angle(batch)
    assert matrices.shape == (2, 3, 4, 3, 3)
    assert quaternion_wxyz_from_matrix(matrices).shape == (2, 3, 4, 4)
    np.testing.assert_allclose(axis_angle_from_matrix(matrices), batch, atol=1e-9)
    assert matrix_from_axis_angle(np.zeros(3)).shape == (3, 3)

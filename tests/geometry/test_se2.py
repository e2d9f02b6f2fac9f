import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.geometry.se2 import SE2, circular_mean, wrap_angle

poses = st.builds(SE2, *[st.floats(-1e3, 1e3)] * 2, st.floats(-10.0, 10.0))


def matrix(pose: SE2) -> np.ndarray:
    """The homogeneous matrix: an independent way to compose."""
    c, s = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
    return np.array([[c, -s, pose.x_m], [s, c, pose.y_m], [0.0, 0.0, 1.0]])


@given(poses, poses)
def test_composition_is_the_product_of_matrices(a: SE2, b: SE2):
    np.testing.assert_allclose(matrix(a @ b), matrix(a) @ matrix(b), atol=1e-9)


@given(poses)
def test_inverse_undoes(a: SE2):
    np.testing.assert_allclose(matrix(a @ a.inverse()), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(matrix(a.inverse() @ a), np.eye(3), atol=1e-9)


@given(poses)
def test_apply_is_the_matrix_times_the_point(a: SE2):
    points = np.array([[1.0, 2.0], [-3.0, 0.5]])
    expected = (matrix(a) @ np.column_stack([points, np.ones(2)]).T).T[:, :2]
    np.testing.assert_allclose(a.apply(points), expected, atol=1e-9)


def test_a_quarter_turn_left_takes_forward_to_left():
    turned = SE2(10.0, 20.0, math.pi / 2).apply(np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(turned, [[10.0, 21.0]], atol=1e-12)


@given(poses, poses)
def test_mirroring_both_frames_keeps_composition(a: SE2, b: SE2):
    np.testing.assert_allclose(matrix((a @ b).mirrored()), matrix(a.mirrored() @ b.mirrored()), atol=1e-9)


@given(st.floats(-100.0, 100.0))
def test_wrapped_angle_is_the_same_direction(angle: float):
    wrapped = wrap_angle(angle)
    assert -math.pi <= wrapped < math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-9)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-9)


@pytest.mark.parametrize(("centre_rad", "spread_rad"), [(0.0, 0.05), (3.1, 0.5), (-2.0, 1.2)])
def test_circular_mean_and_spread_of_a_wrapped_normal(centre_rad: float, spread_rad: float):
    """Of which the circular standard deviation is the normal's own (Mardia and Jupp, Directional Statistics, 3.5.7)."""
    unrolled = np.linspace(-8.0, 8.0, 4001) * spread_rad
    prob = np.exp(-0.5 * (unrolled / spread_rad) ** 2)
    angles = np.array([wrap_angle(centre_rad + a) for a in unrolled])
    assert circular_mean(prob / prob.sum(), angles) == pytest.approx((centre_rad, spread_rad), abs=1e-6)


def test_a_single_angle_has_no_spread_and_opposite_ones_no_direction():
    assert circular_mean(np.array([1.0]), np.array([0.5])) == pytest.approx((0.5, 0.0))
    assert circular_mean(np.array([0.5, 0.5]), np.array([0.0, math.pi]))[1] > 2.0


def test_an_offset_shifts_along_the_axes_of_the_destination_and_turns_on_the_spot():
    moved = SE2(1.0, 2.0, 3.0).moved_by(SE2(0.5, -1.0, 0.5))
    assert (moved.x_m, moved.y_m) == (1.5, 1.0)  # whichever way it faces
    assert moved.yaw_rad == pytest.approx(3.5 - 2.0 * math.pi)


def test_a_pose_with_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        SE2(math.nan, 0.0, 0.0)

import math

import numpy as np
import pytest

from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import wrap_angle
from bevfusion.heads.read_out import read_out

WINDOW = PoseWindow(20.0, math.radians(10.0), 1.0, math.radians(2.0))
CIRCLE = PoseWindow(10.0, math.pi, 1.0, math.radians(2.0))


def gaussian(window: PoseWindow, x_m: float, y_m: float, yaw_rad: float, spread=(1.5, 1.0, 0.06)) -> np.ndarray:
    dx, dy = window.shifts_m() - x_m, window.shifts_m() - y_m
    dyaw = np.array([wrap_angle(float(yaw) - yaw_rad) for yaw in window.yaw_offsets_rad()])
    along = [(d / s) ** 2 for d, s in zip((dx, dy, dyaw), spread, strict=True)]
    log_prob = -0.5 * (along[0][None, None, :] + along[1][None, :, None] + along[2][:, None, None])
    return log_prob - np.log(np.exp(log_prob).sum())


@pytest.mark.parametrize("pose", [(3.3, -7.2, 0.05), (0.0, 0.0, 0.0), (-12.5, 4.9, -0.11)])
def test_argmax_finds_a_gaussian_below_a_cell(pose):
    reading = read_out(gaussian(WINDOW, *pose), WINDOW)
    offset = reading.offset
    assert (offset.x_m, offset.y_m, offset.yaw_rad) == pytest.approx(pose, abs=1e-6)


def test_covariance_is_that_of_the_distribution():
    covariance = read_out(gaussian(WINDOW, 1.0, 2.0, 0.0, spread=(2.0, 1.0, 0.04)), WINDOW).covariance
    expected = [4.0 + 1 / 12, 1.0 + 1 / 12, 0.04**2 + math.radians(2.0) ** 2 / 12]
    np.testing.assert_allclose(np.diag(covariance), expected, rtol=0.02)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-6)


def test_correlated_axes_show_in_the_covariance():
    x, y = WINDOW.shifts_m()[None, :], WINDOW.shifts_m()[:, None]
    plane = -0.5 * ((x - y) ** 2 / 1.0 + (x + y) ** 2 / 36.0)
    volume = np.broadcast_to(plane, WINDOW.shape).copy()
    covariance = read_out(volume - np.log(np.exp(volume).sum()), WINDOW).covariance
    assert covariance[0, 1] > 0.9 * covariance[0, 0] - 1.0
    assert np.linalg.eigvalsh(covariance).min() > 0.0


def test_heading_near_the_seam_of_the_circle_is_read_across_it():
    yaw_rad = wrap_angle(math.pi - math.radians(0.7))
    reading = read_out(gaussian(CIRCLE, 0.0, 0.0, yaw_rad), CIRCLE)
    assert wrap_angle(reading.offset.yaw_rad - yaw_rad) == pytest.approx(0.0, abs=1e-6)
    assert reading.covariance[2, 2] < 0.01


def test_confidence_is_the_mass_near_the_estimate():
    sharp = read_out(gaussian(WINDOW, 0.0, 0.0, 0.0, spread=(0.3, 0.3, 0.01)), WINDOW).confidence
    flat = read_out(np.full(WINDOW.shape, -math.log(np.prod(WINDOW.shape))), WINDOW).confidence
    assert sharp > 0.99
    # The first bin of a flat volume is its corner: 6 cells within 2 m and 3 headings within 4 degrees are inside.
    assert flat == pytest.approx(6 * 3 / np.prod(WINDOW.shape))


def test_a_peak_on_the_border_is_the_border():
    volume = np.full(WINDOW.shape, -20.0)
    volume[0, 0, 0] = 0.0
    offset = read_out(volume, WINDOW).offset
    assert (offset.x_m, offset.y_m) == (-20.0, -20.0)

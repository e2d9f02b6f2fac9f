import math

import numpy as np

from bevfusion.geometry.lines import blurred_along, yaws_along


def test_each_value_is_a_mean_weighted_by_distance():
    values = np.random.default_rng(0).normal(size=40)
    blurred = blurred_along(values, 1.0, 0.5)
    lags = np.arange(-6, 7)
    weights = np.exp(-0.5 * (0.5 * lags) ** 2)
    for place in range(6, 34):
        np.testing.assert_allclose(blurred[place], weights @ values[place + lags] / weights.sum())


def test_a_straight_course_is_left_as_it_is_up_to_its_ends():
    values = 3.0 - 0.7 * np.arange(20)
    np.testing.assert_allclose(blurred_along(values, 2.0, 1.0), values)


def test_what_is_too_short_to_be_blurred_is_left_as_it_is():
    np.testing.assert_array_equal(blurred_along(np.array([5.0]), 2.0, 1.0), [5.0])


def test_headings_do_not_jump_at_west():
    turn_rad = np.linspace(0.9 * math.pi, 1.1 * math.pi, 30)
    xy_m = np.cumsum(np.stack([np.cos(turn_rad), np.sin(turn_rad)], axis=1), axis=0)
    yaw_rad = yaws_along(xy_m)
    assert np.abs(np.diff(yaw_rad)).max() < 0.1
    np.testing.assert_allclose(yaw_rad[1:-1], 0.5 * (turn_rad[1:-1] + turn_rad[2:]), atol=0.02)

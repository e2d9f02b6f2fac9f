import math

import numpy as np
import pytest

from bevfusion.filters.motion import (
    DEFAULT_INTERVAL_S,
    Motion,
    Velocity,
    interval_s,
    motion_between,
    odometry_step,
)
from bevfusion.filters.settings import MotionNoise
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import Frame
from tests.filters.vehicles import scan_at


def frame(stamp_s: float, odom: SE2 | None = None) -> Frame:
    return Frame(0, round(1e9 * stamp_s), scan_at(SE2()), odom)


def test_a_step_is_seen_from_the_pose_before() -> None:
    # facing north at (1, 2), then 3 m ahead and turned left by 0.5
    before, after = frame(0.0, SE2(1.0, 2.0, math.pi / 2)), frame(0.1, SE2(1.0, 5.0, math.pi / 2 + 0.5))
    step = odometry_step(before, after)
    assert step is not None
    assert (step.x_m, step.y_m, step.yaw_rad) == pytest.approx((3.0, 0.0, 0.5), abs=1e-12)
    assert odometry_step(before, frame(0.1)) is None
    assert odometry_step(frame(0.0), after) is None


def test_the_sources_of_noise_add_in_squares() -> None:
    noise = MotionNoise(
        floor_m=0.3,
        m_per_m=0.1,
        m_per_s=1.0,
        floor_deg=0.0,
        deg_per_m=math.degrees(0.01),
        deg_per_deg=0.2,
        deg_per_s=0.0,
    )
    motion = Motion.of_step(SE2(3.0, 4.0, -0.5), 2.0, noise)
    assert motion.distance_m == pytest.approx(5.0)
    assert motion.std_along_m == motion.std_across_m == pytest.approx(math.sqrt(0.09 + 0.25 + 4.0))
    assert motion.std_yaw_rad == pytest.approx(math.sqrt(0.05**2 + 0.1**2))


@pytest.mark.parametrize(("stamp_s", "expected"), [(0.5, 0.5), (0.0, DEFAULT_INTERVAL_S), (-3.0, DEFAULT_INTERVAL_S)])
def test_time_between_frames(stamp_s: float, expected: float) -> None:
    assert interval_s(frame(0.0), frame(stamp_s)) == pytest.approx(expected)


def test_a_long_gap_is_bounded() -> None:
    assert interval_s(frame(0.0), frame(1e6)) == 10.0


def test_odometry_goes_before_the_speed_of_late() -> None:
    motion = motion_between(frame(0.0, SE2()), frame(0.1, SE2(1.0)), MotionNoise(), Velocity(50.0, 0.0, 0.0))
    assert motion.before_from_after == SE2(1.0)


def test_without_odometry_the_speed_is_kept_along_an_arc() -> None:
    turn_rad = 0.2
    motion = motion_between(frame(0.0), frame(0.5), MotionNoise(), Velocity(10.0, 0.0, turn_rad / 0.5))
    step = motion.before_from_after
    assert step.yaw_rad == pytest.approx(turn_rad)
    # on a circle of 5 m / 0.2 the vehicle is (sin, 1 - cos) radius from where it was
    radius_m = 5.0 / turn_rad
    expected = radius_m * np.array([math.sin(turn_rad), 1.0 - math.cos(turn_rad)])
    assert (step.x_m, step.y_m) == pytest.approx(expected, abs=0.02)
    assert motion.std_along_m > 2.0 * motion.std_across_m


def test_nothing_known_allows_everything_from_standing_to_town_speed() -> None:
    motion = motion_between(frame(0.0), frame(1.0), MotionNoise())
    mean_m, std_m = motion.before_from_after.x_m, motion.std_along_m
    assert mean_m - 1.1 * std_m < 0.0
    assert mean_m + 1.5 * std_m > 14.0


def test_velocity_is_a_running_mean() -> None:
    velocity = Velocity.of_step(SE2(2.0, 0.0, 0.1), 0.5)
    assert velocity == Velocity(4.0, 0.0, 0.2)
    assert velocity.blended(Velocity(8.0, 1.0, 0.2), 0.25) == Velocity(5.0, 0.25, 0.2)

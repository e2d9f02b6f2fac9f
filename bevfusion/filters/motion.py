"""How the vehicle moved between two frames, and how far to trust that: pure functions."""

import math
from dataclasses import dataclass

from bevfusion.filters.settings import MotionNoise
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import Frame

DEFAULT_INTERVAL_S = 0.1  # between frames whose stamps do not tell: a LiDAR turns ten times a second
_LONGEST_INTERVAL_S = 10.0  # beyond, no guess of the speed is worth more


@dataclass(frozen=True, slots=True)
class Motion:
    """A step of the vehicle: `before_from_after` is the new ego pose in the old ego frame; deviations in ego axes."""

    before_from_after: SE2
    std_along_m: float  # along the heading
    std_across_m: float
    std_yaw_rad: float

    @classmethod
    def of_step(cls, before_from_after: SE2, interval_s: float, noise: MotionNoise) -> "Motion":
        """A step as odometry has it, with its deviations."""
        distance_m = math.hypot(before_from_after.x_m, before_from_after.y_m)
        turn_rad = abs(before_from_after.yaw_rad)
        std_m = math.hypot(noise.floor_m, noise.m_per_m * distance_m, noise.m_per_s * interval_s)
        std_rad = math.hypot(
            math.radians(noise.floor_deg),
            math.radians(noise.deg_per_m) * distance_m,
            noise.deg_per_deg * turn_rad,
            math.radians(noise.deg_per_s) * interval_s,
        )
        return cls(before_from_after, std_m, std_m, std_rad)

    @property
    def distance_m(self) -> float:
        """Straight distance between the two places."""
        return math.hypot(self.before_from_after.x_m, self.before_from_after.y_m)


@dataclass(frozen=True, slots=True)
class Velocity:
    """Speed of the ego frame, held constant from frame to frame."""

    along_m_s: float
    across_m_s: float
    yaw_rad_s: float

    @classmethod
    def of_step(cls, before_from_after: SE2, interval_s: float) -> "Velocity":
        """The mean velocity of a step."""
        step = before_from_after
        return cls(step.x_m / interval_s, step.y_m / interval_s, step.yaw_rad / interval_s)

    def blended(self, newer: "Velocity", share: float) -> "Velocity":
        """A running mean: `share` of the newer one."""
        return Velocity(
            self.along_m_s + share * (newer.along_m_s - self.along_m_s),
            self.across_m_s + share * (newer.across_m_s - self.across_m_s),
            self.yaw_rad_s + share * (newer.yaw_rad_s - self.yaw_rad_s),
        )


def interval_s(before: Frame, after: Frame) -> float:
    """Time between two frames; logs whose stamps stand still or run backwards count as a LiDAR's usual turn."""
    elapsed_s = 1e-9 * (after.stamp_ns - before.stamp_ns)
    return min(elapsed_s, _LONGEST_INTERVAL_S) if elapsed_s > 0 else DEFAULT_INTERVAL_S


def odometry_step(before: Frame, after: Frame) -> SE2 | None:
    """`before_from_after` as the log's odometry has it, or None where it has none."""
    if before.odom_from_ego is None or after.odom_from_ego is None:
        return None
    return before.odom_from_ego.inverse() @ after.odom_from_ego


def motion_between(before: Frame, after: Frame, noise: MotionNoise, velocity: Velocity | None = None) -> Motion:
    """The best guess at a step: odometry, else constant velocity, else any speed that a car drives in a town.

    Args:
        before: the earlier frame.
        after: the later one.
        noise: of the odometry.
        velocity: the vehicle's recent one, where known; used only without odometry.
    """
    seconds = interval_s(before, after)
    step = odometry_step(before, after)
    if step is not None:
        return Motion.of_step(step, seconds, noise)
    return unknown_motion(seconds) if velocity is None else coasting_motion(velocity, seconds)


def coasting_motion(velocity: Velocity, seconds: float) -> Motion:
    """Constant velocity: it is known to 1.5 m/s and changes by up to 4 m/s^2; a car hardly moves sideways."""
    turn_rad = velocity.yaw_rad_s * seconds
    # the chord of the arc points halfway into the turn
    chord = SE2(0.0, 0.0, 0.5 * turn_rad) @ SE2(velocity.along_m_s * seconds, velocity.across_m_s * seconds, 0.0)
    std_along_m = math.hypot(0.05, 1.5 * seconds, 0.5 * 4.0 * seconds**2)
    std_across_m = math.hypot(0.05, 0.3 * seconds)
    std_yaw_rad = math.hypot(math.radians(0.3), 0.15 * seconds)
    return Motion(SE2(chord.x_m, chord.y_m, turn_rad), std_along_m, std_across_m, min(std_yaw_rad, 1.0))


def unknown_motion(seconds: float) -> Motion:
    """Nothing is known but that it is a vehicle in a town: mostly forward, 6 +- 6 m/s, turning up to 0.4 rad/s."""
    return Motion(SE2(6.0 * seconds, 0.0, 0.0), math.hypot(0.1, 6.0 * seconds), 0.1 + 0.5 * seconds, 0.4 * seconds)

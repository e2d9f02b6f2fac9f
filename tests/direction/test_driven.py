"""The path that was driven from a pose on."""

import math

import numpy as np
import pytest

from bevfusion.direction.driven import DrivenTrack
from bevfusion.geometry.se2 import SE2


def circle(radius_m: float, step_m: float, count: int) -> list[SE2]:
    return [
        SE2(radius_m * math.sin(a), radius_m * (1.0 - math.cos(a)), a) for a in np.arange(count) * step_m / radius_m
    ]


def test_points_of_a_circle_two_metres_apart():
    poses = circle(50.0, 0.9, 80)
    track = DrivenTrack.of(poses)
    path = track.path_from(poses[7], 7)
    angle = 2.0 * np.arange(1, 21) / 50.0
    expected = 50.0 * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1)
    assert path.xy_m == pytest.approx(expected, abs=0.03)
    assert path.yaw_rad == pytest.approx(angle, abs=0.02)


def test_standstills_take_no_room_and_the_end_has_no_path():
    poses = circle(50.0, 1.0, 30)
    waiting = [*poses[:10], *[poses[9]] * 50, *poses[10:]]
    track = DrivenTrack.of(waiting)
    assert len(track.poses) == 30
    assert track.index_of[5] == 5
    assert track.index_of[40] == 9
    assert len(track.path_from(poses[0], 0).xy_m) == 14
    assert track.path_from(poses[20], 20) is None


def test_a_hole_in_the_track_is_not_bridged():
    poses = [SE2(float(x), 0.0, 0.0) for x in (*range(12), *range(30, 60))]
    track = DrivenTrack.of(poses)
    assert track.path_from(poses[0], 0) is None
    assert len(track.path_from(poses[12], 12).xy_m) == 14

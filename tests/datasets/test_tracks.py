"""Poses between and beyond the samples of a log."""

import math

import numpy as np
import pytest

from bevfusion.datasets.tracks import FixSpread, GeoTrack, PoseTrack, course_rad
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError

S = 10**9


def track(*rows):
    stamps, x, y, yaw = zip(*rows, strict=True)
    return PoseTrack.sorted(
        np.array(stamps, dtype=np.int64), np.stack([x, y], axis=1).astype(float), np.array(yaw, float)
    )


def test_between_samples_over_the_turn_of_pi():
    pose = track((S, 1.0, 2.0, 3.1), (0, 0.0, 0.0, 3.0), (2 * S, 2.0, 4.0, -3.0)).at(S + S // 2)
    assert (pose.x_m, pose.y_m) == pytest.approx((1.5, 3.0))
    assert pose.yaw_rad == pytest.approx((3.1 + 2 * math.pi - 3.0) / 2 - 2 * math.pi)


def test_samples_come_back_as_they_are():
    both = track((0, 0.0, 0.0, 0.5), (10 * S, 5.0, 5.0, 0.7))
    assert (both.at(0).yaw_rad, both.at(10 * S).x_m) == (0.5, 5.0)


def test_gaps_and_ends():
    sparse = track((0, 0, 0, 0), (10 * S, 1, 1, 1))
    assert sparse.at(5 * S) is None
    assert sparse.at(10 * S + 1000).x_m == 1.0
    dense = track((0, 0, 0, 0), (S // 10, 1, 0, 0))
    assert dense.at(S // 5).x_m == pytest.approx(2.0)
    assert dense.at(-S // 10).x_m == pytest.approx(-1.0)
    assert dense.at(S) is None
    assert track((0, 3, 0, 0)).at(1).x_m == 3
    assert track((0, 3, 0, 0)).at(S) is None


def test_bad_samples_are_left_out():
    kept = track((0, 0, 0, 0), (1, math.nan, 0, 0), (2, 0, 0, math.inf), (0, 9, 9, 9), (3, 1, 1, 1))
    assert kept.stamps_ns.tolist() == [0, 3]
    with pytest.raises(DataError, match="stamps"):
        track((0, math.nan, 0, 0))


def test_fixes_say_how_far_they_may_be_off():
    spread = FixSpread(np.array([0, S, 2 * S, 3 * S]), np.array([2.0, 5.0, np.nan, np.nan]))
    assert [spread.at(at) for at in (-S, 0, S // 2, S)] == [2.0, 2.0, 5.0, 5.0]
    assert spread.at(S + S // 2) == 5.0  # the one that says it
    assert spread.at(2 * S) is None
    assert spread.at(9 * S) is None
    with pytest.raises(DataError, match="one deviation a fix, got 0 for 0"):
        FixSpread(np.array([], dtype=int), np.array([]))


def test_course_holds_while_standing():
    xy = np.array([[0, 0], [0, 0.1], [0, 2], [0, 2.1], [0, 2.2], [3, 2.2]])
    np.testing.assert_allclose(np.rad2deg(course_rad(xy)), [90, 90, 90, 90, 90, 0], atol=4)
    np.testing.assert_array_equal(course_rad(np.zeros((3, 2))), 0)


def test_headings_on_the_globe_survive_the_plane():
    places = np.array([[49.0, 8.4], [49.0, 9.4]])  # 73 km: the meridians converge by 0.75 degrees
    drive = GeoTrack.from_degrees(np.array([0, S]), places, np.array([1.0, 1.0]))
    for stamp_ns, (lat, lon) in zip((0, S), places, strict=True):
        pose = drive.at(stamp_ns)
        assert (pose.lat_deg, pose.lon_deg, pose.yaw_rad) == pytest.approx((lat, lon, 1.0), abs=1e-7)
    course = GeoTrack.from_degrees(np.array([S, 0]), places[::-1])
    assert course.at(0).yaw_rad == pytest.approx(0.0, abs=0.02)
    with pytest.raises(DataError, match="none of 2"):
        GeoTrack.from_degrees(np.array([0, S]), np.array([[99.0, 0], [math.nan, 0]]))


def test_a_sensor_ahead():
    moved = track((0, 1, 2, math.pi / 2)).shifted(SE2(1.0, 0.5, 0.1)).at(0)
    assert (moved.x_m, moved.y_m, moved.yaw_rad) == pytest.approx((0.5, 3.0, math.pi / 2 + 0.1))

"""Points taken on the way, put where they belong."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.datasets.cloud import deskewed
from bevfusion.datasets.tracks import PoseTrack
from bevfusion.geometry.se2 import SE2

STAMP_NS = 10**18
WALLS = np.random.default_rng(1).uniform(-30, 30, (500, 3))


def arc(speed_m_s, turn_rad_s, samples_s):
    """A track along a circle that is at the origin at the stamp."""
    angle = turn_rad_s * samples_s
    if abs(turn_rad_s) > 1e-6:
        radius_m = speed_m_s / turn_rad_s
        xy = np.stack([radius_m * np.sin(angle), radius_m * (1 - np.cos(angle))], axis=1)
    else:
        xy = np.stack([speed_m_s * samples_s, 0 * samples_s], axis=1)
    return PoseTrack(STAMP_NS + (samples_s * 1e9).astype(np.int64), xy, angle)


def skewed(track, times_s):
    """The walls as a sensor on the way sees them, each at its time."""
    seen = WALLS.copy()
    for number, time_s in enumerate(times_s):
        pose = track.at(STAMP_NS + round(time_s * 1e9))
        seen[number, :2] = pose.inverse().apply(WALLS[number : number + 1, :2])[0]
    return seen.astype(np.float32)


@pytest.mark.parametrize(("first_s", "last_s"), [(0.0, 0.1), (-0.1, 0.0), (-0.05, 0.05)])
@pytest.mark.parametrize(("speed_m_s", "turn_rad_s"), [(20.0, 0.0), (10.0, 0.7), (0.0, -1.0)])
def test_the_walls_stand_still_again(first_s, last_s, speed_m_s, turn_rad_s):
    track = arc(speed_m_s, turn_rad_s, np.linspace(-0.5, 0.5, 101))
    times_s = np.linspace(first_s, last_s, len(WALLS))
    seen = skewed(track, times_s)
    assert np.abs(seen - WALLS).max() > 0.5
    np.testing.assert_allclose(deskewed(seen, times_s, STAMP_NS, track), WALLS, atol=2e-3)


def test_poses_at_the_stamps_of_scans_alone_serve():
    track = arc(15.0, 0.3, np.array([-0.1, 0.0]))
    dense = arc(15.0, 0.3, np.linspace(-0.1, 0.2, 100))
    times_s = np.linspace(0.0, 0.1, len(WALLS))  # behind the last pose
    moved = deskewed(skewed(dense, times_s), times_s, STAMP_NS, track)
    assert np.abs(moved - WALLS).max() < 0.1


@given(
    x=st.floats(-1e5, 1e5),
    y=st.floats(-1e5, 1e5),
    yaw=st.floats(-3.1, 3.1),
    speed=st.floats(-30, 30),
    turn=st.floats(-1, 1),
)
def test_the_result_does_not_depend_on_where_the_odometry_begins(x, y, yaw, speed, turn):
    track = arc(speed, turn, np.linspace(-0.2, 0.2, 9))
    start = SE2(x, y, yaw)
    elsewhere = PoseTrack(track.stamps_ns, start.apply(track.xy_m), track.yaw_rad + yaw)
    times_s = np.linspace(0.0, 0.1, len(WALLS))
    xyz = WALLS.astype(np.float32)
    np.testing.assert_allclose(
        deskewed(xyz, times_s, STAMP_NS, elsewhere), deskewed(xyz, times_s, STAMP_NS, track), atol=1e-3
    )


def test_what_cannot_be_moved_stays():
    track = arc(10.0, 0.0, np.linspace(-0.2, 0.2, 9))
    xyz = WALLS.astype(np.float32)
    assert deskewed(xyz, np.zeros(len(xyz)), STAMP_NS, track) is xyz
    assert deskewed(xyz, np.linspace(0, 5.0, len(xyz)), STAMP_NS, track) is xyz
    assert deskewed(xyz, np.linspace(0, 0.1, len(xyz)), STAMP_NS + 10**10, track) is xyz
    assert deskewed(xyz[:0], np.zeros(0), STAMP_NS, track) is not None
    some = np.linspace(0, 0.1, len(xyz))
    some[7] = math.nan
    np.testing.assert_array_equal(deskewed(xyz, some, STAMP_NS, track)[7], xyz[7])

"""KISS-ICP over a room that the sensor drives through."""

import math

import numpy as np
import pytest

from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.logged import LoggedDrive, Tracks
from bevfusion.datasets.odometry import WithOdometry, kiss_icp_track, with_kiss_icp
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError

pytest.importorskip("kiss_icp", reason="extra odometry is not installed")

RNG = np.random.default_rng(0)
SPEED_M, TURN_RAD = 0.5, 0.02  # each tenth of a second


def room():
    """Points on the walls of a hall with pillars, dense enough to match."""
    side = RNG.uniform(-25, 25, (12_000, 2))
    side[np.arange(12_000), RNG.integers(0, 2, 12_000)] = RNG.choice([-25.0, 25.0], 12_000)
    pillars = RNG.uniform(-20, 20, (40, 1, 2)) + RNG.uniform(-0.4, 0.4, (40, 60, 2))
    plane = np.concatenate([side, pillars.reshape(-1, 2)])
    return np.column_stack([plane, RNG.uniform(-1.5, 3.0, len(plane))])


HALL = room()


def pose(number):
    return SE2(SPEED_M * number, 0.02 * number**2 * 0.1, TURN_RAD * number)


class Hall:
    """Sweeps of 0.1 s; with times, each point is seen from where the sensor is at its own time."""

    def __init__(self, frames, timed=False, broken=()):
        self.frames, self.timed, self.broken = frames, timed, broken
        self.reads = 0

    def __len__(self):
        return self.frames

    def read(self, position):
        self.reads += 1
        if position in self.broken:
            raise DataError(f"scan {position} is broken")
        times = np.linspace(0, 0.0999, len(HALL)) if self.timed else np.zeros(len(HALL))
        seen = HALL.copy()
        for share in np.unique(np.round(times / 0.1, 2)):
            rows = np.round(times / 0.1, 2) == share
            seen[rows, :2] = pose(position + share).inverse().apply(HALL[rows, :2])
        cloud = Cloud(seen.astype(np.float32), np.zeros(len(seen), np.float32), time_s=times if self.timed else None)
        return 10**18 + position * 10**8, cloud


def hall_drive(hall):
    return LoggedDrive("hall", hall, Tracks())


@pytest.mark.parametrize("timed", [False, True])
def test_the_way_through_the_hall(tmp_path, timed):
    drive = with_kiss_icp(hall_drive(Hall(12, timed)), tmp_path)
    assert drive.odometry == "kiss-icp"
    moved = drive[2].odom_from_ego.inverse() @ drive[11].odom_from_ego
    true = pose(2).inverse() @ pose(11)
    assert (moved.x_m, moved.y_m) == pytest.approx((true.x_m, true.y_m), abs=0.15)
    assert moved.yaw_rad == pytest.approx(true.yaw_rad, abs=math.radians(0.7))
    if timed:  # and the points lie where they would, had they all been taken at once
        at = pose(6).inverse().apply(HALL[:, :2])
        off = np.linalg.norm(drive[6].scan.xyz[:, :2] - at, axis=1)
        raw = np.linalg.norm(drive.cloud(6)[1].xyz[:, :2] - at, axis=1)
        assert np.median(off) < 0.3 * np.median(raw)


def test_poses_are_kept(tmp_path):
    hall = Hall(4)
    first = kiss_icp_track(hall_drive(hall), tmp_path / "cache")
    seen = []
    again = Hall(4)
    drive = hall_drive(again)
    assert drive.summary.notes  # which look at the drive once
    before = again.reads
    second = kiss_icp_track(drive, tmp_path / "cache", lambda done, count: seen.append((done, count)))
    np.testing.assert_array_equal(first.xy_m, second.xy_m)
    assert (seen, again.reads - before) == ([], 2)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    third = kiss_icp_track(hall_drive(Hall(4)), tmp_path / "cache", lambda done, count: seen.append((done, count)))
    np.testing.assert_allclose(first.xy_m, third.xy_m, atol=1e-6)
    assert seen[-1] == (4, 4)


def test_broken_scans_are_left_out(tmp_path, caplog):
    track = kiss_icp_track(hall_drive(Hall(5, broken=(0, 3))), tmp_path)
    assert len(track.stamps_ns) == 3
    assert "scan 3 is broken" in caplog.text
    with pytest.raises(DataError, match="none of its 2 scans"):
        kiss_icp_track(hall_drive(Hall(2, broken=(0, 1))), tmp_path)
    with pytest.raises(DataError, match="no scans"):
        kiss_icp_track(hall_drive(Hall(0)), tmp_path)


def test_real_scans_against_their_gps(shared_data, tmp_path):
    from bevfusion.datasets.kitti import KittiRawDrive
    from bevfusion.geometry.geodesy import LocalFrame

    path = shared_data / "kitti_raw/2011_09_30/2011_09_30_drive_0027_sync"
    drive = with_kiss_icp(KittiRawDrive(path), tmp_path)
    assert isinstance(drive, WithOdometry)
    assert (drive.odometry, drive.name, len(drive)) == ("kiss-icp", path.name, 10)
    first, *_, last = list(drive)
    frame = LocalFrame(first.truth.lat_deg, first.truth.lon_deg)
    true = frame.map_from_ego(first.truth).inverse() @ frame.map_from_ego(last.truth)
    moved = first.odom_from_ego.inverse() @ last.odom_from_ego
    assert (moved.x_m, moved.y_m) == pytest.approx((true.x_m, true.y_m), abs=0.4)

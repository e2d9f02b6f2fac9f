"""One drive through every reader, and the motion compensation of drives that carry times."""

import math

import numpy as np
import pytest

from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.drive import Drive
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.odometry import TruthOdometry
from bevfusion.datasets.open import READERS, open_drive
from bevfusion.datasets.tracks import PoseTrack
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary
from tests.datasets.bag_writing import (
    FIX,
    IMU,
    LIDAR,
    ODOMETRY,
    STEP_NS,
    Messages,
    SmallDrive,
    drive_messages,
    single_file,
    write_ros1,
    write_ros2,
)
from tests.datasets.scan_writing import records, write_pcd

SMALL = SmallDrive()


def kitti_raw(folder):
    path = folder / "kitti_raw"
    for part in ("velodyne_points/data", "oxts/data"):
        (path / part).mkdir(parents=True)
    stamps = ""
    for number in range(SMALL.frames):
        SMALL.xyzi[number].tofile(path / f"velodyne_points/data/{number:010d}.bin")
        lat, lon = SMALL.place_deg(number)
        (path / f"oxts/data/{number:010d}.txt").write_text(f"{lat!r} {lon!r} 0 0 0 {SMALL.yaw_rad!r}" + " 0" * 24)
        stamp_ns = SMALL.stamp_ns(number)
        stamps += f"{np.datetime64(stamp_ns // 10**9, 's')}".replace("T", " ") + f".{stamp_ns % 10**9:09d}\n"
    (path / "velodyne_points/timestamps.txt").write_text(stamps)
    (path / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\nT: 0 0 0\n")
    return path


def pcd_folder(folder):
    path = folder / "pcd"
    path.mkdir()
    rows = ["stamp_ns,lat,lon,yaw_rad"]
    for number in range(SMALL.frames):
        write_pcd(path / f"{SMALL.stamp_ns(number)}.pcd", records(SMALL.xyzi[number]), "binary_compressed")
        lat, lon = SMALL.place_deg(number)
        rows.append(f"{SMALL.stamp_ns(number)},{lat!r},{lon!r},{SMALL.yaw_rad!r}")
    (path / "truth.csv").write_text("\n".join(rows))
    return path


WRITERS = {
    "KITTI raw": kitti_raw,
    "ROS 1 bag": lambda folder: write_ros1(folder / "a.bag", drive_messages(SMALL, Messages(ros1=True))),
    "ROS 2 sqlite3": lambda folder: write_ros2(folder / "a", drive_messages(SMALL, Messages(ros1=False))),
    "MCAP": lambda folder: single_file(
        write_ros2(folder / "b", drive_messages(SMALL, Messages(ros1=False)), storage="mcap")
    ),
    "PCD folder": pcd_folder,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_one_drive_through_every_reader(tmp_path, kind):
    drive = open_drive(WRITERS[kind](tmp_path))
    assert isinstance(drive, Drive)
    assert len(drive) == SMALL.frames
    frame_m = LocalFrame(*SMALL.origin_deg)
    for number, frame in enumerate(drive):
        assert frame.stamp_ns == SMALL.stamp_ns(number)
        np.testing.assert_array_equal(frame.scan.xyz, SMALL.xyzi[number][:, :3])
        np.testing.assert_array_equal(frame.scan.intensity, SMALL.xyzi[number][:, 3])
        pose = frame_m.map_from_ego(frame.truth)
        assert (pose.x_m, pose.y_m) == pytest.approx(frame_m.metres_from_degrees(*SMALL.place_deg(number)), abs=1e-4)
        assert pose.yaw_rad == pytest.approx(SMALL.yaw_rad, abs=1e-6)


def test_what_is_not_read_is_answered_with_the_list(tmp_path):
    with pytest.raises(DataError, match="not a drive") as raised:
        open_drive(tmp_path)
    for described, _, _ in READERS:
        assert described in str(raised.value)


def test_the_order_in_which_readers_are_asked():
    assert [described.split(" (")[0] for described, _, _ in READERS] == [
        "a KITTI-360 drive",
        "a KITTI odometry sequence",
        "a KITTI raw drive",
        "a nuScenes scene",
        "an Argoverse 2 log",
        "a ROS bag",
        "a folder of scans",
    ]


WALL = np.column_stack([np.full(200, 10.0), np.linspace(-5, 5, 200), np.zeros(200)])
SPEED_M_S = 20.0


def timed_messages(messages):
    """A wall that the sensor drives towards at 20 m/s, seen over 0.1 s, with the odometry to put it straight."""
    written = []
    for number in range(4):
        stamp_ns = SMALL.stamp_ns(number)
        time_s = np.linspace(0, 0.1, 200)
        seen = WALL - np.column_stack([SPEED_M_S * (0.1 * number + time_s), np.zeros(200), np.zeros(200)])
        cloud = messages.cloud(stamp_ns, np.column_stack([seen, time_s]))
        cloud.fields[3].name = "time"
        written.append((LIDAR, stamp_ns, cloud))
        written.append((ODOMETRY, stamp_ns, messages.odometry(stamp_ns, SPEED_M_S * 0.1 * number, 0.0, 0.0, "lidar")))
    return written


def test_points_with_times_are_moved_by_the_odometry(tmp_path):
    path = write_ros1(tmp_path / "a.bag", timed_messages(Messages(ros1=True)))
    drive = open_drive(path)
    assert "deskewing: by odometry" in [note.line() for note in drive.summary.notes]
    for number, frame in enumerate(drive):
        np.testing.assert_allclose(frame.scan.xyz[:, 0], 10.0 - 2.0 * number, atol=1e-3)
    raw = open_drive(path, LogOptions(deskew=False))
    assert "deskewing: not asked for" in [note.line() for note in raw.summary.notes]
    assert np.ptp(raw[0].scan.xyz[:, 0]) == pytest.approx(2.0, abs=1e-4)
    # without any odometry there is nothing to move them by
    alone = [item for item in timed_messages(Messages(ros1=True)) if item[0] == LIDAR]
    assert np.ptp(open_drive(write_ros1(tmp_path / "b.bag", alone))[0].scan.xyz[:, 0]) == pytest.approx(2.0, abs=1e-4)


def test_points_with_times_are_moved_by_the_truth_else(tmp_path):
    made = [item for item in timed_messages(Messages(ros1=True)) if item[0] == LIDAR]
    messages = Messages(ros1=True)
    for number in range(4):
        stamp_ns = SMALL.stamp_ns(number)
        lon = 8.4 + SPEED_M_S * 0.1 * number / (111_319.49 * math.cos(math.radians(49.0)) * 1.0019)
        made += [(FIX, stamp_ns, messages.fix(stamp_ns, 49.0, lon)), (IMU, stamp_ns, messages.imu(stamp_ns, 0.0))]
    drive = open_drive(write_ros1(tmp_path / "a.bag", made))
    assert drive.odometry == "none"
    assert "deskewing: by truth, for want of odometry" in [note.line() for note in drive.summary.notes]
    np.testing.assert_allclose(drive[1].scan.xyz[:, 0], 8.0, atol=2e-2)


class OneCloud:
    def __len__(self):
        return 1

    def read(self, position):
        return 5 * STEP_NS, Cloud(np.ones((2, 3), np.float32), np.zeros(2, np.float32))


def test_odometry_can_be_replaced():
    plain = LoggedDrive("a", OneCloud(), Tracks())
    track = PoseTrack.sorted(np.array([5 * STEP_NS]), np.array([[1.0, 2.0]]), np.array([0.5]))
    other = plain.with_odometry(track, "kiss-icp")
    assert (plain.odometry, plain[0].odom_from_ego) == ("none", None)
    assert (other.odometry, other[0].odom_from_ego) == ("kiss-icp", SE2(1.0, 2.0, 0.5))


def test_odometry_from_truth(tmp_path):
    for writer in (WRITERS["KITTI raw"], WRITERS["PCD folder"]):
        drive = open_drive(writer(tmp_path), LogOptions(odometry="truth"))
        assert drive.odometry == "truth"
        moved = drive[0].odom_from_ego.inverse() @ drive[4].odom_from_ego
        assert (moved.x_m, moved.y_m) == pytest.approx((4.0, 0.0), abs=0.02)


def test_clouds_that_hold_no_scan_are_refused():
    def cloud(*points):
        return Cloud(np.array(points, np.float32).reshape(-1, 3), np.zeros(len(points), np.float32))

    with pytest.raises(DataError, match="x: no points"):
        cloud().usable("x")
    with pytest.raises(DataError, match="none of its 1 points"):
        cloud([math.nan, 0, 0]).usable("x")
    with pytest.raises(DataError, match="2 of 3 points lie beyond"):
        cloud([1e6, 0, 0], [0, 1e9, 0], [1, 1, 1]).usable("x")
    assert len(cloud([1e6, 0, 0], [0, 1, 0], [1, 1, 1]).usable("x")) == 2
    ouster = cloud([0, 0, 0], [0, 0, 0], [0, 0, 0], [3, 0, 0])
    assert ouster.usable("x").xyz.tolist() == [[3, 0, 0]]


def test_every_drive_says_what_it_is_made_of(tmp_path):
    for kind, writer in WRITERS.items():
        drive = open_drive(writer(tmp_path))
        assert isinstance(drive.summary, InputSummary), kind
        assert drive.summary.source == drive.name, kind
    # what is derived from a drive is made of the same
    assert TruthOdometry(drive).summary is drive.summary

"""The KITTI raw reader, on real drives and on tiny ones with every kind of fault."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from bevfusion.datasets.drive import FrameSelection, SelectedFrames, truths_of
from bevfusion.datasets.kitti import KittiRawDrive, lidar_pose, read_calibration, read_oxts
from bevfusion.datasets.open import open_drive, read_scan
from bevfusion.datasets.pose_files import WithTruth
from bevfusion.datasets.tracks import GeoTrack
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError
from tests.datasets.bag_writing import Messages, SmallDrive, drive_messages, write_ros1

REAL_DRIVES = {
    "2011_10_03/2011_10_03_drive_0027_sync": 10,
    "2011_09_30/2011_09_30_drive_0018_sync": 10,
    "2011_09_30/2011_09_30_drive_0027_sync": 10,
    "2011_09_26/2011_09_26_drive_0005_sync": 27,
    "2011_09_26/2011_09_26_drive_0014_sync": 6,
}
POINTS = np.array([[1, 2, 3, 0.5], [np.nan, 0, 0, 0.1], [4, 5, 6, 1.0]], dtype=np.float32)
CALIBRATION = "calib_time: now\nR: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n"


@pytest.fixture
def drive_path(tmp_path: Path) -> Path:
    """A drive of three scans (frames 0, 2, 3) and four packets, 10 m/s to the north."""
    path = tmp_path / "date" / "tiny_sync"
    for folder in ("velodyne_points/data", "oxts/data", "labels"):
        (path / folder).mkdir(parents=True)
    for number in range(4):
        north_deg = 49.0 + number / 111_200.0
        packet = f"{north_deg:.9f} 8.4 110 0 0 {math.pi / 2} " + " ".join(["0"] * 24)
        (path / f"oxts/data/{number:010d}.txt").write_text(packet + "\n")
    for number in (0, 2, 3):
        POINTS.tofile(path / f"velodyne_points/data/{number:010d}.bin")
    stamps = [f"2011-09-26 13:00:00.{number}00000007\n" for number in range(4)]
    (path / "oxts/timestamps.txt").write_text("".join(stamps))
    stamps[2] = "\n"
    (path / "velodyne_points/timestamps.txt").write_text("".join(stamps).replace("007", "001"))
    np.array([10, 40 | 5 << 16, 50], dtype="<u4").tofile(path / "labels/0000000002.label")
    (path.parent / "calib_imu_to_velo.txt").write_text(CALIBRATION)
    return path


def test_tiny_drive_is_read(drive_path: Path) -> None:
    drive = open_drive(drive_path)
    assert (drive.name, drive.odometry, len(drive)) == ("tiny_sync", "none", 3)
    assert [frame.index for frame in drive] == [0, 2, 3]
    frame = drive[1]
    np.testing.assert_array_equal(frame.scan.xyz, POINTS[[0, 2], :3])
    np.testing.assert_array_equal(frame.scan.intensity, np.float32([0.5, 1.0]))
    assert frame.scan.labels is not None
    assert frame.scan.labels.tolist() == [10, 50]
    assert drive[0].scan.labels is None
    assert frame.odom_from_ego is None
    with pytest.raises(IndexError):
        drive[3]


def test_true_poses_are_known_where_there_is_no_scan(drive_path: Path) -> None:
    drive = KittiRawDrive(drive_path)
    (drive_path / "oxts/data/0000000003.txt").write_text("not a packet")
    truths = drive.truths()
    assert list(truths) == [0, 1, 2]  # frame 1 has no scan, the packet of frame 3 is broken
    assert truths[2] == drive[1].truth
    assert truths_of(SelectedFrames(drive, FrameSelection(0, None, 2))) == truths
    track = GeoTrack.from_degrees(np.array([0, 10**9]), np.array([[49.0, 8.4], [49.0001, 8.4]]))
    assert truths_of(WithTruth(drive, track)) == {}  # another truth is asked for


def test_stamps_are_the_scanners_else_those_of_the_packets(drive_path: Path) -> None:
    drive = open_drive(drive_path)
    second_ns = int(np.datetime64("2011-09-26T13:00:00", "ns").astype(np.int64))
    assert [frame.stamp_ns - second_ns for frame in drive] == [1, 200_000_007, 300_000_001]
    (drive_path / "velodyne_points/timestamps.txt").unlink()
    assert open_drive(drive_path)[0].stamp_ns - second_ns == 7


def test_odometry_from_truth_starts_at_the_identity(drive_path: Path) -> None:
    drive = KittiRawDrive(drive_path, odometry="truth")
    assert drive.odometry == "truth"
    poses = [frame.odom_from_ego for frame in drive]
    assert poses[0] is not None
    assert poses[1] is not None
    assert (poses[0].x_m, poses[0].y_m, poses[0].yaw_rad) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    # facing north, so driving north is straight ahead
    assert (poses[1].x_m, poses[1].y_m) == pytest.approx((2.0, 0.0), abs=5e-3)


def test_a_scan_without_packet_has_no_truth(drive_path: Path) -> None:
    (drive_path / "oxts/data/0000000002.txt").unlink()
    drive = open_drive(drive_path)
    assert drive[1].truth is None
    assert drive[2].truth is not None


def test_lever_arm_by_hand() -> None:
    # 90 degrees of yaw: 2 m ahead of the IMU is 2 m north, 1 m to its left is 1 m west
    velo_from_imu = np.eye(4)
    velo_from_imu[:3, 3] = (-2.0, -1.0, 0.0)
    pose = lidar_pose(np.array([49.0, 8.4, 0.0, 0.0, 0.0, math.pi / 2]), velo_from_imu)
    x_m, y_m = LocalFrame(49.0, 8.4).metres_from_degrees(pose.lat_deg, pose.lon_deg)
    assert (x_m, y_m, pose.yaw_rad) == pytest.approx((-1.0, 2.0, math.pi / 2), abs=1e-6)


def test_lever_arm_turns_with_roll_and_pitch() -> None:
    # the LiDAR 1 m above the IMU: nose down (pitch > 0 about the left axis) carries it forward, roll > 0 to the right
    velo_from_imu = np.eye(4)
    velo_from_imu[:3, 3] = (0.0, 0.0, -1.0)
    for roll_rad, pitch_rad, expected in ((0.0, 0.1, (math.sin(0.1), 0.0)), (0.1, 0.0, (0.0, -math.sin(0.1)))):
        pose = lidar_pose(np.array([49.0, 8.4, 0.0, roll_rad, pitch_rad, 0.0]), velo_from_imu)
        place_m = LocalFrame(49.0, 8.4).metres_from_degrees(pose.lat_deg, pose.lon_deg)
        assert place_m == pytest.approx(expected, abs=1e-6)


def test_heading_is_that_of_the_lidars_x_axis() -> None:
    # a LiDAR mounted a quarter turn to the left looks north when the car faces east
    velo_from_imu = np.eye(4)
    velo_from_imu[:3, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    pose = lidar_pose(np.array([49.0, 8.4, 0.0, 0.0, 0.0, 0.0]), velo_from_imu)
    assert pose.yaw_rad == pytest.approx(math.pi / 2, abs=1e-6)


@pytest.mark.parametrize(("relative", "count"), REAL_DRIVES.items())
def test_real_drives(shared_data: Path, relative: str, count: int) -> None:
    drive = open_drive(shared_data / "kitti_raw" / relative)
    assert len(drive) == count
    frames = [drive[count - 2], drive[count - 1]]
    truths = [frame.truth for frame in frames if frame.truth is not None]
    assert len(truths) == 2
    assert len(frames[0].scan) > 50_000
    assert frames[0].scan.xyz.dtype == np.float32
    assert 0.0 <= frames[0].scan.intensity.min() <= frames[0].scan.intensity.max() <= 1.0
    # two scans are as far apart as the packets' speed over ground says, summed over the frames between
    moved = LocalFrame(truths[0].lat_deg, truths[0].lon_deg).map_from_ego(truths[1])
    packets = [
        read_oxts(shared_data / "kitti_raw" / relative / f"oxts/data/{number:010d}.txt")
        for number in range(frames[0].index, frames[1].index)
    ]
    expected_m = sum(math.hypot(packet[6], packet[7]) for packet in packets) * 0.1035
    assert math.hypot(moved.x_m, moved.y_m) == pytest.approx(expected_m, rel=0.1, abs=0.05)
    # and the car drives where it faces
    course_rad = math.atan2(moved.y_m, moved.x_m)
    assert abs(math.remainder(course_rad - truths[0].yaw_rad, 2 * math.pi)) < math.radians(8)


def test_real_lever_arm(shared_data: Path) -> None:
    folder = shared_data / "kitti_raw"
    packet = read_oxts(folder / "2011_09_26/2011_09_26_drive_0005_sync/oxts/data/0000000000.txt")
    velo_from_imu = read_calibration(folder / "calib_imu_to_velo.txt")
    level = np.array([packet[0], packet[1], 0.0, 0.0, 0.0, packet[5]])
    pose = lidar_pose(level, velo_from_imu)
    frame = LocalFrame(packet[0], packet[1])
    x_m, y_m = frame.metres_from_degrees(pose.lat_deg, pose.lon_deg)
    cos, sin = math.cos(packet[5]), math.sin(packet[5])
    # ahead and to the right of the IMU, to the centimetre (the calibration itself is turned by under a degree)
    assert cos * x_m + sin * y_m == pytest.approx(0.81, abs=0.005)
    assert sin * x_m - cos * y_m == pytest.approx(0.32, abs=0.015)
    assert abs(pose.yaw_rad - packet[5]) < math.radians(0.1)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


FAULTS = {
    "no scans folder": (lambda d: shutil.rmtree(d / "velodyne_points"), "velodyne_points/data"),
    "no packets folder": (lambda d: shutil.rmtree(d / "oxts"), "oxts/data"),
    "no scan": (lambda d: [f.unlink() for f in (d / "velodyne_points/data").iterdir()], "no scans named"),
    "no calibration": (lambda d: (d.parent / "calib_imu_to_velo.txt").unlink(), "sought in"),
    "calibration without T": (
        lambda d: (d.parent / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\n"),
        "line 'T:'",
    ),
    "calibration no rotation": (
        lambda d: (d.parent / "calib_imu_to_velo.txt").write_text("R: 2 0 0 0 1 0 0 0 1\nT: 0 0 0\n"),
        "not a rotation",
    ),
    "truncated scan": (lambda d: _truncate(d / "velodyne_points/data/0000000002.bin"), "not a multiple of 16"),
    "empty scan": (lambda d: (d / "velodyne_points/data/0000000002.bin").write_bytes(b""), "empty"),
    "scan of NaN": (
        lambda d: np.full((3, 4), np.nan, np.float32).tofile(d / "velodyne_points/data/0000000002.bin"),
        "none of its 3 points",
    ),
    "scan of noise": (
        lambda d: np.full((3, 4), 1e30, np.float32).tofile(d / "velodyne_points/data/0000000002.bin"),
        "not a LiDAR scan",
    ),
    "labels too short": (lambda d: _truncate(d / "labels/0000000002.label"), "expected 12 bytes"),
    "packet of words": (lambda d: (d / "oxts/data/0000000002.txt").write_text("lat lon"), "expected numbers"),
    "packet too short": (lambda d: (d / "oxts/data/0000000002.txt").write_text("49 8 1"), "got 3"),
    "packet off the globe": (lambda d: (d / "oxts/data/0000000002.txt").write_text("99 8 1 0 0 0"), "globe"),
    "packet of NaN": (lambda d: (d / "oxts/data/0000000002.txt").write_text("49 nan 1 0 0 0"), "globe"),
    "packet of bytes": (lambda d: (d / "oxts/data/0000000002.txt").write_bytes(b"\xff\xfe\x00"), "not a text"),
    "bad timestamp": (lambda d: (d / "velodyne_points/timestamps.txt").write_text("yesterday\n"), "line 1"),
    "month 13": (lambda d: (d / "velodyne_points/timestamps.txt").write_text("2011-13-26 13:00:00.0\n"), "line 1"),
    "half a timestamp": (lambda d: (d / "velodyne_points/timestamps.txt").write_text("2011-09-26 13\n"), "line 1"),
    "NaT timestamp": (lambda d: (d / "velodyne_points/timestamps.txt").write_text("NaT\n"), "line 1"),
    "no timestamp": (lambda d: [f.write_text("") for f in d.glob("*/timestamps.txt")], "no timestamp of frame 0"),
}


@pytest.mark.parametrize(("break_drive", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_named_in_one_line(drive_path: Path, break_drive, message: str) -> None:
    break_drive(drive_path)
    with pytest.raises(DataError, match=message) as raised:
        list(open_drive(drive_path))
    assert "\n" not in str(raised.value)


def test_other_paths_are_refused_with_the_list_of_readers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="KITTI raw"):
        open_drive(tmp_path)
    with pytest.raises(DataError, match="no such"):
        open_drive(tmp_path / "absent")


def test_broken_real_scans(shared_data: Path) -> None:
    for path in sorted((shared_data / "formats/kitti_bad").glob("*.bin")):
        with pytest.raises(DataError, match=path.name):
            read_scan(path)


def test_corrupted_bytes_are_recognised_by_their_values(shared_data: Path, tmp_path: Path) -> None:
    """The same corrupted scan, cut to whole points, is still no scan."""
    raw = (shared_data / "formats/kitti_bad/000000_encoding_corrupted.bin").read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(raw[: len(raw) // 16 * 16])
    with pytest.raises(DataError, match="not a LiDAR scan"):
        read_scan(cut)


def test_links_to_a_drive_find_what_lies_beside_either(drive_path: Path, tmp_path: Path) -> None:
    """The calibration lies beside the link, or beside the folder that it leads to."""
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "linked_sync"
    link.symlink_to(drive_path)
    assert (open_drive(link).name, len(open_drive(link))) == ("linked_sync", 3)
    (drive_path.parent / "calib_imu_to_velo.txt").rename(link.parent / "calib_imu_to_velo.txt")
    frame = open_drive(link)[0]
    assert frame.truth is not None
    with pytest.raises(DataError, match="calib_imu_to_velo"):
        open_drive(drive_path)


def test_truth_that_moves_as_no_vehicle_does_is_told(drive_path: Path) -> None:
    def told() -> list[str]:
        return [note.text for note in open_drive(drive_path).summary.of_kind("warning") if note.subject == "truth"]

    assert told() == []
    packet = drive_path / "oxts/data/0000000003.txt"
    packet.write_text(packet.read_text().replace("49.", "49.1", 1))
    (warning,) = told()
    assert "1 of 2 steps are faster than 70 m/s" in warning


def test_a_bag_beside_the_scans_is_told(drive_path: Path) -> None:
    drive = SmallDrive(frames=2, points=20)
    write_ros1(drive_path / "other.bag", drive_messages(drive, Messages(ros1=True)))
    opened = open_drive(drive_path)
    assert isinstance(opened, KittiRawDrive)
    (note,) = (note for note in opened.summary.of_kind("ignored") if note.subject == "other data")
    assert note.text.startswith("read as a KITTI raw drive; a ROS bag lies in it, too")

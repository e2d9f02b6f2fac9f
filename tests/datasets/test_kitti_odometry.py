"""Sequences of the KITTI odometry benchmark: written small, and a real drive laid out as one."""

import shutil

import numpy as np
import pytest

from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.datasets.open import open_drive
from bevfusion.structures import DataError
from tests.datasets.kitti_writing import SMALL, TR, ahead, scans, square, text

CALIB = "calib_time: now\nR: 1 0 0 0 1 0 0 0 1\nT: 0 0 0\n"


@pytest.fixture
def sequence(tmp_path):
    path = tmp_path / "sequences" / "07"
    scans(path / "velodyne")
    (path / "calib.txt").write_text(f"P0: {text(np.eye(4))}\nTr: {text(TR)}\n")
    (path / "times.txt").write_text("".join(f"{0.1 * n:e}\n" for n in range(5)))
    poses = [square(TR) @ ahead(n) @ np.linalg.inv(square(TR)) for n in range(5)]
    (path / "poses.txt").write_text("".join(text(pose) + "\n" for pose in poses))
    (path / "labels").mkdir()
    np.full(SMALL.points, 40 | 7 << 16, "<u4").tofile(path / "labels/000002.label")
    return path


def packets():
    return [f"{lat!r} {lon!r} 0 0 0 {SMALL.yaw_rad}" + " 0" * 24 for lat, lon in map(SMALL.place_deg, range(5))]


def test_kitti_odometry(sequence):
    drive = open_drive(sequence)
    assert (drive.name, len(drive), drive.odometry) == ("07", 5, "truth")
    for number, frame in enumerate(drive):
        np.testing.assert_array_equal(frame.scan.xyz, SMALL.xyzi[number][:, :3])
        odom = frame.odom_from_ego
        assert (odom.x_m, odom.y_m, odom.yaw_rad) == pytest.approx((number, 0.0, 0.1 * number), abs=1e-9)
        assert frame.truth is None
        assert frame.stamp_ns == number * 10**8
    assert drive[1].scan.labels is None
    assert set(drive[2].scan.labels.tolist()) == {40}


@pytest.mark.parametrize("one_file", [True, False])
def test_kitti_odometry_with_gps(sequence, one_file):
    if one_file:
        (sequence / "oxts.txt").write_text("\n".join(packets()) + "\n")
    else:
        (sequence / "oxts/data").mkdir(parents=True)
        for number, packet in enumerate(packets()):
            (sequence / f"oxts/data/{number:010d}.txt").write_text(packet)
    with pytest.raises(DataError, match="calib_imu_to_velo"):
        open_drive(sequence)
    (sequence / "calib_imu_to_velo.txt").write_text(CALIB)
    truth = open_drive(sequence)[3].truth
    assert (truth.lat_deg, truth.lon_deg) == pytest.approx(SMALL.place_deg(3), abs=1e-9)
    assert truth.yaw_rad == pytest.approx(SMALL.yaw_rad, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("times.txt", "0\n1\n", "for each of 5 frames, got none for 2"),
        ("times.txt", "zero\n", "expected stamps, 1 of 1 are none"),
        ("poses.txt", "1 2 3\n", "line 1 is not a pose of 12 numbers"),
        ("calib.txt", "P0: 1\n", "expected a line 'Tr:'"),
        ("oxts.txt", "49 8\n", r"oxts.txt: line 1: expected 30 numbers"),
    ],
)
def test_kitti_odometry_faults(sequence, name, content, told):
    (sequence / name).write_text(content)
    with pytest.raises(DataError, match=told):
        open_drive(sequence)


def test_real_scans_as_an_odometry_sequence(shared_data, tmp_path):
    """A raw drive with its files laid out as in the benchmark gives what the raw drive gives."""
    raw = shared_data / "kitti_raw/2011_09_30/2011_09_30_drive_0027_sync"
    path = tmp_path / "07"
    path.mkdir()
    (path / "velodyne").symlink_to(raw / "velodyne_points/data")
    (path / "oxts").symlink_to(raw / "oxts")
    (path / "calib.txt").write_text(f"Tr: {text(TR)}\n")
    (path / "labels").symlink_to(raw / "labels")
    shutil.copy(shared_data / "kitti_raw/calib_imu_to_velo.txt", path)
    for ours, theirs in zip(open_drive(path), KittiRawDrive(raw), strict=True):
        np.testing.assert_array_equal(ours.scan.xyz, theirs.scan.xyz)
        np.testing.assert_array_equal(ours.scan.labels, theirs.scan.labels)
        assert ours.truth.lat_deg == pytest.approx(theirs.truth.lat_deg, abs=1e-9)
        assert ours.truth.yaw_rad == pytest.approx(theirs.truth.yaw_rad, abs=1e-6)


def test_a_link_to_a_sequence(sequence, tmp_path):
    """The poses of the benchmark lie beside `sequences`, not beside the disk with its scans."""
    (tmp_path / "poses").mkdir()
    (sequence / "poses.txt").rename(tmp_path / "poses" / "07.txt")
    disk = tmp_path / "disk" / "a" / "scans_of_07"
    disk.parent.mkdir(parents=True)
    sequence.rename(disk)
    sequence.symlink_to(disk)
    assert open_drive(sequence).name == "07"
    assert open_drive(sequence)[2].odom_from_ego.x_m == pytest.approx(2.0)

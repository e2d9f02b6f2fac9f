"""A KITTI-360 drive, written small."""

import numpy as np
import pytest

from bevfusion.datasets.open import open_drive
from bevfusion.geometry.geodesy import degrees_from_mercator
from bevfusion.structures import DataError
from tests.datasets.kitti_writing import SMALL, TR, ahead, scans, square, text


@pytest.fixture
def kitti360(tmp_path):
    name = "2013_05_28_drive_0000_sync"
    path = tmp_path / "data_3d_raw" / name
    scans(path / "velodyne_points/data", digits=10)
    stamps = "".join(f"2013-05-28 08:46:02.{n}00000000\n" for n in range(5))
    (path / "velodyne_points/timestamps.txt").write_text(stamps)
    (tmp_path / "calibration").mkdir()
    velo_from_camera = np.linalg.inv(square(TR))
    pose_from_velo = np.diag([1.0, -1.0, -1.0, 1.0])  # x ahead, y right, z down
    pose_from_velo[0, 3] = 0.8
    (tmp_path / "calibration/calib_cam_to_velo.txt").write_text(text(velo_from_camera))
    (tmp_path / "calibration/calib_cam_to_pose.txt").write_text(
        f"image_00: {text(pose_from_velo @ velo_from_camera)}\n"
    )
    (tmp_path / "data_poses" / name).mkdir(parents=True)
    lines = []
    for number in (0, 1, 3, 4):
        world_from_velo = ahead(number)
        world_from_velo[:2, 3] += [100.0, 50.0]
        lines.append(f"{number} {text(world_from_velo @ np.linalg.inv(pose_from_velo))}\n")
    (tmp_path / "data_poses" / name / "poses.txt").write_text("".join(lines))
    return path


def test_kitti360(kitti360):
    drive = open_drive(kitti360)
    assert (len(drive), drive.odometry) == (5, "none")
    np.testing.assert_array_equal(drive[1].scan.xyz, SMALL.xyzi[1][:, :3])
    for number in range(5):
        expected = degrees_from_mercator(np.array([[100.0 + number, 50.0]]), 48.9843445, 8.4295857)[0]
        truth = drive[number].truth
        assert (truth.lat_deg, truth.lon_deg) == pytest.approx(tuple(expected), abs=1e-8)
        assert truth.yaw_rad == pytest.approx(0.1 * number, abs=1e-6)


def test_kitti360_faults(kitti360):
    poses = kitti360.parents[1] / "data_poses" / kitti360.name / "poses.txt"
    poses.write_text("0 1 2\n")
    with pytest.raises(DataError, match="12 numbers"):
        open_drive(kitti360)
    poses.unlink()
    assert open_drive(kitti360)[0].truth is None
    (kitti360 / "velodyne_points/timestamps.txt").write_text("2013-05-28 08:46:02.0\n")
    with pytest.raises(DataError, match="no timestamp of frame 1"):
        open_drive(kitti360)


def test_a_link_to_a_kitti360_drive(kitti360, tmp_path):
    """Scans on another disk: only the folder of the drive, or that of all, is a link."""
    name, disk = kitti360.name, tmp_path / "disk" / "scans" / "moved"
    disk.parent.mkdir(parents=True)
    kitti360.rename(disk)
    kitti360.symlink_to(disk)
    assert open_drive(kitti360)[1].truth.yaw_rad == pytest.approx(0.1, abs=1e-6)
    (tmp_path / "data_3d_raw").rename(tmp_path / "elsewhere")
    (tmp_path / "data_3d_raw").symlink_to(tmp_path / "elsewhere")
    drive = open_drive(tmp_path / "data_3d_raw" / name)
    assert (drive.name, drive[1].truth is not None) == (name, True)
    (tmp_path / "link").symlink_to(kitti360)
    assert open_drive(tmp_path / "disk" / ".." / "data_3d_raw" / name)[1].truth is not None

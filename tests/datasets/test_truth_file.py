"""True poses from a file beside a log: CSV on the globe, and metres that are laid onto its GNSS."""

import math

import numpy as np
import pytest

from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.datasets.pose_files import fitted_motion
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError
from tests.datasets.bag_writing import FIX, IMU, Messages, SmallDrive, drive_messages, write_ros1

DRIVE = SmallDrive(frames=30)
FRAME = LocalFrame(*DRIVE.origin_deg)


@pytest.fixture
def bag(tmp_path):
    """A bag whose fixes are too coarse to be true."""
    written = [item for item in drive_messages(DRIVE, Messages(ros1=True)) if item[0] != IMU]
    for topic, _, message in written:
        if topic == FIX:
            message.status.status = 0
    return write_ros1(tmp_path / "a.bag", written)


def place(number):
    return SE2(*FRAME.metres_from_degrees(*DRIVE.place_deg(number)), DRIVE.yaw_rad)


def check(drive, abs_m):
    for number in (0, 11, 29):
        pose = FRAME.map_from_ego(drive[number].truth)
        assert (pose.x_m, pose.y_m) == pytest.approx((place(number).x_m, place(number).y_m), abs=abs_m)
        assert pose.yaw_rad == pytest.approx(DRIVE.yaw_rad, abs=0.01)


def test_csv_on_the_globe(bag, tmp_path):
    assert open_drive(bag)[3].truth is None
    rows = ["stamp_ns,lat,lon,yaw_deg"]
    for number in range(30):
        lat, lon = DRIVE.place_deg(number)
        rows.append(f"{DRIVE.stamp_ns(number)},{lat!r},{lon!r},{math.degrees(DRIVE.yaw_rad)!r}")
    file = tmp_path / "true.csv"
    file.write_text("\n".join(rows))
    drive = open_drive(bag, LogOptions(truth=file))
    check(drive, 1e-3)
    assert any(
        note.subject == "truth" and "true.csv, 30 poses on the globe" in note.text for note in drive.summary.notes
    )


def test_a_truth_on_another_clock_is_told(bag, tmp_path):
    rows = ["stamp_ns,lat,lon,yaw_rad"]
    for number in range(30):
        lat, lon = DRIVE.place_deg(number + 13)
        rows.append(f"{DRIVE.stamp_ns(number)},{lat!r},{lon!r},{DRIVE.yaw_rad!r}")
    drive = open_drive(bag, LogOptions(truth=write(tmp_path, rows)))
    assert any("t.csv lies 13.0 m from the GNSS of the log" in note.text for note in drive.summary.of_kind("warning"))


@pytest.mark.parametrize("kind", ["TUM", "KITTI"])
def test_metres_are_laid_onto_the_gnss(bag, tmp_path, kind):
    """In a frame of its own, turned by 2 radians and far away."""
    own_from_map = SE2(1000.0, -500.0, 2.0)
    lines = []
    for number in range(30):
        pose = own_from_map @ place(number)
        c, s = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
        if kind == "TUM":
            half = 0.5 * pose.yaw_rad
            stamp = f"{DRIVE.stamp_ns(number) / 1e9:.6f}"
            lines.append(f"{stamp} {pose.x_m!r} {pose.y_m!r} 0 0 0 {math.sin(half)!r} {math.cos(half)!r}")
        else:  # x forward, y left, z up; a row a scan, without stamps
            lines.append(f"{c!r} {-s!r} 0 {pose.x_m!r} {s!r} {c!r} 0 {pose.y_m!r} 0 0 1 0")
    file = tmp_path / "poses.txt"
    file.write_text("\n".join(lines))
    drive = open_drive(bag, LogOptions(truth=file))
    check(drive, 0.05)
    assert any("laid onto the GNSS of the log" in note.text for note in drive.summary.notes)


def write(folder, lines):
    file = folder / "t.csv"
    file.write_text("\n".join(lines))
    return file


def test_what_is_no_truth_of_the_log_is_refused(bag, tmp_path):
    lat, lon = DRIVE.place_deg(0)
    head = "stamp_ns,lat,lon,yaw_rad"
    cases = [
        ([head, f"5,{lat},{lon},1.0", f"9,{lat},{lon},1.0"], "never at once"),
        (["stamp_ns,lat,lon", f"{DRIVE.stamp_ns(0)},{lat},{lon}", f"{DRIVE.stamp_ns(1)},{lat},{lon}"], "no heading"),
        (["lat,lon,yaw_rad", f"{lat},{lon},1.0", f"{lat},{lon},1.0"], "a row for each of 30 scans, got 2"),
    ]
    for lines, told in cases:
        with pytest.raises(DataError, match=told):
            open_drive(bag, LogOptions(truth=write(tmp_path, lines)))
    blind = [item for item in drive_messages(DRIVE, Messages(ros1=True)) if item[0] not in (IMU, FIX)]
    path = write_ros1(tmp_path / "b.bag", blind)
    metres = [f"{DRIVE.stamp_ns(number)},{number}.0,0.0,0.0" for number in range(30)]
    with pytest.raises(DataError, match="no GNSS to place them by: give latitude"):
        open_drive(path, LogOptions(truth=write(tmp_path, ["stamp_ns,x,y,yaw_rad", *metres])))
    elsewhere = [f"{DRIVE.stamp_ns(number)},{40.0 * number},0.0,0.0" for number in range(30)]
    with pytest.raises(DataError, match="beside the GNSS of the log where it fits best"):
        open_drive(bag, LogOptions(truth=write(tmp_path, ["stamp_ns,x,y,yaw_rad", *elsewhere])))


def test_the_motion_that_fits_best():
    points = np.random.default_rng(0).uniform(-50, 50, (40, 2))
    moved = SE2(3.0, -7.0, 2.5).apply(points)
    turn_rad, shift_m = fitted_motion(points, moved)
    assert turn_rad == pytest.approx(2.5)
    np.testing.assert_allclose(shift_m, [3.0, -7.0], atol=1e-9)

"""Folders of scans, with poses or fixes beside them."""

import math

import numpy as np
import pytest

from bevfusion.datasets.open import open_drive
from bevfusion.datasets.pose_files import read_pose_file, stamp_from_text
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError
from tests.datasets.bag_writing import SmallDrive
from tests.datasets.scan_writing import records, write_pcd

SMALL = SmallDrive()


@pytest.fixture
def folder(tmp_path):
    """Five PCD files named by their stamps."""
    (tmp_path / "drive").mkdir()
    for number in range(SMALL.frames):
        stamp = f"{SMALL.stamp_ns(number) // 10**9}.{SMALL.stamp_ns(number) % 10**9:09d}"
        write_pcd(tmp_path / "drive" / f"{stamp}.pcd", records(SMALL.xyzi[number]), ["ascii", "binary"][number % 2])
    return tmp_path / "drive"


def write_truth(path, heading="yaw_deg", stamped=True):
    value = math.degrees(SMALL.yaw_rad) if heading == "yaw_deg" else 90 - math.degrees(SMALL.yaw_rad)
    lines = [f"timestamp_ns,latitude,longitude,{heading}"]
    for number in range(SMALL.frames):
        lat, lon = SMALL.place_deg(number)
        lines.append(f"{SMALL.stamp_ns(number)},{lat:.10f},{lon:.10f},{value:.9f}")
    if not stamped:
        lines = [line.split(",", 1)[1] for line in lines]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("heading", "stamped"), [("yaw_deg", True), ("heading_deg", True), ("yaw_deg", False)])
def test_scans_and_truth(folder, heading, stamped):
    write_truth(folder / "truth.csv", heading, stamped)
    drive = open_drive(folder)
    frame_m = LocalFrame(*SMALL.origin_deg)
    assert (drive.name, len(drive), drive.odometry) == ("drive", 5, "none")
    for number, frame in enumerate(drive):
        assert frame.stamp_ns == SMALL.stamp_ns(number)
        np.testing.assert_array_equal(frame.scan.xyz, SMALL.xyzi[number][:, :3])
        np.testing.assert_array_equal(frame.scan.intensity, SMALL.xyzi[number][:, 3])
        pose = frame_m.map_from_ego(frame.truth)
        assert (pose.x_m, pose.y_m) == pytest.approx(frame_m.metres_from_degrees(*SMALL.place_deg(number)), abs=1e-3)
        assert pose.yaw_rad == pytest.approx(SMALL.yaw_rad, abs=1e-6)


def test_scans_alone_come_ten_a_second(folder):
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"scan_{[3, 20, 100, 1, 0][number]}.pcd")
    drive = open_drive(folder)
    assert [frame.stamp_ns for frame in drive] == [n * 100_000_000 for n in range(5)]
    np.testing.assert_array_equal(drive[3].scan.xyz, SMALL.xyzi[1][:, :3])  # scan_20, after scan_3
    assert (drive[0].truth, drive[0].gnss, drive[0].odom_from_ego) == (None, None, None)


def test_a_subfolder_and_a_file_of_stamps(folder):
    (folder / "velodyne").mkdir()
    for number, file in enumerate(sorted(folder.glob("*.pcd"))):
        file.rename(folder / "velodyne" / f"{number:06d}.pcd")
    (folder / "times.txt").write_text("0.0\n1.5e0\n2\n3\n4\n")
    with pytest.raises(DataError, match="5 ascending stamps, one a line, got 4"):
        open_drive(folder)
    (folder / "times.txt").write_text("0.0\n1.5\n2\n3\n4\n")
    assert open_drive(folder)[1].stamp_ns == 1_500_000_000


def test_fixes_are_gnss_and_never_truth(folder):
    write_truth(folder / "gnss.csv")
    drive = open_drive(folder)
    assert drive[1].truth is None
    assert drive[1].gnss.yaw_rad == pytest.approx(SMALL.yaw_rad, abs=1e-6)
    write_truth(folder / "poses.csv", stamped=False)
    lines = (folder / "poses.csv").read_text().splitlines()
    (folder / "poses.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))  # no heading: no pose
    assert open_drive(folder)[1].truth is None


def test_tum_odometry(folder):
    yaw = 0.3
    lines = ["# stamp x y z qx qy qz qw"]
    for number in (0, 2, 4):
        stamp = f"{SMALL.stamp_ns(number) // 10**9}.{SMALL.stamp_ns(number) % 10**9:09d}"
        lines.append(f"{stamp} {number} {-number} 0 0 0 {math.sin(yaw / 2)} {math.cos(yaw / 2)}")
    (folder / "poses.tum").write_text("\n".join(lines))
    drive = open_drive(folder)
    assert drive.odometry == "log"
    odom = drive[1].odom_from_ego
    assert (odom.x_m, odom.y_m, odom.yaw_rad) == pytest.approx((1.0, -1.0, yaw))


def test_xy_csv_is_odometry(folder):
    rows = "\n".join(f"{number} ; 0 ; 90" for number in range(5))
    (folder / "odometry.csv").write_text("x ; y ; yaw_deg\n" + rows)
    odom = open_drive(folder)[2].odom_from_ego
    assert (odom.x_m, odom.y_m, odom.yaw_rad) == pytest.approx((2.0, 0.0, math.pi / 2))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("truth.csv", "", "no poses"),
        ("truth.csv", "lat,lon,yaw_deg\n", "at least one row"),
        ("truth.csv", "lat,lon,yaw_deg\n49,8,0\n", "a row for each of 5 scans, got 1"),
        ("truth.csv", "lat,lon,yaw_deg\n49,here,0\n", "row 2 has no number in column 'lon'"),
        ("truth.csv", "lat,lon,yaw_deg\n49\n", "row 2 has no number"),
        ("truth.csv", "stamp,lat,lon,yaw_deg\nnow,49,8,0\n", "row 2 has no stamp"),
        ("truth.csv", "a,b,c\n1,2,3\n", "expected columns lat, lon or x, y"),
        ("truth.csv", "stamp,lat,lon,yaw_deg\n1,99,8,0\n", "none of 1 fixes"),
        ("poses.txt", "1 2 3\n", "TUM lines of 8 numbers; its first line has 3"),
        ("poses.txt", "1 2 3 4 5 6 7 8\n1 2 3\n", "line 2 is not stamp"),
        ("poses.tum", "1 nan 3 4 0 0 0 0\n", "stamps"),
        ("times.txt", "1\n2\n", "5 ascending stamps, one a line, got 2"),
    ],
)
def test_malformed_files_are_told_in_one_line(folder, name, text, told):
    for number, file in enumerate(sorted(folder.glob("*.pcd"))):
        file.rename(folder / f"{number}.pcd")
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=told) as raised:
        open_drive(folder)
    assert "\n" not in str(raised.value)


def test_mixed_types_are_refused(folder):
    (folder / "a.ply").write_text("ply")
    with pytest.raises(DataError, match=r"several types \(\.pcd, \.ply\)"):
        open_drive(folder)


@pytest.mark.parametrize(
    ("word", "stamp_ns"),
    [
        ("0", 0),
        ("12", 12 * 10**9),
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000.000000001", 1_700_000_000 * 10**9 + 1),
        ("1700000000123", 1_700_000_000_123 * 10**6),
        ("1700000000123456", 1_700_000_000_123_456 * 10**3),
        ("1700000000123456789", 1_700_000_000_123_456_789),
        ("scan", None),
        ("", None),
        ("-1", None),
        ("9999999999999999999", None),
    ],
)
def test_stamps_of_every_unit(word, stamp_ns):
    assert stamp_from_text(word) == stamp_ns


def test_quaternions_in_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,x,y,qx,qy,qz,qw\n1.5,1,2,0,0,1,0\n")
    table = read_pose_file(path)
    assert (table.stamps_ns, table.on_globe) == ([1_500_000_000], False)
    assert abs(table.yaw_rad[0]) == pytest.approx(math.pi)

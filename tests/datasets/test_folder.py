"""Folders of scans, with poses or fixes beside them."""

import math
import shutil

import numpy as np
import pytest

from bevfusion.datasets.open import open_drive
from bevfusion.datasets.pose_files import read_pose_file
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary
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
    (folder / "times.txt").write_text("0.0\n1.5\n2\n3\n")
    with pytest.raises(DataError, match="a stamp for each of 5 scans or for each number up to 4, got 4"):
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
        (
            "truth.csv",
            "lat,lon,yaw_deg\n49,here,0\n",
            "1 of 1 rows are not 3 fields with numbers in lat, lon, yaw",
        ),
        ("truth.csv", "lat,lon,yaw_deg\n49\n", "names 3 columns, its rows have 1"),
        (
            "truth.csv",
            "stamp,lat,lon,yaw_deg\nnow,49,8,0\n",
            "expected stamps, 1 of 1 are none, as row 1: 'now'",
        ),
        ("truth.csv", "a,b,c\n1,2,3\n", "expected columns lat, lon or x, y"),
        ("truth.csv", "stamp,lat,lon,yaw_deg\n1,99,8,0\n", "none of 1 fixes"),
        ("poses.txt", "1 2 3\n", "TUM lines of 8 numbers or matrices of 12; its lines have 3"),
        ("poses.txt", "1 2 3 4 5 6 7 8\n1 2 3\n", "1 of 2 rows are not stamp x y z"),
        ("poses.tum", "1 nan 3 4 0 0 0 0\n", "stamps"),
        ("times.txt", "1\n2\n", "a stamp for each of 5 scans or for each number up to 4, got 2"),
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


def renumbered(folder, numbers, into="scans"):
    """The scans named by frame numbers, in a folder of their own."""
    (folder / into).mkdir()
    for number, file in zip(numbers, sorted(folder.glob("*.pcd")), strict=True):
        file.rename(folder / into / f"{number:06d}.pcd")


def notes(drive, kind):
    return [note.line() for note in drive.summary.of_kind(kind)]


@pytest.mark.parametrize("beside", ["map.pcd", "poses.npy", "cloud_map.ply", "._000000.pcd", ".hidden.bin"])
def test_what_lies_beside_the_scans_is_no_scan(folder, beside):
    shutil.copy(next(folder.glob("*.pcd")), folder / "spare")
    renumbered(folder, range(5))
    (folder / "spare").rename(folder / beside)
    shutil.copy(folder / beside, folder / "scans" / beside)
    drive = open_drive(folder)
    assert len(drive) == 5
    np.testing.assert_array_equal(drive[4].scan.xyz, SMALL.xyzi[4][:, :3])
    assert bool(notes(drive, "ignored")) == (not beside.startswith("."))


@pytest.mark.parametrize("names", [["velodyne", "pcd"], ["scans", "."]])
def test_two_sets_of_scans_are_refused(folder, names):
    files = sorted(folder.glob("*.pcd"))
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        for number, file in enumerate(files):
            shutil.copy(file, folder / name / f"{number:06d}.pcd")
    for file in files:
        file.unlink()
    with pytest.raises(DataError, match=r"several sets of scans \(5 .pcd in .*, 5 .pcd in .*\): give the folder"):
        open_drive(folder)
    assert len(open_drive(folder / names[0])) == 5


def test_two_sensors_in_one_folder_are_refused(folder):
    for number, file in enumerate(sorted(folder.glob("*.pcd"))):
        shutil.copy(file, folder / f"front_{number}.pcd")
        file.rename(folder / f"rear_{number}.pcd")
    with pytest.raises(DataError, match="several sets of scans, expected one: 5 like front_0"):
        open_drive(folder)


def test_a_folder_of_scans_takes_what_lies_above_it(folder):
    write_truth(folder / "truth.csv", stamped=False)
    renumbered(folder, range(5))
    for path in (folder, folder / "scans"):
        assert open_drive(path)[3].truth.yaw_rad == pytest.approx(SMALL.yaw_rad, abs=1e-6)


@pytest.mark.parametrize("zeros", [True, False])
def test_names_that_are_times(folder, zeros):
    """Floats as Python writes them: 0.1, 0.2, 0.30000000000000004; or from below zero."""
    times_s = [0.1 * number - (0 if zeros else 0.2) for number in range(5)]
    for time_s, file in zip(times_s, sorted(folder.glob("*.pcd")), strict=True):
        file.rename(folder / f"{time_s!r}.pcd")
    drive = open_drive(folder)
    for number, frame in enumerate(drive):
        assert frame.stamp_ns == pytest.approx(times_s[number] * 1e9, abs=1)
        np.testing.assert_array_equal(frame.scan.xyz, SMALL.xyzi[number][:, :3])


@pytest.mark.parametrize("name", ["scan_{s}_{ns}", "{s}-{ns}", "lidar_{total}", "{s}.{ns}"])
def test_names_that_hold_seconds_and_nanoseconds(folder, name):
    for number, file in enumerate(sorted(folder.glob("*.pcd"))):
        total = SMALL.stamp_ns(number) + 7_000_000
        file.rename(folder / f"{name.format(s=total // 10**9, ns=total % 10**9, total=total)}.pcd")
    drive = open_drive(folder)
    assert [frame.stamp_ns for frame in drive] == [SMALL.stamp_ns(number) + 7_000_000 for number in range(5)]
    np.testing.assert_array_equal(drive[0].scan.xyz, SMALL.xyzi[0][:, :3])


def test_gaps_in_the_numbers_are_gaps_in_time(folder):
    renumbered(folder, [0, 1, 4, 5, 9])
    drive = open_drive(folder)
    assert [frame.stamp_ns for frame in drive] == [n * 100_000_000 for n in (0, 1, 4, 5, 9)]
    assert "5 are missing" in notes(drive, "assumed")[0]
    (folder / "times.txt").write_text("".join(f"{0.2 * number:e}\n" for number in range(12)))  # as KITTI writes them
    assert [frame.stamp_ns for frame in open_drive(folder)] == [n * 200_000_000 for n in (0, 1, 4, 5, 9)]
    matrices = "".join(f"1 0 0 {number} 0 1 0 0 0 0 1 0\n" for number in range(12))
    (folder / "poses.txt").write_text(matrices)
    assert [frame.odom_from_ego.x_m for frame in open_drive(folder)] == pytest.approx([0, 1, 4, 5, 9])


def test_a_column_of_frame_numbers(folder):
    renumbered(folder, [3, 4, 7, 8, 9])
    rows = "".join(f"{number},{10 * number},0,0\n" for number in (9, 8, 4, 3, 1))
    (folder / "odometry.csv").write_text("frame,x,y,yaw_rad\n" + rows)
    drive = open_drive(folder)
    assert [drive[at].odom_from_ego.x_m for at in (0, 1, 3, 4)] == pytest.approx([30, 40, 80, 90])


@pytest.mark.parametrize(
    ("text", "step_ns"),
    [
        ("0\n100000000\n200000000\n300000000\n400000000\n", 10**8),
        ("index,stamp\n0,0.0\n1,0.2\n2,0.4\n3,0.6\n4,0.8\n", 2 * 10**8),
        ("0.0 0.pcd\n0.5 1.pcd\n1.0 2.pcd\n1.5 3.pcd\n2.0 4.pcd\n", 5 * 10**8),
        ("\ufeff1.7e1\n1.71e1\n1.72e1\n1.73e1\n1.74e1\n", 10**8),
        ("".join(f"2011-09-26 13:04:32.{number}\n" for number in range(5)), 10**8),
    ],
)
def test_lists_of_times(folder, text, step_ns):
    renumbered(folder, range(5))
    (folder / "timestamps.txt").write_text(text, encoding="utf-8")
    stamps_ns = [frame.stamp_ns for frame in open_drive(folder)]
    assert np.diff(stamps_ns).tolist() == [step_ns] * 4


def test_stamps_of_poses_are_those_of_scans_without_any(folder):
    write_truth(folder / "truth.csv")
    renumbered(folder, range(5))
    drive = open_drive(folder)
    assert [frame.stamp_ns for frame in drive] == [SMALL.stamp_ns(number) for number in range(5)]
    assert all(frame.truth is not None for frame in drive)
    assert any("those of truth.csv" in line for line in notes(drive, "assumed"))


def test_stamps_that_step_back(folder):
    renumbered(folder, range(5))
    (folder / "times.txt").write_text("0\n1\n2\n2\n3\n")
    with pytest.raises(DataError, match="1 of 5 do not come after"):
        open_drive(folder)


def test_poses_of_another_time_are_told(folder):
    (folder / "odometry.csv").write_text("stamp,x,y,yaw_rad\n1500000000,0,0,0\n1500000001,1,0,0\n")
    drive = open_drive(folder)
    assert drive[0].odom_from_ego is None
    assert any("199999999.0 s before or after" in line for line in notes(drive, "warning"))


def test_quaternions_in_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,x,y,qx,qy,qz,qw\n1.5,1,2,0,0,1,0\n")
    table = read_pose_file(path)
    assert (table.stamps_ns, table.on_globe) == ([1_500_000_000], False)
    assert abs(table.yaw_rad[0]) == pytest.approx(math.pi)


def test_names_that_are_dates(folder):
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"20231114_221320_{number}00.pcd")
    drive = open_drive(folder)
    assert [frame.stamp_ns for frame in drive] == [SMALL.stamp_ns(number) for number in range(5)]
    assert any("dates in the names" in text for text in notes(drive, "assumed"))


def test_maps_and_poses_beside_a_folder_of_scans_are_no_scans(folder):
    renumbered(folder, range(5))
    for name in ("GlobalMap", "cornerMap", "surfaceMap"):
        write_pcd(folder / f"{name}.pcd", records(SMALL.xyzi[0]), "binary")
    drive = open_drive(folder)
    assert len(drive) == 5
    assert any("GlobalMap.pcd" in text for text in notes(drive, "ignored"))


def test_a_link_to_the_scans_alone_finds_what_lies_above_them(folder, tmp_path):
    renumbered(folder, range(5))
    write_truth(folder / "truth.csv", stamped=False)
    (tmp_path / "link").symlink_to(folder / "scans")
    assert all(frame.truth is not None for frame in open_drive(tmp_path / "link"))


def test_truth_in_another_scale_of_time_is_told(folder):
    write_truth(folder / "truth.csv")
    text = (folder / "truth.csv").read_text()
    (folder / "truth.csv").write_text(text.replace("1700000000", "1700000037"))
    drive = open_drive(folder)
    assert any("37 s ahead (TAI against UTC)" in text for text in notes(drive, "warning"))


def test_places_in_radians_by_the_names_of_their_columns(folder):
    rows = ["stamp_ns,lat_rad,lon_rad,yaw_rad"]
    for number in range(SMALL.frames):
        lat, lon = map(math.radians, SMALL.place_deg(number))
        rows.append(f"{SMALL.stamp_ns(number)},{lat!r},{lon!r},{SMALL.yaw_rad}")
    (folder / "truth.csv").write_text("\n".join(rows))
    assert open_drive(folder)[2].truth.lat_deg == pytest.approx(SMALL.place_deg(2)[0], abs=1e-9)


def test_ground_truth_as_euroc_has_it(tmp_path):
    names = "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []"
    (tmp_path / "data.csv").write_text(
        f"{names}\n1700000000000000000,1,2,3,0.8,0,0,0.6\n1700000000100000000,2,2,3,1,0,0,0"
    )
    table = read_pose_file(tmp_path / "data.csv")
    assert table.stamps_ns == [1_700_000_000_000_000_000, 1_700_000_000_100_000_000]
    np.testing.assert_array_equal(table.places, [[1, 2], [2, 2]])
    np.testing.assert_allclose(table.yaw_rad, [2 * math.atan2(0.6, 0.8), 0.0])


def test_drives_inside_a_folder_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"not a drive itself, but .*drive: give one of them"):
        open_drive(tmp_path)
    with pytest.raises(DataError, match=r"not a drive itself, but .*drive: give one of them"):
        open_drive(sorted(folder.iterdir())[0])


def test_quaternions_that_begin_with_w(tmp_path):
    """As many write them; a vehicle does not lie on its side."""
    rows = [f"{1.7e9 + 0.1 * n:.1f} {n} 0 0 {math.cos(0.1 * n)} 0.01 0 {math.sin(0.1 * n)}" for n in range(8)]
    (tmp_path / "a.tum").write_text("\n".join(rows))
    summary = InputSummary("a")
    np.testing.assert_allclose(read_pose_file(tmp_path / "a.tum", summary).yaw_rad, 0.2 * np.arange(8), atol=0.02)
    assert "w first" in summary.notes[0].text

"""Poses in text: what columns mean is decided for a file."""

import math

import numpy as np
import pytest

from bevfusion.datasets.pose_files import read_pose_file
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

ANGLES_RAD = 0.3 + 0.02 * np.arange(40)  # a bend to the left


def places_m():
    steps = np.stack([np.cos(ANGLES_RAD), np.sin(ANGLES_RAD)], axis=1)
    return np.cumsum(steps, axis=0)


def write(path, header, columns, delimiter=",", encoding="utf-8"):
    rows = [delimiter.join(f"{value!r}" for value in map(float, row)) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([header, *rows]), encoding=encoding)
    return path


def read(path):
    summary = InputSummary("a")
    return read_pose_file(path, summary), [note.line() for note in summary.notes]


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("yaw_deg", np.degrees(ANGLES_RAD), None),
        ("yaw [deg]", np.degrees(ANGLES_RAD), None),
        ("Yaw (degrees)", np.degrees(ANGLES_RAD), None),
        ("yaw_rad", ANGLES_RAD, None),
        ("yaw", ANGLES_RAD, "radians, counter-clockwise"),
        ("yaw", np.degrees(ANGLES_RAD), "degrees, counter-clockwise"),
        ("heading_deg", 90 - np.degrees(ANGLES_RAD), None),
        ("bearing_rad", math.pi / 2 - ANGLES_RAD, None),
        ("heading", np.degrees(ANGLES_RAD), "degrees, counter-clockwise"),
        ("heading", 90 - np.degrees(ANGLES_RAD), "degrees, a compass bearing"),
        ("heading", math.pi / 2 - ANGLES_RAD, "radians, a compass bearing"),
        ("azimuth", 90 - np.degrees(ANGLES_RAD), "degrees, a compass bearing"),
    ],
)
def test_headings_in_every_unit(tmp_path, name, values, told):
    table, notes = read(write(tmp_path / "a.csv", f"x,y,{name}", [*places_m().T, values]))
    np.testing.assert_allclose(table.yaw_rad, ANGLES_RAD, atol=1e-9)
    assert (notes == []) if told is None else (told in notes[0])


def test_a_small_yaw_is_in_degrees_where_the_way_says_so(tmp_path):
    """Straight to the east at 2 to 3 degrees: the range alone would pass for radians."""
    x = np.arange(30.0)
    table, notes = read(write(tmp_path / "a.csv", "x,y,yaw", [x, x * math.tan(math.radians(2.5)), 2.5 + 0.01 * x]))
    np.testing.assert_allclose(np.degrees(table.yaw_rad), 2.5 + 0.01 * x)
    assert "degrees" in notes[0]


def test_the_same_on_the_globe(tmp_path):
    lat, lon = 49 + places_m()[:, 1] / 111_200, 8.4 + places_m()[:, 0] / (111_200 * math.cos(math.radians(49)))
    table, _ = read(write(tmp_path / "a.csv", "latitude,longitude,heading", [lat, lon, 90 - np.degrees(ANGLES_RAD)]))
    assert table.on_globe
    np.testing.assert_allclose(table.yaw_rad, ANGLES_RAD, atol=1e-9)


def test_a_heading_that_nothing_tells_is_refused(tmp_path):
    still = np.zeros(10)
    with pytest.raises(DataError, match="name it heading_deg"):
        read(write(tmp_path / "a.csv", "x,y,heading", [still, still, still + 1.0]))
    table, notes = read(write(tmp_path / "a.csv", "x,y,yaw", [still, still, still + 1.0]))
    assert (table.yaw_rad[0], "radians" in notes[0]) == (1.0, True)


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8-sig"), (";", "utf-16"), ("\t", "utf-8")])
def test_files_of_spreadsheets(tmp_path, delimiter, encoding):
    header = delimiter.join(["stamp_ns", "lat", "lon", "yaw_deg"])
    path = write(tmp_path / "a.csv", header, [[0, 10**8], [49, 49], [8, 8.5], [10, 20]], delimiter, encoding)
    table, _ = read(path)
    assert table.stamps_ns == [0, 10**8]
    assert table.places.tolist() == [[49, 8], [49, 8.5]]


def test_commas_for_decimal_points(tmp_path):
    (tmp_path / "a.csv").write_text("time;lat;lon\n0,5;49,25;8,5;\n1,5;49,5;8,75;\n")
    table, _ = read(tmp_path / "a.csv")
    assert table.stamps_ns == [500_000_000, 1_500_000_000]
    assert table.places.tolist() == [[49.25, 8.5], [49.5, 8.75]]


def test_a_header_in_a_comment_and_seconds_beside_nanoseconds(tmp_path):
    (tmp_path / "a.csv").write_text("# sec,nanosec,x,y\n1700000000,5,1,2\n1700000000,100000005,3,4\n")
    table, _ = read(tmp_path / "a.csv")
    assert table.stamps_ns == [1_700_000_000 * 10**9 + 5, 1_700_000_000_100_000_005]
    assert table.places.tolist() == [[1, 2], [3, 4]]


def test_evo_writes_exponents(tmp_path):
    rows = [[1_700_000_000 + 0.1 * number, number, 0, 0, 0, 0, 0, 1] for number in range(5)]
    np.savetxt(tmp_path / "a.tum", rows, fmt="%.18e")
    table, notes = read(tmp_path / "a.tum")
    assert [round(stamp_ns / 1e8) for stamp_ns in table.stamps_ns] == [17_000_000_000 + number for number in range(5)]
    assert table.places[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert notes == []


@pytest.mark.parametrize("camera", [True, False])
@pytest.mark.parametrize("before", ["", "7 ", "1700000000.5 "])
def test_rows_of_matrices(tmp_path, camera, before):
    lines = []
    for number, (angle, (x, y)) in enumerate(zip(ANGLES_RAD, places_m(), strict=True)):
        cos, sin = math.cos(angle), math.sin(angle)
        matrix = [cos, -sin, 0, x, sin, cos, 0, y, 0, 0, 1, 0]
        if camera:  # x right, y down, z ahead, of the first pose too
            matrix = [cos, 0, -sin, -y, 0, 1, 0, 0, sin, 0, cos, x]
        stamp = {"": "", "7 ": f"{7 + number} "}.get(before, f"{1_700_000_000 + number}.5 ")
        lines.append(stamp + " ".join(repr(float(value)) for value in matrix))
    (tmp_path / "poses.txt").write_text("\n".join(lines))
    table, notes = read(tmp_path / "poses.txt")
    np.testing.assert_allclose(table.places, places_m(), atol=1e-9)
    np.testing.assert_allclose(table.yaw_rad, ANGLES_RAD, atol=1e-9)
    assert bool(notes) == camera
    assert table.numbers == ([7 + number for number in range(40)] if before == "7 " else None)
    assert (table.stamps_ns is not None) == (before == "1700000000.5 ")


def test_a_bad_row_is_left_out_and_told(tmp_path):
    rows = [f"{number},49,8,0" for number in range(20)]
    rows[3], rows[4] = "3,49", "4,?,8,0"
    (tmp_path / "a.csv").write_text("\n".join(["time,lat,lon,yaw_deg", *rows]))
    table, notes = read(tmp_path / "a.csv")
    assert table.stamps_ns[2:4] == [2 * 10**9, 5 * 10**9]
    assert "2 of 20 rows" in notes[0]
    rows[5] = "5"
    (tmp_path / "a.csv").write_text("\n".join(["time,lat,lon,yaw_deg", *rows]))
    with pytest.raises(DataError, match="3 of 20 rows"):
        read(tmp_path / "a.csv")


def test_rows_that_are_longer_than_the_header_are_no_guess(tmp_path):
    (tmp_path / "a.csv").write_text("lat,lon,yaw_deg\n0,49,8,0\n1,49,8,0\n")
    with pytest.raises(DataError, match="names 3 columns, its rows have 4"):
        read(tmp_path / "a.csv")

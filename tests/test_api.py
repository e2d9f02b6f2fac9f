"""The Python face: five lines from a scan and a map to a pose, and what they are refused with."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bevfusion
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.maps.osm import read_osm
from bevfusion.simulate.drive import DriveOptions, simulate_drive
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six frames through an invented town by a small sensor, and the town's map."""
    folder = tmp_path_factory.mktemp("street")
    write_town(folder / "town.osm", seed=7)
    options = DriveOptions(sensor="vlp16", frames=6, spacing_m=2.0, columns=512)
    return simulate_drive(read_osm(folder / "town.osm"), folder / "drive", options), folder / "town.osm"


def near(truth: GeoPose, east_m: float = 0.0, north_m: float = 0.0) -> tuple[float, float]:
    degree_m = 111_200.0
    return (
        truth.lat_deg + north_m / degree_m,
        truth.lon_deg + east_m / (degree_m * math.cos(math.radians(truth.lat_deg))),
    )


def away_m(pose: bevfusion.Pose, truth: GeoPose) -> float:
    degree_m = 111_200.0
    east = (pose.lon - truth.lon_deg) * degree_m * math.cos(math.radians(truth.lat_deg))
    return math.hypot(east, (pose.lat - truth.lat_deg) * degree_m)


@pytest.mark.parametrize("checkpoint", ["default", "classical"])
def test_a_scan_is_located(street: tuple[Path, Path], checkpoint: str):
    drive_path, map_path = street
    frame = bevfusion.open_drive(str(drive_path))[2]
    localizer = bevfusion.Localizer.open(checkpoint, str(map_path))
    scan = bevfusion.read_scan(str(sorted((drive_path / "velodyne_points/data").glob("*"))[2]))
    heading_deg = math.degrees(frame.truth.yaw_rad)
    pose = localizer.locate(scan, near(frame.truth, 6.0, -5.0), heading_deg + 4.0)
    assert away_m(pose, frame.truth) < 2.0
    assert abs((pose.heading_deg - heading_deg + 180.0) % 360.0 - 180.0) < 3.0
    assert pose.compass_deg == pytest.approx((90.0 - pose.heading_deg) % 360.0)
    assert pose.covariance.shape == (3, 3)
    assert pose.std_m >= 1.0  # no better than the map
    assert pose.stamp_ns is None


def test_the_error_of_the_map_is_what_was_asked_for(street: tuple[Path, Path]):
    drive_path, map_path = street
    frame = bevfusion.open_drive(drive_path)[2]
    exact, vague = (bevfusion.Localizer.open("default", map_path, map_error_m=error_m) for error_m in (0.0, 3.0))
    one, other = (opened.locate(frame.scan, near(frame.truth)) for opened in (exact, vague))
    assert (one.lat, one.lon, one.confidence) == (other.lat, other.lon, other.confidence)
    wider_m2 = np.diag(other.covariance - one.covariance)[:2]
    np.testing.assert_allclose(wider_m2, 9.0 - exact._locators[0].map_error_m ** 2, rtol=1e-6)


def test_a_drive_is_followed_from_a_place(street: tuple[Path, Path]):
    drive_path, map_path = street
    drive = bevfusion.open_drive(drive_path)
    first = drive[0].truth
    localizer = bevfusion.Localizer.open("default", map_path)
    poses = list(localizer.track(drive, near(first), math.degrees(first.yaw_rad)))
    assert len(poses) == len(drive)
    found = [(pose, frame) for pose, frame in zip(poses, drive, strict=True) if pose is not None]
    assert len(found) >= 3
    assert all(away_m(pose, frame.truth) < 4.0 for pose, frame in found)
    assert [pose.stamp_ns for pose, _ in found] == [frame.stamp_ns for _, frame in found]


def test_a_drive_without_a_fix_must_say_where_it_starts(street: tuple[Path, Path]):
    drive_path, map_path = street
    frames = [bevfusion.Frame(0, 0, bevfusion.open_drive(drive_path)[0].scan)]
    with pytest.raises(DataError, match="no frame has a GNSS fix that lies on a map"):
        list(bevfusion.Localizer.open("classical", map_path).track(frames))


def test_a_pose_is_a_picture_in_a_notebook(street: tuple[Path, Path], tmp_path: Path):
    drive_path, map_path = street
    frame = bevfusion.open_drive(drive_path)[2]
    pose = bevfusion.Localizer.open("classical", map_path).locate(frame.scan, near(frame.truth))
    assert "data:image/png;base64," in pose._repr_html_()
    pose.plot().savefig(tmp_path / "pose.png")
    assert (tmp_path / "pose.png").stat().st_size > 10_000


def test_without_matplotlib_a_pose_is_told_in_numbers(street: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    drive_path, map_path = street
    frame = bevfusion.open_drive(drive_path)[2]
    pose = bevfusion.Localizer.open("classical", map_path).locate(frame.scan, near(frame.truth))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert f"{pose.lat:.7f}" in pose._repr_html_()
    assert "<img" not in pose._repr_html_()


def test_a_place_off_the_map_is_refused_and_swapped_degrees_are_recognised(street: tuple[Path, Path]):
    drive_path, map_path = street
    frame = bevfusion.open_drive(drive_path)[0]
    localizer = bevfusion.Localizer.open("classical", map_path)
    with pytest.raises(
        DataError, match=r"lies on none of the maps \(.*: latitude [-\d.]+ to [-\d.]+, longitude [-\d.]+ to [-\d.]+\)$"
    ):
        localizer.locate(frame.scan, (10.0, 10.0))
    lat, lon = near(frame.truth)
    with pytest.raises(DataError, match=r"\(.*: latitude [-\d.]+ to .*; latitude and longitude swapped\?"):
        localizer.locate(frame.scan, (lon, lat))
    with pytest.raises(DataError, match="latitude, longitude"):
        localizer.locate(frame.scan, (95.0, 8.0))


def test_files_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises((DataError, FileNotFoundError), match=r"absent\.osm"):
        bevfusion.Localizer.open("default", tmp_path / "absent.osm")
    with pytest.raises(DataError, match="at least one map"):
        bevfusion.Localizer.open("default", [])


def test_public_names_are_all_there_and_nothing_else_is():
    assert all(getattr(bevfusion, name) is not None for name in bevfusion.__all__)
    assert set(bevfusion.__all__) <= set(dir(bevfusion))
    with pytest.raises(AttributeError, match="it offers DataError, Frame, Localizer"):
        bevfusion.locate  # noqa: B018 - the access is the test


def test_import_is_cheap():
    program = "import sys, bevfusion; print(sorted({'torch', 'numpy', 'osmium', 'matplotlib'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"

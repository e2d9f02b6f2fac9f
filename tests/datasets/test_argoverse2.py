"""Argoverse 2: a real log, whole and damaged."""

import math
import shutil

import numpy as np
import pyproj
import pytest

from bevfusion.datasets.open import open_drive
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError


@pytest.fixture
def argoverse(shared_data):
    pytest.importorskip("pyarrow", reason="extra argoverse2 is not installed")
    (path,) = (shared_data / "formats/argoverse2").iterdir()
    return path


def test_argoverse2(argoverse):
    drive = open_drive(argoverse)
    assert (drive.name, len(drive), drive.odometry) == (argoverse.name, 2, "none")
    first, second = drive
    assert first.stamp_ns == 315966265259836000
    assert len(first.scan) > 90_000
    assert 0.25 < first.scan.intensity.mean() < 0.4  # as of KITTI: quantiles of the drive, see intensity.py
    # the ground lies below the LiDAR on the roof
    ground = np.percentile(first.scan.xyz[:, 2], 10)
    assert -2.2 < ground < -1.2
    # Pittsburgh, by the same log's map: UTM of the origin and the pose there, worked out without the reader
    assert (first.truth.lat_deg, first.truth.lon_deg) == pytest.approx((40.4627, -79.9510), abs=1e-3)
    frame = LocalFrame(first.truth.lat_deg, first.truth.lon_deg)
    moved = frame.map_from_ego(first.truth).inverse() @ frame.map_from_ego(second.truth)
    assert math.hypot(moved.x_m, moved.y_m) < 3.0
    if moved.x_m > 0.3:
        assert abs(math.atan2(moved.y_m, moved.x_m)) < math.radians(10)


def test_argoverse2_headings_count_from_true_east(argoverse):
    """A step along the vehicle's x axis in city metres, taken to latitude and longitude, points along its heading."""
    from bevfusion.datasets.argoverse2 import CITIES, read_columns
    from bevfusion.datasets.rigid import rotations

    columns = ("timestamp_ns", "qx", "qy", "qz", "qw", "tx_m", "ty_m")
    rows = read_columns(argoverse / "city_SE3_egovehicle.feather", columns, 10**6)
    drive = open_drive(argoverse)
    row = int(np.argmin(np.abs(rows["timestamp_ns"] - drive[0].stamp_ns)))
    ahead = rotations(np.array([[rows[name][row] for name in ("qx", "qy", "qz", "qw")]]))[0][:2, 0] * 10
    zone, lat, lon = CITIES["PIT"]
    utm = pyproj.Proj(proj="utm", zone=zone, datum="WGS84")
    east, north = utm(lon, lat)
    here = utm(rows["tx_m"][row] + east, rows["ty_m"][row] + north, inverse=True)
    there = utm(rows["tx_m"][row] + east + ahead[0], rows["ty_m"][row] + north + ahead[1], inverse=True)
    azimuth_deg = pyproj.Geod(ellps="WGS84").inv(*here, *there)[0]
    assert math.degrees(drive[0].truth.yaw_rad) == pytest.approx(90 - azimuth_deg, abs=0.05)


def test_argoverse2_faults(argoverse, tmp_path):
    log = tmp_path / argoverse.name
    shutil.copytree(argoverse, log, copy_function=shutil.copyfile)
    for file in [log, *log.rglob("*")]:
        file.chmod(0o755)
    sweep = log / "sensors/lidar/315966265259836000.feather"
    raw = sweep.read_bytes()
    rng = np.random.default_rng(5)
    for case in range(60):
        damaged = bytearray(raw[: rng.integers(len(raw))] if case % 3 == 0 else raw)
        reach = min(len(damaged), 2000)
        for _ in range(rng.integers(1, 10)):
            if damaged:
                at = rng.integers(reach) if case % 2 else len(damaged) - 1 - rng.integers(reach)
                damaged[at] = rng.integers(256)
        sweep.write_bytes(damaged)
        try:
            open_drive(log)[0]
        except DataError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1
    (log / "calibration/egovehicle_SE3_sensor.feather").unlink()
    with pytest.raises(DataError, match="no such file"):
        open_drive(log)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1, None, 3], "1 of 3 rows have no x"),
        (["a", "b", "c"], "its column x holds string"),
        ([[1.0]] * 3, "holds list"),
    ],
)
def test_tables_with_holes_or_other_types_are_refused(tmp_path, values, told):
    from bevfusion.datasets.argoverse2 import read_columns

    feather = pytest.importorskip("pyarrow.feather")
    pa = pytest.importorskip("pyarrow")
    feather.write_feather(pa.table({"x": values, "y": [1.0, 2.0, 3.0]}), tmp_path / "a.feather")
    with pytest.raises(DataError, match=told):
        read_columns(tmp_path / "a.feather", ("x", "y"), 10)

"""LiDARs that do not ship, described in YAML."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from bevfusion.config import SensorConfig
from bevfusion.datasets.simulated import simulated_drive
from bevfusion.simulate.drive import DriveOptions
from bevfusion.simulate.facades import Facades
from bevfusion.simulate.ground import draw_ground
from bevfusion.simulate.sensor import (
    SENSORS,
    Caster,
    described_sensor,
    read_beams,
    read_sensor,
    scan_world,
    sensor_choice,
)
from bevfusion.simulate.surfaces import GROUND, Surfaces
from bevfusion.simulate.terrain import Terrain
from bevfusion.structures import DataError
from tests.simulate.scenes import road

# Hesai's Pandar40P by its data sheet: dense about the horizon, sparse above and below
PANDAR40P_DEG = (15.0, 11.0, 8.0, 5.0, 3.0, *(2.0 - i / 3.0 for i in range(25)), *range(-7, -15, -1), -19.0, -25.0)


@pytest.fixture
def pandar(tmp_path: Path) -> Path:
    rows = [f"{number},{elevation:.3f}" for number, elevation in enumerate(PANDAR40P_DEG, start=1)]
    (tmp_path / "beams.csv").write_text("\n".join(["Channel,Elevation", *reversed(rows)]))
    path = tmp_path / "pandar40p.yaml"
    path.write_text(
        "beams: beams.csv\npoints_per_s: 720e3\nrate_hz: 10\nmax_range_m: 200\nrange_noise_m: 0.03\nheight_m: 1.9\n"
    )
    return path


def test_a_sensor_is_what_its_file_says(pandar: Path):
    sensor = read_sensor(pandar)
    np.testing.assert_allclose(np.degrees(sensor.elevations_rad), PANDAR40P_DEG, atol=1e-3)  # from the top
    assert (sensor.columns, sensor.max_range_m, sensor.noise_m, sensor.height_m) == (1800, 200.0, 0.03, 1.9)
    assert (sensor.name, sensor.azimuths_rad) == ("pandar40p", ())
    assert sensor_choice(str(pandar)) == sensor
    assert sensor_choice("vlp16") == "vlp16"


def test_beams_of_a_firing_may_point_to_different_sides():
    described = SensorConfig(elevations_deg=(-5.0, 5.0), azimuths_deg=(3.0, -1.0), columns=36)
    directions = described_sensor(described).directions().reshape(2, 36, 3)
    azimuth = np.degrees(np.arctan2(directions[..., 1], directions[..., 0]))
    np.testing.assert_allclose(azimuth[0, 1:-1], -180.0 + 10.0 * (np.arange(1, 35) + 0.5) - 1.0, atol=1e-4)
    np.testing.assert_allclose(azimuth[1, 1:-1], -180.0 + 10.0 * (np.arange(1, 35) + 0.5) + 3.0, atol=1e-4)
    np.testing.assert_allclose(np.degrees(np.arcsin(directions[:, 5, 2])), [5.0, -5.0], atol=1e-4)


def test_its_scans_lie_on_its_beams(pandar: Path):
    """Over level ground without anything on it: the beams that look down, each in its cone."""
    sensor, land = read_sensor(pandar).with_columns(64), Terrain.flat()
    pose = np.eye(4)
    pose[2, 3] = sensor.height_m
    rng = np.random.default_rng(0)
    patch = draw_ground(np.zeros(2), 100.0, [road([(-200.0, 0.0), (200.0, 0.0)], [1, 2])], [], [], land)
    ground = Caster(Surfaces.of(land.mesh(np.zeros(2), 120.0), GROUND, 0.3))
    scan = scan_world(sensor, ground, Caster(Surfaces.join([])), (patch, Facades.random(1, rng)), pose, rng)
    elevation_deg = np.degrees(np.arctan2(scan.xyz[:, 2], np.hypot(scan.xyz[:, 0], scan.xyz[:, 1])))
    off_deg = np.abs(elevation_deg[:, None] - np.array(PANDAR40P_DEG)).min(axis=1)
    assert len(scan) > 200
    assert off_deg.max() < 0.01
    seen = {round(float(angle)) for angle in elevation_deg}
    assert {-7, -10, -14, -19} <= seen


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("elevations_deg: [1, 2]", "expected columns (firings a turn), or points_per_s and rate_hz"),
        ("elevations_deg: [1, 2]\ncolumns: 512\nrate_hz: 10", "expected columns"),
        ("columns: 512", "expected the beams by elevations_deg, or by a file of beams"),
        ("elevations_deg: [1]\nbeams: a.csv\ncolumns: 512", "expected the beams"),
        ("elevations_deg: [1, 2]\nazimuths_deg: [1]\ncolumns: 512", "an azimuth for each of 2 beams, got 1"),
        ("elevation_deg: [1]\ncolumns: 512", "unknown key 'elevation_deg'; did you mean 'elevations_deg'?"),
        ("elevations_deg: [95]\ncolumns: 512", "elevations_deg.0"),
        ("elevations_deg: [1]\ncolumns: 8", "columns"),
        ("beams: none.csv\ncolumns: 512", "none.csv: no table of beams"),
        ("[1, 2]", "expected keys and values of a sensor, got list"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_describes_no_sensor_is_refused_in_one_line(tmp_path: Path, text: str, told: str):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_sensor(path)
    assert told in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_tables_of_beams(tmp_path: Path):
    path = tmp_path / "beams.csv"
    path.write_text("# as measured\n1.5\n-2\n")
    assert read_beams(path) == [(1.5, 0.0), (-2.0, 0.0)]
    path.write_text("Laser id;Elevation [deg];Azimuth [deg]\n1;14.5;-1.04\n2;-3;3.1\n")
    assert read_beams(path) == [(14.5, -1.04), (-3.0, 3.1)]
    for content, told in (
        ("", "empty"),
        ("1,2\n3,4\n", "expected a header with a column of elevation"),
        ("elevation\nhigh\n", "expected numbers of degrees"),
        ("elevation\n91\n", "within -90 and 90"),
        ("elevation\n", "got no row"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=told):
            read_beams(path)


def test_an_unknown_sensor_is_answered_by_the_nearest():
    with pytest.raises(DataError, match=r"unknown sensor 'hdl-64e': .*YAML file; did you mean 'hdl64e'\?"):
        sensor_choice("hdl-64e")
    with pytest.raises(DataError, match="cannot be read"):
        sensor_choice("sensors/none.yaml")


def test_kept_drives_of_named_sensors_are_found_as_before():
    """Their key holds the options as JSON: a sensor that ships is its name and nothing else."""
    options = json.loads(json.dumps(asdict(DriveOptions(sensor="vlp16"))))
    assert options["sensor"] == "vlp16"
    assert set(options) == {
        *("sensor", "frames", "seed", "spacing_m", "columns", "missing", "shifted", "new", "map_noise_m"),
        *("map_warp_m", "wander_m", "vehicles", "roadside", "hills", "sway_deg"),
    }
    assert all(sensor.azimuths_rad == () and sensor.name == "" for sensor in SENSORS.values())


def test_a_drive_is_kept_under_the_definition_of_its_sensor(pandar: Path, tmp_path: Path):
    sensor = replace(read_sensor(pandar), columns=64)
    options = DriveOptions(sensor=sensor, frames=1)
    drive = simulated_drive("town:7", options, tmp_path / "cache")
    assert drive.name.startswith("town_7_pandar40p_")
    again = simulated_drive("town:7", DriveOptions(sensor=replace(sensor), frames=1), tmp_path / "cache")
    assert again.name == drive.name
    noisier = replace(sensor, noise_m=0.04)
    other = simulated_drive("town:7", DriveOptions(sensor=noisier, frames=1), tmp_path / "cache")
    assert other.name != drive.name
    xyz = drive[0].scan.xyz
    elevation_deg = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
    near = np.hypot(xyz[:, 0], xyz[:, 1]) > 5.0  # packed to a centimetre
    off_deg = np.abs(elevation_deg[:, None] - np.array(PANDAR40P_DEG)).min(axis=1)[near]
    assert float(off_deg.max()) < math.degrees(0.02 / 5.0)

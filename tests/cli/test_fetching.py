"""`map`, and `--map auto`, against a server on the loopback."""

import json
from pathlib import Path

import numpy as np
import pytest

from bevfusion.cli import main
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.maps.osm import read_osm
from bevfusion.maps.source import MapSource
from tests.maps import overpass_server as server
from tests.maps.overpass_server import overpass_server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("bevfusion.maps.overpass.WAITS_S", (0.0,))
    return tmp_path / "cache" / "bevfusion" / "overpass"


@pytest.mark.parametrize("place", ["49.01,8.42", "-33.9,18.4", "-33.9,-70.6"])
def test_map_writes_a_square_about_a_place(
    place: str, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "town.osm.pbf"
    with overpass_server(server.data) as told:
        assert main("map", [place, "--radius-m", "250", "--output", str(output), "--overpass", told.url]) == 0
    out = capsys.readouterr().out
    assert "OpenStreetMap of 2026-11-27" in out
    assert "OpenStreetMap contributors" in out
    extract = read_osm(output)
    lat_deg, lon_deg = map(float, place.split(","))
    assert extract.frame.origin_lat_deg == pytest.approx(lat_deg, abs=1e-6)
    assert extract.frame.origin_lon_deg == pytest.approx(lon_deg, abs=1e-6)
    assert extract.bounds_m == pytest.approx((-250.0, -250.0, 250.0, 250.0), abs=0.1)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("49.01,8.42,90",), "a place is LAT,LON"),
        (("north",), "LAT,LON expects"),
        (("99,8",), "latitude lies in"),
        (("--radius", "3"), ""),
        (("49,8.4", "--radius-m", "90000"), "too large"),
        (("49,8.4", "--output", "town.geojson"), "is written as"),
        (("49,8.4", "--overpass", "file:///etc/passwd"), "--overpass expects"),
    ],
)
def test_map_says_what_is_wrong(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = () if "--output" in words else ("--output", str(tmp_path / "town.osm"))
    with overpass_server(server.data) as told:
        address = () if "--overpass" in words else ("--overpass", told.url)
        assert main("map", [*words, *output, *address]) == 2
        assert told.queries == []
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_remark_is_no_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with overpass_server(server.remark) as told:
        words = ["49.01,8.42", "--output", str(tmp_path / "town.osm"), "--overpass", told.url]
        assert main("map", words) == 2
    assert "did not finish" in capsys.readouterr().err
    assert not (tmp_path / "town.osm").exists()


def test_locate_fetches_the_map_of_its_guess_once(
    town_drive: tuple[KittiRawDrive, MapSource], tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive, _ = town_drive
    place = drive[0].truth
    assert place is not None
    frame, scan = drive[0].scan, tmp_path / "scan.bin"
    np.column_stack([frame.xyz, frame.intensity]).astype(np.float32).tofile(scan)
    near = f"--near={place.lat_deg},{place.lon_deg}"
    with overpass_server(server.busy(429), server.data) as told:
        words = ["classical", str(scan), "--map", "auto", near, "--json", "--overpass", told.url]
        assert main("locate", words) == 0
        answer = json.loads(capsys.readouterr().out)
        assert main("locate", words) == 0
        assert len(told.queries) == 2
    assert abs(answer["x_m"]) < 60.0
    assert len(list(cache.glob("*.osm.pbf"))) == len(list(cache.glob("*.json"))) == 1


def test_evaluate_fetches_what_its_drives_need(
    town_drive: tuple[KittiRawDrive, MapSource], tmp_path: Path, cache: Path
) -> None:
    drive, _ = town_drive
    path = drive._path
    with overpass_server(server.data) as told:
        words = ["classical", str(path), "--map", "auto", "--overpass", told.url, "--output", str(tmp_path / "out")]
        assert main("evaluate", words) == 0
        assert len(told.queries) == 1
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["frames"] == len(drive)
    extract = read_osm(next(cache.glob("*.osm.pbf")))
    for frame in drive:
        assert frame.truth is not None
        pose = extract.frame.map_from_ego(frame.truth)
        x0, y0, x1, y1 = extract.bounds_m
        assert min(pose.x_m - x0, pose.y_m - y0, x1 - pose.x_m, y1 - pose.y_m) > 499.0


def test_a_server_that_fails_ends_evaluate_in_one_line(
    town_drive: tuple[KittiRawDrive, MapSource], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive, _ = town_drive
    path = drive._path
    with overpass_server(server.busy(504)) as told:
        words = ["classical", str(path), "--map", "auto", "--overpass", told.url, "--output", str(tmp_path / "out")]
        assert main("evaluate", words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "too busy" in lines[0]
    assert not (tmp_path / "out").exists()

"""Simulating and tiling take what opening a map takes, where it holds features; else they say what would help."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevfusion.cli import main
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.source import open_map
from bevfusion.maps.tiled import tile_extract
from bevfusion.structures import DataError

LON, LAT = 8.4, 49.0


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """GeoJSON of four streets about a block of houses."""
    ends = [(-2e-3, -2e-3), (2e-3, -2e-3), (2e-3, 2e-3), (-2e-3, 2e-3), (-2e-3, -2e-3)]
    ring = [[LON + x, LAT + y] for x, y in ends]
    house = [[LON + 0.2 * x, LAT + 0.2 * y] for x, y in ends]
    shapes = (("LineString", ring, {"highway": "residential"}), ("Polygon", [house], {"building": "yes"}))
    features = [
        {"type": "Feature", "geometry": {"type": kind, "coordinates": places}, "properties": tags}
        for kind, places, tags in shapes
    ]
    (tmp_path / "town.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return tmp_path / "town.geojson"


def test_vector_features_are_tiled(streets: Path) -> None:
    tile_extract(streets, streets.with_suffix(".tiles"))
    grid = Grid(100, 100, 0.5)
    drawn = open_map(streets).draw(grid, SE2())
    assert drawn.any()
    np.testing.assert_array_equal(open_map(streets.with_suffix(".tiles")).draw(grid, SE2()), drawn)


def test_a_drive_through_vector_features(streets: Path, tmp_path: Path) -> None:
    output = tmp_path / "drive"
    assert main(None, ["simulate", str(streets), "--output", str(output), "--frames", "1", "--packed"]) == 0
    assert any(output.rglob("*"))


@pytest.mark.parametrize("command", ["tile", "simulate"])
def test_a_picture_is_refused_with_what_would_help(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "town.png"), np.zeros((8, 8), np.uint8))
    output = tmp_path / ("town.tiles" if command == "tile" else "drive")
    assert main(None, [command, str(tmp_path / "town.png"), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert "holds no roads and walls as features" in error
    assert "bevfusion map" in error


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("town.kml", "ogr2ogr -f GPKG town.gpkg town.kml"),
        ("town.mbtiles", "ogr2ogr -f GPKG town.gpkg town.mbtiles"),
        ("town.jp2", "gdal_translate town.jp2 town.tif"),
        ("town.o5c", "osmium cat town.o5c --output town.osm.pbf"),
        ("town.zip", "unpack it"),
        ("town", "maps are extracts of OpenStreetMap (.osm, .osm.pbf"),
    ],
)
def test_other_maps_are_refused_with_what_converts_them(name: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_map(tmp_path / name)
    assert told in str(caught.value)
    with pytest.raises(DataError, match=r"convert it|unpack it|no roads and walls"):
        tile_extract(tmp_path / name, tmp_path / "town.tiles")


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.osm.*\.gpkg"):
        tile_extract(tmp_path / "town.dwg", tmp_path / "town.tiles")

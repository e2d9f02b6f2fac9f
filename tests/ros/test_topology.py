import math
from types import SimpleNamespace

import numpy as np
import pytest

from bevfusion.geometry.se2 import SE2
from bevfusion.localizer import open_localizer
from bevfusion.ros.maps import map_of_image, map_of_name
from bevfusion.ros.parameters import parse_parameters
from bevfusion.ros.topology import (
    FREE,
    OCCUPIED,
    UNKNOWN,
    attention_picture,
    belief_slice,
    colour_of,
    map_segments_m,
    occupancy_of_map,
)
from bevfusion.structures import DataError
from tests.ros.fakes import FakeMap, estimate


def test_occupancy_lies_where_the_map_does():
    occupancy = occupancy_of_map(FakeMap(), 0.5)
    assert occupancy.cells.shape == (800, 800)  # more than one block

    def at(x_m: float, y_m: float) -> int:
        row, col = int((y_m - occupancy.origin.y_m) / 0.5), int((x_m - occupancy.origin.x_m) / 0.5)
        return int(occupancy.cells[row, col])

    for x_m in (-199.0, 55.0, 57.0, 199.0):
        assert at(x_m, 0.2) == FREE
        assert at(x_m, 20.2) == OCCUPIED
        assert at(x_m, -50.0) == UNKNOWN


def test_a_huge_map_gets_coarser_cells():
    occupancy = occupancy_of_map(FakeMap(), 0.01)
    assert occupancy.cells.size <= 26_000_000
    assert occupancy.cell_m == pytest.approx(0.08)


def test_segments_of_a_map_with_and_without_vectors(town_drive):
    _, source = town_drive
    segments_m = map_segments_m(source)
    assert {"road", "building"} <= set(segments_m)
    occupancy = occupancy_of_map(source, 0.5)
    for kind, value in (("road", FREE), ("building", OCCUPIED)):
        assert len(colour_of(kind)) == 3
        ends_m = segments_m[kind]
        middles_m = ends_m.mean(axis=1)[(np.abs(ends_m) < 590.0).all(axis=(1, 2))]
        cols, rows = ((middles_m - (occupancy.origin.x_m, occupancy.origin.y_m)) / 0.5).astype(int).T
        assert (occupancy.cells[rows, cols] == value).mean() > 0.9
    road = map_segments_m(FakeMap())["road"].reshape(-1, 2)
    assert np.abs(road[:, 1]).max() == pytest.approx(3.0, abs=0.6)


def test_the_belief_peaks_at_the_pose_of_the_volume():
    found = belief_slice(estimate(SE2()))
    row, col = np.unravel_index(int(found.cells.argmax()), found.cells.shape)
    # bin y 6, x 3 of 9: shifts of 1.0 and -0.5 m from the prior at (10, 20)
    assert found.origin.x_m + (col + 0.5) * found.cell_m == pytest.approx(9.5)
    assert found.origin.y_m + (row + 0.5) * found.cell_m == pytest.approx(21.0)
    assert found.cells.max() == OCCUPIED


def test_the_picture_of_the_attention_has_ahead_up(town_drive):
    drive, source = town_drive
    locator = open_localizer("default", source)
    truth = source.frame.map_from_ego(drive[0].truth)
    scan = drive[0].scan
    ahead = scan.select((scan.xyz[:, 0] > 0) & (np.abs(scan.xyz[:, 1]) < 10.0))
    picture = attention_picture(locator, ahead, locator.locate(ahead, truth, 5.0, 0.2))
    height = len(picture)
    bright = picture.astype(int).sum(axis=2)
    assert bright[: height // 2].sum() > 3 * bright[height // 2 :].sum()


def picture_message(pixels: np.ndarray, encoding: str, padding: int = 0) -> SimpleNamespace:
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)))
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=padded.shape[1], data=padded.astype(np.uint8).tobytes()
    )


@pytest.mark.parametrize(("encoding", "padding"), [("rgb8", 0), ("bgr8", 5), ("rgba8", 0)])
def test_a_picture_is_a_map(encoding, padding):
    pixels = np.zeros((100, 200, 4 if "a" in encoding else 3), np.uint8)
    red = 2 if encoding.startswith("bgr") else 0
    pixels[20:30, :, red] = 255  # a road in the upper part: north
    values = {"map_image_lat_deg": 49.0, "map_image_lon_deg": 8.0, "map_image_legend": '{"#ff0000": "road"}'}
    source = map_of_image(picture_message(pixels, encoding, padding), parse_parameters(values))
    x_min_m, y_min_m, x_max_m, y_max_m = source.bounds_m
    assert (x_max_m - x_min_m, y_max_m - y_min_m) == (pytest.approx(100.0, abs=0.1), pytest.approx(50.0, abs=0.1))
    occupancy = occupancy_of_map(source, 0.5)
    rows = np.flatnonzero((occupancy.cells == FREE).any(axis=1)) * 0.5 + occupancy.origin.y_m
    assert rows.min() == pytest.approx(10.0, abs=0.6)  # row 30 of 100, half a metre each, from the top
    assert rows.max() == pytest.approx(15.0, abs=0.6)
    assert source.frame.metres_from_degrees(49.0, 8.0) == pytest.approx((0.0, 0.0), abs=0.01)


@pytest.mark.parametrize(
    ("changes", "values", "said"),
    [
        ({"encoding": "jpeg"}, {}, "encoding 'jpeg'"),
        ({"height": 1000}, {}, "declares 1000 rows"),
        ({"height": 0}, {}, "declares 0 rows"),
        ({"step": 1}, {}, "rows of 1 bytes"),
        ({}, {"map_image_legend": "{"}, "no JSON"),
        ({}, {"map_image_legend": '{"#00ff00": "road"}'}, "shows nothing"),
        ({}, {"map_image_legend": '{"#ff0000": "raod"}'}, "legend"),
    ],
)
def test_a_picture_that_is_no_map_is_refused(changes, values, said):
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[5, :, 0] = 255
    message = picture_message(pixels, "rgb8")
    vars(message).update(changes)
    with pytest.raises(DataError, match=said):
        map_of_image(message, parse_parameters({"map_image_legend": '{"#ff0000": "road"}'} | values))


def test_a_map_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("bevfusion.ros.maps.CACHE", tmp_path)
    town = map_of_name("town:3")
    assert (tmp_path / "town_3.osm.gz").is_file()
    assert math.isclose(town.bounds_m[2], 600.0, abs_tol=1.0)
    with pytest.raises(DataError, match="town:SEED"):
        map_of_name("town:x")
    with pytest.raises(DataError, match="nowhere"):
        map_of_name("nowhere.osm")

import math
from types import SimpleNamespace

import numpy as np
import pytest

from bevfusion.ros.maps import map_of_image, map_of_name
from bevfusion.ros.parameters import parse_parameters
from bevfusion.ros.visualization import FREE, occupancy_of_map
from bevfusion.structures import DataError


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

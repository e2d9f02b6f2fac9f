"""What is said of the streets of a map, and written."""

import json

import numpy as np
import pytest

from bevfusion.geometry.se2 import SE2
from bevfusion.maps.expected_spread import ExpectedSpread, StreetPiece
from bevfusion.maps.features import OsmMap, Road
from bevfusion.maps.render import OsmRenderer
from bevfusion.streets import Pieces, as_dict, median_spread, predict_streets, streets_of, write_streets
from tests.simulate.scenes import FRAME


def piece(name: str, length_m: float, along_m: float) -> tuple[StreetPiece, ExpectedSpread]:
    course = np.array([[0.0, 0.0], [length_m, 0.0]])
    return StreetPiece(name, "residential", course, SE2(0.5 * length_m, 0.0, 0.0)), ExpectedSpread(along_m, 0.5, 1.0)


PIECES: Pieces = [piece("Long", 30.0, 9.0), piece("Short", 10.0, 2.0), piece("Long", 10.0, 1.0), piece("", 5.0, 20.0)]


@pytest.fixture
def source() -> OsmRenderer:
    roads = tuple(
        Road("residential", np.array([[x, -150.0], [x, 150.0]]), (i, 50 + i), 5.5, 0, True, name=f"Street {i}")
        for i, x in enumerate((-100.0, 0.0, 100.0))
    )
    return OsmRenderer(OsmMap(FRAME, (-200.0, -200.0, 200.0, 200.0), roads, (), (), (), "three"))


def test_streets_have_the_medians_of_their_length_and_the_worst_comes_first():
    streets = streets_of(PIECES)
    assert [(street.name, street.length_m, street.spread.along_m) for street in streets] == [
        ("Long", 40.0, 9.0),
        ("Short", 10.0, 2.0),
    ]
    assert median_spread(PIECES) == ExpectedSpread(9.0, 0.5, 1.0)
    told = as_dict(PIECES)
    assert told["pieces"] == 4
    assert told["streets"][1] == {
        "name": "Short",
        "length_m": 10.0,
        "along_m": 2.0,
        "across_m": 0.5,
        "heading_deg": 1.0,
    }
    assert "median" not in as_dict([])


def test_only_streets_that_a_log_passes_are_asked(source):
    seen: list[int] = []
    passed = predict_streets(source, np.array([[-95.0, 0.0]]), lambda done, count: seen.append(count))
    assert {one.name for one, _ in passed} == {"Street 0"}
    assert 2 <= len(passed) <= 3  # within 30 m of the place
    assert seen == [len(passed)] * len(passed)
    assert all(spread.across_m < spread.along_m for _, spread in passed)


def test_streets_are_written_for_maps_and_as_a_picture(source, tmp_path):
    written = write_streets(tmp_path, PIECES, source)
    assert [path.name for path in written] == ["streets.geojson", "streets.png"]
    collection = json.loads(written[0].read_text(encoding="utf-8"))
    assert "OpenStreetMap contributors" in collection["attribution"]
    first = collection["features"][0]
    assert first["properties"] == {
        "name": "Long", "highway": "residential", "along_m": 9.0, "across_m": 0.5, "heading_deg": 1.0,
    }  # fmt: skip
    (lon0, lat0), (lon1, lat1) = first["geometry"]["coordinates"]
    assert (lat0, lon0) == pytest.approx((FRAME.origin_lat_deg, FRAME.origin_lon_deg), abs=1e-6)
    assert (lon1 - lon0) * 111_320.0 * np.cos(np.radians(lat0)) == pytest.approx(30.0, rel=0.01)
    assert lat1 == pytest.approx(lat0, abs=1e-6)
    assert written[1].read_bytes().startswith(b"\x89PNG")

"""Where an extract lies, whatever its header says."""

from pathlib import Path

import numpy as np
import pytest

from bevfusion.geometry.geodesy import GeoPose
from bevfusion.maps.osm import read_osm
from bevfusion.maps.render import OsmRenderer
from bevfusion.structures import DataError
from tests.maps.dialects import document, notes_of


def _street(lat: float, lon: float, step: float = 0.001, first: int = 1) -> str:
    east = (lon + step + 180.0) % 360.0 - 180.0
    return (
        f'<node id="{first}" lat="{lat}" lon="{lon}"/><node id="{first + 1}" lat="{lat + step}" lon="{east}"/>'
        f'<way id="{first}"><nd ref="{first}"/><nd ref="{first + 1}"/><tag k="highway" v="residential"/></way>'
    )


def _box(south: float, west: float, north: float, east: float) -> str:
    return f'<bounds minlat="{south}" minlon="{west}" maxlat="{north}" maxlon="{east}"/>'


def _read(folder: Path, *parts: str):
    path = folder / "street.osm"
    path.write_text(document(*parts))
    return read_osm(path)


def test_several_boxes_count_together(tmp_path: Path) -> None:
    boxes = _box(49.0, 8.40, 49.01, 8.41), _box(49.0, 8.42, 49.01, 8.44)
    for order in (boxes, boxes[::-1]):
        osm_map = _read(tmp_path, *order, _street(49.005, 8.405))
        assert (osm_map.frame.origin_lat_deg, osm_map.frame.origin_lon_deg) == pytest.approx((49.005, 8.42))
        assert osm_map.bounds_m == pytest.approx((-1464, -556, 1464, 556), abs=3)
    old = '<bound box="49.0,8.40,49.01,8.44" origin="Osmosis"/>'
    assert _read(tmp_path, old, _street(49.005, 8.405)).frame.origin_lon_deg == pytest.approx(8.42)


@pytest.mark.parametrize("box", [_box(10, 8.4, 10.1, 8.5), _box(49, 8.5, 49.1, 8.6)])
def test_a_box_elsewhere_is_not_believed(box: str, tmp_path: Path) -> None:
    osm_map = _read(tmp_path, box, _street(49.0, 8.4))
    assert np.abs(osm_map.roads[0].xy_m).max() < 100
    assert not OsmRenderer(osm_map).covers(3000.0, 0.0)
    assert notes_of(osm_map, "bounds") == [("warning", None, None)]


@pytest.mark.parametrize("box", [_box(49.1, 8.3, 48.9, 8.5), _box(-90, -180, 90, 180), _box(40, 0, 55, 15)])
def test_a_box_that_is_none_or_half_the_world_is_left(box: str, tmp_path: Path) -> None:
    osm_map = _read(tmp_path, box, _street(49.0, 8.4))
    assert osm_map.bounds_m == pytest.approx((-37, -56, 37, 56), abs=1)
    assert len(notes_of(osm_map, "bounds")) == 1


@pytest.mark.parametrize("box", [_box(48.3, 7.4, 49.7, 9.4), _box(48.9, 8.3, 49.1, 8.5)])
def test_a_box_of_the_file_that_a_part_was_taken_from_is_not_believed(box: str, tmp_path: Path) -> None:
    """Programs that pick features by their tags keep the header of the region."""
    osm_map = _read(tmp_path, box, _street(49.05, 8.42))
    assert osm_map.frame.origin_lat_deg == pytest.approx(49.05, abs=1e-3)
    assert not OsmRenderer(osm_map).covers(2000.0, 0.0)
    assert notes_of(osm_map, "bounds") == [("warning", None, None)]


def test_a_box_that_its_features_fill_thinly_is_believed(tmp_path: Path) -> None:
    osm_map = _read(tmp_path, _box(48.9, 8.3, 49.1, 8.5), _street(48.91, 8.31), _street(49.0, 8.4, first=10))
    assert osm_map.frame.origin_lat_deg == pytest.approx(49.0)
    assert OsmRenderer(osm_map).covers(5000.0, 9000.0)
    assert notes_of(osm_map, "bounds") == []


def test_a_vertex_far_from_all_others_is_named(tmp_path: Path) -> None:
    streets = [_street(49.0 + 1e-3 * number, 8.4, first=1 + 10 * number) for number in range(4)]
    stray = '<node id="90" lat="0" lon="0"><tag k="natural" v="tree"/></node>'
    with pytest.raises(DataError, match=r"200 km; 1 of its 9 vertices lie far .* latitude 0, longitude 0; cut"):
        _read(tmp_path, *streets, stray)


def test_swapped_coordinates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="swapped"):
        _read(tmp_path, _box(48.99, 8.39, 49.01, 8.41), _street(8.4, 49.0))


@pytest.mark.parametrize("header", ["", _box(-17.0, 179.99, -16.98, -179.99)])
def test_across_the_antimeridian(header: str, tmp_path: Path) -> None:
    osm_map = _read(tmp_path, header, _street(-16.99, 179.9995))
    (road,) = osm_map.roads
    assert np.hypot(*(road.xy_m[1] - road.xy_m[0])) == pytest.approx(153.5, abs=1.0)
    assert np.abs(osm_map.bounds_m).max() < 1200
    pose = osm_map.frame.map_from_ego(GeoPose(-16.99, -179.9999))
    assert OsmRenderer(osm_map).covers(pose.x_m, pose.y_m)
    assert abs(abs(osm_map.frame.origin_lon_deg) - 180.0) < 0.01


def test_poles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="89 degrees"):
        _read(tmp_path, _street(-89.99, 10.0))

"""Rings put together from ways, and what an extract leaves of them."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from bevfusion.maps.multipolygons import assembled_partly, enclosed, is_closed, mended
from tests.maps.dialects import kinds_of, notes_of, read_text
from tests.maps.osm_text import OsmText

_BOX = (-100.0, -100.0, 100.0, 100.0)


def _area(polygons: tuple[shapely.Polygon, ...]) -> float:
    return float(sum(polygon.area for polygon in polygons))


def _course(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64)


def _square(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return _course((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))


def test_islands_in_holes_are_filled() -> None:
    courses = [_square(0, 0, 60, 60), _square(10, 10, 50, 50), _square(20, 20, 30, 30)]
    assert _area(enclosed(courses)) == pytest.approx(3600 - 1600 + 100)


def test_rings_may_touch_and_ways_run_either_way() -> None:
    halves = [_course((0, 0), (40, 0), (40, 40)), _course((0, 0), (0, 40), (40, 40))]
    assert _area(enclosed([*halves, _square(40, 40, 50, 50)])) == pytest.approx(1700)
    assert is_closed(np.array([[1, 2], [1, 2], [3, 3]]))
    assert not is_closed(np.array([[1, 2], [2, 3]]))


def test_what_crosses_itself_is_mended() -> None:
    bow_tie = shapely.Polygon([(0, 0), (40, 40), (40, 0), (0, 40)])
    assert _area(mended(bow_tie)) == pytest.approx(800)


def test_an_open_ring_is_closed_at_the_box() -> None:
    corner = _course((-30, -130), (-30, -60), (20, -60), (20, -120))
    result = assembled_partly([corner], [_square(0, -80, 10, -70)], _BOX)
    assert (result.whole, result.closed_at_box) == (True, True)
    assert _area(result.polygons) == pytest.approx(50 * 40 - 100)


def test_a_ring_that_ends_in_the_box_is_not_closed() -> None:
    half = _course((-30, -130), (-30, 0), (20, 0))
    assert assembled_partly([half], [], _BOX).polygons == ()
    assert not assembled_partly([half], [], _BOX).whole
    assert assembled_partly([_course((-30, -130), (-30, 20), (20, -130))], [], None).polygons == ()


def test_which_side_of_half_the_box_is_inside_is_not_guessed_but_told_by_a_hole() -> None:
    middle = _course((-130, 0), (130, 10))
    assert assembled_partly([middle], [], _BOX).polygons == ()
    told = assembled_partly([middle], [_square(0, 50, 10, 60)], _BOX)
    assert _area(told.polygons) == pytest.approx(20000 - 1000 - 100, rel=0.06)
    assert all(polygon.centroid.y > 0 for polygon in told.polygons)


def test_holes_without_their_ring_are_no_areas() -> None:
    assert assembled_partly([], [_square(0, 0, 10, 10)], _BOX).polygons == ()


def _polygons(text: OsmText, folder: Path) -> dict[str, float]:
    areas: dict[str, float] = {}
    for area in read_text(text, folder).areas:
        areas[area.kind] = areas.get(area.kind, 0.0) + shapely.Polygon(area.outer_m, area.holes_m).area
    return areas


def test_old_multipolygons_of_two_outer_ways_keep_building_and_hole(osm_text: OsmText, tmp_path: Path) -> None:
    a, b, c, d = (osm_text.node(*p) for p in ((0, 0), (40, 0), (40, 40), (0, 40)))
    halves = [osm_text.way([a, b, c], {"building": "yes"}), osm_text.way([c, d, a], {"building": "yes"})]
    hole = osm_text.box(10, 10, 30, 30, {})
    tags = {"type": "multipolygon", "created_by": "JOSM", "name": "Court", "addr:city": "X"}
    osm_text.relation([*((way, "outer") for way in halves), (hole, "inner")], tags)
    assert _polygons(osm_text, tmp_path) == {"building": pytest.approx(1200, rel=1e-3)}


def test_an_outer_way_with_the_tags_again_fills_no_court(osm_text: OsmText, tmp_path: Path) -> None:
    outer = osm_text.box(0, 0, 40, 40, {"building": "apartments"})
    osm_text.relation([(outer, "outer"), (osm_text.box(10, 10, 30, 30, {}), "inner")],
                      {"type": "multipolygon", "building": "yes"})  # fmt: skip
    assert _polygons(osm_text, tmp_path) == {"building": pytest.approx(1200, rel=1e-3)}


def test_an_inner_way_with_the_very_tags_is_a_hole_and_another_an_area(osm_text: OsmText, tmp_path: Path) -> None:
    farm = {"landuse": "farmland"}
    outer, same = osm_text.box(0, 0, 40, 40, farm), osm_text.box(10, 10, 20, 20, farm)
    pond = osm_text.box(25, 25, 30, 30, {"natural": "water"})
    members = [(outer, "outer"), (same, "inner"), (pond, "inner")]
    osm_text.relation(members, {"type": "multipolygon", **farm})
    assert _polygons(osm_text, tmp_path) == {
        "vegetation": pytest.approx(1600 - 100 - 25, rel=1e-3),
        "water": pytest.approx(25, rel=1e-2),
    }


def test_relations_in_relations_are_followed(osm_text: OsmText, tmp_path: Path) -> None:
    a, b, c, d = (osm_text.node(*p) for p in ((0, 0), (40, 0), (40, 40), (0, 40)))
    osm_text.relation([(osm_text.way([a, b, c], {}), "")], {"type": "side"})
    side = osm_text.count
    osm_text.relation([(osm_text.way([c, d, a], {}), "outer")], {"type": "multipolygon", "natural": "water"})
    whole = f'<member type="relation" ref="{side}" role="outer"/><tag k="type"'
    osm_text.relations[-1] = osm_text.relations[-1].replace('<tag k="type"', whole)
    assert _polygons(osm_text, tmp_path) == {"water": pytest.approx(1600, rel=1e-3)}


def test_protected_areas_are_boundaries(osm_text: OsmText, tmp_path: Path) -> None:
    ring = osm_text.box(0, 0, 40, 40, {})
    osm_text.relation([(ring, "outer")], {"type": "boundary", "leisure": "nature_reserve"})
    assert _polygons(osm_text, tmp_path) == {"vegetation": pytest.approx(1600, rel=1e-3)}


def test_what_the_extract_cuts_off_is_told(osm_text: OsmText, tmp_path: Path) -> None:
    """Extracts of complete ways hold the outer way that touches the box, and not the one beyond it."""
    inside = osm_text.line([(-20, 230), (-20, 150), (40, 150), (40, 220)], {})
    osm_text.relation([(inside, "outer"), (9999, "outer")], {"type": "multipolygon", "building": "yes"})
    half = osm_text.line([(0, 0), (50, 0)], {})
    osm_text.relation([(half, "outer"), (9998, "outer")], {"type": "multipolygon", "natural": "water"})
    osm_text.line([(0, 0), (50, 0)], {"highway": "service"})
    osm_map = read_text(osm_text, tmp_path)
    assert kinds_of(osm_map) == (["service"], ["building"], [], [])
    (area,) = osm_map.areas
    assert shapely.Polygon(area.outer_m).area == pytest.approx(60 * 50, rel=1e-2)
    assert notes_of(osm_map, "multipolygons") == [("assumed", 1, 2), ("lost", 1, 2)]


def test_an_area_far_beyond_the_box_is_cut(osm_text: OsmText, tmp_path: Path) -> None:
    osm_text.box(-90_000, -80_000, 90_000, 80_000, {"landuse": "forest"})
    osm_text.line([(0, 0), (50, 0)], {"highway": "service"})
    (area,) = read_text(osm_text, tmp_path).areas
    np.testing.assert_allclose(np.abs(area.outer_m), 1200.0, atol=5.0)


def test_outer_ways_of_two_kinds_are_each_what_they_say(osm_text: OsmText, tmp_path: Path) -> None:
    wood = osm_text.box(0, 0, 40, 40, {"landuse": "forest"})
    lake = osm_text.box(60, 0, 80, 20, {"natural": "water"})
    hole = osm_text.box(10, 10, 30, 30, {})
    osm_text.relation([(wood, "outer"), (lake, "outer"), (hole, "inner")], {"type": "multipolygon"})
    assert _polygons(osm_text, tmp_path) == {
        "vegetation": pytest.approx(1200, rel=1e-2),
        "water": pytest.approx(400, rel=1e-2),
    }

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely

from bevfusion.maps.osm import read_osm
from bevfusion.maps.tags import building_height_m, oneway_direction, parse_length_m, road_width_m
from bevfusion.structures import DataError
from tests.maps.osm_text import CENTRE, OsmText

Write = Callable[[OsmText], Path]


def _polygon(area) -> shapely.Polygon:
    return shapely.Polygon(area.outer_m, area.holes_m)


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        *(("12", 12.0), ("12.5 m", 12.5), ("3,5", 3.5), ("3;4", 3.0), ("40'", 12.192), ("6'6\"", 1.9812)),
        *(("12 ft", 3.6576), ("~2 m", 2.0), ("250 cm", 2.5), (" 4m", 4.0), ("0", 0.0), ("2 meters", 2.0)),
        *((None, None), ("", None), ("narrow", None), ("-3", None), ("nan", None), ("1e", None)),
        *(("3.5metres", 3.5), ("7.5mt", 7.5), ("30 FT", 9.144), ("16\N{PRIME}3\N{DOUBLE PRIME}", 4.953)),
        *(("40\N{PRIME}", 12.192), ('72"', 1.8288), ("12 in", 0.3048), ("10 yd", 9.144), ("6.5km/h", None)),
        *(("3,5 m", 3.5), ("10'6\"", 3.2004), ("0.006 km", 6.0), ("2 METERS", 2.0), ("1.5 mi", 2414.016)),
        *(("5-7", 6.0), ("5 m - 7 m", 6.0), ("5\N{EN DASH}7 m", 6.0), ("7-5", None), ("5-", None), ("2x3", None)),
        *(
            ("6'-3\"", 1.905),
            ("6 ft - 8 ft", 2.1336),
            ("3,5 м", 3.5),
            ("10 метров", 10.0),
            ("5米", 5.0),
            ("5 кг", None),
        ),
        *(("12 m2", None), ("3 m (approx)", None), ("4 m; 5 m", 4.0), ("9" * 5000, None), ("6ft6in", 1.9812)),
    ],
)
def test_lengths_as_people_type_them(text: str | None, metres: float | None) -> None:
    assert parse_length_m(text) == (None if metres is None else pytest.approx(metres))


def test_width_is_tagged_else_from_lanes_else_the_default() -> None:
    assert road_width_m({"highway": "residential", "width": "7 m", "lanes": "4"}) == 7.0
    assert road_width_m({"highway": "residential", "lanes": "2"}) == 6.5
    assert road_width_m({"highway": "residential", "width": "350"}) == 5.5
    assert road_width_m({"highway": "footway", "lanes": "2"}) == 2.0


def test_direction_of_one_way_streets() -> None:
    assert [oneway_direction({"highway": "primary", "oneway": v}) for v in ("yes", "-1", "no", "reversible")] == [
        1,
        -1,
        0,
        0,
    ]
    assert oneway_direction({"highway": "residential", "oneway": "True"}) == 1
    assert oneway_direction({"highway": "motorway"}) == 1
    assert oneway_direction({"highway": "motorway", "oneway": "no"}) == 0
    assert oneway_direction({"highway": "tertiary", "junction": "roundabout"}) == 1


def test_heights_of_buildings() -> None:
    assert building_height_m({"height": "12 m", "building:levels": "9"}) == 12.0
    assert building_height_m({"building:levels": "3;4"}) == 9.0
    assert building_height_m({"building:levels": "2", "roof:levels": "1"}) == 9.0
    assert building_height_m({"height": "tall"}) is None


def test_road_comes_back_in_metres(osm_text: OsmText, write_osm: Write) -> None:
    tags = {"highway": "primary", "oneway": "-1", "width": "9", "bridge": "yes", "name": "High Street"}
    osm_text.line([(-50.0, 10.0), (0.0, 20.0), (60.0, -5.0)], tags)
    osm_map = read_osm(write_osm(osm_text))
    (road,) = osm_map.roads
    np.testing.assert_allclose(road.xy_m, [(-50, 10), (0, 20), (60, -5)], atol=0.02)
    assert (road.kind, road.width_m, road.oneway, road.drivable, road.bridge) == ("primary", 9.0, -1, True, True)
    assert road.name == "High Street"
    assert road.node_ids == (1, 2, 3)
    assert osm_map.frame.origin_lat_deg == pytest.approx(CENTRE.origin_lat_deg, abs=1e-6)
    np.testing.assert_allclose(osm_map.bounds_m, (-200, -200, 200, 200), atol=0.05)
    assert osm_map.name == "small"


def test_frame_without_box_is_at_the_centre_of_the_nodes(osm_text_without_box: OsmText, write_osm: Write) -> None:
    osm_text_without_box.line([(10.0, 40.0), (110.0, 240.0)], {"highway": "service"})
    osm_map = read_osm(write_osm(osm_text_without_box))
    np.testing.assert_allclose(osm_map.bounds_m, (-50, -100, 50, 100), atol=0.1)


def test_multipolygon_with_hole(osm_text: OsmText, write_osm: Write) -> None:
    outer = osm_text.box(0, 0, 40, 40, {})
    inner = osm_text.box(10, 10, 30, 30, {})
    osm_text.relation([(outer, "outer"), (inner, "inner")], {"type": "multipolygon", "building": "yes", "height": "10"})
    (area,) = read_osm(write_osm(osm_text)).areas
    assert (area.kind, area.height_m, len(area.holes_m)) == ("building", 10.0, 1)
    assert _polygon(area).area == pytest.approx(1600 - 400, rel=1e-3)


def test_outer_ring_of_several_ways(osm_text: OsmText, write_osm: Write) -> None:
    a, b, c, d = (osm_text.node(*p) for p in ((0, 0), (40, 0), (40, 40), (0, 40)))
    halves = [osm_text.way([a, b, c], {}), osm_text.way([c, d, a], {})]
    osm_text.relation([(way, "outer") for way in halves], {"type": "multipolygon", "natural": "water"})
    (area,) = read_osm(write_osm(osm_text)).areas
    assert area.kind == "water"
    assert _polygon(area).area == pytest.approx(1600, rel=1e-3)


def test_multipolygon_of_the_old_kind_keeps_its_hole(osm_text: OsmText, write_osm: Write) -> None:
    outer = osm_text.box(0, 0, 40, 40, {"building": "yes"})
    inner = osm_text.box(10, 10, 30, 30, {})
    osm_text.relation([(outer, "outer"), (inner, "inner")], {"type": "multipolygon"})
    (area,) = read_osm(write_osm(osm_text)).areas
    assert _polygon(area).area == pytest.approx(1200, rel=1e-3)


@pytest.mark.parametrize(
    "hidden",
    [
        *({"tunnel": "yes"}, {"tunnel": "culvert"}, {"location": "underground"}, {"indoor": "yes"}),
        *({"level": "-1"}, {"tunnel": "covered"}, {"level": "-2--1"}, {"level": "-1;-2"}, {"location": "indoor"}),
        {"level": "-1, -2"},
    ],
)
def test_what_lies_out_of_sight_is_dropped(hidden: dict[str, str], osm_text: OsmText, write_osm: Write) -> None:
    osm_text.line([(0, 0), (50, 0)], {"highway": "residential"})
    osm_text.line([(0, 10), (50, 10)], {"highway": "residential", **hidden})
    osm_text.line([(0, 20), (50, 20)], {"waterway": "stream", **hidden})
    osm_text.line([(0, 30), (50, 30)], {"railway": "rail", **hidden})
    osm_text.box(0, 40, 20, 60, {"building": "yes", **hidden})
    osm_text.node(0, 80, {"highway": "street_lamp", **hidden})
    osm_map = read_osm(write_osm(osm_text))
    assert (len(osm_map.roads), len(osm_map.areas), len(osm_map.lines), len(osm_map.points)) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    "shown",
    [
        *({"tunnel": "building_passage"}, {"tunnel": "no"}, {"layer": "1"}, {"level": "0;-1"}, {"covered": "no"}),
        *({"layer": "-1"}, {"layer": "-1;0"}, {"level": "-1-1"}, {"level": "-1;0"}, {"level": "5-7"}),
    ],
)
def test_what_is_in_sight_is_kept(shown: dict[str, str], osm_text: OsmText, write_osm: Write) -> None:
    osm_text.line([(0, 10), (50, 10)], {"highway": "residential", **shown})
    assert len(read_osm(write_osm(osm_text)).roads) == 1


def test_what_is_not_there_is_dropped(osm_text: OsmText, write_osm: Write) -> None:
    osm_text.line([(0, 0), (50, 0)], {"highway": "residential"})
    for kind in ("proposed", "construction", "razed", "elevator", "corridor", "no"):
        osm_text.line([(0, 10), (50, 10)], {"highway": kind})
    osm_text.line([(0, 0), (50, 0)], {"railway": "abandoned"})
    osm_text.box(0, 40, 20, 60, {"building": "roof"})
    osm_map = read_osm(write_osm(osm_text))
    assert (len(osm_map.roads), len(osm_map.areas), len(osm_map.lines)) == (1, 0, 0)


def test_lines_points_streams_and_squares(osm_text: OsmText, write_osm: Write) -> None:
    lines = ["wall", "fence", "hedge", "kerb"]
    for kind in lines:
        osm_text.line([(0, 0), (50, 0)], {"barrier": kind})
    osm_text.line([(0, 0), (50, 0)], {"natural": "tree_row"})
    osm_text.line([(0, 0), (50, 0)], {"railway": "tram"})
    osm_text.line([(0, 0), (50, 0)], {"waterway": "stream", "width": "4"})
    osm_text.box(0, 0, 20, 20, {"highway": "pedestrian", "area": "yes"})
    osm_text.box(0, 0, 20, 20, {"highway": "residential"})  # a loop of road, no square
    points = {"tree": ("natural", "tree"), "pole": ("power", "pole"), "lamp": ("highway", "street_lamp")}
    points |= {"sign": ("traffic_sign", "DE:206"), "signal": ("highway", "traffic_signals")}
    for key, value in points.values():
        osm_text.node(5, 5, {key: value})
    osm_map = read_osm(write_osm(osm_text))
    assert sorted(line.kind for line in osm_map.lines) == sorted([*lines, "tree_row", "rail"])
    assert sorted(point.kind for point in osm_map.points) == sorted(points)
    areas = {area.kind: _polygon(area).area for area in osm_map.areas}
    assert areas == {"water": pytest.approx(200, rel=1e-2), "path": pytest.approx(400, rel=1e-2)}
    assert [road.kind for road in osm_map.roads] == ["residential"]


def test_ways_are_cut_where_nodes_are_missing(osm_text: OsmText, write_osm: Write) -> None:
    nodes = [osm_text.node(10.0 * i, 0) for i in range(5)]
    osm_text.way([nodes[0], nodes[1], 9999, nodes[2], 9998, nodes[3], nodes[4]], {"highway": "residential"})
    osm_text.way([nodes[0], 9999, nodes[2], nodes[3], nodes[0]], {"building": "yes"})
    osm_text.way([9997, 9998], {"highway": "residential"})
    osm_map = read_osm(write_osm(osm_text))
    assert [road.node_ids for road in osm_map.roads] == [tuple(nodes[:2]), tuple(nodes[3:])]
    assert len(osm_map.areas) == 0


def test_packed_files_equal_the_plain_one(osm_text: OsmText, write_osm: Write, tmp_path: Path) -> None:
    osm_text.line([(0, 0), (50, 0)], {"highway": "residential"})
    plain = write_osm(osm_text)
    (tmp_path / "a.osm.bz2").write_bytes(bz2.compress(plain.read_bytes()))
    (tmp_path / "b.OSM.GZ").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "c.xml").write_bytes(plain.read_bytes())
    for name in ("a.osm.bz2", "b.OSM.GZ", "c.xml"):
        osm_map = read_osm(tmp_path / name)
        assert osm_map.name == name[0]
        np.testing.assert_array_equal(osm_map.roads[0].xy_m, read_osm(plain).roads[0].xy_m)


_BOMB = """<?xml version="1.0"?><!DOCTYPE osm [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<osm version="0.6"><node id="1" lat="49" lon="8"><tag k="name" v="&b;"/></node></osm>"""
_FILE_ENTITY = """<?xml version="1.0"?><!DOCTYPE osm [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<osm version="0.6"><node id="1" lat="49" lon="8"><tag k="name" v="&a;"/></node></osm>"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.osm", b""),
        ("text.osm", b"hello\n"),
        ("text.osm.pbf", b"hello\n"),
        ("text.osm.bz2", b"hello\n"),
        ("text.osm.gz", b"hello\n"),
        ("page.osm", b"<html><body>404</body></html>"),
        ("bomb.osm", _BOMB.encode()),
        ("entity.osm", _FILE_ENTITY.encode()),
        ("off_the_globe.osm", b'<osm version="0.6"><node id="1" lat="999" lon="2"/></osm>'),
        ("no_number.osm", b'<osm version="0.6"><node id="1" lat="nan" lon="2"/></osm>'),
        ("old.osm", b'<osm version="0.3"><node id="1" lat="9" lon="2"/></osm>'),
        ("bad_id.osm", b'<osm version="0.6"><node id="x" lat="9" lon="2"/></osm>'),
        ("bytes.osm", b'<osm version="0.6"><node id="1" lat="9" lon="2"><tag k="a" v="\xff\xfe"/></node></osm>'),
        ("bare.osm", b'<osm version="0.6"><node id="1" lat="49" lon="8"/></osm>'),
        ("long_id.osm", b'<osm version="0.6"><node id="' + b"9" * 5000 + b'" lat="49" lon="8"/></osm>'),
        ("no_id.osm", b'<osm version="0.6"><node lat="49" lon="8"/></osm>'),
        ("deep.json", b'{"elements": ' + b"[" * 200_000),
        ("long.json", b'{"elements": [{"type": "node", "id": ' + b"9" * 5000 + b', "lat": 1, "lon": 1}]}'),
        ("wrong.json", b'{"elements": [{"type": "node"}]}'),
        ("places.json", b'{"type": "FeatureCollection", "features": []}'),
        ("roads.osm", b"<gpx></gpx>"),
    ],
)
def test_bad_files_say_so_in_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_osm(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".osm", ".osm.bz2", ".osm.gz"])
def test_truncated_files(suffix: str, osm_text: OsmText, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for x, y in rng.uniform(-90, 90, (500, 2)):
        osm_text.node(x, y, {"natural": "tree"})
    pack = {".osm": bytes, ".osm.bz2": bz2.compress, ".osm.gz": gzip.compress}[suffix]
    content = pack(str(osm_text).encode())
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cut"):
        read_osm(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.osm", tmp_path):
        with pytest.raises(DataError, match="not a file"):
            read_osm(path)


def test_half_a_continent_is_no_extract(osm_text_without_box: OsmText, write_osm: Write) -> None:
    osm_text_without_box.line([(-300e3, 0), (300e3, 0)], {"highway": "motorway"})
    with pytest.raises(DataError, match="200 km"):
        read_osm(write_osm(osm_text_without_box))


@pytest.mark.fuzz
def test_mutated_pbf_never_crashes(shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / "maps" / "karlsruhe-oststadt_de.osm.pbf").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "mutated.osm.pbf"
    for _ in range(30):
        broken = bytearray(content)
        for at in rng.integers(0, len(broken), 3):
            broken[at] = int(rng.integers(256))
        path.write_bytes(bytes(broken))
        try:
            read_osm(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "roads", "buildings"),
    [
        ("maps/kitti_05.osm.bz2", 306, 622),
        ("maps/world/villeurbanne-gratteciel_fr.osm.pbf", 247, 2009),
        ("formats/osm/West-Oakland.osm.bz2", 31, 23),
        ("formats/osm/planet_10.068,48.135_10.071,48.137.osm", 14, 33),
        ("formats/osm/test.osm.pbf", 322, 2212),
    ],
)
def test_real_extracts(name: str, roads: int, buildings: int, shared_data: Path) -> None:
    osm_map = read_osm(shared_data / name)
    assert len(osm_map.roads) == roads
    assert sum(area.kind == "building" for area in osm_map.areas) == buildings
    assert all(np.isfinite(road.xy_m).all() for road in osm_map.roads)
    x0, y0, x1, y1 = osm_map.bounds_m
    assert abs(x0 + x1) < 1.0
    assert abs(y0 + y1) < 1.0


def test_map_of_another_kind_holds_nothing_to_draw(shared_data: Path) -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        read_osm(shared_data / "maps" / "karlsruhe_lanelet2.osm")

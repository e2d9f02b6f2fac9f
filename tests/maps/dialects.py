"""A small town in the dialects of programs that export OpenStreetMap data, and what has to be read of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely

from bevfusion.maps.features import OsmMap
from bevfusion.maps.osm import read_osm
from tests.maps.osm_text import CENTRE, OsmText

NODES: Mapping[int, tuple[float, float]] = {
    1: (-50.0, 10.0),
    2: (0.0, 20.0),
    3: (60.0, -5.0),
    4: (0.0, 30.0),
    5: (40.0, 30.0),
    6: (40.0, 70.0),
    7: (0.0, 70.0),
    8: (10.0, 40.0),
    9: (20.0, 40.0),
    10: (20.0, 50.0),
    11: (10.0, 50.0),
    12: (5.0, 5.0),
}
"""Metres east and north of `CENTRE`."""

TREE = {12: {"natural": "tree"}}
WAYS: Mapping[int, tuple[tuple[int, ...], Mapping[str, str]]] = {
    21: ((1, 2, 3), {"highway": "residential"}),
    22: ((4, 5, 6, 7, 4), {}),
    23: ((8, 9, 10, 11, 8), {}),
}
RELATION = 31
RELATION_TAGS = {"type": "multipolygon", "building": "yes", "height": "9"}
MEMBERS = ((22, "outer"), (23, "inner"))


def place(node: int) -> tuple[float, float]:
    """Latitude and longitude."""
    lat, lon = CENTRE.degrees_from_metres(*NODES[node])
    return round(lat, 7), round(lon, 7)


def at(node: int) -> str:
    """The attributes of a node's place."""
    lat, lon = place(node)
    return f'lat="{lat}" lon="{lon}"'


def tags_xml(tags: Mapping[str, str]) -> str:
    return "".join(f'<tag k="{key}" v="{value}"/>' for key, value in tags.items())


def node_xml(node: int, more: str = "", sign: int = 1) -> str:
    return f'<node id="{sign * node}" {at(node)} {more}>{tags_xml(TREE.get(node, {}))}</node>'


def way_xml(way: int, more: str = "", sign: int = 1, inlined: bool = False, tagged: bool = True) -> str:
    nodes, tags = WAYS[way]
    tags = tags if tagged else {}
    refs = "".join(f'<nd ref="{sign * node}" {at(node) if inlined else ""}/>' for node in nodes)
    return f'<way id="{sign * way}" {more}>{refs}{tags_xml(tags)}</way>'


def relation_xml(more: str = "", sign: int = 1) -> str:
    members = "".join(f'<member type="way" ref="{sign * way}" role="{role}"/>' for way, role in MEMBERS)
    return f'<relation id="{sign * RELATION}" {more}>{members}{tags_xml(RELATION_TAGS)}</relation>'


def document(*parts: str, root: str = "osm") -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><{root} version="0.6" generator="test">{"".join(parts)}</{root}>'


def town(more: str = "", sign: int = 1) -> str:
    """The town's elements in the plain order."""
    nodes, ways = (node_xml(node, more, sign) for node in NODES), (way_xml(way, more, sign) for way in WAYS)
    return "".join((*nodes, *ways, relation_xml(more, sign)))


def assert_is_town(osm_map: OsmMap) -> None:
    """Everything stands where it should, to a decimetre, whatever the origin."""
    (road,), (area,), (tree,) = osm_map.roads, osm_map.areas, osm_map.points
    shift = np.array(CENTRE.metres_from_degrees(osm_map.frame.origin_lat_deg, osm_map.frame.origin_lon_deg))
    np.testing.assert_allclose(road.xy_m + shift, [NODES[node] for node in WAYS[21][0]], atol=0.1)
    np.testing.assert_allclose(np.array([tree.x_m, tree.y_m]) + shift, NODES[12], atol=0.1)
    assert (road.kind, area.kind, area.height_m, tree.kind) == ("residential", "building", 9.0, "tree")
    polygon = shapely.Polygon(area.outer_m + shift, [hole + shift for hole in area.holes_m])
    expected = shapely.box(0, 30, 40, 70) - shapely.box(10, 40, 20, 50)
    assert polygon.symmetric_difference(expected).area < 10.0


def read_text(text: str | OsmText, folder: Path, name: str = "small.osm") -> OsmMap:
    """What is read of a document."""
    path = folder / name
    path.write_text(str(text), encoding="utf-8")
    return read_osm(path)


def kinds_of(osm_map: OsmMap) -> tuple[list[str], list[str], list[str], list[str]]:
    """Kinds of roads, areas, lines and points."""
    return (
        sorted(road.kind for road in osm_map.roads),
        sorted(area.kind for area in osm_map.areas),
        sorted(line.kind for line in osm_map.lines),
        sorted(point.kind for point in osm_map.points),
    )


def notes_of(osm_map: OsmMap, subject: str) -> list[tuple[str, int | None, int | None]]:
    """Kind, count and total of what a map says on a subject."""
    return [(note.kind, note.count, note.total) for note in osm_map.summary.notes if note.subject == subject]

"""OpenStreetMap files (XML, .gz, .bz2, .pbf) -> `OsmMap`, by pyosmium, streaming."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely
from jaxtyping import Float

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.maps import schema
from bevfusion.maps.features import Area, Line, OsmMap, Point, Road
from bevfusion.maps.tags import (
    building_height_m,
    earthwork,
    is_out_of_sight,
    oneway_direction,
    parse_length_m,
    plausible,
    road_grade,
    road_width_m,
)
from bevfusion.maps.traffic_side import left_hand_traffic_at, tagged_left_hand_traffic
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

FORMATS: Mapping[str, str] = {
    ".osm": "osm",
    ".xml": "osm",
    ".osm.gz": "osm.gz",
    ".xml.gz": "osm.gz",
    ".osm.bz2": "osm.bz2",
    ".xml.bz2": "osm.bz2",
    ".osm.pbf": "pbf",
    ".pbf": "pbf",
}
"""Suffix -> osmium's name of the format. The longest suffix that fits counts."""

MAX_EXTENT_M = 200_000.0
"""Beyond this the flat frame is a poor map, and the file no extract."""

Tags = dict[str, str]
_AREA = frozenset[schema.Geometry]({"area"})
_AREA_OR_BAND = frozenset[schema.Geometry]({"area", "band"})
_LINE = frozenset[schema.Geometry]({"line"})
_BAND = frozenset[schema.Geometry]({"band"})
_POINT = frozenset[schema.Geometry]({"point"})


def osm_format(path: Path) -> str | None:
    """Osmium's name of the format that a file's suffix stands for; None if it is no OpenStreetMap suffix."""
    name = path.name.lower()
    for suffix in sorted(FORMATS, key=len, reverse=True):
        if name.endswith(suffix):
            return FORMATS[suffix]
    return None


def _objects(path: Path, header_box: list[float]) -> Iterator[tuple[Any, Tags]]:
    """Tagged nodes and ways, and all areas, with their tags; puts the header's lon, lat, lon, lat into `header_box`.

    Raises:
        DataError: if osmium cannot read the file.
    """
    try:
        source = osmium.io.File(str(path), osm_format(path) or "")
        tagged = osmium.filter.EmptyTagFilter()
        tagged.enable_for(osmium.osm.NODE | osmium.osm.WAY)
        stream = osmium.FileProcessor(source).with_locations().with_areas().with_filter(tagged)
        box = stream.header.box()
        if box.valid():
            low, high = box.bottom_left, box.top_right
            header_box.extend((low.lon, low.lat, high.lon, high.lat))
        for item in stream:
            if isinstance(item, osmium.osm.Node | osmium.osm.Way | osmium.osm.Area):
                yield item, {tag.k: tag.v for tag in item.tags}
    except (RuntimeError, ValueError, IndexError, OverflowError, osmium.InvalidLocationError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a readable OpenStreetMap file ({reason}); fetch or export it again") from error


@dataclass
class _Collector:
    """Features with their coordinates as (start, stop) of one growing list: they are projected together at the end."""

    lon_lat: "array[float]" = field(default_factory=lambda: array("d"))
    roads: list[tuple[Tags, tuple[int, ...], tuple[int, int]]] = field(default_factory=list)
    areas: list[tuple[Tags, str, list[tuple[int, int]]]] = field(default_factory=list)
    lines: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    streams: list[tuple[float, tuple[int, int]]] = field(default_factory=list)
    points: list[tuple[str, int]] = field(default_factory=list)
    # multipolygons of the old kind carry their tags on the outer way, and the relation adds nothing but holes
    late_holes: dict[frozenset[int], list[tuple[int, int]]] = field(default_factory=dict)
    late_outers: dict[frozenset[int], int] = field(default_factory=dict)
    driving_sides: list[str] = field(default_factory=list)  # of boundaries and places

    def _runs(self, nodes: Any) -> Iterator[tuple[tuple[int, ...], tuple[int, int]]]:
        """The unbroken runs of a way: where its nodes are missing from the file, it is cut rather than bridged."""
        ids: list[int] = []
        start = len(self.lon_lat) // 2
        for node in nodes:
            location = node.location
            if location.valid():
                ids.append(node.ref)
                self.lon_lat.extend((location.lon, location.lat))
                continue
            if len(ids) > 1:
                yield tuple(ids), (start, start + len(ids))
            ids, start = [], len(self.lon_lat) // 2
        if len(ids) > 1:
            yield tuple(ids), (start, start + len(ids))

    def add_node(self, node: Any, tags: Tags) -> None:
        if "driving_side" in tags and "place" in tags:
            self.driving_sides.append(tags["driving_side"])
        kind = schema.layer_of_tags(tags, _POINT)
        if kind and node.location.valid() and not is_out_of_sight(tags):
            self.points.append((kind, len(self.lon_lat) // 2))
            self.lon_lat.extend((node.location.lon, node.location.lat))

    def add_way(self, way: Any, tags: Tags) -> None:
        if is_out_of_sight(tags):
            return
        band = schema.layer_of_tags(tags, _BAND)
        if band in ("road", "path") and not (tags.get("area") == "yes" and way.is_closed()):
            self.roads.extend((tags, ids, where) for ids, where in self._runs(way.nodes))
            return
        if tags.get("waterway") in schema.WATERWAY_WIDTHS_M and not way.is_closed():
            default_m = schema.WATERWAY_WIDTHS_M[tags["waterway"]]
            width_m = plausible(parse_length_m(tags.get("width")), 0.3, 2000.0) or default_m
            self.streams.extend((width_m, where) for _, where in self._runs(way.nodes))
        kind = "rail" if band == "rail" else schema.layer_of_tags(tags, _LINE)
        if kind:
            self.lines.extend((kind, where) for _, where in self._runs(way.nodes))

    def add_area(self, area: Any, tags: Tags) -> None:
        if "driving_side" in tags and "boundary" in tags:
            self.driving_sides.append(tags["driving_side"])
        drawn_as_area = tags.get("area") == "yes" or not area.from_way()
        kind = schema.layer_of_tags(tags, _AREA_OR_BAND if drawn_as_area else _AREA)
        if kind in (None, "rail") and area.from_way():
            return
        unseen = is_out_of_sight(tags) or kind == "rail" or tags.get("building") in schema.ROOFS_ON_POSTS
        if unseen or (kind is None and set(tags) - {"type", "source", "created_by", "name"}):
            return
        for outer in area.outer_rings():
            rings = [run for ring in (outer, *area.inner_rings(outer)) for run in self._runs(ring)]
            if not rings or rings[0][1][1] - rings[0][1][0] < 4:
                continue
            where = [span for _, span in rings]
            if kind is not None:
                self.late_outers[frozenset(rings[0][0])] = len(self.areas)
                self.areas.append((tags, kind, where))
            elif len(where) > 1:
                self.late_holes[frozenset(rings[0][0])] = where[1:]

    def features(
        self, frame: LocalFrame, bounds_m: tuple[float, float, float, float], name: str, summary: InputSummary
    ) -> OsmMap:
        lon_lat = np.frombuffer(self.lon_lat, dtype=np.float64).reshape(-1, 2)
        xy_m = frame.many_metres_from_degrees(np.ascontiguousarray(lon_lat[:, ::-1]))
        for ids, holes in self.late_holes.items():
            if ids in self.late_outers and len(self.areas[self.late_outers[ids]][2]) == 1:
                self.areas[self.late_outers[ids]][2].extend(holes)
        areas = [_area(tags, kind, [xy_m[a:b] for a, b in rings]) for tags, kind, rings in self.areas]
        for width_m, (a, b) in self.streams:
            areas.extend(_stream_areas(xy_m[a:b], width_m))
        return OsmMap(
            frame=frame,
            bounds_m=bounds_m,
            roads=tuple(_road(tags, ids, xy_m[a:b]) for tags, ids, (a, b) in self.roads),
            areas=tuple(areas),
            lines=tuple(Line(kind, xy_m[a:b]) for kind, (a, b) in self.lines),
            points=tuple(Point(kind, float(xy_m[at, 0]), float(xy_m[at, 1])) for kind, at in self.points),
            name=name,
            left_hand_traffic=self._left_hand_traffic(frame, summary),
            summary=summary,
        )

    def _left_hand_traffic(self, frame: LocalFrame, summary: InputSummary) -> bool:
        """What the tags say, else what the country has; the country is an assumption, and noted."""
        of_roads = [tags.get("driving_side") for tags, _, _ in self.roads if tags["highway"] in schema.ROAD_WIDTHS_M]
        by_country = left_hand_traffic_at(frame.origin_lat_deg, frame.origin_lon_deg)
        tagged = tagged_left_hand_traffic(self.driving_sides, of_roads)
        side = "left" if (by_country if tagged is None else tagged) else "right"
        if tagged is None:
            summary.add("assumed", "driving_side", f"traffic keeps to the {side}, as in the country of this place")
        elif tagged != by_country:
            summary.add("used", "driving_side", f"traffic keeps to the {side} by the tags, unlike in this country")
        return side == "left"


def _road(tags: Tags, ids: tuple[int, ...], xy_m: Float[np.ndarray, "n 2"]) -> Road:
    kind = tags["highway"]
    return Road(
        kind=kind,
        xy_m=xy_m,
        node_ids=ids,
        width_m=road_width_m(tags),
        oneway=oneway_direction(tags),
        drivable=kind in schema.ROAD_WIDTHS_M,
        bridge=tags.get("bridge", "no") != "no",
        name=tags.get("name", ""),
        grade=road_grade(tags),
        earthwork=earthwork(tags),
    )


def _area(tags: Tags, kind: str, rings_m: list[Float[np.ndarray, "_ 2"]]) -> Area:
    height_m = building_height_m(tags) if kind == "building" else None
    return Area(kind, rings_m[0], tuple(rings_m[1:]), height_m)


def _stream_areas(xy_m: Float[np.ndarray, "n 2"], width_m: float) -> list[Area]:
    """A watercourse that is mapped as a line, with its width."""
    banks = shapely.buffer(shapely.linestrings(xy_m), 0.5 * width_m, quad_segs=2, cap_style="flat")
    parts = [part for part in shapely.get_parts(banks) if not part.is_empty]
    return [
        Area("water", np.array(part.exterior.coords), tuple(np.array(ring.coords) for ring in part.interiors))
        for part in parts
    ]


def _frame_and_bounds(
    header_box: list[float], lon_lat: Float[np.ndarray, "n 2"], path: Path
) -> tuple[LocalFrame, tuple[float, float, float, float]]:
    """The frame at the centre of the header's box, or of the nodes where there is none (or one of half the world)."""
    nodes_box = [*lon_lat.min(axis=0), *lon_lat.max(axis=0)]
    boxes = [header_box, nodes_box] if header_box else [nodes_box]
    for west, south, east, north in boxes:
        frame = LocalFrame(float(0.5 * (south + north)), float(0.5 * (west + east)))
        corners_deg = np.array([[south, west], [south, east], [north, west], [north, east]], dtype=np.float64)
        if east - west < 10.0 and north - south < 10.0:
            corners_m = frame.many_metres_from_degrees(corners_deg)
            (x0, y0), (x1, y1) = corners_m.min(axis=0), corners_m.max(axis=0)
            if max(x1 - x0, y1 - y0) <= MAX_EXTENT_M:
                return frame, (float(x0), float(y0), float(x1), float(y1))
    raise DataError(f"{path} spans more than {MAX_EXTENT_M / 1000:.0f} km; cut an extract of the area you drive in")


def read_osm(path: Path) -> OsmMap:
    """Read an extract: roads, areas, lines and points above ground, in east-north metres about its centre.

    Ways are cut where the file lacks their nodes; features in tunnels, under the ground and indoors are left out, and
    roads on bridges are marked.

    Args:
        path: .osm, .xml, .osm.gz, .osm.bz2, .osm.pbf or .pbf.

    Raises:
        DataError: if the file is missing, broken, not OpenStreetMap, too wide, or holds nothing to draw.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give an OpenStreetMap extract ({', '.join(FORMATS)})")
    header_box: list[float] = []
    found = _Collector()
    for item, tags in _objects(path, header_box):
        if item.is_node():
            found.add_node(item, tags)
        elif item.is_way():
            found.add_way(item, tags)
        else:
            found.add_area(item, tags)
    if not (found.roads or found.areas or found.lines or found.streams or found.points):
        raise DataError(f"{path} holds nothing to draw: no roads, buildings, barriers or other mapped features")
    lon_lat = np.frombuffer(found.lon_lat, dtype=np.float64).reshape(-1, 2)
    frame, bounds_m = _frame_and_bounds(header_box, lon_lat, path)
    return found.features(frame, bounds_m, _stem(path), InputSummary(path.name))


def _stem(path: Path) -> str:
    """File name without the suffix of its format."""
    name = path.name
    fitting = max((s for s in FORMATS if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(fitting)]

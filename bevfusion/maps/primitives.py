"""Map features -> flat arrays of edges, segments and discs, sorted by place: what `maps/render.py` draws quickly.

All cutting and widening happens here, once; coordinates are metres in the map frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int

from bevfusion.maps.features import OsmMap
from bevfusion.maps.schema import LAYERS, layer_index

BUCKET_M = 32.0
"""Side of the squares that things are filed under."""

PIECE_M = 64.0
"""Larger areas are cut along a lattice of this step, so that a tile's cost does not depend on its neighbourhood."""

_SMALL_REACH_M = 128.0
"""Things that reach no farther from their centre are filed together."""

FILLED = tuple(i for i, layer in enumerate(LAYERS) if layer.geometry in ("area", "band"))
"""Layers that are filled, first among `LAYERS`: the channels of the winding numbers."""


@dataclass(frozen=True, slots=True)
class _Level:
    """Things of about one size."""

    start: int  # place of the first of them in memory
    keys: Int[np.ndarray, " n"]  # bucket of each thing (row * columns + column), ascending
    origin_m: tuple[float, float]
    columns: int
    rows: int
    bucket_m: float
    margin_m: float  # how far a thing can reach from its centre

    @classmethod
    def build(
        cls, start: int, bucket_m: float, centres_m: Float[np.ndarray, "n 2"], reach_m: Float[np.ndarray, " n"]
    ) -> tuple["_Level", Int[np.ndarray, " n"]]:
        """The level, and the order in which its things have to be stored."""
        low = centres_m.min(axis=0)
        cells = np.floor((centres_m - low) / bucket_m).astype(np.int32)
        columns, rows = int(cells[:, 0].max()) + 1, int(cells[:, 1].max()) + 1
        keys = cells[:, 1] * np.int64(columns) + cells[:, 0]
        order = np.argsort(keys, kind="stable")
        origin_m = (float(low[0]), float(low[1]))
        return cls(start, keys[order], origin_m, columns, rows, bucket_m, float(reach_m.max())), order

    def query(self, low_m: Float[np.ndarray, " 2"], high_m: Float[np.ndarray, " 2"]) -> list[slice]:
        """Where the things lie that may touch a box of the map frame."""
        c0 = max(int((low_m[0] - self.margin_m - self.origin_m[0]) // self.bucket_m), 0)
        r0 = max(int((low_m[1] - self.margin_m - self.origin_m[1]) // self.bucket_m), 0)
        c1 = min(int((high_m[0] + self.margin_m - self.origin_m[0]) // self.bucket_m), self.columns - 1)
        r1 = min(int((high_m[1] + self.margin_m - self.origin_m[1]) // self.bucket_m), self.rows - 1)
        if c0 > c1 or r0 > r1:
            return []
        first = np.arange(r0, r1 + 1) * self.columns
        starts, stops = (np.searchsorted(self.keys, np.stack([first + c0, first + c1 + 1])) + self.start).tolist()
        return [slice(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]

    def reaches_m(self, y0_m: float, y1_m: float) -> Float[np.ndarray, "n 2"]:
        """West and east of what the buckets may hold between two northings."""
        r0 = max(int((y0_m - self.margin_m - self.origin_m[1]) // self.bucket_m), 0)
        r1 = min(int((y1_m + self.margin_m - self.origin_m[1]) // self.bucket_m), self.rows - 1)
        start, stop = np.searchsorted(self.keys, (r0 * self.columns, (r1 + 1) * self.columns))
        west_m = self.origin_m[0] + np.unique(self.keys[start:stop] % self.columns) * self.bucket_m
        return np.stack([west_m - self.margin_m, west_m + self.bucket_m + self.margin_m], axis=1)


@dataclass(frozen=True, slots=True)
class BucketIndex:
    """Things filed by the bucket of their centre; their order in memory is the order of the buckets.

    A query is a few slices (one a row of buckets), whatever the extract's size. Large things are filed in larger
    buckets, so that a few of them do not widen the search for all.
    """

    levels: tuple[_Level, ...]

    @classmethod
    def build(
        cls, centres_m: Float[np.ndarray, "n 2"], reach_m: Float[np.ndarray, " n"]
    ) -> tuple["BucketIndex", Int[np.ndarray, " n"]]:
        """The index, and the order in which the things have to be stored."""
        size = np.ceil(np.log2(np.maximum(reach_m / _SMALL_REACH_M, 1.0))).astype(np.int8)
        levels, orders, start = [], [np.zeros(0, np.int64)], 0
        for number in np.unique(size).tolist():
            things = np.flatnonzero(size == number)
            level, order = _Level.build(start, BUCKET_M * 2.0**number, centres_m[things], reach_m[things])
            levels.append(level)
            orders.append(things[order])
            start += len(things)
        return cls(tuple(levels)), np.concatenate(orders)

    def reaches_m(self, y0_m: float, y1_m: float) -> Float[np.ndarray, "n 2"]:
        """West and east of what the buckets may hold between two northings."""
        spans = [level.reaches_m(y0_m, y1_m) for level in self.levels]
        return np.concatenate([np.zeros((0, 2)), *spans])

    def query(self, low_m: Float[np.ndarray, " 2"], high_m: Float[np.ndarray, " 2"]) -> list[slice]:
        """Where the things lie that may touch a box of the map frame."""
        return [part for level in self.levels for part in level.query(low_m, high_m)]


@dataclass(frozen=True, slots=True)
class Edges:
    """Borders of filled shapes. `turn` is 1 on counter-clockwise outer and clockwise inner rings, -1 on the others.

    With it the winding numbers of all shapes of a layer can be summed: shapes that overlap do not cancel, and the
    hole of one does not erase another.
    """

    index: BucketIndex
    ends_m: Float[np.ndarray, "n 2 2"]
    channel: Int[np.ndarray, " n"]  # position in `LAYERS`
    turn: Int[np.ndarray, " n"]
    along: Float[np.ndarray, "n 2"]  # unit vector of the road (0 where it is none)
    oneway: Int[np.ndarray, " n"]  # 1 along it, -1 against it, 0 both


@dataclass(frozen=True, slots=True)
class Segments:
    """Thin lines, one cell wide when drawn."""

    index: BucketIndex
    ends_m: Float[np.ndarray, "n 2 2"]
    layer: Int[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Discs:
    """Things with a place."""

    index: BucketIndex
    xy_m: Float[np.ndarray, "n 2"]
    radius_m: Float[np.ndarray, " n"]
    layer: Int[np.ndarray, " n"]


def _segments_of_lines(
    lines_m: Sequence[Float[np.ndarray, "_ 2"]],
) -> tuple[Float[np.ndarray, "n 2 2"], Int[np.ndarray, " n"]]:
    """(start, end) of every segment of at most half a `PIECE_M`, and the line it belongs to; none of length zero."""
    if not lines_m:
        return np.zeros((0, 2, 2)), np.zeros(0, np.int64)
    xy_m = np.concatenate(lines_m)
    owner = np.repeat(np.arange(len(lines_m)), [len(line) for line in lines_m])
    same = owner[1:] == owner[:-1]
    start_m, end_m, owner = xy_m[:-1][same], xy_m[1:][same], owner[:-1][same]
    length_m = np.hypot(*(end_m - start_m).T)
    pieces = np.ceil(length_m / (0.5 * PIECE_M)).astype(np.int64)  # zero for a segment of length zero
    owner, start_m, step_m = (np.repeat(v, pieces, axis=0) for v in (owner, start_m, end_m - start_m))
    at = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    count = np.repeat(pieces, pieces)
    t0, t1 = (at / count)[:, None], ((at + 1) / count)[:, None]
    return np.stack([start_m + t0 * step_m, start_m + t1 * step_m], axis=1), owner


def _capsules(
    ends_m: Float[np.ndarray, "n 2 2"], width_m: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "e 2 2"], Float[np.ndarray, "n 2"]]:
    """Segments with a width and round (octagonal) ends, as 10 counter-clockwise edges each; and unit vectors."""
    step_m = ends_m[:, 1] - ends_m[:, 0]
    along = step_m / np.hypot(*step_m.T)[:, None]
    left = np.stack([-along[:, 1], along[:, 0]], axis=1)
    angles = np.deg2rad(np.arange(-90.0, 91.0, 45.0))
    cap = np.cos(angles)[:, None] * along[:, None] + np.sin(angles)[:, None] * left[:, None]
    half_m = 0.5 * width_m[:, None, None]
    ring_m = np.concatenate([ends_m[:, 1:] + half_m * cap, ends_m[:, :1] - half_m * cap], axis=1)
    return np.stack([ring_m, np.roll(ring_m, -1, axis=1)], axis=2).reshape(-1, 2, 2), along


def _pieces_of_areas(osm_map: OsmMap) -> tuple[np.ndarray, Int[np.ndarray, " n"]]:
    """Valid shapely polygons of moderate size or square, and the layer of each."""
    areas = [area for area in osm_map.areas if len(area.outer_m) >= 4]
    if not areas:
        return np.zeros(0, object), np.zeros(0, np.int64)
    layers = np.array([layer_index(area.kind) for area in areas], np.int64)
    rings_of_area = [(area.outer_m, *(hole for hole in area.holes_m if len(hole) >= 4)) for area in areas]
    rings_m = [ring for rings in rings_of_area for ring in rings]
    owner = np.repeat(np.arange(len(rings_m)), [len(ring) for ring in rings_m])
    rings = shapely.linearrings(np.concatenate(rings_m), indices=owner)
    polygons = shapely.polygons(rings, indices=np.repeat(np.arange(len(areas)), [len(r) for r in rings_of_area]))
    bad = ~shapely.is_valid(polygons)
    polygons[bad] = shapely.make_valid(polygons[bad])
    box = shapely.bounds(polygons)
    size_m = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    large = (size_m > PIECE_M) & np.isfinite(box[:, 0])
    parts, part_layers = _quartered(polygons[large], layers[large]) if large.any() else (polygons[:0], layers[:0])
    return _polygons_among(np.concatenate([polygons[~large], parts]), np.concatenate([layers[~large], part_layers]))


def _quartered(polygons: np.ndarray, layers: Int[np.ndarray, " n"]) -> tuple[np.ndarray, Int[np.ndarray, " m"]]:
    """Polygons cut along a lattice, ever finer down to `PIECE_M`, except where a square of it is full.

    Each cut is of what the one before has left, so that the cost is that of the border, not of the polygon a piece.
    """
    box = shapely.bounds(polygons)
    low = np.floor(box[:, :2] / PIECE_M)
    span = (np.ceil(box[:, 2:] / PIECE_M) - low).max()
    side = PIECE_M * 2.0 ** max(np.ceil(np.log2(span)), 0.0)
    # the lattice of all sizes begins at multiples of the largest, of which a polygon may touch four
    corner = np.repeat(np.floor(box[:, :2] / side) * side, 4, axis=0)
    corner += np.tile([[0.0, 0.0], [side, 0.0], [0.0, side], [side, side]], (len(polygons), 1))
    polygons, layers = np.repeat(polygons, 4), np.repeat(layers, 4)
    done, done_layers = [polygons[:0]], [layers[:0]]
    while len(polygons):
        squares = shapely.box(corner[:, 0], corner[:, 1], corner[:, 0] + side, corner[:, 1] + side)
        parts = shapely.intersection(polygons, squares)
        area_m2 = shapely.area(parts)
        full = area_m2 >= side * side * (1.0 - 1e-12)
        parts[full] = squares[full]
        last = (area_m2 > 0.0) & (full | (side <= PIECE_M))
        done.append(parts[last])
        done_layers.append(layers[last])
        rest = (area_m2 > 0.0) & ~last
        side *= 0.5
        corner = np.repeat(corner[rest], 4, axis=0)
        corner += np.tile([[0.0, 0.0], [side, 0.0], [0.0, side], [side, side]], (int(rest.sum()), 1))
        polygons, layers = np.repeat(parts[rest], 4), np.repeat(layers[rest], 4)
    return np.concatenate(done), np.concatenate(done_layers)


def _polygons_among(shapes: np.ndarray, layers: Int[np.ndarray, " n"]) -> tuple[np.ndarray, Int[np.ndarray, " m"]]:
    """The polygons in shapes: a mended one may be a collection that holds multipolygons."""
    for _ in range(2):
        shapes, source = shapely.get_parts(shapes, return_index=True)
        layers = layers[source]
    keep = (shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(shapes)
    return shapes[keep], layers[keep]


def _edges_of_polygons(polygons: np.ndarray) -> tuple[Float[np.ndarray, "e 2 2"], np.ndarray, np.ndarray]:
    """Edges of all rings, the polygon of each, and its `turn` (see `Edges`)."""
    rings, polygon_of_ring = shapely.get_rings(polygons, return_index=True)
    xy_m, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    ends_m = np.stack([xy_m[:-1][same], xy_m[1:][same]], axis=1)
    ring = ring[:-1][same]
    offset_m = ends_m - xy_m[np.searchsorted(ring, np.arange(len(rings)))][ring][:, None] if len(ring) else ends_m
    cross = offset_m[:, 0, 0] * offset_m[:, 1, 1] - offset_m[:, 0, 1] * offset_m[:, 1, 0]
    counter_clockwise = np.bincount(ring, weights=cross, minlength=len(rings)) > 0
    outer = np.ones(len(rings), bool)
    outer[1:] = polygon_of_ring[1:] != polygon_of_ring[:-1]
    turn = np.where(counter_clockwise == outer, 1, -1)
    return ends_m, polygon_of_ring[ring], turn[ring]


def build_edges(osm_map: OsmMap) -> Edges:
    """Everything that is filled: areas, and roads, paths and rails with their width."""
    rail, road, path = layer_index("rail"), layer_index("road"), layer_index("path")
    bands = [(r.xy_m, road if r.drivable else path, r.width_m, r.oneway if r.drivable else 0) for r in osm_map.roads]
    bands += [(line.xy_m, rail, LAYERS[rail].size_m, 0) for line in osm_map.lines if line.kind == "rail"]
    segments_m, owner = _segments_of_lines([band[0] for band in bands])
    band_layer = np.array([band[1] for band in bands], np.int8)[owner]
    band_width_m = np.array([band[2] for band in bands], np.float64)[owner]
    band_oneway = np.array([band[3] for band in bands], np.int8)[owner]
    band_m, band_along = _capsules(segments_m, band_width_m)

    polygons, polygon_layer = _pieces_of_areas(osm_map)
    area_m, polygon, area_turn = _edges_of_polygons(polygons)
    shape = np.concatenate([np.repeat(np.arange(len(segments_m)), 10), len(segments_m) + polygon])
    ends_m = np.concatenate([band_m, area_m])
    along = np.concatenate([np.where(band_layer[:, None] == road, band_along, 0.0), np.zeros((len(polygons), 2))])
    layer = np.concatenate([band_layer, polygon_layer.astype(np.int8)])
    oneway = np.concatenate([band_oneway, np.zeros(len(polygons), np.int8)])
    turn = np.concatenate([np.ones(len(band_m), np.int8), area_turn.astype(np.int8)])

    boxes = shapely.bounds(polygons).reshape(-1, 4)
    centre_m = np.concatenate([segments_m.mean(axis=1), 0.5 * (boxes[:, :2] + boxes[:, 2:])])
    band_size_m = np.abs(segments_m[:, 1] - segments_m[:, 0]).max(axis=1, initial=0) + band_width_m
    size_m = np.concatenate([band_size_m, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)])
    index, order = BucketIndex.build(centre_m[shape], 0.5 * size_m[shape])
    shape = shape[order]
    return Edges(index, ends_m[order], layer[shape], turn[order], along[shape], oneway[shape])


def build_segments(osm_map: OsmMap) -> Segments:
    """Everything that is one cell wide: barriers, tree rows, outlines of buildings, centres of roads."""
    outline, centre = layer_index("building_outline"), layer_index("road_centre")
    lines = [(line.xy_m, layer_index(line.kind)) for line in osm_map.lines if line.kind != "rail"]
    lines += [(road.xy_m, centre) for road in osm_map.roads if road.drivable]
    lines += [(r, outline) for area in osm_map.areas if area.kind == "building" for r in (area.outer_m, *area.holes_m)]
    ends_m, owner = _segments_of_lines([line[0] for line in lines])
    layer = np.array([line[1] for line in lines], np.int64)[owner]
    wall = (layer != outline) | ~_along_border(ends_m, osm_map.bounds_m)
    ends_m, layer = ends_m[wall], layer[wall]
    reach_m = 0.5 * np.abs(ends_m[:, 1] - ends_m[:, 0]).max(axis=1, initial=0)
    index, order = BucketIndex.build(ends_m.mean(axis=1), reach_m)
    return Segments(index, ends_m[order], layer[order])


def _along_border(
    ends_m: Float[np.ndarray, "n 2 2"], bounds_m: tuple[float, float, float, float]
) -> Bool[np.ndarray, " n"]:
    """Whether segments lie on the extract's border: there buildings were cut, and no wall stands."""
    along = np.zeros(len(ends_m), bool)
    for number, border_m in enumerate(bounds_m):
        across_m = ends_m[:, :, number % 2]
        along |= (np.abs(across_m - border_m) < 1e-6).all(axis=1)
    return along


def junctions_m(osm_map: OsmMap) -> Float[np.ndarray, "n 2"]:
    """Nodes where three or more arms of drivable roads meet (where two roads only join end to end is none)."""
    roads = [road for road in osm_map.roads if road.drivable and len(road.node_ids) > 1]
    if not roads:
        return np.zeros((0, 2))
    nodes = np.concatenate([np.array(road.node_ids, np.int64) for road in roads])
    places_m = np.concatenate([road.xy_m for road in roads])
    owner = np.repeat(np.arange(len(roads)), [len(road.node_ids) for road in roads])
    ids, first, nodes = np.unique(nodes, return_index=True, return_inverse=True)
    follows = owner[1:] == owner[:-1]
    steps = np.stack([nodes[:-1][follows], nodes[1:][follows]], axis=1)
    steps = steps[steps[:, 0] != steps[:, 1]]
    arms = np.unique(np.concatenate([steps, steps[:, ::-1]]), axis=0)  # a street that is mapped twice has no more arms
    return places_m[first[np.bincount(arms[:, 0], minlength=len(ids)) > 2]]


def build_discs(osm_map: OsmMap) -> Discs:
    """Trees, poles, lamps, signs, signals and junctions."""
    junctions = junctions_m(osm_map)
    points_m = np.array([(point.x_m, point.y_m) for point in osm_map.points], np.float64).reshape(-1, 2)
    layer = np.array([layer_index(point.kind) for point in osm_map.points], np.int64)
    xy_m = np.concatenate([points_m, junctions])
    layer = np.concatenate([layer, np.full(len(junctions), layer_index("junction"))])
    radius_m = 0.5 * np.array([entry.size_m for entry in LAYERS])[layer]
    index, order = BucketIndex.build(xy_m, radius_m)
    return Discs(index, xy_m[order], radius_m[order], layer[order])

"""Map features -> flat arrays of edges, bands, segments and discs, sorted by place, which `maps/render.py` draws.

All cutting happens here, once; coordinates are metres in the map frame. Large maps are worked through in parts, for
what is in between takes several times the memory of the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int

from bevfusion.maps.feature_tables import AreaTable, LineTable, RoadTable
from bevfusion.maps.features import OsmMap
from bevfusion.maps.ragged import Ragged, spans
from bevfusion.maps.schema import LAYERS, layer_index

BUCKET_M = 32.0
"""Side of the squares that things are filed under."""

PIECE_M = 64.0
"""Larger areas are cut along a lattice of this step, so that a tile's cost does not depend on its neighbourhood."""

_SMALL_REACH_M = 128.0
"""Things that reach no farther from their centre are filed together."""

_AT_ONCE = 1 << 18
"""So many vertices are worked on at a time."""

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
        number = np.int32 if columns * (rows + 1) < 1 << 31 else np.int64
        keys = cells[:, 1].astype(number) * number(columns) + cells[:, 0]
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
        ends = np.stack([first + c0, first + c1 + 1]).astype(self.keys.dtype)  # else all keys would be converted
        starts, stops = (np.searchsorted(self.keys, ends) + self.start).tolist()
        return [slice(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]

    def reaches_m(self, y0_m: float, y1_m: float) -> Float[np.ndarray, "n 2"]:
        """West and east of what the buckets may hold between two northings."""
        r0 = min(max(int((y0_m - self.margin_m - self.origin_m[1]) // self.bucket_m), 0), self.rows)
        r1 = max(min(int((y1_m + self.margin_m - self.origin_m[1]) // self.bucket_m), self.rows - 1), -1)
        ends = np.array([r0 * self.columns, (r1 + 1) * self.columns], self.keys.dtype)
        start, stop = np.searchsorted(self.keys, ends)
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
    """Borders of filled areas, piece by piece.

    `turn` is 1 on counter-clockwise outer and clockwise inner rings, -1 on the others. With it the winding numbers of
    all shapes of a layer can be summed: shapes that overlap do not cancel, and the hole of one does not erase another.
    """

    index: BucketIndex  # of the pieces
    first: Int[np.ndarray, " n1"]  # piece i has the edges first[i] to first[i + 1]
    ends_m: Float[np.ndarray, "e 2 2"]
    channel: Int[np.ndarray, " e"]  # position in `LAYERS`
    turn: Int[np.ndarray, " e"]

    def of_pieces(self, pieces: slice) -> slice:
        """Where the edges of pieces lie."""
        return slice(int(self.first[pieces.start]), int(self.first[pieces.stop]))


@dataclass(frozen=True, slots=True)
class Bands:
    """Straight pieces of roads, paths and rails, which have a width: filled, and roads with their middle."""

    index: BucketIndex
    ends_m: Float[np.ndarray, "n 2 2"]
    width_m: Float[np.ndarray, " n"]
    channel: Int[np.ndarray, " n"]  # position in `LAYERS`
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


def _segments_of(courses: Ragged) -> tuple[Float[np.ndarray, "n 2 2"], Int[np.ndarray, " n"]]:
    """(start, end) of every segment of at most half a `PIECE_M`, and the line it belongs to; none of length zero."""
    found = [(np.zeros((0, 2, 2)), np.zeros(0, np.int32))]
    for lines, part in courses.chunks(_AT_ONCE):
        ends_m, owner = _cut_segments(part)
        found.append((ends_m, (lines.start + owner).astype(np.int32)))
    return np.concatenate([ends_m for ends_m, _ in found]), np.concatenate([owner for _, owner in found])


def _cut_segments(courses: Ragged) -> tuple[Float[np.ndarray, "n 2 2"], Int[np.ndarray, " n"]]:
    xy_m, owner = courses.values, courses.owners()
    same = owner[1:] == owner[:-1]
    start_m, end_m, owner = xy_m[:-1][same], xy_m[1:][same], owner[:-1][same]
    length_m = np.hypot(*(end_m - start_m).T)
    pieces = np.ceil(length_m / (0.5 * PIECE_M)).astype(np.int64)  # zero for a segment of length zero
    owner, start_m, step_m = (np.repeat(v, pieces, axis=0) for v in (owner, start_m, end_m - start_m))
    at = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    count = np.repeat(pieces, pieces)
    t0, t1 = (at / count)[:, None], ((at + 1) / count)[:, None]
    return np.stack([start_m + t0 * step_m, start_m + t1 * step_m], axis=1), owner


def capsules(
    ends_m: Float[np.ndarray, "n 2 2"], width_m: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n 10 2"], Float[np.ndarray, "n 2"]]:
    """Segments with a width and round (octagonal) ends, as counter-clockwise rings of 10 vertices; and unit vectors."""
    step_m = ends_m[:, 1] - ends_m[:, 0]
    along = step_m / np.hypot(*step_m.T)[:, None]
    left = np.stack([-along[:, 1], along[:, 0]], axis=1)
    angles = np.deg2rad(np.arange(-90.0, 91.0, 45.0))
    cap = np.cos(angles)[:, None] * along[:, None] + np.sin(angles)[:, None] * left[:, None]
    half_m = 0.5 * width_m[:, None, None]
    return np.concatenate([ends_m[:, 1:] + half_m * cap, ends_m[:, :1] - half_m * cap], axis=1), along


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Polygons of moderate size, or squares, as edges."""

    layer: Int[np.ndarray, " n"]
    centre_m: Float[np.ndarray, "n 2"]  # of the box around each
    size_m: Float[np.ndarray, " n"]  # longer side of it
    count: Int[np.ndarray, " n"]  # of edges
    ends_m: Float[np.ndarray, "e 2 2"]
    turn: Int[np.ndarray, " e"]

    @classmethod
    def of_rings(cls, rings: Ragged, polygon_of_ring: Int[np.ndarray, " r"], layer: Int[np.ndarray, " n"]) -> "_Pieces":
        """Polygons by their rings, in order, the outer one first; each has one at least."""
        xy_m, ring = rings.values, rings.owners()
        same = ring[1:] == ring[:-1]
        ends_m = np.stack([xy_m[:-1][same], xy_m[1:][same]], axis=1)
        ring = ring[:-1][same]
        offset_m = ends_m - xy_m[rings.starts[:-1]][ring][:, None]
        cross = offset_m[:, 0, 0] * offset_m[:, 1, 1] - offset_m[:, 0, 1] * offset_m[:, 1, 0]
        counter_clockwise = np.bincount(ring, weights=cross, minlength=len(rings)) > 0
        outer = np.append(True, polygon_of_ring[1:] != polygon_of_ring[:-1])[: len(rings)]
        turn = np.where(counter_clockwise == outer, 1, -1).astype(np.int8)
        first_rings = rings.starts[:-1][outer]
        low, high = np.zeros((0, 2)), np.zeros((0, 2))
        if len(first_rings):
            low, high = np.minimum.reduceat(xy_m, first_rings), np.maximum.reduceat(xy_m, first_rings)
        count = np.bincount(polygon_of_ring[ring], minlength=len(layer))
        size_m = (high - low).max(axis=1, initial=0.0)
        return cls(layer.astype(np.int8), 0.5 * (low + high), size_m, count, ends_m, turn[ring])

    @classmethod
    def of_polygons(cls, polygons: np.ndarray, layer: Int[np.ndarray, " n"]) -> "_Pieces":
        """The same of shapely's polygons."""
        shapes, polygon_of_ring = shapely.get_rings(polygons, return_index=True)
        xy_m, ring = shapely.get_coordinates(shapes, return_index=True)
        starts = np.searchsorted(ring, np.arange(len(shapes) + 1))
        return cls.of_rings(Ragged(xy_m, starts), polygon_of_ring, layer)


def _pieces_of_areas(areas: AreaTable) -> Iterator[_Pieces]:
    """Areas as they are where they are small, and larger ones cut along the lattice."""
    areas = areas.taken(np.flatnonzero(areas.rings.lengths[areas.first_ring[:-1]] >= 4))
    vertices_of_area = Ragged(areas.rings.values, areas.rings.starts[areas.first_ring])
    for part, around in vertices_of_area.chunks(_AT_ONCE):
        begins = around.starts[:-1]
        low, high = np.minimum.reduceat(around.values, begins), np.maximum.reduceat(around.values, begins)
        small = areas.valid[part] & ((high - low).max(axis=1) <= PIECE_M)
        for chosen, made in ((small, _small_pieces), (~small, _cut_pieces)):
            if chosen.any():
                yield made(areas.taken(part.start + np.flatnonzero(chosen)))


def _small_pieces(areas: AreaTable) -> _Pieces:
    area_of_ring = np.repeat(np.arange(len(areas)), np.diff(areas.first_ring))
    return _Pieces.of_rings(areas.rings, area_of_ring, areas.layer)


def _cut_pieces(areas: AreaTable) -> _Pieces:
    """Those that are large or may cross themselves: valid polygons of moderate size."""
    kept = np.flatnonzero(areas.rings.lengths >= 4)
    area_of_ring = np.repeat(np.arange(len(areas)), np.diff(areas.first_ring))
    rings_m = areas.rings.taken(kept)
    rings = shapely.linearrings(rings_m.values, indices=rings_m.owners())
    polygons, layers = shapely.polygons(rings, indices=area_of_ring[kept]), areas.layer
    bad = ~shapely.is_valid(polygons)
    polygons[bad] = shapely.make_valid(polygons[bad])
    box = shapely.bounds(polygons)
    size_m = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    large = (size_m > PIECE_M) & np.isfinite(box[:, 0])
    parts, part_layers = _quartered(polygons[large], layers[large]) if large.any() else (polygons[:0], layers[:0])
    return _Pieces.of_polygons(
        *_polygons_among(np.concatenate([polygons[~large], parts]), np.concatenate([layers[~large], part_layers]))
    )


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


def build_edges(osm_map: OsmMap) -> Edges:
    """Everything that is filled within its border."""
    none = _Pieces.of_polygons(np.zeros(0, object), np.zeros(0, np.int8))
    parts = [none, *_pieces_of_areas(AreaTable.of(osm_map.areas))]
    centre_m, size_m, count, layer, turn, ends_m = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("centre_m", "size_m", "count", "layer", "turn", "ends_m")
    )
    del parts
    index, order = BucketIndex.build(centre_m, 0.5 * size_m)
    starts = np.cumsum(count) - count
    at = spans(starts[order], count[order])
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(count[order])])
    return Edges(index, first, ends_m[at], np.repeat(layer[order], count[order]), turn[at])


def build_bands(osm_map: OsmMap) -> Bands:
    """Roads, paths and rails with their width."""
    rail, road, path = layer_index("rail"), layer_index("road"), layer_index("path")
    roads, lines = RoadTable.of(osm_map.roads), LineTable.of(osm_map.lines)
    road_m, of_road = _segments_of(roads.courses)
    rail_m, _ = _segments_of(lines.courses.taken(np.flatnonzero(lines.layer == rail)))
    drivable = roads.drivable[of_road]
    rails = np.full(len(rail_m), rail, np.int8)
    channel = np.concatenate([np.where(drivable, np.int8(road), np.int8(path)), rails])
    width_m = np.concatenate([roads.width_m[of_road], np.full(len(rail_m), LAYERS[rail].size_m)])
    oneway = np.concatenate([np.where(drivable, roads.oneway[of_road], np.int8(0)), np.zeros(len(rail_m), np.int8)])
    ends_m = np.concatenate([road_m, rail_m]) if len(rail_m) else road_m
    del road_m
    size_m = np.abs(ends_m[:, 1] - ends_m[:, 0]).max(axis=1, initial=0) + width_m
    index, order = BucketIndex.build(ends_m.mean(axis=1), 0.5 * size_m)
    return Bands(index, ends_m[order], width_m[order], channel[order], oneway[order])


def build_segments(osm_map: OsmMap) -> Segments:
    """Everything that is one cell wide but for the middle of roads: barriers, tree rows, outlines of buildings."""
    outline, building, rail = layer_index("building_outline"), layer_index("building"), layer_index("rail")
    lines, areas = LineTable.of(osm_map.lines), AreaTable.of(osm_map.areas)
    thin = np.flatnonzero(lines.layer != rail)
    line_m, of_line = _segments_of(lines.courses.taken(thin))
    of_building = np.repeat(areas.layer == building, np.diff(areas.first_ring))
    wall_m, _ = _segments_of(areas.rings.taken(np.flatnonzero(of_building)))
    wall_m = wall_m[~_along_border(wall_m, osm_map.bounds_m)]
    ends_m = np.concatenate([line_m, wall_m])
    layer = np.concatenate([lines.layer[thin][of_line], np.full(len(wall_m), outline, np.int8)])
    del wall_m
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
    roads = RoadTable.of(osm_map.roads)
    chosen = np.flatnonzero(roads.drivable & (roads.courses.lengths > 1))
    courses = roads.courses.taken(chosen)
    nodes = Ragged(roads.node_ids, roads.courses.starts).taken(chosen).values
    owner = courses.owners()
    ids, first, nodes = np.unique(nodes, return_index=True, return_inverse=True)
    follows = (owner[1:] == owner[:-1]) & (nodes[1:] != nodes[:-1])
    here, there = nodes[:-1][follows], nodes[1:][follows]
    # a street that is mapped twice has no more arms
    arms = np.unique(np.concatenate([here * len(ids) + there, there * len(ids) + here]))
    return courses.values[first[np.bincount(arms // max(len(ids), 1), minlength=len(ids)) > 2]]


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

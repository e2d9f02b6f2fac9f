"""A map made solid: buildings extruded, mapped and invented things set beside the roads, ground drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from jaxtyping import Float

from bevfusion.maps.features import Area, Line, OsmMap, Point, Road
from bevfusion.simulate import roadside
from bevfusion.simulate.facades import Facades
from bevfusion.simulate.ground import KERB_M, GroundPatch, draw_ground
from bevfusion.simulate.relief import Relief
from bevfusion.simulate.roadside import Obstacles, furnish, thickets
from bevfusion.simulate.route import Path
from bevfusion.simulate.surfaces import BUILDING, GROUND, Surfaces, prisms, rectangles, upright
from bevfusion.simulate.terrain import Terrain

REACH_M = 110.0  # what lies farther from the path is not built
_PATCH_HALF_M = 100.0
_FLOOR_M = 3.0
_BURIED_M = 2.0  # walls start below ground, for the slope along a house
_INVENTED_ON = (
    "residential", "living_street", "unclassified", "tertiary", "secondary", "primary", "service", "pedestrian"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """What stands still around a path."""

    surfaces: Surfaces
    facades: Facades
    terrain: Terrain
    roads: tuple[Road, ...]
    areas: tuple[Area, ...]
    yards: tuple[Float[np.ndarray, "_ 2"], ...]
    tone: float  # brightness of the ground, by weather and mixture

    def around(self, centre_m: Float[np.ndarray, " 2"]) -> tuple[Surfaces, GroundPatch]:
        """The solid things within reach of a place, terrain included, and the ground's classes there."""
        near = np.abs(self.surfaces.centres_m() - centre_m).max(axis=1) < _PATCH_HALF_M + 20.0
        land = Surfaces.of(self.terrain.mesh(centre_m, _PATCH_HALF_M + 20.0), GROUND, 0.3)
        return Surfaces.join([self.surfaces.select(near), land]), self.ground(centre_m)

    def ground(self, centre_m: Float[np.ndarray, " 2"]) -> GroundPatch:
        """The ground's classes and its true height within 100 m of a place."""
        box = shapely.box(*(centre_m - _PATCH_HALF_M), *(centre_m + _PATCH_HALF_M))
        roads = [r for r in self.roads if shapely.box(*r.xy_m.min(0), *r.xy_m.max(0)).intersects(box)]
        return draw_ground(centre_m, _PATCH_HALF_M, roads, self.areas, self.yards, self.terrain, self.tone)


def true_roads(roads: Sequence[Road], path: Path, rng: np.random.Generator) -> tuple[Road, ...]:
    """The roads within reach of a path as wide as they are: true widths vary about those that tags or defaults say.

    Args:
        roads: where they are in the world.
        path: the recording vehicle's way.
        rng: that `build_world` gets: it asks for this first.
    """
    _, zone = _reach(path)
    return tuple(
        replace(road, width_m=road.width_m * float(rng.uniform(0.95, 1.4)))
        for road in roads
        if len(road.xy_m) > 1 and zone.intersects(shapely.LineString(road.xy_m))
    )


def _reach(path: Path) -> tuple[shapely.LineString, shapely.Polygon]:
    """A path as a line, and all that is built about it."""
    line = shapely.LineString(path.xy_m).simplify(0.05)
    zone = shapely.buffer(line.simplify(5.0), REACH_M)
    shapely.prepare(zone)
    return line, zone


def build_world(
    osm: OsmMap,
    areas: Sequence[Area],
    path: Path,
    relief: Relief,
    vehicles: float,
    rng: np.random.Generator,
    terrain_rng: np.random.Generator | None = None,
) -> World:
    """Solid things within reach of a path.

    Args:
        osm: the map, for roads, lines and points.
        areas: those of the world, which may differ from the map's.
        path: the recording vehicle's way; nothing is left standing on it.
        relief: the land before there were roads.
        vehicles: density of parked cars.
        rng: chooses what the map does not say.
        terrain_rng: chooses banks, walls and crossfalls; None: `rng` does.
    """
    line, zone = _reach(path)
    roads = true_roads(osm.roads, path, rng)
    terrain = Terrain.shape(roads, relief, terrain_rng or rng)
    near = tuple(area for area in areas if len(area.outer_m) > 3 and zone.intersects(shapely.box(*_box(area))))
    shapes = [(area, shapely.Polygon(area.outer_m)) for area in near if area.kind == "building"]
    shapes = [(area, shape) for area, shape in shapes if shapely.distance(shape, line) > 1.5]
    buildings = [area for area, _ in shapes]
    drivable = [road for road in roads if road.drivable]
    points = [p for p in osm.points if zone.contains(shapely.Point(p.x_m, p.y_m))]
    obstacles = Obstacles(
        shapely.STRtree([shape for _, shape in shapes]),
        shapely.STRtree(
            list(shapely.buffer([shapely.LineString(r.xy_m) for r in drivable], [r.width_m / 2 for r in drivable]))
        ),
        line,
        shapely.STRtree([shapely.Point(p.x_m, p.y_m) for p in points if p.kind == "tree"]),
    )
    facades = Facades.random(max(1, len(buildings)), rng)
    walls_and_roofs, facades = _houses(buildings, facades, terrain, rng)
    parts = [
        walls_and_roofs,
        _annexes(buildings, obstacles, facades, terrain, rng),
        _planting(buildings, obstacles, terrain, rng),
        *_mapped_lines([way for way in osm.lines if zone.intersects(shapely.LineString(way.xy_m))], terrain, rng),
        *_mapped_points(points, obstacles, terrain, rng),
        *_woods([area for area in near if area.kind == "vegetation"], zone, obstacles, terrain, rng),
        roadside.retaining_walls(terrain, lambda xy, radius: obstacles.free(xy, radius, 0.1, 1.2), rng),
        furnish(
            [road for road in drivable if road.kind in _INVENTED_ON],
            obstacles,
            terrain,
            vehicles,
            rng,
            left_hand_traffic=osm.left_hand_traffic,
        ),
    ]
    yards = tuple(
        np.asarray(shapely.buffer(shape, rng.uniform(1.0, 5.0), join_style="mitre").exterior.coords)
        for _, shape in shapes
        if rng.random() < 0.5 and shape.is_valid and shape.area > 0
    )
    return World(
        Surfaces.join(parts), facades, terrain, roads, near, yards, float(np.clip(rng.normal(1.0, 0.1), 0.75, 1.25))
    )


def _box(area: Area) -> tuple[float, float, float, float]:
    low, high = area.outer_m.min(axis=0), area.outer_m.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _clockwise(ring_m: Float[np.ndarray, "n 2"], clockwise: bool) -> Float[np.ndarray, "n 2"]:
    x, y = ring_m[:, 0], ring_m[:, 1]
    area = 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))
    return ring_m[::-1] if (area < 0) != clockwise else ring_m


def _houses(
    buildings: Sequence[Area], facades: Facades, terrain: Terrain, rng: np.random.Generator
) -> tuple[Surfaces, Facades]:
    """Outer walls, those of courts and flat roofs (on a slope they are seen from above); facades with their floors."""
    starts, ends, lows, highs, owners = [], [], [], [], []
    base_m, roofs, roof_tones = np.zeros(max(1, len(buildings))), [np.zeros((0, 4, 3))], [np.zeros(0)]
    for index, area in enumerate(buildings):
        height = area.height_m
        if height is None:
            floors = (
                1
                if abs(_shoelace(area.outer_m)) < 45.0
                else int(rng.choice([1, 2, 3, 4, 5], p=[0.1, 0.4, 0.25, 0.15, 0.1]))
            )
            height = floors * _FLOOR_M + rng.uniform(0.0, 1.0)
        around = terrain.height_m(area.outer_m)
        base = base_m[index] = float(np.median(around)) + KERB_M
        roof = _roof(area, base + height)
        roofs.append(roof)
        roof_tones.append(np.full(len(roof), 0.7 * facades.brightness[index]))
        for ring, inner in ((area.outer_m, False), *((hole, True) for hole in area.holes_m)):
            turned = _clockwise(ring, inner)
            starts.append(turned[:-1])
            ends.append(turned[1:])
            lows.append(np.full(len(turned) - 1, float(around.min()) - _BURIED_M))
            highs.append(np.full(len(turned) - 1, base + height))
            owners.append(np.full(len(turned) - 1, index))
    if not starts:
        return Surfaces.join([]), facades
    start, end, owner = np.concatenate(starts), np.concatenate(ends), np.concatenate(owners)
    quads = upright(start, end, np.concatenate(lows), np.concatenate(highs))
    tone = rng.normal(1.0, 0.08, len(owner))  # each wall has its own light
    walls = Surfaces.of(quads, BUILDING, np.clip(facades.brightness[owner] * tone, 0.05, 0.9), style=owner)
    lids = Surfaces.of(np.concatenate(roofs), BUILDING, np.concatenate(roof_tones))
    return Surfaces.join([walls, lids]), replace(facades, base_m=base_m)


def _roof(area: Area, height_m: float) -> Float[np.ndarray, "n 4 3"]:
    """A flat roof as triangles, each with its last corner twice."""
    shape = shapely.make_valid(shapely.Polygon(area.outer_m, area.holes_m))
    triangles = [
        t for t in shapely.get_parts(shapely.constrained_delaunay_triangles(shape)) if t.geom_type == "Polygon"
    ]
    if not triangles:
        return np.zeros((0, 4, 3))
    corners = np.array([np.asarray(shapely.geometry.polygon.orient(t).exterior.coords)[:3, :2] for t in triangles])
    corners = corners[:, [0, 1, 2, 2]]
    return np.concatenate([corners, np.full((len(corners), 4, 1), height_m)], axis=2)


def _shoelace(ring_m: Float[np.ndarray, "n 2"]) -> float:
    x, y = ring_m[:, 0], ring_m[:, 1]
    return 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


def _annexes(
    buildings: Sequence[Area], obstacles: Obstacles, facades: Facades, terrain: Terrain, rng: np.random.Generator
) -> Surfaces:
    """Porches, bays and sheds that the map leaves out, on one wall in five."""
    centres, yaws, lengths, depths, owners = [], [], [], [], []
    for index, area in enumerate(buildings):
        ring = _clockwise(area.outer_m, False)
        along = np.diff(ring, axis=0)
        size = np.hypot(along[:, 0], along[:, 1])
        for i in np.flatnonzero((size > 4.0) & (rng.random(len(size)) < 0.2)):
            length, depth = rng.uniform(1.2, min(4.0, size[i] - 1.0)), rng.uniform(0.4, 1.8)
            unit = along[i] / size[i]
            place = ring[i] + rng.uniform(0.5 * length, size[i] - 0.5 * length) * unit
            centres.append(place + 0.5 * depth * np.array([unit[1], -unit[0]]))
            yaws.append(np.arctan2(unit[1], unit[0]))
            lengths.append(length)
            depths.append(depth)
            owners.append(index)
    if not centres:
        return Surfaces.join([])
    centre, yaw, owner = np.array(centres), np.array(yaws), np.array(owners)
    boxes = rectangles(centre, yaw, np.array(lengths), np.array(depths))
    free = shapely.distance(shapely.points(centre), obstacles.path) > 4.0
    free[obstacles.carriageways.query(shapely.points(centre), predicate="dwithin", distance=1.5)[0]] = False
    base = terrain.height_m(centre[free])
    quads = prisms(boxes[free], base - 0.5, base + rng.uniform(2.2, 4.5, int(free.sum())))
    count = int(free.sum())
    repeated = np.concatenate([np.repeat(owner[free], 4), owner[free]])
    return Surfaces.of(quads, BUILDING, facades.brightness[repeated]) if count else Surfaces.join([])


def _planting(buildings: Sequence[Area], obstacles: Obstacles, terrain: Terrain, rng: np.random.Generator) -> Surfaces:
    """Shrubs and small trees around houses: at some none, at others so many that they hide the walls."""
    places = [np.zeros((0, 2))]
    for area in buildings:
        ring = _clockwise(area.outer_m, False)
        steps = np.hypot(*np.diff(ring, axis=0).T)
        ticks = np.concatenate([[0.0], np.cumsum(steps)])
        at = rng.uniform(0.0, ticks[-1], int(rng.poisson(ticks[-1] / 12.0 * rng.choice([0.0, 0.4, 1.0, 1.8]))))
        step = np.clip(np.searchsorted(ticks, at, side="right") - 1, 0, len(steps) - 1)
        along = np.diff(ring, axis=0)[step] / np.maximum(steps[step], 1e-6)[:, None]
        out = np.stack([along[:, 1], -along[:, 0]], axis=1)
        there = np.stack([np.interp(at, ticks, ring[:, axis]) for axis in (0, 1)], axis=1)
        places.append(there + rng.uniform(0.7, 4.5, len(at))[:, None] * out)
    xy = thickets(np.concatenate(places), rng)
    xy = xy[obstacles.free(xy, 0.5, 1.2)]
    tree = rng.random(len(xy)) < 0.15
    parts = [roadside.bushes(xy[~tree], terrain, rng)]
    parts += [
        roadside.trees(group, terrain, rng, size=float(rng.uniform(0.5, 1.1)))
        for group in np.array_split(xy[tree], max(1, int(tree.sum()) // 6))
        if len(group)
    ]
    return Surfaces.join(parts)


def _mapped_lines(lines: Sequence[Line], terrain: Terrain, rng: np.random.Generator) -> list[Surfaces]:
    """Walls, fences, hedges and tree rows that the map knows of; kerbs and rails are left flat."""
    builders = {"wall": roadside.walls, "fence": roadside.fences, "hedge": roadside.hedges}
    parts = []
    for line in lines:
        if line.kind in builders and len(line.xy_m) > 1:
            parts.append(builders[line.kind](line.xy_m[:-1], line.xy_m[1:], terrain, rng))
        elif line.kind == "tree_row" and len(line.xy_m) > 1:
            course = shapely.LineString(line.xy_m)
            stops = np.arange(0.0, course.length, rng.uniform(7.0, 10.0))
            parts.append(roadside.trees(shapely.get_coordinates(course.interpolate(stops)), terrain, rng))
    return parts


def _mapped_points(
    points: Sequence[Point], obstacles: Obstacles, terrain: Terrain, rng: np.random.Generator
) -> list[Surfaces]:
    """Trees, lamps, poles, signs and signals that the map knows of, but for those in the vehicle's way."""
    parts = []
    for kind in ("tree", "lamp", "pole", "sign", "signal"):
        xy = np.array([(p.x_m, p.y_m) for p in points if p.kind == kind], dtype=float).reshape(-1, 2)
        xy = xy[shapely.distance(shapely.points(xy), obstacles.path) > 1.4]
        if len(xy) == 0:
            continue
        if kind == "tree":
            for group in np.array_split(xy, max(1, len(xy) // 12)):
                parts.append(roadside.trees(group, terrain, rng, size=float(rng.uniform(0.7, 1.2))))
        elif kind == "sign":
            parts.append(roadside.signs(xy, rng.uniform(-np.pi, np.pi, len(xy)), terrain))
        else:
            height_m, radius_m = {"lamp": (6.0, 0.08), "pole": (7.0, 0.12), "signal": (3.2, 0.07)}[kind]
            parts.append(roadside.poles(xy, terrain, height_m, radius_m))
    return parts


def _woods(
    areas: Sequence[Area], zone: shapely.Polygon, obstacles: Obstacles, terrain: Terrain, rng: np.random.Generator
) -> list[Surfaces]:
    """Trees and shrubs scattered over parks and woods."""
    parts = []
    for area in areas:
        shape = shapely.make_valid(shapely.Polygon(area.outer_m, area.holes_m)).intersection(zone)
        if shape.is_empty:
            continue
        per_m2 = rng.choice([1 / 400, 1 / 150, 1 / 60])
        low, high = np.array(shape.bounds[:2]), np.array(shape.bounds[2:])
        count = min(int(rng.poisson(np.prod(high - low) * per_m2)), 3000)
        xy = rng.uniform(low, high, (count, 2))
        xy = xy[shapely.contains_xy(shape, xy[:, 0], xy[:, 1])]
        xy = xy[obstacles.free(xy, 1.0, 1.0)][:600]
        shrub = rng.random(len(xy)) < 0.4
        if shrub.any():
            parts.append(roadside.bushes(xy[shrub], terrain, rng))
        for group in np.array_split(xy[~shrub], max(1, int((~shrub).sum()) // 12)):
            if len(group):
                parts.append(roadside.trees(group, terrain, rng))
    return parts

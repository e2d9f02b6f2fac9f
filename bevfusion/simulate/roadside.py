"""What stands beside roads: shapes of trees, hedges, fences, walls, poles, signs and people, and where they stand.

Where the map does not say so, rows of trees and lamps, gardens and parked cars are invented.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int

from bevfusion.maps.features import Road
from bevfusion.simulate.ground import KERB_M
from bevfusion.simulate.relief import sidewalk_m
from bevfusion.simulate.route import lane_offset_m
from bevfusion.simulate.surfaces import (
    ELLIPSOID,
    FENCE,
    OTHER_STRUCTURE,
    PERSON,
    POLE,
    SIGN,
    TRUNK,
    VEGETATION,
    Surfaces,
    ellipsoids,
    prism_owners,
    prisms,
    rectangles,
    rounds,
    upright,
)
from bevfusion.simulate.terrain import Terrain
from bevfusion.simulate.traffic import Vehicles

Free = Callable[[Float[np.ndarray, "n 2"], float], Bool[np.ndarray, " n"]]
_PIECE_M = 5.0  # of hedges and walls
_POST_M = 2.5  # between the posts of fences
_BURIED_M = 0.3  # things start below ground, so that no ray slips under
_PLOTS = ("open", "fence", "wall", "hedge", "bed")
_BOW_M = 1.4  # a car takes the place of three discs: from the middle one to those at bow and stern


def trees(xy_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator, size: float = 1.0) -> Surfaces:
    """Trunks and porous crowns; one call makes one kind of tree, so that a row looks like a row."""
    count = len(xy_m)
    base = terrain.height_m(xy_m) + KERB_M
    low = rng.random() < 0.3  # conifers and untrimmed trees have leaves from the ground up
    bare = size * (rng.uniform(0.2, 1.0) if low else rng.uniform(1.4, 3.0)) * rng.uniform(0.8, 1.15, count)
    radii = size * rng.uniform(1.2, 2.8) * rng.uniform(0.8, 1.2, (count, 3))
    radii[:, 2] *= rng.uniform(0.9, 1.6)
    thick = size * rng.uniform(0.1, 0.22) * rng.uniform(0.8, 1.2, count)
    trunks = prisms(rounds(xy_m, thick, 6), base - _BURIED_M, base + bare + radii[:, 2])
    centres = np.column_stack([xy_m, base + bare + 0.9 * radii[:, 2]])
    crowns = ellipsoids(centres, radii, rng)
    leaf = float(rng.uniform(0.36, 0.5))
    return Surfaces.join(
        [
            Surfaces.of(trunks, TRUNK, 0.45),
            Surfaces.of(crowns, VEGETATION, leaf, free_path_m=float(rng.uniform(0.5, 2.5))),
        ]
    ).made_of(prism_owners(np.arange(count), 6), _of_balls(count))


def bushes(xy_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator) -> Surfaces:
    """Round shrubs and perennials of 0.2 to 1.8 m radius, most of them small."""
    count = len(xy_m)
    radii = np.clip(rng.lognormal(-0.5, 0.6, (count, 1)), 0.2, 1.8) * rng.uniform(0.7, 1.3, (count, 3))
    base = terrain.height_m(xy_m) + KERB_M
    shells = ellipsoids(np.column_stack([xy_m, base + 0.7 * radii[:, 2]]), radii, rng, roughness=0.25)
    brightness = float(rng.uniform(0.36, 0.48))
    return Surfaces.of(shells, VEGETATION, brightness, free_path_m=0.25).made_of(_of_balls(count))


def _of_balls(count: int) -> Int[np.ndarray, " m"]:
    """Whose each quad of `ellipsoids` is."""
    return np.repeat(np.arange(count), math.prod(ELLIPSOID))


def _pieces(
    start_m: Float[np.ndarray, "n 2"], end_m: Float[np.ndarray, "n 2"], most_m: float
) -> tuple[Float[np.ndarray, "m 2 2"], Int[np.ndarray, " m"]]:
    """(ends, segment) of pieces of at most `most_m`, so that what stands on them follows the land."""
    count = np.maximum(np.ceil(np.hypot(*(end_m - start_m).T) / most_m), 1.0).astype(int)
    segment = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
    share = np.stack([number, number + 1], axis=1) / count[segment, None]
    ends = start_m[segment, None] + share[:, :, None] * (end_m - start_m)[segment, None]
    return ends, segment


def _strips(
    start_m: Float[np.ndarray, "n 2"],
    end_m: Float[np.ndarray, "n 2"],
    breadth_m: Float[np.ndarray, " n"],
    height_m: Float[np.ndarray, " n"],
    terrain: Terrain,
) -> tuple[Float[np.ndarray, "m 4 3"], Int[np.ndarray, " m"]]:
    """(quads, segment of each) of upright bodies along segments, as high all along above the land."""
    ends, segment = _pieces(start_m, end_m, _PIECE_M)
    along = ends[:, 1] - ends[:, 0]
    base = terrain.height_m(ends) + KERB_M
    footprint = rectangles(
        ends.mean(axis=1), np.arctan2(along[:, 1], along[:, 0]), np.hypot(along[:, 0], along[:, 1]), breadth_m[segment]
    )
    corners = base[:, [1, 1, 0, 0]]  # of the footprint: twice its end, twice its start
    quads = prisms(footprint, corners - _BURIED_M, corners + height_m[segment, None])
    return quads, prism_owners(segment, 4)


def hedges(
    start_m: Float[np.ndarray, "n 2"], end_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator
) -> Surfaces:
    """Dense boxes of leaves, 0.8 to 2.6 m high."""
    count = len(start_m)
    boxes, owner = _strips(start_m, end_m, rng.uniform(0.5, 1.4, count), rng.uniform(0.8, 2.6, count), terrain)
    return Surfaces.of(boxes, VEGETATION, 0.42, free_path_m=float(rng.uniform(0.1, 0.3))).made_of(owner)


def beds(
    start_m: Float[np.ndarray, "n 2"], end_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator
) -> Surfaces:
    """Strips of low plants and tall grass, 0.3 to 0.7 m high."""
    count = len(start_m)
    boxes, owner = _strips(start_m, end_m, rng.uniform(0.5, 1.8, count), rng.uniform(0.3, 0.7, count), terrain)
    return Surfaces.of(boxes, VEGETATION, 0.38, free_path_m=float(rng.uniform(0.2, 0.5))).made_of(owner)


def walls(
    start_m: Float[np.ndarray, "n 2"],
    end_m: Float[np.ndarray, "n 2"],
    terrain: Terrain,
    rng: np.random.Generator,
    heights_m: tuple[float, float] = (0.4, 1.9),
) -> Surfaces:
    """Garden walls of stone."""
    count = len(start_m)
    boxes, owner = _strips(start_m, end_m, np.full(count, 0.25), rng.uniform(*heights_m, count), terrain)
    return Surfaces.of(boxes, FENCE, float(rng.uniform(0.32, 0.52))).made_of(owner)


def retaining_walls(terrain: Terrain, free: Free, rng: np.random.Generator) -> Surfaces:
    """Walls that hold the land where it steps beside a road, some with a parapet.

    Args:
        terrain: knows where it steps.
        free: whether a thing of a radius may stand at each of some places.
        rng: chooses parapets and stone.
    """
    ends, foot, top = terrain.retaining_walls()
    stands = free(ends.mean(axis=1), 0.4)
    ends, foot, top = ends[stands], foot[stands], top[stands]
    if len(ends) == 0:
        return Surfaces.join([])
    along = ends[:, 1] - ends[:, 0]
    length = np.hypot(along[:, 0], along[:, 1])
    footprint = rectangles(ends.mean(axis=1), np.arctan2(along[:, 1], along[:, 0]), length + 0.05, 0.25)
    # one choice every dozen pieces: walls are long
    parapet = np.repeat(rng.choice([0.1, 0.3, 0.9], len(ends) // 12 + 1, p=[0.4, 0.35, 0.25]), 12)[: len(ends)]
    high = (top + KERB_M + parapet[:, None])[:, [1, 1, 0, 0]]
    quads = prisms(footprint, foot[:, [1, 1, 0, 0]] - _BURIED_M, high)
    return Surfaces.of(quads, OTHER_STRUCTURE, float(rng.uniform(0.3, 0.5)))


def fences(
    start_m: Float[np.ndarray, "n 2"], end_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator
) -> Surfaces:
    """Slats and meshes that let a share of the rays through, with a post every 2.5 m."""
    ends, segment = _pieces(start_m, end_m, _POST_M)
    base = terrain.height_m(ends) + KERB_M
    high = base + rng.uniform(0.8, 1.8, len(start_m))[segment, None]
    screens = upright(ends[:, 0], ends[:, 1], base - _BURIED_M, high)
    last = np.flatnonzero(np.diff(segment, append=-1))
    feet, own = np.concatenate([ends[:, 0], ends[last, 1]]), np.concatenate([segment, segment[last]])
    foot, head = (np.concatenate([edge[:, 0], edge[last, 1]]) for edge in (base, high))
    stakes = prisms(rounds(feet, np.full(len(feet), 0.05), 4), foot - _BURIED_M, head + 0.05)
    bright = float(rng.uniform(0.3, 0.5))
    return Surfaces.join(
        [
            Surfaces.of(screens, FENCE, bright, passing=float(rng.uniform(0.2, 0.75))),
            Surfaces.of(stakes, FENCE, bright),
        ]
    ).made_of(segment, prism_owners(own, 4))


def poles(
    xy_m: Float[np.ndarray, "n 2"], terrain: Terrain, height_m: float, radius_m: float, raised_m: float = KERB_M
) -> Surfaces:
    """Lamps, masts and bollards."""
    base = terrain.height_m(xy_m) + raised_m
    shafts = prisms(rounds(xy_m, np.full(len(xy_m), radius_m), 6), base - _BURIED_M, base + height_m)
    return Surfaces.of(shafts, POLE, 0.36).made_of(prism_owners(np.arange(len(xy_m)), 6))


def signs(xy_m: Float[np.ndarray, "n 2"], yaw_rad: Float[np.ndarray, " n"], terrain: Terrain) -> Surfaces:
    """Bright plates on thin poles, seen from along the yaw."""
    base = terrain.height_m(xy_m) + KERB_M
    plates = prisms(rectangles(xy_m, yaw_rad, 0.04, 0.6), base + 1.9, base + 2.5)
    sticks, each = poles(xy_m, terrain, 2.6, 0.035), np.arange(len(xy_m))
    return Surfaces.join([sticks, Surfaces.of(plates, SIGN, 0.6)]).made_of(sticks.thing, prism_owners(each, 4))


def people(xy_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator) -> Surfaces:
    """Upright ellipsoids of human size."""
    count = len(xy_m)
    half = rng.uniform(0.78, 0.93, count)
    radii = np.column_stack([np.full(count, 0.28), np.full(count, 0.2), half])
    centres = np.column_stack([xy_m, terrain.height_m(xy_m) + KERB_M + half])
    return Surfaces.of(ellipsoids(centres, radii, rng, roughness=0.08), PERSON, 0.5)


@dataclass(frozen=True)
class Obstacles:
    """What invented things keep away from."""

    buildings: shapely.STRtree
    carriageways: shapely.STRtree  # polygons
    path: shapely.LineString  # of the recording vehicle
    mapped_trees: shapely.STRtree

    def free(
        self, xy_m: Float[np.ndarray, "n 2"], radius_m: float, road_gap_m: float = 0.2, path_gap_m: float = 1.6
    ) -> Bool[np.ndarray, " n"]:
        """Whether a thing of that radius may stand at each place."""
        places = shapely.points(xy_m)
        taken = np.zeros(len(xy_m), bool)
        taken[self.buildings.query(places, predicate="dwithin", distance=radius_m)[0]] = True
        if road_gap_m >= 0.0:
            taken[self.carriageways.query(places, predicate="dwithin", distance=road_gap_m)[0]] = True
        free: np.ndarray = ~taken & (shapely.distance(places, self.path) > path_gap_m + radius_m)
        return free


@dataclass
class _RoadSide:
    """One side of a road, ready to be furnished."""

    road: Road
    side: float  # 1 left, -1 right of the way's direction
    length_m: float = field(init=False)

    def __post_init__(self) -> None:
        steps = np.hypot(*np.diff(self.road.xy_m, axis=0).T)
        self._ticks = np.concatenate([[0.0], np.cumsum(steps)])
        self.length_m = float(self._ticks[-1])

    def at(
        self, travelled_m: Float[np.ndarray, " n"], away_m: float | Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """(places, direction of the road there) at distances along the road and from its centre line."""
        xy_m = self.road.xy_m
        x, y = (np.interp(travelled_m, self._ticks, xy_m[:, axis]) for axis in (0, 1))
        step = np.clip(np.searchsorted(self._ticks, travelled_m, side="right") - 1, 0, len(xy_m) - 2)
        along = xy_m[step + 1] - xy_m[step]
        yaw = np.arctan2(along[:, 1], along[:, 0])
        away = self.side * np.broadcast_to(np.asarray(away_m, float), travelled_m.shape)
        return np.stack([x - away * np.sin(yaw), y + away * np.cos(yaw)], axis=1), yaw

    def ticks(self, spacing_m: float, jitter_m: float, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
        """Distances at a steady spacing with a little disorder."""
        even = np.arange(rng.uniform(0.0, spacing_m), self.length_m, spacing_m)
        return np.clip(even + rng.normal(0.0, jitter_m, len(even)), 0.0, self.length_m)

    @property
    def edge_m(self) -> float:
        """Distance of the carriageway's edge from the centre line."""
        return 0.5 * self.road.width_m

    @property
    def fence_m(self) -> float:
        """Distance of the line where private ground begins."""
        return self.edge_m + max(sidewalk_m(self.road), 0.4) + 0.3


def furnish(
    roads: list[Road],
    obstacles: Obstacles,
    terrain: Terrain,
    vehicles: float,
    rng: np.random.Generator,
    *,
    left_hand_traffic: bool = False,
) -> Surfaces:
    """Everything invented along the roads.

    Args:
        roads: the drivable ones near the path.
        obstacles: what to keep away from.
        terrain: the land below.
        vehicles: density of parked ones, 1 for a usual street.
        rng: makes every street different, and each alike along its length.
        left_hand_traffic: which way parked cars face.
    """
    parts: list[Surfaces] = []
    parked: list[tuple[np.ndarray, np.ndarray]] = []
    for road in roads:
        if len(road.xy_m) < 2 or road.kind in ("motorway", "trunk", "track") or road.bridge:
            continue
        greenery = rng.random()
        for side in (-1.0, 1.0):
            course = _RoadSide(road, side)
            if course.length_m < 5.0:
                continue
            parts += _rows(course, obstacles, terrain, greenery, rng)
            parts += _gardens(course, obstacles, terrain, greenery, rng)
            if road.kind != "service" or rng.random() < 0.3:
                parked.append(_parked(course, obstacles, vehicles, -1.0 if left_hand_traffic else 1.0, rng))
    if parked:
        xy, yaw = (np.concatenate(column) for column in zip(*parked, strict=True))
        parts.append(Vehicles.random(xy, yaw, rng).surfaces(terrain, moving=False))
    return Surfaces.join(parts)


def thickets(xy_m: Float[np.ndarray, "n 2"], rng: np.random.Generator) -> Float[np.ndarray, "m 2"]:
    """Where shrubs stand that grow in groups of one to seven about some places."""
    group = np.repeat(np.arange(len(xy_m)), rng.choice([1, 2, 4, 7], len(xy_m), p=[0.45, 0.25, 0.2, 0.1]))
    scattered: np.ndarray = xy_m[group] + rng.normal(0.0, 0.9, (len(group), 2))
    return scattered


def _rows(
    course: _RoadSide, obstacles: Obstacles, terrain: Terrain, greenery: float, rng: np.random.Generator
) -> list[Surfaces]:
    """Trees, lamps, bollards, signs and people in a row on the pavement."""
    parts = []
    if rng.random() < 0.15 + 0.35 * greenery and course.road.kind != "service":
        xy, _ = course.at(course.ticks(rng.uniform(8.0, 12.0), 0.3, rng), course.edge_m + 0.7)
        mapped = np.zeros(len(xy), bool)
        mapped[obstacles.mapped_trees.query(shapely.points(xy), predicate="dwithin", distance=15.0)[0]] = True
        xy = xy[obstacles.free(xy, 0.6) & ~mapped]
        if len(xy):
            parts.append(trees(xy, terrain, rng, size=float(rng.uniform(0.6, 1.2))))
    if rng.random() < 0.55:
        xy, _ = course.at(course.ticks(rng.uniform(25.0, 40.0), 0.4, rng), course.edge_m + 0.4)
        parts.append(poles(xy[obstacles.free(xy, 0.2, 0.1, 1.2)], terrain, 6.0, float(rng.uniform(0.05, 0.1))))
    if rng.random() < 0.08:
        xy, _ = course.at(course.ticks(rng.uniform(1.8, 4.0), 0.05, rng), course.edge_m + 0.3)
        parts.append(poles(xy[obstacles.free(xy, 0.2, 0.1, 1.2)], terrain, 0.95, 0.06))
    xy, yaw = course.at(course.ticks(rng.uniform(35.0, 90.0), 8.0, rng), course.edge_m + 0.5)
    free = obstacles.free(xy, 0.3, 0.2, 1.2)
    parts.append(signs(xy[free], yaw[free] + rng.normal(0.0, 0.15, int(free.sum())), terrain))
    if sidewalk_m(course.road) > 0:
        count = int(rng.poisson(course.length_m / 140.0))
        xy, _ = course.at(rng.uniform(0.0, course.length_m, count), course.edge_m + rng.uniform(0.4, 1.6, count))
        parts.append(people(xy[obstacles.free(xy, 0.4)], terrain, rng))
    return parts


def _gardens(
    course: _RoadSide, obstacles: Obstacles, terrain: Terrain, greenery: float, rng: np.random.Generator
) -> list[Surfaces]:
    """The border of each plot, and shrubs and trees behind it."""
    parts: list[Surfaces] = []
    border_m = course.fence_m + float(rng.choice([0.0, 0.0, rng.uniform(0.0, 3.0)]))  # verges and wide pavements
    shares = rng.dirichlet([1.1, 0.8, 0.7, 0.4 + 1.6 * greenery, 0.4 + 0.6 * greenery])
    pitch = rng.uniform(7.0, 20.0)
    starts = course.ticks(pitch, 0.1 * pitch, rng)
    gates = rng.uniform(1.0, 4.0, len(starts))
    ends = np.minimum(np.append(starts[1:], course.length_m), starts + 1.3 * pitch) - gates
    kind = rng.choice(len(_PLOTS), len(starts), p=shares)
    usable = (ends - starts > 1.5) & (course.road.kind != "service")
    from_m, _ = course.at(starts, border_m)
    to_m, _ = course.at(ends, border_m)
    for share in (0.0, 0.5, 1.0):
        usable &= obstacles.free(from_m + share * (to_m - from_m), 0.4, 0.6)
    for code, build in ((1, fences), (2, walls), (3, hedges), (4, beds)):
        chosen = usable & (kind == code)
        if chosen.any():
            parts.append(build(from_m[chosen], to_m[chosen], terrain, rng))
    # behind the border, and some between it and the pavement
    count = int(rng.poisson(course.length_m / 4.5 * (0.3 + greenery)))
    xy, _ = course.at(rng.uniform(0.0, course.length_m, count), course.fence_m + 0.7 + 14.0 * rng.random(count) ** 1.3)
    xy = thickets(xy, rng)
    xy = xy[obstacles.free(xy, 0.7, 1.5)]
    if len(xy):
        parts.append(bushes(xy, terrain, rng))
    count = int(rng.poisson(course.length_m / 7.0 * (0.2 + greenery)))
    xy, _ = course.at(rng.uniform(0.0, course.length_m, count), course.fence_m + 1.5 + 28.0 * rng.random(count))
    for place in xy[obstacles.free(xy, 1.0, 1.5)]:
        parts.append(trees(place[None], terrain, rng, size=float(rng.uniform(0.5, 1.3))))
    return parts


def _parked(
    course: _RoadSide, obstacles: Obstacles, vehicles: float, keeps: float, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    """Cars along the kerb, in some streets densely and in others not at all."""
    taken = np.clip(vehicles * rng.choice([0.0, 0.1, 0.25, 0.6], p=[0.35, 0.3, 0.2, 0.15]), 0.0, 1.0)
    ticks = course.ticks(rng.uniform(5.4, 6.4), 0.2, rng)
    ticks = ticks[(ticks > 8.0) & (ticks < course.length_m - 8.0)]
    ticks = ticks[rng.random(len(ticks)) < taken]
    away = max(course.edge_m - 1.0, lane_offset_m(course.road) + 2.7)  # half on the pavement where it is narrow
    xy, yaw = course.at(ticks, away + rng.normal(0.0, 0.08, len(ticks)))
    against = course.road.oneway < 0 if course.road.oneway else course.side * keeps > 0
    turned = np.where(rng.random(len(ticks)) < 0.9, 0.0, np.pi) + (np.pi if against else 0.0)
    # bow and stern too: round a corner the path comes nearer to them than to the middle
    along = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    free = np.all([obstacles.free(xy + _BOW_M * end * along, 1.1, -1.0, 1.4) for end in (-1.0, 0.0, 1.0)], axis=0)
    yaw = yaw + turned + rng.normal(0.0, 0.02, len(ticks))
    return xy[free], yaw[free]

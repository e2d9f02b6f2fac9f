"""What stands beside the roads of a map that does not say so: rows of trees and lamps, gardens, parked cars."""

from dataclasses import dataclass, field

import numpy as np
import shapely
from jaxtyping import Bool, Float

from bevfusion.maps.features import Road
from bevfusion.simulate import props
from bevfusion.simulate.road_profiles import sidewalk_m
from bevfusion.simulate.route import lane_offset_m
from bevfusion.simulate.surfaces import Surfaces
from bevfusion.simulate.terrain import Terrain
from bevfusion.simulate.traffic import Vehicles

_PLOTS = ("open", "fence", "wall", "hedge", "bed")
_BOW_M = 1.4  # a car takes the place of three discs: from the middle one to those at bow and stern


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
            parts.append(props.trees(xy, terrain, rng, size=float(rng.uniform(0.6, 1.2))))
    if rng.random() < 0.55:
        xy, _ = course.at(course.ticks(rng.uniform(25.0, 40.0), 0.4, rng), course.edge_m + 0.4)
        parts.append(props.poles(xy[obstacles.free(xy, 0.2, 0.1, 1.2)], terrain, 6.0, float(rng.uniform(0.05, 0.1))))
    if rng.random() < 0.08:
        xy, _ = course.at(course.ticks(rng.uniform(1.8, 4.0), 0.05, rng), course.edge_m + 0.3)
        parts.append(props.poles(xy[obstacles.free(xy, 0.2, 0.1, 1.2)], terrain, 0.95, 0.06))
    xy, yaw = course.at(course.ticks(rng.uniform(35.0, 90.0), 8.0, rng), course.edge_m + 0.5)
    free = obstacles.free(xy, 0.3, 0.2, 1.2)
    parts.append(props.signs(xy[free], yaw[free] + rng.normal(0.0, 0.15, int(free.sum())), terrain))
    if sidewalk_m(course.road) > 0:
        count = int(rng.poisson(course.length_m / 140.0))
        xy, _ = course.at(rng.uniform(0.0, course.length_m, count), course.edge_m + rng.uniform(0.4, 1.6, count))
        parts.append(props.people(xy[obstacles.free(xy, 0.4)], terrain, rng))
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
    for code, build in ((1, props.fences), (2, props.walls), (3, props.hedges), (4, props.beds)):
        chosen = usable & (kind == code)
        if chosen.any():
            parts.append(build(from_m[chosen], to_m[chosen], terrain, rng))
    # behind the border, and some between it and the pavement
    count = int(rng.poisson(course.length_m / 4.5 * (0.3 + greenery)))
    xy, _ = course.at(rng.uniform(0.0, course.length_m, count), course.fence_m + 0.7 + 14.0 * rng.random(count) ** 1.3)
    xy = thickets(xy, rng)
    xy = xy[obstacles.free(xy, 0.7, 1.5)]
    if len(xy):
        parts.append(props.bushes(xy, terrain, rng))
    count = int(rng.poisson(course.length_m / 7.0 * (0.2 + greenery)))
    xy, _ = course.at(rng.uniform(0.0, course.length_m, count), course.fence_m + 1.5 + 28.0 * rng.random(count))
    for place in xy[obstacles.free(xy, 1.0, 1.5)]:
        parts.append(props.trees(place[None], terrain, rng, size=float(rng.uniform(0.5, 1.3))))
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

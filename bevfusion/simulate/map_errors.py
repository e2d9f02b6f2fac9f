"""How the world differs from its map: the world behind a map changed, or a map as another mapper would have left it.

In the world, buildings are gone, moved or not yet drawn, and all of it is drawn by a shaky hand. Where the world is
real, the map is wrong instead: things are not drawn, drawn beside their place, or drawn that are not there; streets
stay.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import shapely
from jaxtyping import Float, Int

from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import Area, Line, OsmMap, Point
from bevfusion.structures import DataError

_WARP_LENGTH_M = 40.0  # how far apart two places are drawn independently of each other
_WAVES = 64
Move = Callable[[Float[np.ndarray, "n 2"]], Float[np.ndarray, "n 2"]]  # from where things are drawn to where they are
Thing = TypeVar("Thing", Area, Line, Point)


@dataclass(frozen=True, slots=True)
class MapErrors:
    """What was changed, by the index of the area in the map."""

    missing: tuple[int, ...]  # on the map, not in the world
    shifted: dict[int, tuple[float, float]]  # (east, north) in metres
    new: tuple[Area, ...]  # in the world, not on the map


def check_shares(shares: tuple[float, float, float]) -> None:
    """See that shares of buildings (missing, shifted, new) can be had.

    Raises:
        DataError: if one is not within 0 and 1, or missing and shifted exceed all.
    """
    missing_share, shifted_share, _ = shares
    if not all(0.0 <= share <= 1.0 for share in shares) or missing_share + shifted_share > 1.0:
        raise DataError(f"shares of missing, shifted and new buildings lie within 0 and 1, got {shares}")


def draw_errors(
    osm: OsmMap, shares: tuple[float, float, float], rng: np.random.Generator
) -> tuple[tuple[Area, ...], MapErrors]:
    """The areas of the world and how they differ from the map's.

    Args:
        osm: the map, left as it is.
        shares: of the buildings, how many are (missing, shifted, new), each 0 to 1.
        rng: chooses them.

    Raises:
        DataError: if a share is not within 0 and 1, or missing and shifted exceed all.
    """
    check_shares(shares)
    missing_share, shifted_share, new_share = shares
    buildings = np.array([i for i, area in enumerate(osm.areas) if area.kind == "building"], dtype=int)
    order = rng.permutation(buildings)
    gone = math.floor(missing_share * len(order) + rng.random())
    moved = math.floor(shifted_share * len(order) + rng.random())
    missing = {int(i) for i in order[:gone]}
    shifted: dict[int, tuple[float, float]] = {}
    for i in order[gone : gone + moved]:
        reach, heading = rng.uniform(0.5, 3.0), rng.uniform(-math.pi, math.pi)
        shifted[int(i)] = (float(reach * math.cos(heading)), float(reach * math.sin(heading)))
    new = _invent(osm, buildings, math.floor(new_share * len(order) + rng.random()), rng)
    kept = [
        _moved(area, _by(shifted[i])) if i in shifted else area for i, area in enumerate(osm.areas) if i not in missing
    ]
    return (*kept, *new), MapErrors(tuple(sorted(missing)), shifted, new)


def add_noise(
    osm: OsmMap, areas: tuple[Area, ...], map_noise_m: float, rng: np.random.Generator
) -> tuple[OsmMap, tuple[Area, ...]]:
    """The world behind a map that is drawn by hand: houses and single things stand a little off.

    Args:
        osm: the map, left as it is.
        areas: those of the world.
        map_noise_m: standard deviation along each axis.
        rng: chooses the offsets.

    Returns:
        The map with its points, and the areas, where they really stand.
    """
    offsets = rng.normal(0.0, map_noise_m, (len(areas) + len(osm.points), 2))
    houses = tuple(
        _moved(area, _by(offset)) if area.kind == "building" else area
        for area, offset in zip(areas, offsets[: len(areas)], strict=True)
    )
    points = tuple(
        replace(point, x_m=point.x_m + float(dx), y_m=point.y_m + float(dy))
        for point, (dx, dy) in zip(osm.points, offsets[len(areas) :], strict=True)
    )
    return replace(osm, points=points), houses


def warp_map(osm: OsmMap, map_warp_m: float, rng: np.random.Generator) -> OsmMap:
    """The world behind a map that is drawn from the air: streets and houses lie a little off, each in their own way.

    What is near is off alike, so that crossings stay crossings, hedges stay along their road and a block of houses
    turns as a whole; after 40 m the pen has wandered. Streets (roads, lines beside them, single things) and areas are
    drawn at other times from other pictures, so that they are off independently.

    Args:
        osm: the map, left as it is.
        map_warp_m: standard deviation along each axis; with 0 all stays.
        rng: chooses how.

    Returns:
        The map with everything where it really is.
    """
    if map_warp_m == 0.0:
        return osm
    street_m, area_m = _random_field(map_warp_m, rng), _random_field(map_warp_m, rng)
    places_m = street_m(np.array([(point.x_m, point.y_m) for point in osm.points]).reshape(-1, 2)).tolist()
    return replace(
        osm,
        roads=tuple(replace(road, xy_m=street_m(road.xy_m)) for road in osm.roads),
        lines=tuple(replace(line, xy_m=street_m(line.xy_m)) for line in osm.lines),
        points=tuple(replace(point, x_m=x, y_m=y) for point, (x, y) in zip(osm.points, places_m, strict=True)),
        areas=tuple(_moved(area, area_m) for area in osm.areas),
    )


def _random_field(std_m: float, rng: np.random.Generator) -> Move:
    """Moves places by a smooth random field of Gaussian covariance, a sum of random waves.

    Rahimi and Recht, Random Features for Large-Scale Kernel Machines, NeurIPS 2007, section 3.
    """
    waves = rng.normal(0.0, 1.0 / _WARP_LENGTH_M, (2, _WAVES))
    phases = rng.uniform(0.0, 2.0 * math.pi, (2, _WAVES))  # one row an axis

    def moved(xy_m: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        angles = (xy_m @ waves)[:, None] + phases
        there_m: np.ndarray = xy_m + std_m * math.sqrt(2.0 / _WAVES) * np.cos(angles).sum(axis=2)
        return there_m

    return moved


def _by(shift_m: tuple[float, float] | Float[np.ndarray, " 2"]) -> Move:
    return lambda xy_m: xy_m + np.asarray(shift_m)


def _moved(area: Area, move: Move) -> Area:
    return replace(area, outer_m=move(area.outer_m), holes_m=tuple(move(hole) for hole in area.holes_m))


def _invent(osm: OsmMap, buildings: Int[np.ndarray, " n"], count: int, rng: np.random.Generator) -> tuple[Area, ...]:
    """New buildings along the roads, where neither a building nor a road is in the way."""
    roads = [road for road in osm.roads if road.drivable and len(road.xy_m) > 1]
    if not roads or count == 0:
        return ()
    road_zones = shapely.buffer([shapely.LineString(road.xy_m) for road in roads], [r.width_m / 2 + 2 for r in roads])
    taken = shapely.STRtree([*road_zones, *(shapely.Polygon(osm.areas[i].outer_m) for i in buildings.tolist())])
    lengths = np.array([shapely.LineString(road.xy_m).length for road in roads])
    found: list[Area] = []
    placed: list[shapely.Polygon] = []
    for _ in range(20 * count):
        road = roads[int(rng.choice(len(roads), p=lengths / lengths.sum()))]
        step = int(rng.integers(len(road.xy_m) - 1))
        a, b = road.xy_m[step], road.xy_m[step + 1]
        yaw = math.atan2(*(b - a)[::-1])
        length, depth, side = rng.uniform(8.0, 22.0), rng.uniform(7.0, 13.0), rng.choice([-1.0, 1.0])
        place = a + rng.random() * (b - a)
        away = side * (road.width_m / 2 + 2.5 + rng.uniform(0.0, 6.0) + depth / 2)
        pose = SE2(float(place[0] - away * math.sin(yaw)), float(place[1] + away * math.cos(yaw)), yaw)
        x, y = 0.5 * length, 0.5 * depth
        ring = pose.apply(np.array([[x, -y], [x, y], [-x, y], [-x, -y], [x, -y]]))
        shape = shapely.Polygon(ring)
        if len(taken.query(shape, predicate="intersects")) or any(shape.intersects(other) for other in placed):
            continue
        placed.append(shape)
        found.append(Area("building", ring, height_m=float(rng.uniform(3.0, 14.0))))
        if len(found) == count:
            break
    return tuple(found)


def without_things(osm: OsmMap, share: float, rng: np.random.Generator) -> OsmMap:
    """Without a share of its buildings, other areas, lines and single things, at random.

    Raises:
        DataError: if the share is not within 0 and 1.
    """
    areas, _ = draw_errors(osm, (share, 0.0, 0.0), rng)
    buildings = [area for area in areas if area.kind == "building"]
    others = [area for area in areas if area.kind != "building"]
    return replace(
        osm,
        areas=(*buildings, *_kept(others, share, rng)),
        lines=tuple(_kept(osm.lines, share, rng)),
        points=tuple(_kept(osm.points, share, rng)),
    )


def with_shifted_things(osm: OsmMap, share: float, rng: np.random.Generator) -> OsmMap:
    """With a share of its buildings and single things half a metre to three metres beside their places.

    Raises:
        DataError: if the share is not within 0 and 1.
    """
    areas, _ = draw_errors(osm, (0.0, share, 0.0), rng)
    return replace(osm, areas=areas, points=tuple(_shifted(point, share, rng) for point in osm.points))


def with_invented_buildings(osm: OsmMap, share: float, rng: np.random.Generator) -> OsmMap:
    """With so many more buildings along its streets, as a share of those it has; fewer where there is no room.

    Raises:
        DataError: if the share is not within 0 and 1.
    """
    areas, _ = draw_errors(osm, (0.0, 0.0, share), rng)
    return replace(osm, areas=areas)


def _kept(things: Sequence[Thing], share: float, rng: np.random.Generator) -> list[Thing]:
    kept = rng.random(len(things)) >= share
    return [thing for thing, stays in zip(things, kept.tolist(), strict=True) if stays]


def _shifted(point: Point, share: float, rng: np.random.Generator) -> Point:
    moves, reach_m, angle = rng.random() < share, rng.uniform(0.5, 3.0), rng.uniform(-math.pi, math.pi)
    if not moves:
        return point
    return replace(point, x_m=point.x_m + reach_m * math.cos(angle), y_m=point.y_m + reach_m * math.sin(angle))

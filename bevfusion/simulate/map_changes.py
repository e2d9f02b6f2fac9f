"""A map as another mapper would have left it: things not drawn, drawn beside their place, or drawn that are not there.

Streets stay. `map_errors.py` does the same to the world behind a map; here the map is wrong and the world is real.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from bevfusion.maps.features import Area, Line, OsmMap, Point
from bevfusion.simulate.map_errors import draw_errors

Thing = TypeVar("Thing", Area, Line, Point)


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

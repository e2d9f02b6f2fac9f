"""Small road graphs by hand."""

from collections.abc import Mapping, Sequence

import numpy as np

from bevfusion.direction.road_graph import RoadGraph
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.maps.features import OsmMap, Road, TurnRestriction
from bevfusion.summary import InputSummary

FRAME = LocalFrame(49.0, 8.4)


class Picture:
    """A map that is a picture: it covers everything and knows no roads."""

    name, frame, bounds_m = "city.png", FRAME, (-500.0, -500.0, 500.0, 500.0)
    summary = InputSummary("city.png")

    def covers(self, x_m: float, y_m: float) -> bool:
        return True

    def draw(self, grid, map_from_tile, mirrored: bool = False) -> np.ndarray:
        raise NotImplementedError


def road(
    nodes: Mapping[int, tuple[float, float]], ids: Sequence[int], oneway: int = 0, kind: str = "residential", **more
) -> Road:
    xy_m = np.array([nodes[ref] for ref in ids], float)
    return Road(kind, xy_m, tuple(ids), width_m=more.pop("width_m", 8.0), oneway=oneway, drivable=True, **more)


def graph(roads: Sequence[Road], rules: Sequence[TurnRestriction] = (), left_hand_traffic: bool = False) -> RoadGraph:
    return RoadGraph.of(town(roads, rules, left_hand_traffic))


def town(roads: Sequence[Road], rules: Sequence[TurnRestriction] = (), left_hand_traffic: bool = False) -> OsmMap:
    box = (-500.0, -500.0, 500.0, 500.0)
    return OsmMap(FRAME, box, tuple(roads), (), (), (), "town", left_hand_traffic, restrictions=tuple(rules))


def crossing(oneway: Mapping[int, int] | None = None, **more) -> list[Road]:
    """Four streets of 100 m from node 0: to 1 west, 2 south, 3 east, 4 north; a one-way one of 1 leads away from 0."""
    nodes = {0: (0.0, 0.0), 1: (-100.0, 0.0), 2: (0.0, -100.0), 3: (100.0, 0.0), 4: (0.0, 100.0)}
    return [road(nodes, (0, end), (oneway or {}).get(end, 0), **more) for end in (1, 2, 3, 4)]

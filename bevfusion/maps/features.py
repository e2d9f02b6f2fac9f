"""A topology map in memory: what `maps/osm.py` reads and `maps/render.py` and `simulate/world.py` draw."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.summary import InputSummary


@dataclass(frozen=True, slots=True)
class Road:
    """A way that is driven, cycled or walked on; coordinates are the centre line in the map frame."""

    kind: str  # the value of OSM's highway tag
    xy_m: Float[np.ndarray, "n 2"]
    node_ids: tuple[int, ...]  # of OSM, one a vertex: roads that share one meet there
    width_m: float  # tagged, from the lanes, or the default of its kind
    oneway: int  # 1 along the vertices, -1 against them, 0 both ways
    drivable: bool
    bridge: bool = False
    name: str = ""
    grade: float | None = None  # rise per metre along the vertices, where incline says a number
    earthwork: str = ""  # "embankment" or "cutting" where it runs on or in one
    private: bool = False  # not open to everybody's cars: access=private and the like


@dataclass(frozen=True, slots=True)
class Area:
    """A polygon with holes (rings closed: first vertex repeated at the end)."""

    kind: str  # building, vegetation, water, parking
    outer_m: Float[np.ndarray, "n 2"]
    holes_m: tuple[Float[np.ndarray, "_ 2"], ...] = ()
    height_m: float | None = None  # of a building, from height or building:levels


@dataclass(frozen=True, slots=True)
class Line:
    """A thin thing with a course: wall, fence, hedge, kerb, rail, tree_row."""

    kind: str
    xy_m: Float[np.ndarray, "n 2"]


@dataclass(frozen=True, slots=True)
class Point:
    """A thing with a place: tree, pole, lamp, sign, signal."""

    kind: str
    x_m: float
    y_m: float


@dataclass(frozen=True, slots=True)
class TurnRestriction:
    """A rule about going on at a junction, by the nodes of OSM that a car comes along one after the other."""

    node_ids: tuple[int, ...]  # the last is where it may not go on to, or must
    mandatory: bool = False  # it must go on to the last node; else it must not


@dataclass(frozen=True, slots=True)
class OsmMap:
    """All features of an extract, in east-north metres about its centre; what lies underground is left out."""

    frame: LocalFrame
    bounds_m: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max of the extract's box
    roads: Sequence[Road]
    areas: Sequence[Area]
    lines: Sequence[Line]
    points: Sequence[Point]
    name: str = ""
    left_hand_traffic: bool = False  # by the tags, else by the country
    summary: InputSummary = field(default_factory=lambda: InputSummary("map"))
    restrictions: tuple[TurnRestriction, ...] = ()

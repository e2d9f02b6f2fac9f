"""Which ways lead on from a pose where nobody says where to go: one path a branch, with its probability.

A vehicle stands on one of the edges near it: each counts by how far it lies off against the doubt about the pose,
exp(-d^2 / 2), and by how the headings differ. At every junction within 40 m the ways on share the probability by
their weights

    w = appeal(road) / appeal(road that one comes on) * exp(-|turn| / 40 degrees)

where appeal grows with the class of the road: main roads go on, and few turn off into a drive. One-way streets against
their direction and forbidden turns have none, and nobody turns round but in a dead end beyond the path. The weights are
an assumption, not learned; `docs/direction.md` says how often the likeliest branch was the one that was driven.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from bevfusion.direction.path import PathAhead, path_along
from bevfusion.direction.road_graph import Course, Edge, OnRoad, RoadGraph, edge_of, places_of
from bevfusion.direction.route import Route
from bevfusion.geometry.se2 import SE2

LEAST_PROBABILITY = 0.01
"""Branches that are less likely are left out."""

_REACH_M = 45.0  # a little more than a path, so that corners at its end are rounded
_RADIUS_M = 30.0
_LANE_M = 2.5  # standard deviation of a car from the centre line where its pose is exact
_HEADING_RAD = math.radians(15.0)
_TURN_RAD = math.radians(40.0)
_APPEAL = {
    "motorway": 4.0, "trunk": 4.0, "primary": 3.0, "secondary": 2.5, "tertiary": 2.0, "motorway_link": 1.5,
    "trunk_link": 1.5, "primary_link": 1.5, "secondary_link": 1.5, "tertiary_link": 1.5, "unclassified": 1.2,
    "residential": 1.0, "road": 1.0, "living_street": 0.6, "busway": 0.1, "bus_guideway": 0.02, "service": 0.2,
}  # fmt: skip
_PRIVATE = 0.2


def paths_ahead(
    graph: RoadGraph,
    map_from_ego: SE2,
    covariance: Float[np.ndarray, "3 3"],
    *,
    least: float = LEAST_PROBABILITY,
    with_spread: bool = True,
) -> list[PathAhead]:
    """One path a branch, the likeliest first; their probabilities add up to one.

    Args:
        graph: the roads.
        map_from_ego: pose of the vehicle.
        covariance: of it, x, y in m and yaw in rad, map axes.
        least: probability below which a branch is left out.
        with_spread: whether the spread of the directions is wanted, which takes most of the time.

    Raises:
        DataError: if no road in the vehicle's direction lies within 30 m.
    """
    found = [
        (probability, branch)
        for share, place in _places(graph, map_from_ego, covariance)
        for probability, branch in _branches(graph, place, share, least)
    ]
    together = _once(found)
    kept = [(probability, branch) for probability, branch in together if probability >= least] or together[:1]
    total = sum(probability for probability, _ in kept)
    doubt = covariance if with_spread else None
    paths = [
        path_along(Route.over(graph, list(branch)), map_from_ego, doubt, probability=probability / total)
        for probability, branch in kept
    ]
    return sorted(paths, key=lambda path: -path.probability)


def _places(graph: RoadGraph, pose: SE2, covariance: Float[np.ndarray, "3 3"]) -> list[tuple[float, OnRoad]]:
    """Where on the graph the vehicle may be, with the share of each; of edges that follow each other the nearest alone.

    Raises:
        DataError: if it is nowhere near a road.
    """
    near = places_of(pose, graph, _RADIUS_M)
    off_variance = _LANE_M**2 + 0.5 * float(covariance[0, 0] + covariance[1, 1])
    turn_variance = _HEADING_RAD**2 + float(covariance[2, 2])
    taken: list[tuple[float, OnRoad]] = []
    for place in near:
        if any(_follow(place.edge, other.edge) for _, other in taken):
            continue
        off = place.distance_m**2 / off_variance + place.turn_rad**2 / turn_variance
        taken.append((math.exp(-0.5 * off), place))
    total = sum(weight for weight, _ in taken)
    if total == 0.0:  # far from all of them: the nearest
        return [(1.0, taken[0][1])]
    return [(weight / total, place) for weight, place in taken]


def _follow(edge: Edge, other: Edge) -> bool:
    """Whether one edge leads onto the other, or away from the same junction: then one branching tells of both."""
    return edge[1] == other[0] or edge[0] == other[1] or edge[0] == other[0]


def _branches(graph: RoadGraph, place: OnRoad, share: float, least: float) -> Iterator[tuple[float, tuple[Edge, ...]]]:
    """The ways on from a place, until they are longer than a path or end."""
    waiting: list[tuple[float, float, Course, tuple[Edge, ...]]] = [
        (share, graph.length_m(place.edge) - place.along_m, place.edge, (place.edge,))
    ]
    while waiting:
        probability, ahead_m, course, branch = waiting.pop()
        onward = [after for after in graph.after(course) if after[-1] != course[-2]]
        weights = [branch_weight(graph, edge_of(course), edge_of(after)) for after in onward]
        if ahead_m >= _REACH_M or probability < least or not onward:
            yield probability, branch
            continue
        for weight, after in zip(weights, onward, strict=True):
            edge = edge_of(after)
            part = probability * weight / sum(weights)
            waiting.append((part, ahead_m + graph.length_m(edge), after, (*branch, edge)))


def branch_weight(graph: RoadGraph, edge: Edge, after: Edge) -> float:
    """How much a way on draws, as the module says."""
    road, onto = graph.roads[edge], graph.roads[after]
    appeal = _APPEAL.get(onto.kind, 1.0) / _APPEAL.get(road.kind, 1.0) * (_PRIVATE if onto.private else 1.0)
    return appeal * math.exp(-abs(graph.turn_rad(edge, after)) / _TURN_RAD)


def _once(found: list[tuple[float, tuple[Edge, ...]]]) -> list[tuple[float, tuple[Edge, ...]]]:
    """Branches that end alike are one, however they begin: the longer course, and both probabilities."""
    merged: dict[Edge, tuple[float, tuple[Edge, ...]]] = {}
    for probability, branch in sorted(found, key=lambda each: -each[0]):
        known = merged.get(branch[-1])
        merged[branch[-1]] = (probability, branch) if known is None else (known[0] + probability, known[1])
    return sorted(merged.values(), key=lambda each: -each[0])

"""A driven track -> the edges of the road graph that were driven: a hidden Markov model over time.

Newson and Krumm 2009, *Hidden Markov map matching through noise and sparseness*: a pose is near the edge that it was
driven on, and the way on the roads from one pose to the next is about as long as the flight between them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from jaxtyping import Float

from bevfusion.direction.road_graph import Course, Edge, OnRoad, RoadGraph, edge_of
from bevfusion.direction.route import Route
from bevfusion.geometry.se2 import SE2

_EVERY_M = 8.0  # poses nearer to each other say the same
_WITHIN_M = 15.0
_OFF_M = 4.0  # standard deviation of a car from the centre line, the map's own error among it
_OFF_RAD = math.radians(25.0)
_DETOUR_M = 4.0  # mean difference between way and flight
_FARTHEST_M = 60.0
_MOST_EDGES = 8  # candidates a pose


@dataclass(frozen=True)
class Stretch:
    """A part of a track that keeps to the roads, as a route over them."""

    first: int  # pose of the track
    last: int
    edges: tuple[Edge, ...]
    route: Route
    along_m: Float[np.ndarray, " n"]  # of the route, at each pose from first to last


@dataclass
class _Step:
    """Candidates of one pose, the cost of the best way to each, and where it came from."""

    pose: int
    places: list[OnRoad]
    cost: list[float]
    came_from: list[int]
    ways: list[list[Edge]]  # from the candidate that it came from, that one's edge left out


def matched(graph: RoadGraph, poses: Sequence[SE2]) -> list[Stretch]:
    """The stretches of a track that were driven on the roads, in order; none off them, and where the map has a gap.

    Args:
        graph: the roads.
        poses: of a vehicle in the order of time, map frame, none at a standstill.
    """
    stretches: list[Stretch] = []
    steps: list[_Step] = []
    for index in _spaced(poses):
        pose = poses[index]
        places = graph.near(pose.x_m, pose.y_m, _WITHIN_M, pose.yaw_rad)[:_MOST_EDGES]
        step = _first(index, places) if not steps else _next(graph, steps[-1], poses, index, places)
        if step is None:
            stretches.extend(_stretch(graph, steps, poses))
            steps = []
            step = _first(index, places)
        if step is not None:
            steps.append(step)
    stretches.extend(_stretch(graph, steps, poses))
    return stretches


def _spaced(poses: Sequence[SE2]) -> list[int]:
    taken = [0] if poses else []
    for index, pose in enumerate(poses):
        if math.hypot(pose.x_m - poses[taken[-1]].x_m, pose.y_m - poses[taken[-1]].y_m) >= _EVERY_M:
            taken.append(index)
    return taken


def _own_cost(place: OnRoad) -> float:
    return 0.5 * (place.distance_m / _OFF_M) ** 2 + 0.5 * (place.turn_rad / _OFF_RAD) ** 2


def _first(index: int, places: list[OnRoad]) -> _Step | None:
    if not places:
        return None
    count = len(places)
    return _Step(index, places, [_own_cost(place) for place in places], [-1] * count, [[] for _ in places])


def _next(graph: RoadGraph, before: _Step, poses: Sequence[SE2], index: int, places: list[OnRoad]) -> _Step | None:
    """The candidates of the next pose that a way leads to; None if there are none."""
    flight_m = math.hypot(poses[index].x_m - poses[before.pose].x_m, poses[index].y_m - poses[before.pose].y_m)
    reached: dict[int, tuple[float, int, list[Edge]]] = {}
    for number, start in enumerate(before.places):
        ways = _ways_from(graph, start, flight_m + _FARTHEST_M)
        for candidate, place in enumerate(places):
            for way_m, way in ways.get(place.edge, []):
                drive_m = way_m + place.along_m
                if not way:
                    drive_m = place.along_m - start.along_m
                    if drive_m < -_DETOUR_M:  # noise moves a place back a little, a car does not
                        continue
                cost = before.cost[number] + _own_cost(place) + abs(drive_m - flight_m) / _DETOUR_M
                if candidate not in reached or cost < reached[candidate][0]:
                    reached[candidate] = cost, number, way
    if not reached:
        return None
    kept = sorted(reached)
    return _Step(
        index,
        [places[candidate] for candidate in kept],
        [reached[candidate][0] for candidate in kept],
        [reached[candidate][1] for candidate in kept],
        [reached[candidate][2] for candidate in kept],
    )


def _ways_from(graph: RoadGraph, start: OnRoad, most_m: float) -> dict[Edge, list[tuple[float, list[Edge]]]]:
    """For each edge within reach: metres from the place to its first node, and the edges up to it, itself too."""
    lengths, paths = nx.single_source_dijkstra(
        graph.courses, start.edge, cutoff=most_m + start.along_m, weight=_leaving_m(graph)
    )
    found: dict[Edge, list[tuple[float, list[Edge]]]] = {start.edge: [(0.0, [])]}
    for course, way in paths.items():
        if course != start.edge:
            reached = lengths[course] - start.along_m, [edge_of(passed) for passed in way[1:]]
            found.setdefault(edge_of(course), []).append(reached)
    return found


def _leaving_m(graph: RoadGraph) -> Callable[[Course, Course, object], float]:
    """The weight of an arc: true metres of the edge that is left, for a track may well run on private roads."""

    def length_m(course: Course, onward: Course, arc: object) -> float:
        return graph.length_m(edge_of(course))

    return length_m


def _stretch(graph: RoadGraph, steps: list[_Step], poses: Sequence[SE2]) -> list[Stretch]:
    """The best way through the steps; none of fewer than three poses."""
    if len(steps) < 3:
        return []
    at = int(np.argmin(steps[-1].cost))
    parts: list[list[Edge]] = []
    for step in reversed(steps):
        parts.append(step.ways[at])
        first, at = step.places[at].edge, step.came_from[at]
    edges = [first, *(edge for part in reversed(parts) for edge in part)]
    route = Route.over(graph, edges)
    first_pose, last_pose = steps[0].pose, steps[-1].pose
    along_m, reached_m = [], None
    for pose in poses[first_pose : last_pose + 1]:
        reached_m = route.place_of(pose, reached_m)[0]
        along_m.append(reached_m)
    return [Stretch(first_pose, last_pose, tuple(edges), route, np.array(along_m))]

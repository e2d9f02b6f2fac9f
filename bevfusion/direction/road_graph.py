"""The roads of a map as a directed graph that a car may drive: one-way streets and turn restrictions respected.

A place in the graph is a `Course`: the last nodes that a car came along, two of them (the edge that it is on), or more
where a turn restriction that it has begun reaches further back. What it may do next depends on its course alone, so
shortest ways are those of an ordinary graph of courses (Aho and Corasick 1975 find many words at once the same way).
"""

import math
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
import shapely
from jaxtyping import Float

from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.maps.features import OsmMap, Road, TurnRestriction
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError

Edge = tuple[int, int]  # node ids, in the direction of driving
Course = tuple[int, ...]


def edge_of(course: Course) -> Edge:
    """The edge that a course ends with."""
    return course[-2], course[-1]


U_TURN_M = 200.0
"""What turning round at the end of a dead-end street counts for, in metres of way."""

PRIVATE_FACTOR = 5.0
"""A metre of a road that is closed to most cars counts for so many: it is driven where nothing else leads there."""

_HEADING_M = 10.0  # a heading that is wrong by a radian counts as so many metres
_MOST_OFF_RAD = math.radians(100.0)
_SINGLE_LANE_M = 4.0


@dataclass(frozen=True, slots=True)
class OnRoad:
    """A place projected onto an edge."""

    edge: Edge
    along_m: float  # from the edge's first node
    left_m: float  # of the edge, in the direction of driving; to the right negative
    turn_rad: float  # from the edge's direction to the heading; 0 where none was given
    distance_m: float

    @property
    def cost_m(self) -> float:
        """Distance, with the difference of heading counted in: 10 m a radian."""
        return self.distance_m + _HEADING_M * abs(self.turn_rad)


class RoadGraph:
    """Edges between nodes, and how they go on."""

    def __init__(
        self,
        places_m: Mapping[int, tuple[float, float]],
        roads: Mapping[Edge, Road],
        restrictions: Iterable[TurnRestriction] = (),
        *,
        left_hand_traffic: bool = False,
        name: str = "",
    ) -> None:
        """A graph.

        Args:
            places_m: of the nodes, x and y in the map frame.
            roads: the road that each edge belongs to; an edge may be driven from its first node to its second.
            restrictions: rules about turns.
            left_hand_traffic: whether people drive on the left.
            name: of the map, for messages.

        Raises:
            DataError: if there is no edge.
        """
        if not roads:
            raise DataError(f"the map {name or '(unnamed)'} has no road that cars drive on: no way can be found on it")
        self.places_m, self.roads, self.name = dict(places_m), dict(roads), name
        self.side = -1.0 if left_hand_traffic else 1.0
        self._leaving: defaultdict[int, list[int]] = defaultdict(list)
        self._arriving: defaultdict[int, list[int]] = defaultdict(list)
        for start, end in self.roads:
            self._leaving[start].append(end)
            self._arriving[end].append(start)
        self._forbidden: defaultdict[Course, set[int]] = defaultdict(set)
        self._demanded: defaultdict[Course, set[int]] = defaultdict(set)
        self._prefixes: set[Course] = set()
        for rule in restrictions:
            if all(edge in self.roads for edge in zip(rule.node_ids[:-1], rule.node_ids[1:], strict=True)):
                (self._demanded if rule.mandatory else self._forbidden)[rule.node_ids[:-1]].add(rule.node_ids[-1])
                self._prefixes.update(rule.node_ids[:count] for count in range(2, len(rule.node_ids)))
        self._edges = list(self.roads)
        ends_m = np.array([(self.places_m[start], self.places_m[end]) for start, end in self._edges])
        self._tree = shapely.STRtree(shapely.linestrings(ends_m))

    @classmethod
    def of(cls, osm: OsmMap) -> "RoadGraph":
        """The roads of an extract that cars drive on.

        Raises:
            DataError: if there is none.
        """
        places_m: dict[int, tuple[float, float]] = {}
        roads: dict[Edge, Road] = {}
        for road in osm.roads:
            if not road.drivable:
                continue
            for ref, (x_m, y_m) in zip(road.node_ids, road.xy_m.tolist(), strict=True):
                places_m[ref] = (x_m, y_m)
            for start, end in zip(road.node_ids[:-1], road.node_ids[1:], strict=True):
                if places_m[start] == places_m[end]:
                    continue
                if road.oneway >= 0:
                    roads[start, end] = road
                if road.oneway <= 0:
                    roads[end, start] = road
        return cls(places_m, roads, osm.restrictions, left_hand_traffic=osm.left_hand_traffic, name=osm.name)

    # -- edges

    def length_m(self, edge: Edge) -> float:
        """Length of an edge."""
        return math.dist(self.places_m[edge[0]], self.places_m[edge[1]])

    def yaw_rad(self, edge: Edge) -> float:
        """Direction of driving, from the map's x axis."""
        (x0, y0), (x1, y1) = self.places_m[edge[0]], self.places_m[edge[1]]
        return math.atan2(y1 - y0, x1 - x0)

    def lane_m(self, edge: Edge) -> float:
        """How far to the left of the road's centre line one drives: negative where traffic keeps right.

        The middle of the half of the carriageway that is one's own, but at least half a metre: in narrow streets cars
        keep nearer to the middle. On a road with one way the line is the middle of what is driven.
        """
        road = self.roads[edge]
        if road.oneway or road.width_m <= _SINGLE_LANE_M:
            return 0.0
        return -self.side * float(np.clip(0.25 * road.width_m, 0.5, 1.75))

    def near(self, x_m: float, y_m: float, radius_m: float, yaw_rad: float | None = None) -> list[OnRoad]:
        """Edges within reach of a place, the most likely first.

        Args:
            x_m: of the place, map frame.
            y_m: the same.
            radius_m: how far off an edge may lie.
            yaw_rad: heading of who is there; edges that lead elsewhere (by more than 100 degrees) are left out.
        """
        place = shapely.Point(x_m, y_m)
        found = []
        for index in self._tree.query(place, predicate="dwithin", distance=radius_m).tolist():
            edge = self._edges[index]
            start = np.array(self.places_m[edge[0]])
            step = np.array(self.places_m[edge[1]]) - start
            length_m = float(np.hypot(*step))
            ahead, left = step / length_m, np.array([-step[1], step[0]]) / length_m
            away = np.array([x_m, y_m]) - start
            along_m = min(max(float(away @ ahead), 0.0), length_m)
            distance_m = float(np.hypot(*(away - along_m * ahead)))
            turn_rad = 0.0 if yaw_rad is None else wrap_angle(yaw_rad - math.atan2(step[1], step[0]))
            if abs(turn_rad) <= _MOST_OFF_RAD:
                found.append(OnRoad(edge, along_m, float(away @ left), turn_rad, distance_m))
        return sorted(found, key=lambda on_road: (on_road.cost_m, on_road.edge))

    def distance_m(self, x_m: float, y_m: float) -> float:
        """From a place to the nearest road."""
        _, distances = self._tree.query_nearest(shapely.Point(x_m, y_m), return_distance=True, all_matches=False)
        return float(distances[0])

    # -- going on

    def after(self, course: Course) -> list[Course]:
        """How a car may go on at the end of its course; it turns round where nothing else is left to do, not else."""
        start, node = course[-2:]
        ends = self._leaving[node]
        onward = [end for end in ends if end != start] or ends
        suffixes = [course[at:] for at in range(len(course) - 1)]
        for suffix in suffixes:
            banned, demanded = self._forbidden.get(suffix, ()), self._demanded.get(suffix)
            onward = [end for end in onward if end not in banned and (demanded is None or end in demanded)]
        return [self._shortened((*course, end)) for end in onward]

    def _shortened(self, course: Course) -> Course:
        """What of a course still matters: the longest end of it that begins a restriction, or the last edge."""
        longest = (course[at:] for at in range(len(course) - 2) if course[at:] in self._prefixes)
        return next(longest, course[-2:])

    def before(self, edge: Edge) -> Edge | None:
        """The edge that leads most nearly straight into another; None where it begins."""
        ways = [(start, edge[0]) for start in self._arriving[edge[0]] if start != edge[1]]
        return min(ways, key=lambda way: abs(self.turn_rad(way, edge)), default=None)

    def turn_rad(self, edge: Edge, after: Edge) -> float:
        """Change of heading from one edge to the next, to the left positive."""
        return wrap_angle(self.yaw_rad(after) - self.yaw_rad(edge))

    def cost_m(self, edge: Edge) -> float:
        """Length of an edge, longer where the road is private."""
        return self.length_m(edge) * (PRIVATE_FACTOR if self.roads[edge].private else 1.0)

    @cached_property
    def courses(self) -> "nx.DiGraph[Course]":
        """All courses; the weight `cost_m` of an arc is what it costs to drive the edge that it leads onto."""
        graph: nx.DiGraph[Course] = nx.DiGraph()
        waiting: list[Course] = list(self._edges)
        seen: set[Course] = set(waiting)
        while waiting:
            course = waiting.pop()
            for onward in self.after(course):
                turns_round = onward[-1] == course[-2]
                cost_m = self.cost_m(edge_of(onward)) + (U_TURN_M if turns_round else 0.0)
                graph.add_edge(course, onward, cost_m=cost_m)
                if onward not in seen:
                    seen.add(onward)
                    waiting.append(onward)
        graph.add_nodes_from(seen)
        return graph

    @cached_property
    def courses_on(self) -> Mapping[Edge, list[Course]]:
        """The courses that end with each edge."""
        found: defaultdict[Edge, list[Course]] = defaultdict(list)
        for course in self.courses:
            found[edge_of(course)].append(course)
        return found

    def shortest(self, start: OnRoad, goals: Iterable[OnRoad]) -> list[Edge] | None:
        """The edges of the shortest way from a place to any of some goals, both ends too; None if there is none.

        The car sets out in the direction of its edge.
        """
        best_m, best = math.inf, None
        for goal in goals:
            into_m = goal.along_m - self.length_m(goal.edge)
            if goal.edge == start.edge and goal.along_m >= start.along_m:
                if goal.along_m - start.along_m < best_m:
                    best_m, best = goal.along_m - start.along_m, [start.edge]
                continue
            rest_m = self.length_m(start.edge) - start.along_m
            for course in self.courses_on[goal.edge]:
                if course == start.edge:  # round the block and back: by way of what follows
                    continue
                try:
                    way_m, way = nx.bidirectional_dijkstra(self.courses, start.edge, course, weight="cost_m")
                except nx.NetworkXNoPath:
                    continue
                if way_m + rest_m + into_m < best_m:
                    best_m, best = way_m + rest_m + into_m, [edge_of(passed) for passed in way]
            if goal.edge == start.edge:
                round_m, way = self._round(start.edge)
                if round_m + goal.along_m - start.along_m < best_m:
                    best_m, best = round_m + goal.along_m - start.along_m, way
        return best

    def _round(self, edge: Edge) -> tuple[float, list[Edge]]:
        """The shortest way from an edge back onto it, and its length; infinite if there is none."""
        best_m, best = math.inf, [edge]
        for course in self.after(edge):
            try:
                way_m, way = nx.bidirectional_dijkstra(self.courses, course, edge, weight="cost_m")
            except nx.NetworkXNoPath:
                continue
            way_m += self.courses.edges[edge, course]["cost_m"]
            if way_m < best_m:
                best_m, best = way_m, [edge, *(edge_of(passed) for passed in way)]
        return best_m, best

    # -- lines

    def line_m(self, edges: list[Edge]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """The centre line of a way, vertex by vertex, and at each how far to the left of it one drives."""
        nodes = [edges[0][0], *(end for _, end in edges)]
        lanes = [self.lane_m(edge) for edge in edges]
        lane_m = np.array([lanes[0], *lanes])
        return np.array([self.places_m[node] for node in nodes]), lane_m


_GRAPHS: "weakref.WeakKeyDictionary[MapSource, RoadGraph]" = weakref.WeakKeyDictionary()


def road_graph_of(source: MapSource) -> RoadGraph:
    """The road graph of an open map, made when first asked for and kept as long as the map.

    Raises:
        DataError: if it is a picture, or was drawn to disk: neither says which road joins which.
    """
    osm = getattr(source, "osm_map", None)
    if osm is None:
        raise DataError(
            f"the map {source.name} is a picture and has no road graph: give the OpenStreetMap extract itself"
        )
    if source not in _GRAPHS:
        _GRAPHS[source] = RoadGraph.of(osm)
    return _GRAPHS[source]


def places_of(pose: SE2, graph: RoadGraph, radius_m: float = 30.0) -> list[OnRoad]:
    """Where on the road graph a vehicle may be, the most likely first; one at least.

    Raises:
        DataError: if no road in its direction lies within `radius_m`.
    """
    found = graph.near(pose.x_m, pose.y_m, radius_m, pose.yaw_rad)
    if not found:
        nearest_m = graph.distance_m(pose.x_m, pose.y_m)
        if nearest_m > radius_m:
            raise DataError(f"the pose lies {nearest_m:.0f} m from the nearest road of {graph.name}: no way leads on")
        raise DataError(f"the roads of {graph.name} near the pose lead only against its heading: no way leads on")
    return found

"""Walks over the streets of a map that look for new ones.

A walk that only prefers new streets at each crossing goes round the same few blocks for as long as it is asked to.
Where nothing new is ahead, this one takes the shortest way to a street not driven yet.
"""

import heapq
import math
from collections import Counter, defaultdict, deque

import numpy as np
from jaxtyping import Float

from bevfusion.maps.features import OsmMap, Road

_APPEAL = {
    "residential": 3.0, "unclassified": 3.0, "tertiary": 3.0, "secondary": 2.0, "primary": 1.0, "living_street": 1.5,
    "service": 0.15, "track": 0.02, "motorway": 0.05, "motorway_link": 0.05, "trunk": 0.1, "trunk_link": 0.1,
}  # fmt: skip
_SOUGHT = 0.5  # appeal of the streets worth a way round
_SHARPEST_RAD = math.radians(125.0)  # no turn back over the shoulder

Edge = tuple[int, int]  # node ids


class StreetGraph:
    """Directed steps between OSM nodes, and how they go on."""

    def __init__(self, osm: OsmMap, margin_m: float) -> None:
        """The drivable roads of a map that lie `margin_m` within its bounds."""
        low = np.array(osm.bounds_m[:2]) + margin_m
        high = np.array(osm.bounds_m[2:]) - margin_m
        self.place: dict[int, Float[np.ndarray, " 2"]] = {}
        self.road: dict[Edge, Road] = {}
        for road in osm.roads:
            if not road.drivable:
                continue
            inside: np.ndarray = np.all((road.xy_m >= low) & (road.xy_m <= high), axis=1)
            for i, (a, b) in enumerate(zip(road.node_ids[:-1], road.node_ids[1:], strict=True)):
                if not (inside[i] and inside[i + 1]) or a == b:
                    continue
                self.place[a], self.place[b] = road.xy_m[i], road.xy_m[i + 1]
                if road.oneway >= 0:
                    self.road[(a, b)] = road
                if road.oneway <= 0:
                    self.road[(b, a)] = road
        self.after: dict[Edge, list[Edge]] = {}
        leaving: defaultdict[int, list[Edge]] = defaultdict(list)
        for edge in self.road:
            leaving[edge[0]].append(edge)
        for edge in self.road:
            self.after[edge] = [
                other
                for other in leaving[edge[1]]
                if other[1] != edge[0] and abs(self.turn_rad(edge, other)) < _SHARPEST_RAD
            ]

    def turn_rad(self, edge: Edge, other: Edge) -> float:
        """Change of heading from one step to the next."""
        before = self.place[edge[1]] - self.place[edge[0]]
        behind = self.place[other[1]] - self.place[other[0]]
        cross = before[0] * behind[1] - before[1] * behind[0]
        return math.atan2(float(cross), float(before @ behind))

    def length_m(self, edge: Edge) -> float:
        """Length of a step."""
        return float(np.hypot(*(self.place[edge[1]] - self.place[edge[0]])))

    def prune_dead_ends(self) -> None:
        """Drop the steps that lead to no endless drive, unless that is all of them."""
        before: defaultdict[Edge, list[Edge]] = defaultdict(list)
        for edge, following in self.after.items():
            for other in following:
                before[other].append(edge)
        open_ways = {edge: len(following) for edge, following in self.after.items()}
        waiting = deque(edge for edge, count in open_ways.items() if count == 0)
        dead = set(waiting)
        while waiting:
            for edge in before[waiting.popleft()]:
                open_ways[edge] -= 1
                if open_ways[edge] == 0:
                    dead.add(edge)
                    waiting.append(edge)
        if len(dead) < len(self.after):
            self.after = {
                edge: [other for other in following if other not in dead]
                for edge, following in self.after.items()
                if edge not in dead
            }

    def walk(self, length_m: float, rng: np.random.Generator) -> list[Edge]:
        """One walk: at random, straight on rather than round corners, to the nearest new street where none is ahead."""
        edges = list(self.after)
        weight = np.array([self.length_m(e) * self._appeal(e) for e in edges])
        steps = [edges[int(rng.choice(len(edges), p=weight / weight.sum()))]]
        travelled = self.length_m(steps[0])
        seen, all_seen = Counter([frozenset(steps[0])]), False
        while travelled < length_m and self.after[steps[-1]]:
            ahead = [self._turn(steps[-1], seen, rng)]
            if frozenset(ahead[0]) in seen and not all_seen:
                way = self._way_to_new(steps[-1], seen)
                ahead, all_seen = way or ahead, not way
            seen.update(frozenset(e) for e in ahead)
            steps += ahead
            travelled += sum(map(self.length_m, ahead))
        return steps

    def new_m(self, steps: list[Edge]) -> float:
        """Length of the streets that a walk comes through, each once, alleys left out."""
        return sum({frozenset(edge): self.length_m(edge) for edge in steps if self._appeal(edge) >= _SOUGHT}.values())

    def _appeal(self, edge: Edge) -> float:
        return _APPEAL.get(self.road[edge].kind, 0.5)

    def _turn(self, edge: Edge, seen: Counter[frozenset[int]], rng: np.random.Generator) -> Edge:
        """What a driver might take next who has no aim."""
        choices = self.after[edge]
        appeal = np.array(
            [
                self._appeal(e)
                * (0.3 + 0.7 * math.cos(0.5 * self.turn_rad(edge, e)))
                / (1.0 + 4.0 * seen[frozenset(e)])
                for e in choices
            ]
        )
        return choices[int(rng.choice(len(choices), p=appeal / appeal.sum()))]

    def _way_to_new(self, start: Edge, seen: Counter[frozenset[int]]) -> list[Edge]:
        """The shortest way (Dijkstra) from the end of a step through the first street that is new; empty if none is."""
        came_from: dict[Edge, Edge] = {}
        queue = [(0.0, start, start)]
        while queue:
            driven_m, edge, before = heapq.heappop(queue)
            if edge in came_from:
                continue
            if edge != start:
                came_from[edge] = before
                if frozenset(edge) not in seen and self._appeal(edge) >= _SOUGHT:
                    return self._traced(edge, start, came_from)
            for other in self.after[edge]:
                if other not in came_from and other != start:
                    heapq.heappush(queue, (driven_m + self.length_m(other), other, edge))
        return []

    def _traced(self, edge: Edge, start: Edge, came_from: dict[Edge, Edge]) -> list[Edge]:
        way = [edge]
        while came_from[way[-1]] != start:
            way.append(came_from[way[-1]])
        return way[::-1]

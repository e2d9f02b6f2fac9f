"""A way to drive: a walk over streets that looks for new ones, a smooth path in the lane, the car on its springs.

The lane is on the side that traffic keeps to. The land under the wheels lifts, rolls and pitches the body.
"""

import heapq
import itertools
import math
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevfusion.geometry.lines import blurred_along, yaws_along
from bevfusion.maps.features import OsmMap, Road
from bevfusion.simulate.terrain import Terrain
from bevfusion.structures import DataError

_APPEAL = {
    "residential": 3.0, "unclassified": 3.0, "tertiary": 3.0, "secondary": 2.0, "primary": 1.0, "living_street": 1.5,
    "service": 0.15, "track": 0.02, "motorway": 0.05, "motorway_link": 0.05, "trunk": 0.1, "trunk_link": 0.1,
}  # fmt: skip
_SOUGHT = 0.5  # appeal of the streets worth a way round
_SHARPEST_RAD = math.radians(125.0)  # no turn back over the shoulder
Edge = tuple[int, int]  # node ids
_SMOOTHING_M = 3.5
_TIGHTEST_M = 4.0  # radius of the sharpest arc a car drives
_STEP_M = 0.5
_TRIES = 60
_WALKS = 20  # the one through most streets is driven: some starts lead into a corner
_ENOUGH = 0.6  # of a walk through streets not driven before: else it may come nearer to the border of the map
_CORNERS = (1.1, 1.6)  # so much longer are walks than drives, as round corners are short cuts; and where they are many
_WHEELBASE_M, _TRACK_M = 2.7, 1.55
_SPRING_STEP_M = 0.25
_FREQUENCY_HZ, _DAMPING = 1.4, 0.4  # of the body on its springs (Gillespie, Fundamentals of Vehicle Dynamics, ch. 5)


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


@dataclass(frozen=True, slots=True)
class Path:
    """A driven line, sampled every half metre."""

    xy_m: Float[np.ndarray, "n 2"]  # map frame
    yaw_rad: Float[np.ndarray, " n"]  # direction of travel, continuous (not wrapped)
    lane_m: Float[np.ndarray, " n"]  # distance from the road's centre line, to the side that traffic keeps to
    side: float = 1.0  # of traffic: 1 keeps right, -1 left

    @property
    def length_m(self) -> float:
        """Length of the path."""
        return (len(self.xy_m) - 1) * _STEP_M

    def at(self, travelled_m: Float[np.ndarray, " m"]) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, " m"]]:
        """(positions, yaws) at distances from the start."""
        ticks = np.arange(len(self.xy_m)) * _STEP_M
        x, y = (np.interp(travelled_m, ticks, self.xy_m[:, axis]) for axis in (0, 1))
        return np.stack([x, y], axis=1), np.interp(travelled_m, ticks, self.yaw_rad)

    def shifted(self, left_m: float | Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
        """The line so far to the left of this one."""
        normal = np.stack([-np.sin(self.yaw_rad), np.cos(self.yaw_rad)], axis=1)
        line: np.ndarray = self.xy_m + np.broadcast_to(np.asarray(left_m, float), self.yaw_rad.shape)[:, None] * normal
        return line


def lane_offset_m(road: Road) -> float:
    """How far beside the centre line one drives: in narrow streets nearer to the middle."""
    if road.oneway:
        return 0.0
    return float(np.clip(0.25 * road.width_m, 0.5, 1.75)) if road.width_m > 6.0 else 0.5


def plan_path(
    osm: OsmMap, length_m: float, rng: np.random.Generator, margin_m: float = 60.0, wander_m: float = 0.0
) -> Path:
    """A path of at least `length_m` over the drivable roads inside the map's bounds.

    Args:
        osm: the map.
        length_m: how far to drive.
        rng: chooses the start and the turns.
        margin_m: distance to keep from the border of the map where there is enough road.
        wander_m: standard deviation of the driver's place across the lane (there is no constant offset to rely on).

    Raises:
        DataError: if the map has no drivable road, or no connected drive of that length.
    """
    if not any(road.drivable for road in osm.roads):
        raise DataError(f"the map {osm.name or '(unnamed)'} has no drivable road: choose an extract with streets")
    needed_m = length_m + 4.0 * _SMOOTHING_M
    longest_m, found_m, found = 0.0, -1.0, None
    for corners, margin in itertools.product(_CORNERS, (margin_m, 0.5 * margin_m, 0.0)):
        graph = StreetGraph(osm, margin)
        graph.prune_dead_ends()
        walks = [graph.walk(corners * needed_m + 20.0, rng) for _ in range(_WALKS)] if graph.after else []
        # where several see new streets alone, the first of them: the longest would begin at one place whatever the seed
        ranked = sorted(((min(graph.new_m(steps), needed_m), steps) for steps in walks), key=lambda w: -w[0])
        for new_m, steps in ranked:
            if new_m <= found_m:
                break
            path = _smooth(steps, graph, -1.0 if osm.left_hand_traffic else 1.0, wander_m, rng)
            longest_m = max(longest_m, path.length_m)
            if path.length_m >= needed_m:
                found_m, found = new_m, path
        if found is not None and (margin == 0.0 or found_m >= _ENOUGH * needed_m):
            return _cut(found, length_m)
    raise DataError(
        f"the longest drive found on the map {osm.name or '(unnamed)'} is {longest_m:.0f} m, {length_m:.0f} m are "
        "asked for: choose fewer frames, a smaller spacing or a larger extract"
    )


def _cut(path: Path, length_m: float) -> Path:
    """The path without its ends, where smoothing lacks a neighbour."""
    first = int(2.0 * _SMOOTHING_M / _STEP_M)
    last = first + math.ceil(length_m / _STEP_M) + 1
    return Path(path.xy_m[first:last], path.yaw_rad[first:last], path.lane_m[first:last], path.side)


def _smooth(steps: list[Edge], graph: StreetGraph, side: float, wander_m: float, rng: np.random.Generator) -> Path:
    """The walk's centre line with round corners, moved into the lane, sampled evenly."""
    nodes = np.array([graph.place[steps[0][0]]] + [graph.place[b] for _, b in steps])
    sizes = np.hypot(*np.diff(nodes, axis=0).T)
    keep = np.concatenate([[True], sizes > 1e-6])
    lane = np.array([lane_offset_m(graph.road[edge]) for edge in steps])[keep[1:]]
    nodes, ticks = nodes[keep], np.concatenate([[0.0], np.cumsum(sizes[keep[1:]])])
    if len(nodes) < 2:
        return Path(nodes, np.zeros(len(nodes)), np.zeros(len(nodes)), side)
    even = np.arange(0.0, ticks[-1], _STEP_M)
    centre = np.stack([np.interp(even, ticks, nodes[:, axis]) for axis in (0, 1)], axis=1)
    lane_even = lane[np.clip(np.searchsorted(ticks, even, side="right") - 1, 0, len(lane) - 1)]
    centre = np.stack([blurred_along(centre[:, axis], _SMOOTHING_M, _STEP_M) for axis in (0, 1)], axis=1)
    # changes of lane take longer than corners
    lane_even = blurred_along(lane_even, 3.0 * _SMOOTHING_M, _STEP_M)
    heading = blurred_along(yaws_along(centre), 1.0, _STEP_M)
    aside = side * (lane_even + _wander(len(even), wander_m, rng))
    shifted = centre + aside[:, None] * np.stack([np.sin(heading), -np.cos(heading)], axis=1)
    xy, lane_even = _evenly(shifted, lane_even)
    for _ in range(_TRIES):
        if len(xy) < 3 or np.abs(np.diff(blurred_along(yaws_along(xy), 1.0, _STEP_M))).max() < _STEP_M / _TIGHTEST_M:
            break
        rounded = np.stack([blurred_along(xy[:, axis], 1.5, _STEP_M) for axis in (0, 1)], axis=1)
        xy, lane_even = _evenly(rounded, lane_even)
    if len(xy) < 3:
        return Path(xy, np.zeros(len(xy)), np.zeros(len(xy)), side)
    return Path(xy, blurred_along(yaws_along(xy), 1.0, _STEP_M), lane_even, side)


def _wander(count: int, wander_m: float, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """A slow drift across the lane, half of it a habit of the driver."""
    knots = rng.normal(rng.normal(0.0, 0.7), 0.7, count // 60 + 2)
    drift = np.interp(np.arange(count) / 60.0, np.arange(len(knots)), knots)
    return np.asarray(wander_m * np.clip(blurred_along(drift, 6.0, _STEP_M), -2.0, 2.0), float)


def _evenly(
    xy_m: Float[np.ndarray, "n 2"], lane_m: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, " m"]]:
    """The line with its vertices half a metre apart, and the lane offsets there."""
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy_m, axis=0).T))])
    even = np.arange(0.0, travelled[-1], _STEP_M)
    xy = np.stack([np.interp(even, travelled, xy_m[:, axis]) for axis in (0, 1)], axis=1)
    return xy, np.interp(even, travelled, lane_m)


def ride(
    path: Path, terrain: Terrain, speed_m_s: float, travelled_m: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """(height of the road under the body, roll, pitch) at distances along a path; positive pitch points the nose down.

    The road moves the wheels; the body follows as a damped oscillator in heave, roll and pitch, driven at `speed_m_s`.
    """
    ticks = np.arange(0.0, max(path.length_m, float(travelled_m[-1])) + _SPRING_STEP_M, _SPRING_STEP_M)
    place, yaw = path.at(ticks)
    ahead = 0.5 * _WHEELBASE_M * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    left = 0.5 * _TRACK_M * np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
    wheel = {
        (front, side): terrain.height_m(place + front * ahead + side * left) for front in (1, -1) for side in (1, -1)
    }
    front, rear = (0.5 * (wheel[(end, 1)] + wheel[(end, -1)]) for end in (1, -1))
    left_m, right_m = (0.5 * (wheel[(1, side)] + wheel[(-1, side)]) for side in (1, -1))
    wanted = np.stack(
        [
            0.5 * (front + rear),
            np.arctan((left_m - right_m) / _TRACK_M),
            -np.arctan((front - rear) / _WHEELBASE_M),
        ],
        axis=1,
    )
    body = _follow(wanted, _SPRING_STEP_M / speed_m_s)
    height, roll, pitch = (np.interp(travelled_m, ticks, body[:, axis]) for axis in range(3))
    return height, roll, pitch


def _follow(wanted: Float[np.ndarray, "n 3"], step_s: float) -> Float[np.ndarray, "n 3"]:
    """The oscillator's answer to what the wheels do; springs and dampers both stand on the wheels."""
    omega = 2.0 * math.pi * _FREQUENCY_HZ
    state, rate = wanted[0].copy(), np.zeros(3)
    out = np.empty_like(wanted)
    moved = np.diff(wanted, axis=0, prepend=wanted[:1]) / step_s
    for i, (place, motion) in enumerate(zip(wanted, moved, strict=True)):
        # semi-implicit Euler: stable to omega * step = 2, here it is 0.4 at most
        rate += step_s * (omega**2 * (place - state) + 2.0 * _DAMPING * omega * (motion - rate))
        state = state + step_s * rate
        out[i] = state
    return out

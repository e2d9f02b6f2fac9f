"""A way to drive: a walk over the streets, then a smooth path in the lane on the side that traffic keeps to."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevfusion.geometry.lines import blurred_along, yaws_along
from bevfusion.maps.features import OsmMap, Road
from bevfusion.simulate.street_graph import Edge, StreetGraph
from bevfusion.structures import DataError

_SMOOTHING_M = 3.5
_TIGHTEST_M = 4.0  # radius of the sharpest arc a car drives
_STEP_M = 0.5
_TRIES = 60
_WALKS = 20  # the one through most streets is driven: some starts lead into a corner
_ENOUGH = 0.6  # of a walk through streets not driven before: else it may come nearer to the border of the map
_CORNERS = (1.1, 1.6)  # so much longer are walks than drives, as round corners are short cuts; and where they are many


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

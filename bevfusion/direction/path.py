"""From a pose and a route to the path ahead, in the ego frame.

The line of a map is the middle of a road, or was drawn a few metres beside it, so a vehicle that follows a route is
rarely on its line. The path begins where the vehicle is and takes its offset along: the route *moved to the vehicle*.
The offset fades slowly towards where one drives on that road (its lane), and the difference between the vehicle's
heading and the road's fades fast:

    left(s) = lane(s) + (left(0) - lane(0)) / (1 + (s / b)^2) + s tan(turn) exp(-s / h)

with s along the route, and `turn` the difference of heading, as far as the doubt about the heading leaves it standing.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevfusion.direction.route import Route
from bevfusion.geometry.lines import blurred_along, yaws_along
from bevfusion.geometry.se2 import SE2
from bevfusion.metrics import wrap_angles

SPACING_M = 2.0
NEAR_POINTS = 8
"""Of a path: those up to 16 m, which the tables of the field score."""
POINTS = 20
"""Of a path: up to 40 m."""

_STEP_M = 0.5
_BEHIND_M = 15.0
_LANE_CHANGE_M = 9.0  # standard deviation of the smoothing of lanes
_BLEND_M = 80.0  # b: how far ahead half of an offset from the lane is left; b and h: docs/direction.md
_HEADING_M = 16.0  # h
_HEADING_RAD = math.radians(12.0)  # by how much headings of cars differ from that of the road (standard deviation)
_MOST_TURN_RAD = math.radians(50.0)
_REACH_M = POINTS * SPACING_M


@dataclass(frozen=True)
class PathAhead:
    """The way ahead: places 2 m apart along it, the first 2 m ahead, up to 40 m or to where the route ends."""

    xy_m: Float[np.ndarray, "n 2"]  # ego frame
    yaw_rad: Float[np.ndarray, " n"]  # direction of driving at each, ego frame
    std_rad: Float[np.ndarray, " n"]  # of that direction, as far as it is in doubt because the pose is
    probability: float = 1.0  # of this path among all that lie ahead
    beside_m: float = 0.0  # from the route's line to the vehicle, to the left

    def extended(self, count: int) -> Float[np.ndarray, "c 2"]:
        """Its first `count` points; where there are fewer, it goes on straight."""
        missing = count - len(self.xy_m)
        if missing <= 0:
            return self.xy_m[:count]
        last, yaw_rad = (self.xy_m[-1], float(self.yaw_rad[-1])) if len(self.xy_m) else (np.zeros(2), 0.0)
        ahead = SPACING_M * np.arange(1, missing + 1)[:, None] * np.array([math.cos(yaw_rad), math.sin(yaw_rad)])
        return np.concatenate([self.xy_m, last + ahead])


def straight_on() -> PathAhead:
    """The path of a vehicle that goes on as it faces: the baseline that needs no map."""
    ahead_m = SPACING_M * np.arange(1.0, POINTS + 1.0)
    return PathAhead(np.stack([ahead_m, np.zeros(POINTS)], axis=1), np.zeros(POINTS), np.zeros(POINTS))


def path_along(
    route: Route,
    map_from_ego: SE2,
    covariance: "Float[np.ndarray, '3 3'] | None" = None,
    *,
    along_m: float | None = None,
    probability: float = 1.0,
) -> PathAhead:
    """The path along a route, moved to the vehicle.

    Args:
        route: where to go.
        map_from_ego: pose of the vehicle.
        covariance: of the pose, x, y in m and yaw in rad, map axes; None: the pose is taken as it is, with no spread.
        along_m: how far along the route the vehicle is, where that is known.
        probability: of this route.
    """
    line = _Line.of(route, route.place_of(map_from_ego)[0] if along_m is None else along_m)
    if covariance is None:
        xy_m, yaw_rad, left_m = line.moved_to(map_from_ego, 0.0)
        return PathAhead(xy_m, yaw_rad, np.zeros(len(yaw_rad)), probability, left_m)
    heading_std_rad = math.sqrt(max(float(covariance[2, 2]), 0.0))
    xy_m, yaw_rad, left_m = line.moved_to(map_from_ego, heading_std_rad)
    std_rad = _spread(line, map_from_ego, covariance, yaw_rad)
    return PathAhead(xy_m, yaw_rad, std_rad, probability, left_m)


def path_as_drawn(route: Route, map_from_ego: SE2, *, along_m: float | None = None) -> PathAhead:
    """The route's own line from the place nearest to the vehicle on, not moved: what the field compares with."""
    at_m = route.place_of(map_from_ego)[0] if along_m is None else along_m
    ticks_m = np.arange(at_m, min(at_m + _REACH_M + _STEP_M, route.length_m), _STEP_M)
    xy_m, yaw_rad = sampled(map_from_ego.inverse().apply(route.at(ticks_m)[0]))
    return PathAhead(xy_m, yaw_rad, np.zeros(len(yaw_rad)))


def sampled(line_m: Float[np.ndarray, "n 2"]) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, " m"]]:
    """The points of a path on a line that begins at the vehicle, and the direction of the line there.

    Args:
        line_m: vertices in the order of driving.
    """
    if len(line_m) < 2:
        return np.zeros((0, 2)), np.zeros(0)
    ticks_m = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line_m, axis=0).T))])
    count = min(POINTS, int((ticks_m[-1] + 1e-6) / SPACING_M))
    wanted_m = SPACING_M * np.arange(1, count + 1)
    places = [_interpolated(wanted_m + shift_m, ticks_m, line_m) for shift_m in (0.0, 0.5 * _STEP_M, -0.5 * _STEP_M)]
    slope = places[1] - places[2]
    return places[0], np.arctan2(slope[:, 1], slope[:, 0])


def _interpolated(
    wanted_m: Float[np.ndarray, " m"], ticks_m: Float[np.ndarray, " n"], xy_m: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "m 2"]:
    return np.stack([np.interp(wanted_m, ticks_m, xy_m[:, axis]) for axis in (0, 1)], axis=1)


@dataclass(frozen=True)
class _Line:
    """The stretch of a route about a vehicle, half a metre from vertex to vertex, corners rounded."""

    xy_m: Float[np.ndarray, "n 2"]  # map frame
    yaw_rad: Float[np.ndarray, " n"]  # continuous
    lane_m: Float[np.ndarray, " n"]
    at: int  # the vertex that the vehicle should be near

    @classmethod
    def of(cls, route: Route, at_m: float) -> "_Line":
        """The stretch about a place on a route."""
        first_m = max(at_m - _BEHIND_M, 0.0)
        last_m = min(at_m + _REACH_M + _BEHIND_M, route.length_m)
        count = max(int((last_m - first_m) / _STEP_M), 1)
        ticks_m = np.linspace(first_m, last_m, count + 1)
        xy_m, lane_m = route.at(ticks_m)
        xy_m = np.stack([blurred_along(xy_m[:, axis], route.rounding_m, _STEP_M) for axis in (0, 1)], axis=1)
        lane_m = blurred_along(lane_m, _LANE_CHANGE_M, _STEP_M)
        return cls(xy_m, yaws_along(xy_m), lane_m, int(np.abs(ticks_m - at_m).argmin()))

    def moved_to(
        self, map_from_ego: SE2, heading_std_rad: float
    ) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, " m"], float]:
        """Points and directions of the path (ego frame), and how far left of the line the vehicle is."""
        place_m = np.array([map_from_ego.x_m, map_from_ego.y_m])
        reach = int(8.0 / _STEP_M)
        first = max(self.at - reach, 0)
        near_m = self.xy_m[first : self.at + reach + 1]
        at = first + int(np.hypot(*(near_m - place_m).T).argmin())
        yaw_rad = self.yaw_rad[at]
        away = place_m - self.xy_m[at]
        left_m = float(-math.sin(yaw_rad) * away[0] + math.cos(yaw_rad) * away[1])
        ahead_m = float(math.cos(yaw_rad) * away[0] + math.sin(yaw_rad) * away[1])  # of the vertex, below half a step

        spacing_m = np.hypot(*np.diff(self.xy_m[at:], axis=0).T)
        travelled_m = np.concatenate([[0.0], np.cumsum(spacing_m)]) - ahead_m
        travelled_m = np.maximum(travelled_m, 0.0)
        lane_m = self.lane_m[at:]
        turn_rad = (map_from_ego.yaw_rad - yaw_rad + math.pi) % (2.0 * math.pi) - math.pi
        kept = _HEADING_RAD**2 / (_HEADING_RAD**2 + heading_std_rad**2)
        turn_rad = kept * min(max(turn_rad, -_MOST_TURN_RAD), _MOST_TURN_RAD)
        offset_m = (
            lane_m
            + (left_m - lane_m[0]) / (1.0 + (travelled_m / _BLEND_M) ** 2)
            + travelled_m * math.tan(turn_rad) * np.exp(-travelled_m / _HEADING_M)
        )
        normal = np.stack([-np.sin(self.yaw_rad[at:]), np.cos(self.yaw_rad[at:])], axis=1)
        moved_m = self.xy_m[at:] + offset_m[:, None] * normal
        ahead = travelled_m > 0.5 * _STEP_M
        line_m = map_from_ego.inverse().apply(np.concatenate([place_m[None], moved_m[ahead]]))
        xy_m, directions_rad = sampled(line_m)
        return xy_m, directions_rad, left_m


def _spread(
    line: _Line, pose: SE2, covariance: Float[np.ndarray, "3 3"], yaw_rad: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Standard deviation of the direction at each point: how the path turns as the pose moves along its doubt."""
    heading_std_rad = math.sqrt(max(float(covariance[2, 2]), 0.0))
    values, axes = np.linalg.eigh(0.5 * (covariance + covariance.T))
    variance = np.zeros(len(yaw_rad))
    for value, axis in zip(values, axes.T, strict=True):
        step = math.sqrt(max(float(value), 0.0)) * axis
        turned = []
        for sign in (1.0, -1.0):
            moved_rad = line.moved_to(pose.moved_by(SE2(*(sign * step).tolist())), heading_std_rad)[1]
            # near the end of a route a moved vehicle may have a point less ahead of it
            at = np.minimum(np.arange(len(yaw_rad)), len(moved_rad) - 1)
            turned.append(moved_rad[at] if len(moved_rad) else np.zeros(len(yaw_rad)))
        variance += (0.5 * wrap_angles(turned[0] - turned[1])) ** 2
    return np.sqrt(variance)

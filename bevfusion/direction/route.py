"""A route: the line that a vehicle is to follow, in the map frame."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from bevfusion.direction.road_graph import Edge, RoadGraph, places_of
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.metrics import wrap_angles
from bevfusion.structures import DataError

NEAR_M = 30.0
"""A route that is farther than this from the vehicle does not lead it."""

_HEADING_M = 10.0  # a heading that is wrong by a radian counts as so many metres
_ELSEWHERE_M = 20.0  # what it counts for to be elsewhere on the route than a moment ago: less than the wrong heading
_ROUND_CORNERS_M, _ROUND_DENSE_M = 5.0, 3.0  # as cars take corners
_DENSE_M = 6.0
_AGAINST_RAD = math.radians(120.0)
_BEHIND_M = 30.0  # of a way on the road graph, so that the vehicle stands beside its middle, not its end


@dataclass(frozen=True)
class Route:
    """A line to follow, and how far beside it one drives.

    Raises:
        DataError: if it has no length.
    """

    xy_m: Float[np.ndarray, "n 2"]  # map frame, in the direction of driving; no vertex repeats the one before it
    lane_m: Float[np.ndarray, " n"]  # from the line to where one drives, to the left; 0 where the line is driven itself

    def __post_init__(self) -> None:
        if len(self.xy_m) < 2:
            raise DataError("a route needs two places at least")

    @classmethod
    def through(cls, xy_m: Float[np.ndarray, "n 2"], lane_m: "Float[np.ndarray, ' n'] | None" = None) -> "Route":
        """A route through places, of which repeated ones are dropped."""
        kept = np.append(True, np.hypot(*np.diff(xy_m, axis=0).T) > 1e-3) if len(xy_m) else np.zeros(0, bool)
        lane_m = np.zeros(len(xy_m)) if lane_m is None else lane_m
        return cls(xy_m[kept], lane_m[kept])

    @classmethod
    def over(cls, graph: RoadGraph, edges: list[Edge], *, end_m: float | None = None) -> "Route":
        """A route over edges of a road graph, with what leads straight to them before.

        Args:
            graph: the roads.
            edges: in the order of driving.
            end_m: where on the last edge it ends; at its end by default.
        """
        way, behind_m = list(edges), 0.0
        while behind_m < _BEHIND_M:
            before = graph.before(way[0])
            if before is None or before in way:
                break
            way.insert(0, before)
            behind_m += graph.length_m(before)
        xy_m, lane_m = graph.line_m(way)
        if end_m is not None:
            share = max(end_m, 0.1) / graph.length_m(way[-1])
            xy_m = np.concatenate([xy_m[:-1], xy_m[-2:-1] + share * (xy_m[-1:] - xy_m[-2:-1])])
        return cls.through(xy_m, lane_m)

    @cached_property
    def ticks_m(self) -> Float[np.ndarray, " n"]:
        """How far along the route each vertex lies."""
        return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.xy_m, axis=0).T))])

    @cached_property
    def rounding_m(self) -> float:
        """How much its corners have to be rounded (standard deviation): lines of many vertices are round already."""
        spacing_m = np.diff(self.ticks_m)
        typical_m = float(np.average(spacing_m, weights=spacing_m))
        return _ROUND_CORNERS_M if typical_m > _DENSE_M else _ROUND_DENSE_M

    @property
    def length_m(self) -> float:
        """Length of the route."""
        return float(self.ticks_m[-1])

    def at(self, along_m: Float[np.ndarray, " m"]) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, " m"]]:
        """Places and lanes so far along the route; beyond its ends those of its ends."""
        x, y, lane = (
            np.interp(along_m, self.ticks_m, values) for values in (self.xy_m[:, 0], self.xy_m[:, 1], self.lane_m)
        )
        return np.stack([x, y], axis=1), lane

    def place_of(self, pose: SE2, after_m: float | None = None) -> tuple[float, float]:
        """How far along the route a vehicle is, and its distance from it.

        Where the route passes a place more than once, its heading decides, and where it was before.

        Args:
            pose: of the vehicle.
            after_m: how far along it was a moment ago; what lies up to 100 m ahead of there is preferred.
        """
        start, step = self.xy_m[:-1], np.diff(self.xy_m, axis=0)
        length_m = np.hypot(*step.T)
        away = np.array([pose.x_m, pose.y_m]) - start
        along_m = np.clip((away * step).sum(1) / length_m, 0.0, length_m)
        distance_m = np.hypot(*(away - (along_m / length_m)[:, None] * step).T)
        turn_rad = np.abs(wrap_angles(np.arctan2(step[:, 1], step[:, 0]) - pose.yaw_rad))
        cost_m = distance_m + _HEADING_M * turn_rad
        passed_m = self.ticks_m[:-1] + along_m
        if after_m is not None:
            follows = (passed_m >= after_m - 10.0) & (passed_m <= after_m + 100.0)
            cost_m = cost_m + np.where(follows, 0.0, _ELSEWHERE_M)
        best = int(cost_m.argmin())
        return float(passed_m[best]), float(distance_m[best])

    def check_near(self, pose: SE2, name: str = "the route") -> None:
        """Refuse a vehicle that the route does not lead.

        Raises:
            DataError: if it is far from the route, or behind its end.
        """
        along_m, distance_m = self.place_of(pose)
        if distance_m > NEAR_M:
            raise DataError(
                f"{name} lies {distance_m:.0f} m from the pose (at most {NEAR_M:.0f} m): it leads elsewhere"
            )
        if along_m >= self.length_m - 0.5:
            raise DataError(f"{name} ends at the pose: nothing is left of it to follow")
        (behind, ahead), _ = self.at(np.array([along_m - 1.0, along_m + 1.0]))
        east_m, north_m = (ahead - behind).tolist()
        turn_rad = wrap_angle(math.atan2(north_m, east_m) - pose.yaw_rad)
        if abs(turn_rad) > _AGAINST_RAD:
            off_deg = abs(math.degrees(turn_rad))
            raise DataError(f"{name} leads the other way: it is {off_deg:.0f} degrees off the heading of the pose")


def route_to(graph: RoadGraph, pose: SE2, goal: GeoPose, goal_m: tuple[float, float]) -> Route:
    """The shortest way on a road graph from a pose to a place, one-way streets and turn restrictions respected.

    Args:
        graph: the roads.
        pose: of the vehicle; it sets out in the direction that it faces.
        goal: the place, for messages.
        goal_m: the same in the map frame.

    Raises:
        DataError: if no road lies within 50 m of the place or 30 m of the pose, or no way leads there.
    """
    told = f"{goal.lat_deg:g},{goal.lon_deg:g}"
    start = places_of(pose, graph)[0]
    goals = graph.near(*goal_m, 50.0)
    if not goals:
        raise DataError(
            f"the goal {told} lies {graph.distance_m(*goal_m):.0f} m from the nearest road of {graph.name} "
            "(at most 50 m)"
        )
    nearest = [found for found in goals if found.cost_m <= goals[0].cost_m + 1.0]
    way = graph.shortest(start, nearest)
    if way is None:
        raise DataError(f"no way on the roads of {graph.name} leads from the pose to {told}: one-way streets, or a gap")
    end_m = next(found.along_m for found in nearest if found.edge == way[-1])
    return Route.over(graph, way, end_m=end_m)

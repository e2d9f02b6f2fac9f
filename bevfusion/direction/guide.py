"""Which way the road goes from a pose: along the route that was given, to a goal, or over each branch of the map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from bevfusion.direction.branches import paths_ahead
from bevfusion.direction.field import DirectionField, field_of
from bevfusion.direction.learned import corrected
from bevfusion.direction.path import PathAhead, path_along
from bevfusion.direction.road_graph import RoadGraph, road_graph_of
from bevfusion.direction.route import NEAR_M, Route, route_to
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError, DirectionReader

_OFF_ROUTE_M = 20.0  # a vehicle that is farther from its way to a goal has left it, and gets another one


@runtime_checkable
class RouteGiver(Protocol):
    """Where a route comes from: a `RouteFile`, or a `GivenRoute`."""

    def route(self, frame: LocalFrame, pose: SE2, goal: GeoPose | None = None) -> Route:
        """The route from a pose on, to a goal where it is a graph of ways.

        Raises:
            DataError: if it does not lead on from the pose, or not to the goal.
        """


@dataclass(frozen=True)
class GivenRoute:
    """A line in metres of the map frame, as another program has it."""

    name: str
    xy_m: Float[np.ndarray, "n 2"]

    def route(self, frame: LocalFrame, pose: SE2, goal: GeoPose | None = None) -> Route:
        """The line, if it leads on from the pose.

        Raises:
            DataError: if it has no length, or does not lead on from the pose.
        """
        route = Route.through(self.xy_m)
        route.check_near(pose, self.name)
        return route


class Guide:
    """Leads a vehicle on one map, pose after pose."""

    def __init__(self, source: MapSource, route: RouteGiver | None = None, goal: GeoPose | None = None) -> None:
        """A guide.

        Args:
            source: the map; without a route it has to be one with roads (an OpenStreetMap extract).
            route: where to go, or a graph of ways.
            goal: where to go, by the shortest way.
        """
        self._source, self._file, self._goal = source, route, goal
        self._route: Route | None = None
        self._along_m: float | None = None

    @property
    def leads(self) -> bool:
        """Whether it was told where to go."""
        return self._file is not None or self._goal is not None

    @property
    def graph(self) -> RoadGraph:
        """The roads of the map.

        Raises:
            DataError: if the map has none.
        """
        return road_graph_of(self._source)

    @property
    def usable(self) -> bool:
        """Whether there is a route file, or a map with roads."""
        try:
            self.check_map()
        except DataError:
            return False
        return True

    def check_map(self) -> None:
        """Refuse, before anything is located, a map that cannot lead.

        Raises:
            DataError: if no route file is given and the map has no roads.
        """
        if self._file is None:
            _ = self.graph

    def forget(self) -> None:
        """Another vehicle is led next: it gets a way of its own."""
        self._route = self._along_m = None

    def paths(
        self, map_from_ego: SE2, covariance: Float[np.ndarray, "3 3"], reader: DirectionReader | None = None
    ) -> list[PathAhead]:
        """The paths ahead of a pose, the likeliest first: one along a route; without one, one a branch.

        Args:
            map_from_ego: the pose.
            covariance: of it, x, y in m and yaw in rad, map axes.
            reader: what the scan shows there (`PoseEstimate.direction`); None: the map alone says where they lie.

        Raises:
            DataError: if nothing leads on from the pose: no road or route near it, or none in its direction.
        """
        found = self._on_map(map_from_ego, covariance)
        return found if reader is None else corrected(found, reader, covariance)

    def _on_map(self, map_from_ego: SE2, covariance: Float[np.ndarray, "3 3"]) -> list[PathAhead]:
        """The paths as the map alone has them, moved to the vehicle."""
        if not self.leads:
            return paths_ahead(self.graph, map_from_ego, covariance)
        if self._route is not None:
            along_m, distance_m = self._route.place_of(map_from_ego, self._along_m)
            if distance_m > (NEAR_M if self._goal is None else _OFF_ROUTE_M):
                self._route = None
            else:
                self._along_m = along_m
        if self._route is None:
            self._route = self._new_route(map_from_ego)
            self._along_m = self._route.place_of(map_from_ego)[0]
        return [path_along(self._route, map_from_ego, covariance, along_m=self._along_m)]

    def field(
        self,
        grid: Grid,
        map_from_grid: SE2,
        map_from_ego: SE2,
        covariance: Float[np.ndarray, "3 3"],
        paths: Sequence[PathAhead],
    ) -> DirectionField:
        """Where one can drive about a pose, and which way: on the roads of the map, and along the way asked for.

        Args:
            grid: the raster.
            map_from_grid: where it lies.
            map_from_ego: the pose.
            covariance: of it, x, y in m and yaw in rad, map axes.
            paths: ahead of it; without a route they are those of the roads, which the map tells in full.
        """
        try:
            graph = self.graph
        except DataError:
            graph = None  # a route on a picture
        return field_of(graph, grid, map_from_grid, map_from_ego, covariance, paths if self.leads else ())

    def _new_route(self, pose: SE2) -> Route:
        if self._file is not None:
            return self._file.route(self._source.frame, pose, self._goal)
        assert self._goal is not None  # one of both leads
        goal_m = self._source.frame.metres_from_degrees(self._goal.lat_deg, self._goal.lon_deg)
        if not self._source.covers(*goal_m):
            told = f"{self._goal.lat_deg:g},{self._goal.lon_deg:g}"
            raise DataError(f"the goal {told} lies outside of the map {self._source.name}")
        return route_to(self.graph, pose, self._goal, goal_m)


def described(path: PathAhead, map_from_ego: SE2, source: MapSource) -> dict[str, Any]:
    """A path as JSON has it: points in metres of the vehicle (x ahead, y left) and in degrees.

    Args:
        path: the path.
        map_from_ego: pose that it was made for.
        source: the map.
    """
    on_map = map_from_ego.apply(path.xy_m)
    places = [source.frame.degrees_from_metres(x_m, y_m) for x_m, y_m in on_map.tolist()]
    yaws_rad = [wrap_angle(map_from_ego.yaw_rad + yaw_rad) for yaw_rad in path.yaw_rad.tolist()]
    headings_rad = [
        source.frame.geo_pose(SE2(x_m, y_m, yaw_rad)).yaw_rad
        for (x_m, y_m), yaw_rad in zip(on_map.tolist(), yaws_rad, strict=True)
    ]
    return {
        "probability": round(path.probability, 4),
        "points_m": [[round(x_m, 3), round(y_m, 3)] for x_m, y_m in path.xy_m.tolist()],
        "turn_deg": [round(math.degrees(yaw_rad), 2) for yaw_rad in path.yaw_rad.tolist()],
        "std_deg": [round(math.degrees(std_rad), 2) for std_rad in path.std_rad.tolist()],
        "heading_deg": [round(math.degrees(heading_rad), 2) for heading_rad in headings_rad],
        "lat_lon": [[round(lat_deg, 8), round(lon_deg, 8)] for lat_deg, lon_deg in places],
    }


def in_words(paths: Sequence[PathAhead], point: int = 7) -> str:
    """The direction of each path 16 m ahead, or at its end: "+3.1 ± 1.2 (92 %)", to the left positive."""
    told = []
    for path in paths:
        if len(path.yaw_rad):
            at = min(point, len(path.yaw_rad) - 1)
            share = "" if len(paths) == 1 else f" ({100.0 * path.probability:.0f} %)"
            told.append(f"{math.degrees(path.yaw_rad[at]):+.1f} ± {math.degrees(path.std_rad[at]):.1f}{share}")
    return ", ".join(told) or "-"

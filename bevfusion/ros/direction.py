"""Which way the road goes from the vehicle: the node's route or goal, and the paths and the field ahead of each pose.

Routes and goals come in any thread, from messages with the fields of their ROS type; all else is the worker's.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bevfusion.datasets.rigid import bare
from bevfusion.direction.field import DirectionField
from bevfusion.direction.guide import GivenRoute, Guide
from bevfusion.direction.path import PathAhead
from bevfusion.direction.route_files import read_route
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.source import MapSource
from bevfusion.ros.extrinsics import PlanarPose
from bevfusion.ros.parameters import NodeParameters
from bevfusion.ros.transforms import planar_pose
from bevfusion.structures import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WayAhead:
    """The ways on from a pose of the vehicle."""

    pose: PlanarPose
    paths: tuple[PathAhead, ...]  # in the frame of the vehicle, the likeliest first; empty: nothing leads on


class DirectionControl:
    """What the node knows of where to go."""

    def __init__(self, parameters: NodeParameters) -> None:
        """A node without a map.

        Args:
            parameters: of the node; their route and goal hold until another one comes, and on every map.

        Raises:
            DataError: if the route file cannot be read.
        """
        self.status = "unasked"  # for /diagnostics
        self.failed = False  # a route or a goal is given, and nothing leads along it from the last pose
        self._map_frame = parameters.map_frame
        self._grid = Grid.square(parameters.direction_range_m, parameters.direction_cell_m)
        self._file = read_route(Path(parameters.route).expanduser()) if parameters.route else None
        self._place = GeoPose(*parameters.goal) if parameters.goal else None
        self._source: MapSource | None = None
        self._guide: Guide | None = None

    def use(self, source: MapSource) -> None:
        """Another map: routes and goals of messages, which are in metres of the one before, are dropped."""
        self._source = source
        self._guide = Guide(source, self._file, self._place)

    def follow(self, message: Any) -> None:
        """A route (nav_msgs/Path) on the map; an empty one: no route.

        Raises:
            DataError: if it is of another frame or holds a place that is none, or there is no map yet.
        """
        source = self._on_map(message.header, "~/route")
        places = [(float(stamped.pose.position.x), float(stamped.pose.position.y)) for stamped in message.poses]
        if not np.isfinite(np.array(places)).all():
            raise DataError("~/route holds a place that is not finite")
        if len(set(places)) == 1:
            raise DataError("~/route holds a single place: a route needs two at least")
        log.info("%s", f"a route of {len(places)} places" if places else "no route any more")
        self._guide = Guide(source, GivenRoute("~/route", np.array(places))) if places else Guide(source)

    def go_to(self, message: Any) -> None:
        """A goal (geometry_msgs/PoseStamped) on the map; its heading does not count.

        Raises:
            DataError: if it is of another frame, no pose or off the map, or there is no map yet.
        """
        source = self._on_map(message.header, "~/goal")
        pose = planar_pose(message.pose, "~/goal")
        if not source.covers(pose.x_m, pose.y_m):
            raise DataError(f"~/goal at x {pose.x_m:.1f} m, y {pose.y_m:.1f} m lies off the map")
        log.info("the goal is x %.1f m, y %.1f m", pose.x_m, pose.y_m)
        self._guide = Guide(source, goal=source.frame.geo_pose(pose))

    def ahead(self, pose: PlanarPose) -> WayAhead:
        """The ways on from a pose."""
        guide = self._guide
        if guide is None:
            return WayAhead(pose, ())
        try:
            paths = guide.paths(pose.map_from_base, pose.covariance)
        except DataError as error:
            new = f"none: {error}"
            if guide.leads and new != self.status:
                log.warning("no way ahead: %s", error)
            self.status, self.failed = new, guide.leads
            return WayAhead(pose, ())
        self.failed = False
        self.status = "as asked" if guide.leads else f"{len(paths)} branch{'es' if len(paths) != 1 else ''}"
        return WayAhead(pose, tuple(paths))

    def field(self, way: WayAhead) -> DirectionField | None:
        """Where one can drive about the vehicle, and which way: a raster in map axes; None without a map."""
        guide, place = self._guide, way.pose.map_from_base
        if guide is None:
            return None
        centre = SE2(place.x_m, place.y_m)
        return guide.field(self._grid, centre, place, way.pose.covariance, way.paths)

    def _on_map(self, header: Any, topic: str) -> MapSource:
        frame = bare(header.frame_id)
        if frame != self._map_frame:
            raise DataError(f"{topic} is in the frame {frame!r}, expected {self._map_frame!r}")
        if self._source is None:
            raise DataError(f"{topic} came before there is a map")
        return self._source

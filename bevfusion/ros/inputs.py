"""What messages say about where the vehicle is; objects with the fields of their ROS type, of either ROS."""

import math
from dataclasses import dataclass
from typing import Any

from bevfusion.datasets.rigid import bare
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.source import MapSource
from bevfusion.ros.parameters import NodeParameters
from bevfusion.structures import DataError


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin; without a place, anywhere on the map."""

    map_from_base: SE2 | None
    offset_m: float = 0.0
    offset_rad: float = math.pi


def start_at(map_from_base: SE2, parameters: NodeParameters) -> Start:
    """Within the window of the parameters about a pose."""
    any_heading = parameters.offset_deg >= 180.0
    offset_rad = math.pi if any_heading else math.radians(parameters.offset_deg)
    return Start(map_from_base, parameters.offset_m, offset_rad)


def start_of_pose(message: Any, parameters: NodeParameters) -> Start:
    """From a pose on the map (geometry_msgs/PoseWithCovarianceStamped).

    The window is that of the parameters, whatever the covariance says: tools fill that in at will.

    Raises:
        DataError: if it is of another frame, or no pose.
    """
    frame = bare(message.header.frame_id)
    if frame != parameters.map_frame:
        raise DataError(f"~/initialpose is in the frame {frame!r}, expected {parameters.map_frame!r}")
    return start_at(planar(message.pose.pose, "~/initialpose"), parameters)


def start_of_fix(message: Any, source: MapSource, parameters: NodeParameters) -> Start | None:
    """From GNSS (sensor_msgs/NavSatFix), with any heading; None: the receiver has no fix.

    Raises:
        DataError: if it is no place, or off the map.
    """
    if int(message.status.status) < 0:
        return None
    lat_deg, lon_deg = float(message.latitude), float(message.longitude)
    try:
        place = source.frame.map_from_ego(GeoPose(lat_deg, lon_deg))
    except ValueError as error:
        raise DataError(f"~/fix: {error}") from error
    if not source.covers(place.x_m, place.y_m):
        raise DataError(f"~/fix {lat_deg:.6f}, {lon_deg:.6f} lies off the map")
    return Start(place, parameters.offset_m)


def odometry_of(message: Any, parameters: NodeParameters) -> SE2:
    """`odom_from_base` of nav_msgs/Odometry.

    Raises:
        DataError: if it is of other frames, or no pose.
    """
    expected = (parameters.odom_frame, parameters.base_frame)
    found = (bare(message.header.frame_id), bare(message.child_frame_id))
    if found != expected:
        raise DataError(f"~/odom is of {found[1]!r} in {found[0]!r}, expected {expected[1]!r} in {expected[0]!r}")
    return planar(message.pose.pose, "~/odom")


def planar(pose: Any, source: str) -> SE2:
    """A geometry_msgs/Pose in the plane.

    Raises:
        DataError: if a number is not finite or the quaternion is zero.
    """
    turn = pose.orientation
    if turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2 < 1e-6:
        raise DataError(f"{source}: the quaternion of the orientation is zero")
    yaw_rad = math.atan2(2.0 * (turn.w * turn.z + turn.x * turn.y), turn.w**2 + turn.x**2 - turn.y**2 - turn.z**2)
    try:
        return SE2(float(pose.position.x), float(pose.position.y), yaw_rad)
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error

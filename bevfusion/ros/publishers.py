"""What the node publishes, in messages; their packages are named alike in ROS 1 and ROS 2, so that this serves both.

Nothing is computed for a topic without a subscriber.
"""

import array
import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, PoseStamped, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import OccupancyGrid, Path
from sensor_msgs.msg import Image, Imu, NavSatFix
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from bevfusion.direction.field import DirectionField
from bevfusion.geometry.se2 import SE2
from bevfusion.ros.core import NodeCore, Output
from bevfusion.ros.direction import WayAhead
from bevfusion.ros.health import LEVELS
from bevfusion.ros.parameters import NodeParameters
from bevfusion.ros.visualization import (
    Occupancy,
    attention_picture,
    belief_slice,
    colour_of,
    drivable_cells,
    field_arrows_m,
    map_segments_m,
    occupancy_of_map,
)
from bevfusion.structures import DataError

TFMessage: Any = None
with contextlib.suppress(ImportError):  # ROS 2 from pip has none
    import tf2_msgs.msg

    TFMessage = tf2_msgs.msg.TFMessage
GeoPoseStamped: Any = None
with contextlib.suppress(ImportError):  # not part of every ROS
    import geographic_msgs.msg

    GeoPoseStamped = geographic_msgs.msg.GeoPoseStamped

log = logging.getLogger(__name__)

STATUS_NAME = "bevfusion: localization"
NOT_MEASURED = 1e6  # variance of what is not estimated: height, roll and pitch
FIELD_COLOUR, PATH_COLOUR = (0.0, 0.31, 0.78), (0.85, 0.11, 0.38)
_LINE_WIDTHS_M = {"road": 1.0, "building": 0.5}


@runtime_checkable
class Publisher(Protocol):
    """Of rclpy and rospy."""

    def publish(self, message: Any, /) -> None:
        """Send."""


@dataclass(frozen=True, slots=True)
class PublishedTopic:
    """One that is published."""

    name: str
    kind: Any
    latched: bool = False


def geopose_kind(parameters: NodeParameters) -> Any:
    """The message type of ~/geopose.

    Raises:
        DataError: if the parameter asks for one that is not installed.
    """
    if parameters.geopose == "geopose" and GeoPoseStamped is None:
        raise DataError("geopose: geographic_msgs is not installed; install it, or set geopose to fix")
    return NavSatFix if parameters.geopose == "fix" or GeoPoseStamped is None else GeoPoseStamped


TOPICS = (
    PublishedTopic("~/pose", PoseWithCovarianceStamped),
    PublishedTopic("~/heading", Imu),
    PublishedTopic("~/transform", TransformStamped),
    PublishedTopic("~/map", OccupancyGrid, latched=True),
    PublishedTopic("~/map_markers", MarkerArray, latched=True),
    PublishedTopic("~/belief", OccupancyGrid),
    PublishedTopic("~/attention", Image),
    PublishedTopic("~/direction", Path),
    PublishedTopic("~/direction_field", MarkerArray),
    PublishedTopic("~/drivable", OccupancyGrid),
    PublishedTopic("~/timing", DiagnosticArray),
    PublishedTopic("/diagnostics", DiagnosticArray),
    *((PublishedTopic("/tf", TFMessage),) if TFMessage is not None else ()),
)


class Publishers:
    """Turns what the core says into messages."""

    def __init__(
        self,
        parameters: NodeParameters,
        advertise: Callable[[PublishedTopic], Publisher],
        has_subscribers: Callable[[str], bool],
    ) -> None:
        """Advertise all topics.

        Args:
            parameters: of the node.
            advertise: makes the publisher of a topic.
            has_subscribers: whether the topic of a name has subscribers.

        Raises:
            DataError: if the parameters ask for a type of message that is not installed.
        """
        geopose = PublishedTopic("~/geopose", geopose_kind(parameters))
        log.info("~/geopose is a %s", geopose.kind.__name__)
        self._geopose_message = fix_message if geopose.kind is NavSatFix else geopose_message
        self._publishers = {topic.name: advertise(topic) for topic in (*TOPICS, geopose)}
        self._has_subscribers = has_subscribers
        self._shown: set[str] = set()  # latched topics that have been sent

    def publish_output(self, core: NodeCore, output: Output) -> None:
        """Everything that came of a cloud; called in the worker."""
        names = core.parameters
        if output.pose is not None and output.estimate is not None:
            if output.tf is not None:
                self._transform(*output.tf, output.stamp_ns)
            self._send("~/pose", lambda: pose_message(output, names.map_frame))
            self._send("~/heading", lambda: heading_message(output, names.base_frame))
            self._send("~/geopose", lambda: self._geopose_message(output, names.base_frame))
            self._belief(output, names.map_frame)
            self._attention(core, output, names.base_frame)
        self._direction(core, output, names.map_frame)
        self._send("~/timing", lambda: timing_message(output))

    def publish_map(self, core: NodeCore) -> None:
        """Send the map to whoever asked for it, once; later ones get it from the middleware."""
        source, names = core.source, core.parameters
        if source is None:
            return
        if self._is_new("~/map"):
            occupancy = occupancy_of_map(source, names.map_cell_m)
            self._publishers["~/map"].publish(occupancy_message(occupancy, names.map_frame, 0))
        if self._is_new("~/map_markers"):
            self._publishers["~/map_markers"].publish(markers_message(map_segments_m(source), names.map_frame))

    def _is_new(self, name: str) -> bool:
        """Whether a latched topic is asked for, and has not been sent; then it counts as sent."""
        if name in self._shown or not self._has_subscribers(name):
            return False
        self._shown.add(name)
        return True

    def reset_map(self) -> None:
        """There is another map."""
        self._shown.clear()

    def publish_diagnostics(self, core: NodeCore, now_ns: int) -> None:
        """The status."""
        status = core.status()
        message = DiagnosticArray()
        set_header(message.header, "", now_ns)
        item = DiagnosticStatus()
        item.level, item.name, item.hardware_id = _level(LEVELS.index(status.level)), STATUS_NAME, "lidar"
        item.message = status.message
        item.values = [_key_value(key, value) for key, value in status.values]
        message.status = [item]
        self._publishers["/diagnostics"].publish(message)

    def _transform(self, parent: str, child: str, parent_from_child: SE2, stamp_ns: int) -> None:
        message = transform_message(parent, child, parent_from_child, stamp_ns)
        if TFMessage is not None:
            self._publishers["/tf"].publish(TFMessage([message]))
        self._send("~/transform", lambda: message)

    def _belief(self, output: Output, frame: str) -> None:
        if output.estimate is not None and self._has_subscribers("~/belief"):
            belief = belief_slice(output.estimate)
            if belief is not None:
                self._publishers["~/belief"].publish(occupancy_message(belief, frame, output.stamp_ns))

    def _attention(self, core: NodeCore, output: Output, frame: str) -> None:
        if output.estimate is None or not self._has_subscribers("~/attention"):
            return
        if core.locator is None or core.locator.model is None:
            return
        try:
            picture = attention_picture(core.locator, output.scan, output.estimate)
        except DataError as error:
            log.warning("no picture of the attention: %s", error)
            return
        self._publishers["~/attention"].publish(image_message(picture, frame, output.stamp_ns))

    def _direction(self, core: NodeCore, output: Output, frame: str) -> None:
        """The ways ahead; while there is no pose an empty path, so that nobody drives on along an old one."""
        asked = [name for name in ("~/direction", "~/direction_field", "~/drivable") if self._has_subscribers(name)]
        if not asked:
            return
        way = core.way_ahead(output)
        self._send("~/direction", lambda: path_message(way, frame, output.stamp_ns))
        if asked == ["~/direction"]:
            return
        field = None if way is None else core.direction.field(way)
        self._send("~/direction_field", lambda: direction_markers(way, field, frame, output.stamp_ns))
        if field is not None:
            cells = drivable_cells(field)
            self._send("~/drivable", lambda: occupancy_message(cells, frame, output.stamp_ns))

    def _send(self, name: str, make: Callable[[], Any]) -> None:
        if self._has_subscribers(name):
            self._publishers[name].publish(make())


def set_header(header: Any, frame: str, stamp_ns: int) -> None:
    """Frame and stamp of a std_msgs/Header, of ROS 1 or ROS 2."""
    header.frame_id = frame
    seconds, rest_ns = divmod(stamp_ns, 10**9)
    if hasattr(header.stamp, "nanosec"):
        header.stamp.sec, header.stamp.nanosec = seconds, rest_ns
    else:
        header.stamp.secs, header.stamp.nsecs = seconds, rest_ns


def set_pose(position: Any, orientation: Any, pose: SE2) -> None:
    """Position (or translation) and quaternion of a pose in the plane."""
    position.x, position.y, position.z = pose.x_m, pose.y_m, 0.0
    orientation.x, orientation.y = 0.0, 0.0
    orientation.z, orientation.w = math.sin(0.5 * pose.yaw_rad), math.cos(0.5 * pose.yaw_rad)


def pose_message(output: Output, frame: str) -> Any:
    """geometry_msgs/PoseWithCovarianceStamped of the vehicle, with the stamp of the cloud."""
    assert output.pose is not None
    message = PoseWithCovarianceStamped()
    set_header(message.header, frame, output.stamp_ns)
    set_pose(message.pose.pose.position, message.pose.pose.orientation, output.pose.map_from_base)
    covariance = np.diag([0.0, 0.0, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED, 0.0])
    covariance[np.ix_((0, 1, 5), (0, 1, 5))] = output.pose.covariance
    message.pose.covariance = covariance.reshape(-1).tolist()
    return message


def heading_message(output: Output, frame: str) -> Any:
    """sensor_msgs/Imu with nothing but a yaw about map east and its variance; -1 marks what is not measured."""
    assert output.pose is not None
    message = Imu()
    set_header(message.header, frame, output.stamp_ns)
    yaw_rad = output.pose.map_from_base.yaw_rad
    message.orientation.x = message.orientation.y = 0.0
    message.orientation.z, message.orientation.w = math.sin(0.5 * yaw_rad), math.cos(0.5 * yaw_rad)
    variance = min(output.heading_std_rad**2, NOT_MEASURED)
    message.orientation_covariance = [NOT_MEASURED, 0.0, 0.0, 0.0, NOT_MEASURED, 0.0, 0.0, 0.0, variance]
    message.angular_velocity_covariance = message.linear_acceleration_covariance = [-1.0] + 8 * [0.0]
    return message


def geopose_message(output: Output, frame: str) -> Any:
    """geographic_msgs/GeoPoseStamped of a frame of the vehicle: the yaw is about true east; no height is known."""
    assert output.geo_pose is not None
    message = GeoPoseStamped()
    set_header(message.header, frame, output.stamp_ns)
    position, orientation = message.pose.position, message.pose.orientation
    position.latitude, position.longitude = output.geo_pose.lat_deg, output.geo_pose.lon_deg
    position.altitude = math.nan
    orientation.x = orientation.y = 0.0
    orientation.z, orientation.w = math.sin(0.5 * output.geo_pose.yaw_rad), math.cos(0.5 * output.geo_pose.yaw_rad)
    return message


def fix_message(output: Output, frame: str) -> Any:
    """sensor_msgs/NavSatFix of a frame of the vehicle, with its covariance east and north; no height is known."""
    assert output.geo_pose is not None
    assert output.pose is not None
    message = NavSatFix()
    set_header(message.header, frame, output.stamp_ns)
    message.status.status, message.status.service = message.status.STATUS_FIX, 0  # of no satellites
    message.latitude, message.longitude = output.geo_pose.lat_deg, output.geo_pose.lon_deg
    message.altitude = math.nan
    turn_rad = output.geo_pose.yaw_rad - output.pose.map_from_base.yaw_rad  # the meridian's convergence
    east_north_from_map = np.array(
        [[math.cos(turn_rad), -math.sin(turn_rad)], [math.sin(turn_rad), math.cos(turn_rad)]]
    )
    covariance = np.diag([0.0, 0.0, NOT_MEASURED])
    covariance[:2, :2] = east_north_from_map @ output.pose.covariance[:2, :2] @ east_north_from_map.T
    message.position_covariance = covariance.reshape(-1).tolist()
    message.position_covariance_type = message.COVARIANCE_TYPE_KNOWN
    return message


def transform_message(parent: str, child: str, parent_from_child: SE2, stamp_ns: int) -> Any:
    """geometry_msgs/TransformStamped, what goes to TF."""
    message = TransformStamped()
    set_header(message.header, parent, stamp_ns)
    message.child_frame_id = child
    set_pose(message.transform.translation, message.transform.rotation, parent_from_child)
    return message


def occupancy_message(occupancy: Occupancy, frame: str, stamp_ns: int) -> Any:
    """nav_msgs/OccupancyGrid."""
    message = OccupancyGrid()
    set_header(message.header, frame, stamp_ns)
    message.info.resolution = float(occupancy.cell_m)
    message.info.height, message.info.width = occupancy.cells.shape
    set_pose(message.info.origin.position, message.info.origin.orientation, occupancy.origin)
    message.data = array.array("b", occupancy.cells.tobytes())  # element by element would take seconds
    return message


def image_message(picture: np.ndarray, frame: str, stamp_ns: int) -> Any:
    """sensor_msgs/Image, rgb8."""
    message = Image()
    set_header(message.header, frame, stamp_ns)
    message.height, message.width = picture.shape[:2]
    message.encoding, message.step = "rgb8", 3 * picture.shape[1]
    message.is_bigendian = 0
    message.data = bytes_field(picture.tobytes(), message)
    return message


def bytes_field(data: bytes, message: Any) -> Any:
    """Bytes as `message.data` takes them fastest: rclpy an array (lists take minutes), rospy the bytes themselves."""
    return array.array("B", data) if hasattr(message.header.stamp, "nanosec") else data


def markers_message(segments_m: dict[str, np.ndarray], frame: str) -> Any:
    """visualization_msgs/MarkerArray: one list of lines for each kind."""
    array_of = MarkerArray()
    for number, (kind, ends_m) in enumerate(segments_m.items()):
        marker = Marker()
        set_header(marker.header, frame, 0)
        marker.ns, marker.id, marker.type, marker.action = kind, number, Marker.LINE_LIST, Marker.ADD
        marker.pose.orientation.w = 1.0
        marker.scale.x = _LINE_WIDTHS_M.get(kind, 0.3)
        marker.color.r, marker.color.g, marker.color.b = colour_of(kind)
        marker.color.a = 1.0
        marker.points = [Point(x=x, y=y, z=0.0) for x, y in ends_m.reshape(-1, 2).tolist()]
        array_of.markers.append(marker)
    return array_of


def path_message(way: WayAhead | None, frame: str, stamp_ns: int) -> Any:
    """nav_msgs/Path of the likeliest way ahead, from the vehicle on; empty where no way leads on, or no pose is known.

    Args:
        way: ahead of a pose.
        frame: of the map.
        stamp_ns: of the cloud.
    """
    message = Path()
    set_header(message.header, frame, stamp_ns)
    if way is None or not way.paths:
        return message
    place, path = way.pose.map_from_base, way.paths[0]
    turns_rad = [0.0, *path.yaw_rad.tolist()]
    for (x_m, y_m), turn_rad in zip([(0.0, 0.0), *path.xy_m.tolist()], turns_rad, strict=True):
        stamped = PoseStamped()
        set_header(stamped.header, frame, stamp_ns)
        set_pose(stamped.pose.position, stamped.pose.orientation, place @ SE2(x_m, y_m, turn_rad))
        message.poses.append(stamped)
    return message


def direction_markers(way: WayAhead | None, field: DirectionField | None, frame: str, stamp_ns: int) -> Any:
    """visualization_msgs/MarkerArray: `field`, an arrow a drivable cell, as strong as sure, and `path`, a line a way.

    Lines are as wide and as strong as the way is likely. What was shown before is taken away first.

    Args:
        way: ahead of a pose; None: no pose is known, and nothing is left to see.
        field: about it.
        frame: of the map.
        stamp_ns: of the cloud.
    """
    cleared = Marker()
    set_header(cleared.header, frame, stamp_ns)
    cleared.action = Marker.DELETEALL
    message = MarkerArray()
    message.markers.append(cleared)
    if field is not None:
        ends_m, strength = field_arrows_m(field)
        arrows = _line_marker("field", 0, Marker.LINE_LIST, 0.12, frame, stamp_ns)
        arrows.points = [Point(x=x, y=y, z=0.0) for x, y in ends_m.reshape(-1, 2).tolist()]
        arrows.colors = [_colour(FIELD_COLOUR, alpha) for alpha in np.repeat(strength, 6).tolist()]
        message.markers.append(arrows)
    for number, path in enumerate(() if way is None else way.paths):
        line = _line_marker("path", number, Marker.LINE_STRIP, 0.2 + 0.6 * path.probability, frame, stamp_ns)
        line.color = _colour(PATH_COLOUR, 0.3 + 0.7 * path.probability)
        assert way is not None
        places_m = way.pose.map_from_base.apply(np.concatenate([np.zeros((1, 2)), path.xy_m]))
        line.points = [Point(x=x, y=y, z=0.0) for x, y in places_m.tolist()]
        message.markers.append(line)
    return message


def _line_marker(kind: str, number: int, shape: int, width_m: float, frame: str, stamp_ns: int) -> Any:
    marker = Marker()
    set_header(marker.header, frame, stamp_ns)
    marker.ns, marker.id, marker.type, marker.action = kind, number, shape, Marker.ADD
    marker.pose.orientation.w = 1.0
    marker.scale.x = width_m
    marker.color.a = 1.0
    return marker


def _colour(rgb: tuple[float, float, float], alpha: float) -> Any:
    red, green, blue = rgb
    return ColorRGBA(r=red, g=green, b=blue, a=float(alpha))


def timing_message(output: Output) -> Any:
    """diagnostic_msgs/DiagnosticArray with the stamp of the cloud: the state, and milliseconds of each stage."""
    message = DiagnosticArray()
    set_header(message.header, "", output.stamp_ns)
    item = DiagnosticStatus()
    item.level, item.name, item.message = _level(0), "bevfusion: timing", output.state
    item.values = [_key_value(name, f"{value:.3f}") for name, value in output.stages_ms.items()]
    message.status = [item]
    return message


def _level(number: int) -> Any:
    """DiagnosticStatus.level: a byte in ROS 2, a number in ROS 1."""
    return bytes([number]) if isinstance(DiagnosticStatus.OK, bytes) else number


def _key_value(key: str, value: str) -> Any:
    item = KeyValue()
    item.key, item.value = key, value
    return item

"""Plays any drive as live messages: clouds on /points, odometry on /odom and TF, and where it starts on /initialpose.

    python3 -m bevfusion.ros.player DRIVE|town:SEED [--map MAP] [--rate 10] [--frames N] [--loop]

It plays in the ROS that ROS_VERSION names, and without that variable in the one that this Python has.

Exit status: 0 played to the end or ended by a signal, 2 a drive or map that cannot be used.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import PointCloud2, PointField

from bevfusion.datasets.drive import Drive
from bevfusion.datasets.odometry import TruthOdometry
from bevfusion.datasets.open import open_drive
from bevfusion.datasets.simulated import simulated_drive
from bevfusion.geometry.se2 import SE2
from bevfusion.progress import frame_progress
from bevfusion.ros.core import ros_version
from bevfusion.ros.maps import CACHE, TOWN, map_of_name
from bevfusion.ros.publishers import Publisher, TFMessage, bytes_field, set_header, set_pose, transform_message
from bevfusion.simulate.drive import DriveOptions
from bevfusion.structures import DataError, Frame, Scan

log = logging.getLogger(__name__)

POINTS, INITIAL = "/points", "/initialpose"
LIDAR, BASE, ODOM, MAP = "lidar", "base_link", "odom", "map"
SPACING_M = 0.8  # of the frames of an invented drive: ten a second are 8 m/s


@runtime_checkable
class PlayerNode(Protocol):
    """A node of either ROS, as far as the player needs one."""

    @property
    def arguments(self) -> list[str]:
        """The command line without ROS's own words."""

    def advertise(self, kind: Any, topic: str, latched: bool) -> Publisher:
        """A publisher; what a latched one sent last is kept for who comes later."""

    def subscriber_count(self, publisher: Any) -> int:
        """How many listen to a publisher of `advertise`."""

    def is_up(self) -> bool:
        """Whether to go on: until a signal."""

    def is_shutdown_error(self, error: Exception) -> bool:
        """Whether this only tells that a signal came in the middle of something."""

    def now_ns(self) -> int:
        """The clock that stamps are taken from."""

    def close(self) -> None:
        """The end."""


class Ros1Node:
    """A node of rospy."""

    def __init__(self, name: str) -> None:
        import rospy

        self._rospy = rospy
        rospy.init_node(name)

    @property
    def arguments(self) -> list[str]:
        """The command line without remappings."""
        return list(self._rospy.myargv(sys.argv)[1:])

    def advertise(self, kind: Any, topic: str, latched: bool) -> Publisher:
        """A publisher by TCP without delay."""
        publisher: Publisher = self._rospy.Publisher(topic, kind, queue_size=10, latch=latched, tcp_nodelay=True)
        return publisher

    def subscriber_count(self, publisher: Any) -> int:
        """Connections."""
        return int(publisher.get_num_connections())

    def is_up(self) -> bool:
        """Until a signal."""
        return not self._rospy.is_shutdown()

    def is_shutdown_error(self, error: Exception) -> bool:
        """A sleep or a message that a signal interrupts raises this."""
        return isinstance(error, self._rospy.ROSException)

    def now_ns(self) -> int:
        """The node's clock."""
        return int(self._rospy.Time.now().to_nsec())

    def close(self) -> None:
        """Nothing: rospy closes itself."""


class Ros2Node:
    """A node of rclpy."""

    def __init__(self, name: str) -> None:
        import rclpy
        import rclpy.utilities

        self._rclpy = rclpy
        rclpy.init()
        self._node = rclpy.create_node(name)

    @property
    def arguments(self) -> list[str]:
        """The command line without what follows --ros-args."""
        return list(self._rclpy.utilities.remove_ros_args(sys.argv)[1:])

    def advertise(self, kind: Any, topic: str, latched: bool) -> Publisher:
        """A reliable publisher."""
        from rclpy.qos import DurabilityPolicy, QoSProfile

        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        publisher: Publisher = self._node.create_publisher(kind, topic, QoSProfile(depth=10, durability=durability))
        return publisher

    def subscriber_count(self, publisher: Any) -> int:
        """Subscriptions that match."""
        return int(publisher.get_subscription_count())

    def is_up(self) -> bool:
        """Until a signal."""
        return bool(self._rclpy.ok())

    def is_shutdown_error(self, error: Exception) -> bool:
        """A signal shuts ROS down at once, in the middle of a message too."""
        return isinstance(error, RuntimeError) and not self._rclpy.ok()

    def now_ns(self) -> int:
        """The wall clock."""
        return int(self._node.get_clock().now().nanoseconds)

    def close(self) -> None:
        """Shut ROS down, unless a signal did."""
        self._rclpy.try_shutdown()


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """What to play, and how."""

    drive: str
    map: str
    rate_hz: float
    frames: int
    loop: bool


def parse_options(arguments: Sequence[str]) -> PlayOptions:
    """From a command line without ROS's own words."""
    parser = argparse.ArgumentParser(description="Play a drive as ROS messages.")
    parser.add_argument("drive", help="a drive (bag, KITTI, folder of scans, ...) or town:SEED, which is simulated")
    parser.add_argument("--map", default="", help="with it, the start of the drive is sent on /initialpose")
    parser.add_argument("--rate", type=float, default=10.0, help="clouds a second")
    parser.add_argument("--frames", type=int, default=300, help="of an invented drive")
    parser.add_argument("--loop", action="store_true")
    found = parser.parse_args(list(arguments))
    return PlayOptions(found.drive, found.map, found.rate, found.frames, found.loop)


def play(node: PlayerNode, options: PlayOptions) -> None:
    """Play until the end.

    Raises:
        DataError: if the drive or the map cannot be used.
    """
    drive = _with_odometry(_opened(options))
    player = Player(node)
    source = map_of_name(options.map) if options.map else None
    period_s = 1.0 / options.rate_hz
    player.wait_for_subscribers()
    again = True
    while again and node.is_up():
        for number, frame in enumerate(drive):
            due_s = time.monotonic() + period_s
            if not node.is_up():
                return
            stamp_ns = node.now_ns()
            if number == 0 and source is not None and frame.truth is not None:
                player.start(source.frame.map_from_ego(frame.truth), stamp_ns)
            player.frame(frame, stamp_ns)
            time.sleep(max(0.0, due_s - time.monotonic()))
        again = options.loop


class Player:
    """Sends frames; the LiDAR is the vehicle's frame, turned and shifted by nothing."""

    def __init__(self, node: PlayerNode) -> None:
        self._node = node
        self._points = node.advertise(PointCloud2, POINTS, False)
        self._odom = node.advertise(Odometry, "/odom", False)
        self._initial = node.advertise(PoseWithCovarianceStamped, INITIAL, False)
        self._tf: Callable[[Any], None] = lambda message: None
        if TFMessage is not None:
            self._tf = node.advertise(TFMessage, "/tf", False).publish
            self._static = node.advertise(TFMessage, "/tf_static", True)
            self._static.publish(TFMessage([transform_message(BASE, LIDAR, SE2(), 0)]))

    def wait_for_subscribers(self) -> None:
        """Until somebody listens to clouds and starts: a start that nobody hears is lost."""
        log.info("waiting for somebody who listens to %s and %s", POINTS, INITIAL)
        count = self._node.subscriber_count
        while self._node.is_up() and not (count(self._points) and count(self._initial)):
            time.sleep(0.1)

    def start(self, map_from_base: SE2, stamp_ns: int) -> None:
        """Tell the node where the drive begins."""
        self._initial.publish(start_message(map_from_base, stamp_ns))

    def frame(self, frame: Frame, stamp_ns: int) -> None:
        """Odometry first, so that it is there when the cloud is."""
        if frame.odom_from_ego is not None:
            self._odom.publish(odometry_message(frame.odom_from_ego, stamp_ns))
            self._tf(TFMessage([transform_message(ODOM, BASE, frame.odom_from_ego, stamp_ns)]) if TFMessage else None)
        self._points.publish(cloud_message(frame.scan, stamp_ns))


def cloud_message(scan: Scan, stamp_ns: int, frame: str = LIDAR) -> Any:
    """sensor_msgs/PointCloud2 with x, y, z, intensity as float32."""
    message = PointCloud2()
    set_header(message.header, frame, stamp_ns)
    message.height, message.width, message.point_step = 1, len(scan), 16
    message.row_step, message.is_bigendian, message.is_dense = 16 * len(scan), False, True
    message.fields = [
        PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
        for place, name in enumerate(("x", "y", "z", "intensity"))
    ]
    points = np.column_stack([scan.xyz, scan.intensity]).astype("<f4")
    message.data = bytes_field(points.tobytes(), message)
    return message


def odometry_message(odom_from_base: SE2, stamp_ns: int) -> Any:
    """nav_msgs/Odometry."""
    message = Odometry()
    set_header(message.header, ODOM, stamp_ns)
    message.child_frame_id = BASE
    set_pose(message.pose.pose.position, message.pose.pose.orientation, odom_from_base)
    return message


def start_message(map_from_base: SE2, stamp_ns: int) -> Any:
    """geometry_msgs/PoseWithCovarianceStamped on the map."""
    message = PoseWithCovarianceStamped()
    set_header(message.header, MAP, stamp_ns)
    set_pose(message.pose.pose.position, message.pose.pose.orientation, map_from_base)
    return message


def _opened(options: PlayOptions) -> Drive:
    if not options.drive.startswith(TOWN):
        return open_drive(Path(options.drive).expanduser())
    simulation = DriveOptions(frames=options.frames, spacing_m=SPACING_M, columns=512)
    with frame_progress(f"simulate {options.drive}", options.frames) as show:
        return simulated_drive(options.drive, simulation, CACHE.expanduser(), show)


def _with_odometry(drive: Drive) -> Drive:
    """A drive without odometry gets that of its truth, with noise, where it has one."""
    return TruthOdometry(drive) if drive.odometry == "none" else drive


def main() -> int:
    """Play; the result is the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    node: PlayerNode = (Ros1Node if ros_version() == "1" else Ros2Node)("bevfusion_player")
    try:
        play(node, parse_options(node.arguments))
    except KeyboardInterrupt:
        pass
    except DataError as error:
        sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
        return 2
    except Exception as error:
        if not node.is_shutdown_error(error):
            raise
    finally:
        node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

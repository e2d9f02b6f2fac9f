#!/usr/bin/env python3
"""Plays a drive in ROS 2: see `play.py`."""

import logging
import sys
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import remove_ros_args

from bevfusion.ros.outlet import Publisher
from bevfusion.ros.play import parse_options, play
from bevfusion.structures import DataError


class Ros2Port:
    """A node that publishes."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def advertise(self, kind: Any, topic: str, latched: bool) -> Publisher:
        """Reliable; latched topics are kept for who comes later."""
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        publisher: Publisher = self._node.create_publisher(kind, topic, QoSProfile(depth=10, durability=durability))
        return publisher

    def readers(self, publisher: Any) -> int:
        """Subscriptions that match."""
        return int(publisher.get_subscription_count())

    def is_up(self) -> bool:
        """Until a signal."""
        return bool(rclpy.ok())

    def now_ns(self) -> int:
        """The wall clock."""
        return int(self._node.get_clock().now().nanoseconds)


def main() -> int:
    """Play; the result is the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rclpy.init()
    try:
        play(Ros2Port(rclpy.create_node("bevfusion_player")), parse_options(remove_ros_args(sys.argv)[1:]))
    except KeyboardInterrupt:
        pass
    except RuntimeError:  # a signal shuts ROS down at once, in the middle of a message too
        if rclpy.ok():
            raise
    except DataError as error:
        sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
        return 2
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Plays a drive in ROS 1: see `play.py`."""

import logging
import sys
from typing import Any

import rospy

from bevfusion.ros.outlet import Publisher
from bevfusion.ros.play import parse_options, play
from bevfusion.structures import DataError


class Ros1Port:
    """A node that publishes."""

    def advertise(self, kind: Any, topic: str, latched: bool) -> Publisher:
        """Latched topics are kept for who comes later."""
        publisher: Publisher = rospy.Publisher(topic, kind, queue_size=10, latch=latched, tcp_nodelay=True)
        return publisher

    def readers(self, publisher: Any) -> int:
        """Connections."""
        return int(publisher.get_num_connections())

    def is_up(self) -> bool:
        """Until a signal."""
        return not rospy.is_shutdown()

    def now_ns(self) -> int:
        """The node's clock."""
        return int(rospy.Time.now().to_nsec())


def main() -> int:
    """Play; the result is the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rospy.init_node("bevfusion_player")
    try:
        play(Ros1Port(), parse_options(rospy.myargv(sys.argv)[1:]))
    except (KeyboardInterrupt, rospy.ROSException):
        pass
    except DataError as error:
        sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

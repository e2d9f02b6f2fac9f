"""The ROS 1 node: rospy around `NodeCore`, for `rosrun bevfusion localize _map:=town.osm.pbf`.

`python3 -m bevfusion.ros.node_ros1 _map:=town.osm.pbf` does the same.

Exit status: 0 ended by a signal, 2 a parameter, map or checkpoint that cannot be used (one line on standard error).
"""

import logging
import sys
import threading
from typing import Any

import rospy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import Image, NavSatFix, PointCloud2
from std_srvs.srv import SetBool, SetBoolResponse, Trigger, TriggerResponse

from bevfusion.config import ConfigError
from bevfusion.ros.core import NodeCore, exit_process
from bevfusion.ros.maps import map_of_image, map_of_name
from bevfusion.ros.parameters import NodeParameters, parse_parameters
from bevfusion.ros.publishers import STATUS_NAME, PublishedTopic, Publishers, TFMessage
from bevfusion.ros.transforms import add_transforms
from bevfusion.structures import DataError

NODE_NAME = "bevfusion"
STOP_S = 1.0  # for the step in hand to end
CLOUD_BYTES = 2**25  # rospy keeps up with the newest cloud only if its buffer holds a whole one

log = logging.getLogger(__name__)


class LocalizationNode:
    """Carries messages between ROS 1 and the core."""

    def __init__(self, parameters: NodeParameters) -> None:
        """Load map and checkpoint, advertise, subscribe.

        Raises:
            DataError: if the map or the checkpoint cannot be used.
        """
        self._by_topic: dict[str, Any] = {}
        self._odometry: Any = None
        source = map_of_name(parameters.map) if parameters.map else None
        self._topic_publishers = Publishers(
            parameters, self._advertise, lambda name: self._by_topic[name].get_num_connections() > 0
        )
        self.core = NodeCore(
            parameters,
            lambda output: self._topic_publishers.publish_output(self.core, output),
            odometry_is_offered=lambda: self._odometry is not None and self._odometry.get_num_connections() > 0,
            tf_available=TFMessage is not None,
        )
        if source is not None:
            self.core.set_map(source)
        self._subscribe()
        self.core.activate(parameters.autostart)

    def spin(self) -> None:
        """Until the end; the status goes out by the wall clock, as the clock of a log may stand still."""
        waiting = threading.Event()
        rospy.core.add_preshutdown_hook(lambda reason: waiting.set())
        while not waiting.wait(1.0):
            self._topic_publishers.publish_map(self.core)
            self._topic_publishers.publish_diagnostics(self.core, now_ns())

    def _subscribe(self) -> None:
        parameters, core = self.core.parameters, self.core
        rospy.Subscriber(
            "~points",
            PointCloud2,
            lambda message: core.points(message, now_ns()),
            queue_size=1,
            buff_size=CLOUD_BYTES,
            tcp_nodelay=True,
        )
        rospy.Subscriber("~initialpose", PoseWithCovarianceStamped, core.initial_pose)
        rospy.Subscriber("~fix", NavSatFix, core.fix, queue_size=1)
        rospy.Subscriber("~route", Path, core.route, queue_size=1)
        rospy.Subscriber("~goal", PoseStamped, core.goal, queue_size=1)
        if parameters.odometry != "none":
            self._odometry = rospy.Subscriber("~odom", Odometry, core.odom, queue_size=100, tcp_nodelay=True)
        if not parameters.map:
            rospy.Subscriber("~map_image", Image, self._map_image, queue_size=1, buff_size=CLOUD_BYTES)
        if parameters.base_from_lidar is None and TFMessage is not None:
            rospy.Subscriber("/tf_static", TFMessage, lambda message: add_transforms(message, core.transforms, True))
            rospy.Subscriber("/tf", TFMessage, lambda message: add_transforms(message, core.transforms, False))
        rospy.Service("~relocalize", Trigger, lambda request: TriggerResponse(*core.relocalize()))
        rospy.Service("~activate", SetBool, self._activate)

    def _advertise(self, topic: PublishedTopic) -> Any:
        name = topic.name.replace("~/", "~")
        queue_size = 100 if topic.name == "/tf" else 1
        publisher = rospy.Publisher(name, topic.kind, queue_size=queue_size, latch=topic.latched, tcp_nodelay=True)
        self._by_topic[topic.name] = publisher
        return publisher

    def _map_image(self, message: Any) -> None:
        try:
            self.core.set_map(map_of_image(message, self.core.parameters))
        except (DataError, ConfigError) as error:
            log.error("%s", error)
            return
        self._topic_publishers.reset_map()

    def _activate(self, request: Any) -> Any:
        self.core.activate(request.data)
        return SetBoolResponse(True, "active" if request.data else "inactive")


def now_ns() -> int:
    """The node's clock: that of the log with /use_sim_time."""
    return int(rospy.Time.now().to_nsec())


def main() -> int:
    """Run the node; the result is the exit status."""
    logging.basicConfig(level=logging.INFO, format=f"%(levelname)s {STATUS_NAME} %(message)s")
    node: LocalizationNode | None = None
    try:
        rospy.init_node(NODE_NAME)
        given = rospy.get_param("~", {})
        node = LocalizationNode(parse_parameters(given))
        node.spin()
    except (KeyboardInterrupt, rospy.ROSException):
        pass
    except (DataError, ConfigError, OSError) as error:
        sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
        return 2
    if node is not None:
        node.core.stop(STOP_S)
    return 0


if __name__ == "__main__":
    exit_process(main())

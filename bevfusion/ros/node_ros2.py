#!/usr/bin/env python3
"""The ROS 2 node: a lifecycle node around `NodeCore`. Run it with `python3 -m bevfusion.ros.node_ros2 --ros-args ...`.

Exit status: 0 ended by a signal, 2 a parameter, map or checkpoint that cannot be used (one line on standard error).
"""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, NavSatFix, PointCloud2
from std_srvs.srv import SetBool, Trigger

from bevfusion.ros.core import NodeCore
from bevfusion.ros.declare_ros2 import descriptor_of, overridden, parameter, plain, type_of
from bevfusion.ros.leaving import leave
from bevfusion.ros.maps import map_of_image, map_of_name
from bevfusion.ros.outlet import NAME, Outlet, TFMessage, Topic
from bevfusion.ros.parameters import NodeParameters, parse_parameters
from bevfusion.ros.tf_messages import take_transforms
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

NODE = "bevfusion"
STOP_S = 1.0  # for the step in hand to end
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
EVERY_ODOMETRY = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
STATIC = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class LocalizationNode(LifecycleNode):
    """Carries messages between ROS 2 and the core."""

    def __init__(self, given: NodeParameters) -> None:
        """Unconfigured, with all parameters declared.

        Args:
            given: checked values, from `overridden`.
        """
        overrides = [parameter(name, value) for name, value in given if value != ()]
        super().__init__(NODE, parameter_overrides=overrides)
        for name in NodeParameters.model_fields:
            self.declare_parameter(name, type_of(name), descriptor_of(name))
        self.add_on_set_parameters_callback(self._check_change)
        self.core: NodeCore | None = None
        self.failure = ""  # why the last transition did not come about
        self._outlet: Outlet | None = None
        self._is_active = False
        self._cloud_subscription: Any = None
        self._reliability: ReliabilityPolicy | None = None
        self._made: list[Any] = []  # subscriptions and services of a configured node
        self._names: dict[str, str] = {}  # topics as resolved
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # the clock of a log stands still when it is paused
        self.create_timer(1.0, self._every_second, clock=steady)

    # transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load map and checkpoint, advertise, subscribe to all but clouds."""
        try:
            self._set_up()
        except (DataError, OSError) as error:
            self.failure = str(error)
            self.get_logger().error(self.failure)
            self._tear_down()
            return TransitionCallbackReturn.FAILURE
        except Exception:
            log.exception("the node cannot be configured")  # rclpy would swallow it
            raise
        return TransitionCallbackReturn.SUCCESS

    def _set_up(self) -> None:
        values = {name: self.get_parameter_or(name).value for name in NodeParameters.model_fields}
        parameters = parse_parameters({name: plain(value) for name, value in values.items()})
        source = map_of_name(parameters.map) if parameters.map else None
        outlet = Outlet(self._advertise, self._is_wanted)
        odometry = self.resolve_topic_name("~/odom")
        core = NodeCore(
            parameters,
            lambda output: outlet.output(core, output),
            odometry_is_offered=lambda: self.count_publishers(odometry) > 0,
            tf_available=TFMessage is not None,
        )
        self.core, self._outlet = core, outlet
        if source is not None:
            core.set_map(source)
        self._subscribe(core)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take clouds."""
        if self.core is not None:
            self._match_reliability()
            self.core.activate(True)
            self._is_active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take none."""
        if self.core is not None:
            self.core.activate(False)
        self._is_active = False
        self._drop_clouds()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget all."""
        self._tear_down()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The end."""
        self._tear_down()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._tear_down()
        return TransitionCallbackReturn.SUCCESS

    def _tear_down(self) -> None:
        self._is_active = False
        self._drop_clouds()
        if self.core is not None:
            self.core.stop(STOP_S)
        self.core = self._outlet = None
        for made in self._made:
            made()
        self._made = []

    # what comes in

    def _subscribe(self, core: NodeCore) -> None:
        parameters = core.parameters
        self._listen(PoseWithCovarianceStamped, "~/initialpose", core.initial_pose, BEST_EFFORT)
        self._listen(NavSatFix, "~/fix", core.fix, BEST_EFFORT)
        if parameters.odometry != "none":
            self._listen(Odometry, "~/odom", core.odom, EVERY_ODOMETRY)
        if not parameters.map:
            self._listen(Image, "~/map_image", self._map_image, QoSProfile(depth=1))
        if parameters.base_from_lidar is None:
            self._listen_to_tf(core)
        services = (
            self.create_service(Trigger, "~/relocalize", self._relocalize),
            self.create_service(SetBool, "~/activate", self._activate),
        )
        self._made += [lambda service=service: self.destroy_service(service) for service in services]

    def _listen_to_tf(self, core: NodeCore) -> None:
        if TFMessage is None:
            self.get_logger().warning("tf2_msgs is not installed: set the parameter extrinsics, TF is not heard")
            return
        self._listen(TFMessage, "/tf_static", lambda message: take_transforms(message, core.transforms, True), STATIC)
        moving = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._listen(TFMessage, "/tf", lambda message: take_transforms(message, core.transforms, False), moving)

    def _listen(self, kind: Any, topic: str, callback: Any, qos: QoSProfile) -> None:
        subscription = self.create_subscription(kind, topic, callback, qos)
        self._made.append(lambda: self.destroy_subscription(subscription))

    def _match_reliability(self) -> None:
        """Subscribe to clouds as their publishers offer them; a best-effort reader loses large clouds it need not."""
        if self.core is None:
            return
        wanted = self.core.parameters.reliability
        topic = self.resolve_topic_name("~/points")
        offers = [info.qos_profile.reliability for info in self.get_publishers_info_by_topic(topic)]
        if wanted == "auto" and not offers and self._cloud_subscription is not None:
            return
        all_reliable = bool(offers) and all(offer == ReliabilityPolicy.RELIABLE for offer in offers)
        reliable = wanted == "reliable" or (wanted == "auto" and all_reliable)
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        if self._cloud_subscription is not None and reliability == self._reliability:
            return
        self._drop_clouds()
        self._reliability = reliability
        core = self.core
        self._cloud_subscription = self.create_subscription(
            PointCloud2, "~/points", lambda message: core.points(message, self.now_ns()), self._qos(reliability)
        )

    @staticmethod
    def _qos(reliability: ReliabilityPolicy) -> QoSProfile:
        return QoSProfile(depth=1, reliability=reliability)

    def _drop_clouds(self) -> None:
        if self._cloud_subscription is not None:
            self.destroy_subscription(self._cloud_subscription)
            self._cloud_subscription = None

    def _map_image(self, message: Any) -> None:
        if self.core is None or self._outlet is None:
            return
        try:
            self.core.set_map(map_of_image(message, self.core.parameters))
        except DataError as error:
            self.get_logger().error(str(error))
            return
        self._outlet.forget_map()

    def _relocalize(self, request: Any, response: Any) -> Any:
        accepted = (False, "the node is not configured") if self.core is None else self.core.relocalize()
        response.success, response.message = accepted
        return response

    def _activate(self, request: Any, response: Any) -> Any:
        """The same as the lifecycle transition, for who has no lifecycle manager."""
        if self._is_active == request.data:
            response.success, response.message = True, "already so"
            return response
        result = self.trigger_activate() if request.data else self.trigger_deactivate()
        response.success = result == TransitionCallbackReturn.SUCCESS
        response.message = "active" if request.data else "inactive"
        return response

    # what goes out

    def _advertise(self, topic: Topic) -> Any:
        qos = LATCHED if topic.latched else QoSProfile(depth=100 if topic.name.startswith("/tf") else 1)
        publisher = self.create_publisher(topic.kind, topic.name, qos)
        self._names[topic.name] = publisher.topic_name
        self._made.append(lambda: self.destroy_publisher(publisher))
        return publisher

    def _is_wanted(self, name: str) -> bool:
        return bool(self.count_subscribers(self._names[name]) > 0)

    def _every_second(self) -> None:
        if self.core is None or self._outlet is None:
            return
        if self._cloud_subscription is not None:
            self._match_reliability()
        self._outlet.show_map(self.core)
        self._outlet.diagnostics(self.core, self.now_ns())

    def now_ns(self) -> int:
        """The node's clock: that of the log with use_sim_time."""
        return int(self.get_clock().now().nanoseconds)

    def _check_change(self, changed: list[Parameter]) -> SetParametersResult:
        ours = {item.name: plain(item.value) for item in changed if item.name in NodeParameters.model_fields}
        if ours and self.core is not None:
            return SetParametersResult(successful=False, reason="set parameters before the node is configured")
        try:
            parse_parameters(ours)
        except DataError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; the result is the exit status."""
    logging.basicConfig(level=logging.INFO, format=f"%(levelname)s {NAME} %(message)s")
    rclpy.init(args=None if arguments is None else list(arguments))
    node: LocalizationNode | None = None
    status = 0
    try:
        given = overridden(NODE)
        node = LocalizationNode(given)
        if given.autostart:
            if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                raise DataError(node.failure or "the node cannot be configured")
            node.trigger_activate()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (DataError, InvalidParameterTypeException) as error:
        sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
        status = 2
    if node is not None and node.core is not None:
        node.core.stop(STOP_S)
    rclpy.try_shutdown()
    return status


if __name__ == "__main__":
    leave(main())

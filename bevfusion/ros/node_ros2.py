"""The ROS 2 node: a lifecycle node around `NodeCore`, for `ros2 run bevfusion localize --ros-args ...`.

Where the ROS package is not built, `python3 -m bevfusion.ros.node_ros2 --ros-args ...` does the same.

Exit status: 0 ended by a signal, 2 a parameter, map or checkpoint that cannot be used (one line on standard error).
"""

import logging
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, NavSatFix, PointCloud2
from std_srvs.srv import SetBool, Trigger

from bevfusion.config import ConfigError
from bevfusion.ros.core import NodeCore, exit_process
from bevfusion.ros.maps import map_of_image, map_of_name
from bevfusion.ros.parameters import NodeParameters, parse_parameters, range_of
from bevfusion.ros.publishers import STATUS_NAME, PublishedTopic, Publishers, TFMessage
from bevfusion.ros.transforms import add_transforms
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

NODE_NAME = "bevfusion"
STOP_S = 1.0  # for the step in hand to end
BOND_PERIOD_S, BOND_TIMEOUT_S = 0.1, 4.0  # as the nodes of nav2 have them
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
EVERY_ODOMETRY = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TYPES = {bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER, float: Parameter.Type.DOUBLE}
MIDDLEWARE = ("use_sim_time", "start_type_description_service")  # parameters of every node
STATIC = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class LocalizationNode(LifecycleNode):
    """Carries messages between ROS 2 and the core."""

    def __init__(self, given: NodeParameters) -> None:
        """Unconfigured, with all parameters declared.

        Args:
            given: checked values, from `given_parameters`.
        """
        overrides = [ros_parameter(name, value) for name, value in given if value != ()]
        super().__init__(NODE_NAME, parameter_overrides=overrides)
        for name in NodeParameters.model_fields:
            self.declare_parameter(name, type_of(name), descriptor_of(name))
        self.add_on_set_parameters_callback(self._check_change)
        self.core: NodeCore | None = None
        self.failure = ""  # why the last transition did not come about
        self._topic_publishers: Publishers | None = None
        self._is_active = False
        self._cloud_subscription: Any = None
        self._reliability: ReliabilityPolicy | None = None
        self._cleanups: list[Callable[[], Any]] = []  # each destroys what a configured node has made
        self._resolved: dict[str, str] = {}  # topics as resolved
        self._bond: Any = None  # with a lifecycle manager
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # the clock of a log stands still when it is paused
        self.create_timer(1.0, self._every_second, clock=steady)

    # transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load map and checkpoint, advertise, subscribe to all but clouds."""
        try:
            self._set_up()
        except (DataError, ConfigError, OSError) as error:
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
        parameters = parse_parameters({name: plain_value(value) for name, value in values.items()})
        source = map_of_name(parameters.map) if parameters.map else None
        publishers = Publishers(parameters, self._advertise, self._has_subscribers)
        odometry = self.resolve_topic_name("~/odom")
        core = NodeCore(
            parameters,
            lambda output: publishers.publish_output(core, output),
            odometry_is_offered=lambda: self.count_publishers(odometry) > 0,
            tf_available=TFMessage is not None,
        )
        self.core, self._topic_publishers = core, publishers
        if source is not None:
            core.set_map(source)
        self._subscribe(core)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take clouds."""
        if self.core is not None:
            self._match_reliability()
            self.core.activate(True)
            self._is_active = True
            self._bond = self._new_bond(self.core.parameters)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take none."""
        if self.core is not None:
            self.core.activate(False)
        self._is_active = False
        self._drop_clouds()
        self._break_bond()
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
        self._break_bond()
        if self.core is not None:
            self.core.stop(STOP_S)
        self.core = self._topic_publishers = None
        for cleanup in self._cleanups:
            cleanup()
        self._cleanups = []

    def _new_bond(self, parameters: NodeParameters) -> Any:
        """A bond as nav2's lifecycle manager expects one of each active node; None: it is not wanted, or cannot be."""
        if not parameters.bond or parameters.autostart:
            return None
        try:
            from bondpy.bondpy import Bond
        except ImportError:
            self.get_logger().warning(
                "no bond: bondpy is not installed; a nav2 lifecycle manager needs bond_timeout: 0.0 then"
            )
            return None
        bond = Bond(topic="bond", id=self.get_name(), node=self)
        bond.set_heartbeat_period(BOND_PERIOD_S)
        bond.set_heartbeat_timeout(BOND_TIMEOUT_S)
        bond.start()
        return bond

    def _break_bond(self) -> None:
        if self._bond is not None:
            self._bond.shutdown()
            self._bond = None

    # what comes in

    def _subscribe(self, core: NodeCore) -> None:
        parameters = core.parameters
        self._listen(PoseWithCovarianceStamped, "~/initialpose", core.initial_pose, BEST_EFFORT)
        self._listen(NavSatFix, "~/fix", core.fix, BEST_EFFORT)
        self._listen(Path, "~/route", core.route, QoSProfile(depth=1))
        self._listen(PoseStamped, "~/goal", core.goal, QoSProfile(depth=1))
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
        self._cleanups += [partial(self.destroy_service, service) for service in services]

    def _listen_to_tf(self, core: NodeCore) -> None:
        if TFMessage is None:
            self.get_logger().warning("tf2_msgs is not installed: set the parameter extrinsics, TF is not heard")
            return
        self._listen(TFMessage, "/tf_static", lambda message: add_transforms(message, core.transforms, True), STATIC)
        moving = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._listen(TFMessage, "/tf", lambda message: add_transforms(message, core.transforms, False), moving)

    def _listen(self, kind: Any, topic: str, callback: Any, qos: QoSProfile) -> None:
        subscription = self.create_subscription(kind, topic, callback, qos)
        self._cleanups.append(lambda: self.destroy_subscription(subscription))

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
        if self.core is None or self._topic_publishers is None:
            return
        try:
            self.core.set_map(map_of_image(message, self.core.parameters))
        except (DataError, ConfigError) as error:
            self.get_logger().error(str(error))
            return
        self._topic_publishers.reset_map()

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

    def _advertise(self, topic: PublishedTopic) -> Any:
        qos = LATCHED if topic.latched else QoSProfile(depth=100 if topic.name.startswith("/tf") else 1)
        publisher = self.create_publisher(topic.kind, topic.name, qos)
        self._resolved[topic.name] = publisher.topic_name
        self._cleanups.append(lambda: self.destroy_publisher(publisher))
        return publisher

    def _has_subscribers(self, name: str) -> bool:
        return bool(self.count_subscribers(self._resolved[name]) > 0)

    def _every_second(self) -> None:
        if self.core is None or self._topic_publishers is None:
            return
        if self._cloud_subscription is not None:
            self._match_reliability()
        self._topic_publishers.publish_map(self.core)
        self._topic_publishers.publish_diagnostics(self.core, self.now_ns())

    def now_ns(self) -> int:
        """The node's clock: that of the log with use_sim_time."""
        return int(self.get_clock().now().nanoseconds)

    def _check_change(self, changed: list[Parameter]) -> SetParametersResult:
        ours = {item.name: plain_value(item.value) for item in changed if item.name in NodeParameters.model_fields}
        if ours and self.core is not None:
            return SetParametersResult(successful=False, reason="set parameters before the node is configured")
        try:
            parse_parameters(ours)
        except DataError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def descriptor_of(name: str) -> ParameterDescriptor:
    """Description and range of a parameter, from the model."""
    field = NodeParameters.model_fields[name]
    descriptor = ParameterDescriptor(name=name, description=field.description or "", type=type_of(name).value)
    low, high = range_of(field)
    if math.isinf(low) and math.isinf(high):
        return descriptor
    if field.annotation is int:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    else:
        bounds = (max(low, -sys.float_info.max), min(high, sys.float_info.max))
        descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1], step=0.0)]
    return descriptor


def given_parameters(name: str) -> NodeParameters:
    """The parameters of the command line and its files for the node of a name, checked.

    They are read through a node that lives for that only: the real one is to declare nothing that is not its own.

    Raises:
        DataError: if one is unknown or out of range.
    """
    probe = rclpy.create_node(
        name, automatically_declare_parameters_from_overrides=True, start_parameter_services=False, enable_rosout=False
    )
    try:
        found = {key: plain_value(item.value) for key, item in probe.get_parameters_by_prefix("").items()}
    finally:
        probe.destroy_node()
    return parse_parameters(
        {key: value for key, value in found.items() if key not in MIDDLEWARE and not key.startswith("qos_overrides.")}
    )


def type_of(name: str) -> Parameter.Type:
    """Of a parameter of the model."""
    annotation = NodeParameters.model_fields[name].annotation
    if annotation in TYPES:
        return TYPES[annotation]
    return Parameter.Type.DOUBLE_ARRAY if "tuple" in str(annotation) else Parameter.Type.STRING


def ros_parameter(name: str, value: Any) -> Parameter:
    """A value of the model as rclpy has it."""
    return Parameter(name, type_of(name), list(value) if isinstance(value, tuple) else value)


def plain_value(value: Any) -> Any:
    """Arrays as tuples; None, of a parameter without a value, as an empty one."""
    if value is None:
        return ()
    return value if isinstance(value, bool | int | float | str) else tuple(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; the result is the exit status."""
    logging.basicConfig(level=logging.INFO, format=f"%(levelname)s {STATUS_NAME} %(message)s")
    try:
        rclpy.init(args=None if arguments is None else list(arguments))
    except RuntimeError as error:  # rcl's own, of parameters that it cannot read
        hint = (
            "; write a list as text, name:='1.2 0 1.7', or all its numbers with a point" if ":=[" in str(error) else ""
        )
        sys.stderr.write("error: " + " ".join(str(error).split()) + hint + "\n")
        return 2
    node: LocalizationNode | None = None
    status = 0
    try:
        given = given_parameters(NODE_NAME)
        node = LocalizationNode(given)
        if given.autostart:
            if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                raise DataError(node.failure or "the node cannot be configured")
            node.trigger_activate()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (DataError, ConfigError, InvalidParameterTypeException) as error:
        sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
        status = 2
    if node is not None and node.core is not None:
        node.core.stop(STOP_S)
    rclpy.try_shutdown()
    return status


if __name__ == "__main__":
    exit_process(main())

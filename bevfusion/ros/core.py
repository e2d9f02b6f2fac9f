"""The node without ROS: messages in, poses out, `SequenceLocalizer.step` between; the adapters only carry messages.

Callbacks return at once. Clouds go into a queue that keeps the latest one, and its worker does all the work, so nothing
but that thread touches the network. Messages are objects with the fields of their ROS type, of rclpy, rospy or rosbags
alike.
"""

import importlib.util
import logging
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import torch

from bevfusion.datasets.cloud import AS_IT_IS, deskewed
from bevfusion.datasets.pointcloud2 import CloudStream, header_stamp_ns
from bevfusion.datasets.rigid import bare
from bevfusion.filters.sequence import SequenceLocalizer
from bevfusion.filters.settings import FilterConfig
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.map_error import with_map_error
from bevfusion.localizer import filter_config
from bevfusion.localizer import open_locator as open_locator_by_name
from bevfusion.maps.source import MapSource
from bevfusion.ros.direction import DirectionControl, WayAhead
from bevfusion.ros.extrinsics import Extrinsics, PlanarPose
from bevfusion.ros.health import HealthMonitor, HealthReport, NodeState
from bevfusion.ros.latest_item_queue import LatestItemQueue
from bevfusion.ros.parameters import NodeParameters
from bevfusion.ros.starts import (
    SearchStopped,
    Start,
    StartControl,
    start_at,
    start_of_fix,
    start_of_pose,
)
from bevfusion.ros.transforms import OdometryBuffer, TransformBuffer, odometry_of
from bevfusion.sequence import sequence_localizer
from bevfusion.structures import DataError, Frame, Locator, PoseEstimate, Scan

log = logging.getLogger(__name__)

OpenLocator = Callable[[str, MapSource], Locator]
MakeSequenceLocalizer = Callable[[Locator, MapSource, FilterConfig], SequenceLocalizer]
Transform = tuple[str, str, SE2]
"""Parent, child, parent_from_child."""


@dataclass(frozen=True, slots=True)
class QueuedCloud:
    """A cloud that waits for the worker."""

    message: Any
    stamp_ns: int
    ahead_ns: int  # of the node's clock; 0 while that stands still
    arrived_s: float  # monotonic


@dataclass(frozen=True, slots=True)
class Output:
    """What came of one cloud."""

    stamp_ns: int
    state: NodeState
    scan: Scan  # ego axes
    base_from_ego: SE2
    pose: PlanarPose | None  # of the vehicle on the map; None: lost, or too doubtful to say
    geo_pose: GeoPose | None  # the same on the globe
    heading_std_rad: float
    estimate: PoseEstimate | None  # of the LiDAR; with the belief
    tf: Transform | None
    stages_ms: dict[str, float]


class NodeCore:
    """Follows the vehicle."""

    def __init__(
        self,
        parameters: NodeParameters,
        publish: Callable[[Output], None],
        *,
        odometry_is_offered: Callable[[], bool] = lambda: False,
        open_locator: OpenLocator | None = None,
        make_sequence_localizer: MakeSequenceLocalizer = sequence_localizer,
        tf_available: bool = True,
    ) -> None:
        """A node without a map, inactive.

        Args:
            parameters: of the node.
            publish: called in the worker thread once a processed cloud.
            odometry_is_offered: whether somebody publishes ~/odom.
            open_locator: opens a checkpoint on a map; by default as the parameters say.
            make_sequence_localizer: makes it follow the vehicle.
            tf_available: whether `publish` can broadcast TF.

        Raises:
            DataError: if the route file of the parameters cannot be read.
        """
        self.parameters = parameters
        self.transforms, self.odometry = TransformBuffer(), OdometryBuffer()
        self.source: MapSource | None = None
        self.locator: Locator | None = None
        self.direction = DirectionControl(parameters)
        self._extrinsics = Extrinsics(parameters, self.transforms)
        self._clouds = CloudStream()
        self._publish, self._odometry_is_offered = publish, odometry_is_offered
        self._open = open_locator or partial(open_locator_by_name, precision=parameters.precision)
        self._sequence_localizer = make_sequence_localizer
        self._tf_available = tf_available
        self._monitor = HealthMonitor(parameters)
        self._tasks: deque[Callable[[], None]] = deque()  # for the worker, before its next cloud
        start = start_at(SE2(*parameters.initial_pose), parameters) if parameters.initial_pose else None
        self._start_control = StartControl(start)
        self._active = False
        self._local_frame: LocalFrame | None = None  # of the map that the worker is on
        self._last_ns: int | None = None
        self._frames = 0
        if parameters.threads:
            torch.set_num_threads(parameters.threads)
        self._queue: LatestItemQueue[QueuedCloud] = LatestItemQueue(self._process, "bevfusion worker")

    # callbacks: any thread, return at once

    def points(self, message: Any, now_ns: int) -> None:
        """A cloud (sensor_msgs/PointCloud2), and the node's clock."""
        if not self._active:
            return
        stamp_ns = header_stamp_ns(message)
        arrived_s = self._monitor.cloud_arrived(1e-6 * (now_ns - stamp_ns))
        ahead_ns = stamp_ns - now_ns if now_ns > 0 else 0
        self._queue.put(QueuedCloud(message, stamp_ns, ahead_ns, arrived_s))

    def odom(self, message: Any) -> None:
        """Odometry (nav_msgs/Odometry) of the vehicle's frame in the odometry's frame; others are refused."""
        try:
            self.odometry.add(header_stamp_ns(message), odometry_of(message, self.parameters))
        except DataError as error:
            self._monitor.input_refused(str(error))

    def fix(self, message: Any) -> None:
        """A fix (sensor_msgs/NavSatFix): starts the node if it has not been started yet."""
        wanted = self.parameters.start_from_fix and not self._start_control.has_start
        if not wanted or self.source is None or not self._active:
            return
        try:
            start = start_of_fix(message, self.source, self.parameters)
        except DataError as error:
            self._monitor.input_refused(str(error))
            return
        if start is not None:
            self._start_control.request(start)

    def initial_pose(self, message: Any) -> None:
        """A pose on the map (geometry_msgs/PoseWithCovarianceStamped): starts the node there, again if need be."""
        try:
            self._start_control.request(start_of_pose(message, self.parameters))
        except DataError as error:
            self._monitor.input_refused(str(error))

    def route(self, message: Any) -> None:
        """A route on the map (nav_msgs/Path): paths ahead follow it from the next cloud on; an empty one ends that."""
        try:
            self.direction.follow(message)
        except DataError as error:
            self._monitor.input_refused(str(error))

    def goal(self, message: Any) -> None:
        """A goal on the map (geometry_msgs/PoseStamped): paths ahead lead there by the shortest way on its roads."""
        try:
            self.direction.go_to(message)
        except DataError as error:
            self._monitor.input_refused(str(error))

    def way_ahead(self, output: Output) -> WayAhead | None:
        """The ways on from what came of a cloud; None without a pose. Called in the worker, where somebody listens."""
        if output.pose is None:
            return None
        way = self.direction.ahead(output.pose)
        self._monitor.direction_said(self.direction.status, self.direction.failed)
        return way

    def relocalize(self) -> tuple[bool, str]:
        """Search the whole map from the next cloud on: (accepted, why or what now)."""
        if self.source is None:
            return False, "there is no map to search"
        if not self._active:
            return False, "the node is not active"
        if self._start_control.is_searching:
            return False, f"a search is under way ({self._start_control.search})"
        self._start_control.request(Start(None))
        return True, "searching the map from the next cloud on; see /diagnostics"

    def activate(self, active: bool) -> None:
        """Take clouds, or none; what is known of the vehicle stays."""
        self._active = active
        self._monitor.restart_silence()
        if not active:
            self._queue.clear()

    def set_map(self, source: MapSource) -> None:
        """Work on this map from the next cloud on; forgets where the vehicle is if there was another.

        Raises:
            DataError: if the checkpoint cannot be used.
            ConfigError: if a setting of the filter does not exist or lies outside its range.
        """
        locator = self._open(self.parameters.checkpoint, source)
        config = filter_config(self.parameters.checkpoint, self.parameters.filter_overrides)
        localizer = self._sequence_localizer(locator, source, config)
        self.source, self.locator = source, locator

        def switch() -> None:
            self._start_control.use(localizer)
            self._local_frame = source.frame
            self.direction.use(source)

        self._tasks.append(switch)

    def status(self) -> HealthReport:
        """For /diagnostics."""
        return self._monitor.report(
            self._state(),
            active=self._active,
            search=self._start_control.search,
            dropped=self._queue.dropped,
            crashes=self._queue.crashes,
            tf_available=self._tf_available,
        )

    def stop(self, timeout_s: float) -> bool:
        """End the worker; False: it is still busy after that time."""
        self._active = False
        self._start_control.stop()
        return self._queue.stop(timeout_s)

    # the worker

    def _process(self, queued: QueuedCloud) -> None:
        while self._tasks:
            self._tasks.popleft()()
        if not self._start_control.is_ready or not self._active:
            return
        try:
            scan, base_from_ego, odom_from_base, stages_ms = self._perceive(queued)
        except DataError as error:
            self._monitor.cloud_refused(str(error))
            return
        odom_from_ego = None if odom_from_base is None else odom_from_base @ base_from_ego
        began_s = time.perf_counter()
        try:
            frame = Frame(self._frames, queued.stamp_ns, scan, odom_from_ego)
            found = self._start_control.step(frame, base_from_ego)
        except SearchStopped:
            return
        self._frames += 1
        estimate = None if found is None else with_map_error(found, self.parameters.map_error_m)
        pose = None if estimate is None else PlanarPose.of_base(estimate, base_from_ego)
        tf = None if pose is None else self._transform(pose.map_from_base, odom_from_base)
        stages_ms["step_ms"] = 1e3 * (time.perf_counter() - began_s)
        stages_ms["total_ms"] = 1e3 * (time.monotonic() - queued.arrived_s)
        heading_std_rad = math.inf if estimate is None else estimate.heading_std_rad
        self._monitor.cloud_processed(estimate, pose, stages_ms, "none" if tf is None else f"{tf[0]} to {tf[1]}")
        stamp_ns, state = queued.stamp_ns, self._state()
        geo_pose = self._geo_pose(pose)
        self._publish(
            Output(stamp_ns, state, scan, base_from_ego, pose, geo_pose, heading_std_rad, estimate, tf, stages_ms)
        )

    def _perceive(self, queued: QueuedCloud) -> tuple[Scan, SE2, SE2 | None, dict[str, float]]:
        """The scan in ego axes, where it was taken from on the vehicle, the odometry, and what that took.

        Raises:
            DataError: if the cloud cannot be used.
        """
        began_s = time.perf_counter()
        if queued.ahead_ns > 1e9 * self.parameters.late_s:  # were it believed, all clouds after it would come too late
            raise DataError(f"the cloud is {1e-9 * queued.ahead_ns:.1f} s ahead of the node's clock")
        self._check_order(queued.stamp_ns)
        cloud = self._clouds.decode(queued.message)
        decoded_s = time.perf_counter()
        try:
            base_from_lidar = self._extrinsics.base_from_lidar(bare(queued.message.header.frame_id), queued.stamp_ns)
        except DataError:
            self._monitor.health.extrinsics = "failed"
            raise
        self._monitor.health.extrinsics = "parameter" if self.parameters.extrinsics else "tf"
        odom_from_base = self._odometry_at(queued.stamp_ns)
        found_s = time.perf_counter()
        cloud, base_from_ego = self._extrinsics.ego_cloud(cloud, base_from_lidar)
        if self.parameters.deskew and cloud.time_s is not None and odom_from_base is not None:
            track = self.odometry.track(base_from_ego)
            cloud = replace(cloud, xyz=deskewed(cloud.xyz, cloud.time_s, queued.stamp_ns, track))
        turned_s = time.perf_counter()
        decode_ms = 1e3 * (decoded_s - began_s + turned_s - found_s)
        self._last_ns = queued.stamp_ns
        stages_ms = {"decode_ms": decode_ms, "transform_ms": 1e3 * (found_s - decoded_s)}
        return cloud.scan(AS_IT_IS), base_from_ego, odom_from_base, stages_ms

    def _check_order(self, stamp_ns: int) -> None:
        """Notice a clock that goes back.

        Raises:
            DataError: if it went back by so little that the cloud is merely out of order.
        """
        if self._last_ns is None or stamp_ns > self._last_ns:
            return
        back_ns = self._last_ns - stamp_ns
        if back_ns <= 1e9 * self.parameters.reset_s:
            raise DataError(f"the cloud is {1e-6 * back_ns:.0f} ms older than the one before")
        self._last_ns = None
        self._monitor.health.resets += 1
        self.odometry.rewind(stamp_ns)
        again = self._start_control.rewind(stamp_ns)
        log.warning("the clock went back by %.1f s: %s", 1e-9 * back_ns, "started again" if again else "waiting")

    def _odometry_at(self, stamp_ns: int) -> SE2 | None:
        if self.parameters.odometry == "none":
            self._monitor.health.odometry = "off"
            return None
        if not (len(self.odometry) or self._odometry_is_offered() or self.parameters.odometry == "required"):
            self._monitor.health.odometry = "absent"
            return None
        found = self.odometry.at(stamp_ns, self.parameters.transform_wait_s, self.parameters.odometry_age_s)
        self._monitor.health.odometry = "missing" if found is None else "used"
        return found

    def _transform(self, map_from_base: SE2, odom_from_base: SE2 | None) -> Transform | None:
        """REP-105: map to odom, so that odom to base stays the odometry's; map to base where there is no odometry."""
        names = self.parameters
        if not names.publish_tf:
            return None
        if odom_from_base is not None:
            return names.map_frame, names.odom_frame, map_from_base @ odom_from_base.inverse()
        # with odometry about, base has a parent already
        return (
            (names.map_frame, names.base_frame, map_from_base) if self._monitor.health.odometry != "missing" else None
        )

    def _geo_pose(self, pose: PlanarPose | None) -> GeoPose | None:
        if pose is None or self._local_frame is None:
            return None
        return self._local_frame.geo_pose(pose.map_from_base)

    def _state(self) -> NodeState:
        if self.source is None:
            return "no map"
        if not self._active:
            return "inactive"
        state = self._start_control.state
        return "doubtful" if state == "following" and self._monitor.health.confidence is None else state


def ros_version() -> str:
    """1 or 2: of ROS_VERSION, which a ROS sets up, else of the packages that this Python has."""
    return os.environ.get("ROS_VERSION") or ("2" if importlib.util.find_spec("rclpy") else "1")


def exit_process(status: int) -> NoReturn:
    """Exit at once.

    A robot's launcher kills what does not go in time, and taking torch and the middleware apart takes Python seconds
    on a busy machine; a step that is still under way would keep the process alive altogether.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

"""The node without ROS: messages in, poses out, `Localizer.step` between; the adapters only carry messages.

Callbacks return at once. Clouds go into a mailbox with one slot, and its worker does all the work, so nothing but that
thread touches the network. Messages are objects with the fields of their ROS type, of rclpy, rospy or rosbags alike.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from bevfusion.datasets.pointcloud2 import decode_pointcloud2, header_stamp_ns
from bevfusion.evaluation.sequence import follower
from bevfusion.filters.tracker import SequenceLocator
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.localizer import open_locator
from bevfusion.maps.source import MapSource
from bevfusion.ros.diagnostics import Health, State, Status, diagnose
from bevfusion.ros.mailbox import Mailbox
from bevfusion.ros.mounting import Mounting, PlanarPose
from bevfusion.ros.parameters import NodeParameters
from bevfusion.ros.transforms import OdometryBuffer, TransformBuffer
from bevfusion.structures import DataError, Frame, Locator, PoseEstimate, Scan

log = logging.getLogger(__name__)

REPLAYED_NS = 5 * 10**9  # a log that begins again within so much of the start is started as before
OpenLocator = Callable[[str, MapSource], Locator]


@runtime_checkable
class Follower(SequenceLocator, Protocol):
    """What follows the vehicle, and says how it fares."""

    @property
    def state(self) -> str:
        """Idle, following or lost."""


class Stopped(Exception):  # noqa: N818 - no error: the node ends in the middle of a search
    """Raised out of a search over the map when the node stops."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin; without a place, anywhere on the map."""

    map_from_base: SE2 | None
    offset_m: float = 0.0
    offset_rad: float = math.pi


@dataclass(frozen=True, slots=True)
class Arrival:
    """A cloud in the mailbox."""

    message: Any
    stamp_ns: int
    arrived_s: float  # monotonic


@dataclass(frozen=True, slots=True)
class Output:
    """What came of one cloud."""

    stamp_ns: int
    state: State
    scan: Scan  # ego axes
    base_from_ego: SE2
    pose: PlanarPose | None  # of the vehicle on the map; None: lost, or too doubtful to say
    heading_std_rad: float
    estimate: PoseEstimate | None  # of the LiDAR; with the belief
    tf: tuple[str, str, SE2] | None  # parent, child, parent_from_child
    stages_ms: dict[str, float]


class NodeCore:
    """Follows the vehicle."""

    def __init__(
        self,
        parameters: NodeParameters,
        publish: Callable[[Output], None],
        *,
        odometry_is_offered: Callable[[], bool] = lambda: False,
        open_locator: OpenLocator = open_locator,
        tf_available: bool = True,
    ) -> None:
        """A node without a map, inactive.

        Args:
            parameters: of the node.
            publish: called in the worker thread once a processed cloud.
            odometry_is_offered: whether somebody publishes ~/odom.
            open_locator: opens a checkpoint on a map.
            tf_available: whether `publish` can broadcast TF.
        """
        self.parameters = parameters
        self.transforms, self.odometry = TransformBuffer(), OdometryBuffer()
        self.source: MapSource | None = None
        self.locator: Locator | None = None
        self._mounting = Mounting(parameters, self.transforms)
        self._publish, self._odometry_is_offered, self._open = publish, odometry_is_offered, open_locator
        self._tf_available = tf_available
        self._health, self._reported = Health(), Health()
        self._lock = threading.Lock()  # of what callbacks write and the worker reads
        self._tasks: deque[Callable[[], None]] = deque()  # for the worker, before its next cloud
        self._start: Start | None = None  # to be made at the next cloud
        self._made: tuple[Start, int] | None = None  # the last one, and the stamp of its cloud
        self._follower: Follower | None = None
        self._following_start = False  # a start was made
        self._active = self._stopping = self._searching = False
        self._arrived_s = time.monotonic()
        self._last_ns: int | None = None
        self._frames = 0
        if parameters.threads:
            torch.set_num_threads(parameters.threads)
        if parameters.initial_pose:
            self._start = self._start_at(SE2(*parameters.initial_pose))
        self._mailbox: Mailbox[Arrival] = Mailbox(self._process, "bevfusion worker")

    # callbacks: any thread, return at once

    def points(self, message: Any, now_ns: int) -> None:
        """A cloud (sensor_msgs/PointCloud2), and the node's clock."""
        if not self._active:
            return
        health, stamp_ns = self._health, header_stamp_ns(message)
        with self._lock:
            self._arrived_s = time.monotonic()
            health.clouds_received += 1
            health.delay_ms = 1e-6 * (now_ns - stamp_ns)
            health.late = health.delay_ms > 1e3 * self.parameters.late_s
            health.clouds_late += health.late
        self._mailbox.put(Arrival(message, stamp_ns, self._arrived_s))

    def odom(self, message: Any) -> None:
        """Odometry (nav_msgs/Odometry) of the vehicle's frame in the odometry's frame; others are refused."""
        expected = (self.parameters.odom_frame, self.parameters.base_frame)
        found = (_bare(message.header.frame_id), _bare(message.child_frame_id))
        if found != expected:
            self._refuse_input(
                f"~/odom is of {found[1]!r} in {found[0]!r}, expected {expected[1]!r} in {expected[0]!r}"
            )
            return
        try:
            pose = planar(message.pose.pose)
        except ValueError as error:
            self._refuse_input(f"~/odom: {error}")
            return
        self.odometry.add(header_stamp_ns(message), pose)

    def fix(self, message: Any) -> None:
        """A fix (sensor_msgs/NavSatFix): starts the node if it has not been started yet."""
        waiting = self._start is None and not self._following_start
        if not (waiting and self.parameters.start_from_fix and self.source is not None and self._active):
            return
        if int(message.status.status) < 0:
            return
        try:
            place = self.source.frame.map_from_ego(GeoPose(float(message.latitude), float(message.longitude)))
        except ValueError as error:
            self._refuse_input(f"~/fix: {error}")
            return
        if not self.source.covers(place.x_m, place.y_m):
            self._refuse_input(f"~/fix {message.latitude:.6f}, {message.longitude:.6f} lies off the map")
            return
        log.info("start at a fix: x %.1f m, y %.1f m, any heading", place.x_m, place.y_m)
        self._start = Start(place, self.parameters.offset_m)

    def initial_pose(self, message: Any) -> None:
        """A pose on the map (geometry_msgs/PoseWithCovarianceStamped): starts the node there, again if need be.

        The window is that of the parameters, whatever the covariance says: tools fill that in at will.
        """
        frame = _bare(message.header.frame_id)
        if frame != self.parameters.map_frame:
            self._refuse_input(f"~/initialpose is in the frame {frame!r}, expected {self.parameters.map_frame!r}")
            return
        try:
            pose = planar(message.pose.pose)
        except ValueError as error:
            self._refuse_input(f"~/initialpose: {error}")
            return
        log.info("start at x %.1f m, y %.1f m, %.0f degrees", pose.x_m, pose.y_m, math.degrees(pose.yaw_rad))
        self._start = self._start_at(pose)

    def relocalize(self) -> tuple[bool, str]:
        """Search the whole map from the next cloud on: (accepted, why or what now)."""
        if self.source is None:
            return False, "there is no map to search"
        if not self._active:
            return False, "the node is not active"
        if self._searching:
            return False, f"a search is under way ({self._health.search})"
        self._start = Start(None)
        return True, "searching the map from the next cloud on; see /diagnostics"

    def activate(self, active: bool) -> None:
        """Take clouds, or none; what is known of the vehicle stays."""
        self._active = active
        self._arrived_s = time.monotonic()
        if not active:
            self._mailbox.clear()

    def set_map(self, source: MapSource) -> None:
        """Work on this map from the next cloud on; forgets where the vehicle is if there was another.

        Raises:
            DataError: if the checkpoint cannot be used.
        """
        locator = self._open(self.parameters.checkpoint, source)
        found = follower(locator, source)
        if not isinstance(found, Follower):
            raise TypeError(f"expected a follower with a state, got {type(found).__name__}")

        def exchange() -> None:
            if self._follower is not None:
                self._following_start, self._made = False, None
            self._follower = found

        self.source, self.locator = source, locator
        self._tasks.append(exchange)

    def status(self) -> Status:
        """For /diagnostics."""
        with self._lock:
            health = replace(self._health)
        health.state = self._state()
        health.clouds_dropped, health.crashes = self._mailbox.dropped, self._mailbox.crashes
        health.silence_s = time.monotonic() - self._arrived_s if self._active else 0.0
        if not self._tf_available:
            health.tf = "unavailable"
        before, self._reported = self._reported, health
        return diagnose(health, before, self.parameters)

    def stop(self, timeout_s: float) -> bool:
        """End the worker; False: it is still busy after that time."""
        self._active, self._stopping = False, True
        return self._mailbox.stop(timeout_s)

    # the worker

    def _process(self, arrival: Arrival) -> None:
        while self._tasks:
            self._tasks.popleft()()
        if self._follower is None or not self._active:
            return
        try:
            scan, base_from_ego, odom_from_base, stages_ms = self._perceive(arrival)
        except DataError as error:
            self._refuse(str(error))
            return
        odom_from_ego = None if odom_from_base is None else odom_from_base @ base_from_ego
        began_s = time.perf_counter()
        try:
            self._begin(arrival.stamp_ns, base_from_ego)
            frame = Frame(self._frames, arrival.stamp_ns, scan, odom_from_ego)
            estimate = self._follower.step(frame) if self._following_start else None
        except Stopped:
            return
        finally:
            self._searching = False
        self._frames += 1
        pose = None if estimate is None else PlanarPose.of_base(estimate, base_from_ego)
        tf = None if pose is None else self._transform(pose.map_from_base, odom_from_base)
        stages_ms["step_ms"] = 1e3 * (time.perf_counter() - began_s)
        stages_ms["total_ms"] = 1e3 * (time.monotonic() - arrival.arrived_s)
        heading_std_rad = math.inf if estimate is None else estimate.heading_std_rad
        self._account(estimate, pose, stages_ms, tf)
        state = self._state()
        self._publish(
            Output(arrival.stamp_ns, state, scan, base_from_ego, pose, heading_std_rad, estimate, tf, stages_ms)
        )

    def _perceive(self, arrival: Arrival) -> tuple[Scan, SE2, SE2 | None, dict[str, float]]:
        """The scan in ego axes, where it was taken from on the vehicle, the odometry, and what that took.

        Raises:
            DataError: if the cloud cannot be used.
        """
        began_s = time.perf_counter()
        self._check_order(arrival.stamp_ns)
        cloud = decode_pointcloud2(arrival.message, arrival.stamp_ns).usable("cloud")
        decoded_s = time.perf_counter()
        try:
            base_from_lidar = self._mounting.base_from_lidar(_bare(arrival.message.header.frame_id), arrival.stamp_ns)
        except DataError:
            self._health.extrinsics = "failed"
            raise
        self._health.extrinsics = "parameter" if self.parameters.extrinsics else "tf"
        odom_from_base = self._odometry_at(arrival.stamp_ns)
        found_s = time.perf_counter()
        scan, base_from_ego = self._mounting.ego_scan(cloud, base_from_lidar)
        turned_s = time.perf_counter()
        decode_ms = 1e3 * (decoded_s - began_s + turned_s - found_s)
        self._last_ns = arrival.stamp_ns
        return (
            scan,
            base_from_ego,
            odom_from_base,
            {"decode_ms": decode_ms, "transform_ms": 1e3 * (found_s - decoded_s)},
        )

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
        self._health.resets += 1
        self.odometry.rewind(stamp_ns)
        self._following_start = False
        # a log that begins again finds the vehicle where it began; any other jump leaves it anywhere
        if self._start is None and self._made is not None and stamp_ns <= self._made[1] + REPLAYED_NS:
            self._start = self._made[0]
        log.warning("the clock went back by %.1f s: %s", 1e-9 * back_ns, "started again" if self._start else "waiting")

    def _odometry_at(self, stamp_ns: int) -> SE2 | None:
        if self.parameters.odometry == "none":
            self._health.odometry = "off"
            return None
        if not (len(self.odometry) or self._odometry_is_offered() or self.parameters.odometry == "required"):
            self._health.odometry = "absent"
            return None
        found = self.odometry.at(stamp_ns, self.parameters.transform_wait_s, self.parameters.odometry_age_s)
        self._health.odometry = "missing" if found is None else "used"
        return found

    def _begin(self, stamp_ns: int, base_from_ego: SE2) -> None:
        """Make the start that was asked for, if one was."""
        start, self._start = self._start, None
        if start is None or self._follower is None:
            return
        self._made, self._following_start = (start, stamp_ns), True
        self._search_done(0, 0)
        if start.map_from_base is None:
            self._searching = True
            self._follower.start_anywhere(self._search_done)
        elif start.offset_rad >= math.pi:  # which way the LiDAR is off the vehicle's middle is not known either
            reach_m = math.hypot(base_from_ego.x_m, base_from_ego.y_m)
            self._follower.start(start.map_from_base, start.offset_m + reach_m, math.pi)
        else:
            self._follower.start(start.map_from_base @ base_from_ego, start.offset_m, start.offset_rad)

    def _transform(self, map_from_base: SE2, odom_from_base: SE2 | None) -> tuple[str, str, SE2] | None:
        """REP-105: map to odom, so that odom to base stays the odometry's; map to base where there is no odometry."""
        names = self.parameters
        if not names.publish_tf:
            return None
        if odom_from_base is not None:
            return names.map_frame, names.odom_frame, map_from_base @ odom_from_base.inverse()
        # with odometry about, base has a parent already
        return (names.map_frame, names.base_frame, map_from_base) if self._health.odometry != "missing" else None

    def _account(
        self, estimate: PoseEstimate | None, pose: PlanarPose | None, stages_ms: dict[str, float], tf: Any
    ) -> None:
        with self._lock:
            health = self._health
            health.clouds_processed += 1
            health.refused_in_a_row = 0
            health.stages_ms = stages_ms
            health.tf = "none" if tf is None else f"{tf[0]} to {tf[1]}"
            health.confidence = health.position_std_m = health.heading_std_deg = None
            if estimate is not None and pose is not None:
                health.poses += 1
                health.confidence = estimate.confidence
                health.position_std_m = math.sqrt(max(float(np.linalg.eigvalsh(pose.covariance[:2, :2])[-1]), 0.0))
                health.heading_std_deg = math.degrees(estimate.heading_std_rad)

    def _refuse(self, reason: str) -> None:
        with self._lock:
            self._health.clouds_refused += 1
            self._health.refused_in_a_row += 1
            self._health.last_refusal = reason
        if self._health.refused_in_a_row == 1:
            log.warning("a cloud is refused: %s", reason)

    def _refuse_input(self, reason: str) -> None:
        if self._health.last_refusal != reason:
            log.warning("%s", reason)
        self._health.last_refusal = reason

    def _search_done(self, done: int, count: int) -> None:
        if self._stopping:
            raise Stopped
        self._searching = count > 0 and done < count
        self._health.search = f"{done}/{count}" if count else ""

    def _state(self) -> State:
        if self.source is None:
            return "no map"
        if not self._active:
            return "inactive"
        if self._searching or (self._start is not None and self._start.map_from_base is None):
            return "searching"
        if not self._following_start or self._follower is None:
            return "waiting"
        if self._follower.state == "lost":
            return "lost"
        return "following" if self._health.confidence is not None else "doubtful"

    def _start_at(self, map_from_base: SE2) -> Start:
        offset_rad = math.pi if self.parameters.offset_deg >= 180.0 else math.radians(self.parameters.offset_deg)
        return Start(map_from_base, self.parameters.offset_m, offset_rad)


def planar(pose: Any) -> SE2:
    """A geometry_msgs/Pose in the plane.

    Raises:
        ValueError: if a number is not finite or the quaternion is zero.
    """
    turn = pose.orientation
    if turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2 < 1e-6:
        raise ValueError("the quaternion of the orientation is zero")
    yaw_rad = math.atan2(2.0 * (turn.w * turn.z + turn.x * turn.y), turn.w**2 + turn.x**2 - turn.y**2 - turn.z**2)
    return SE2(float(pose.position.x), float(pose.position.y), yaw_rad)


def _bare(frame: str) -> str:
    """ROS 1 wrote some frames with a slash before them."""
    return str(frame).lstrip("/")

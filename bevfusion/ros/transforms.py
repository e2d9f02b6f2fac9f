"""TF and odometry by time: what was where at the stamp of a cloud, and how messages say it.

Messages are objects with the fields of their ROS type, of either ROS.
"""

import bisect
import logging
import math
import threading
import time
from collections import deque
from typing import Any

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.pointcloud2 import header_stamp_ns
from bevfusion.datasets.rigid import FrameTree, bare, interpolated_rotations, transforms_of
from bevfusion.datasets.tracks import PoseTrack
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.ros.parameters import NodeParameters
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

KEPT_NS = 10 * 10**9  # history of moving transforms and of odometry
BACK_NS = 5 * 10**8  # stamps that go back by more begin a new history


class TransformBuffer:
    """Transforms of /tf and /tf_static; read from another thread than it is filled from."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._static: dict[str, tuple[str, Float[np.ndarray, "4 4"]]] = {}  # child -> parent, parent_from_child
        self._moving: dict[str, tuple[str, deque[tuple[int, Float[np.ndarray, "4 4"]]]]] = {}  # child -> parent, ...

    def add_static(self, parent: str, child: str, parent_from_child: Float[np.ndarray, "4 4"]) -> None:
        """A transform that holds for ever."""
        with self._changed:
            self._static[child] = (parent, parent_from_child)
            self._changed.notify_all()

    def add(self, parent: str, child: str, stamp_ns: int, parent_from_child: Float[np.ndarray, "4 4"]) -> None:
        """A transform at a moment; what is 10 s older than the newest is forgotten, as all is when time goes back."""
        with self._changed:
            known = self._moving.get(child)
            if known is None or known[0] != parent or stamp_ns < known[1][-1][0] - BACK_NS:
                known = self._moving[child] = (parent, deque())
            samples = known[1]
            if not samples or stamp_ns > samples[-1][0]:
                samples.append((stamp_ns, parent_from_child))
            while stamp_ns - samples[0][0] > KEPT_NS:
                samples.popleft()
            self._changed.notify_all()

    def lookup(self, target: str, source: str, stamp_ns: int, wait_s: float) -> Float[np.ndarray, "4 4"]:
        """`target_from_source` at a moment; never the identity for want of an answer.

        Args:
            target: frame.
            source: frame.
            stamp_ns: the moment; moving transforms are interpolated, never extrapolated.
            wait_s: how long to wait for what is not there yet.

        Raises:
            DataError: if there is no path between the frames, or not at that moment.
        """
        if target == source:
            return np.eye(4)
        until_s = time.monotonic() + wait_s
        with self._changed:
            while True:
                found, problem = self._lookup(target, source, stamp_ns)
                left_s = until_s - time.monotonic()
                if found is not None:
                    return found
                if left_s <= 0:
                    raise DataError(problem)
                self._changed.wait(left_s)

    def _lookup(self, target: str, source: str, stamp_ns: int) -> tuple[Float[np.ndarray, "4 4"] | None, str]:
        tree = FrameTree()
        for child, (parent, matrix) in self._static.items():
            tree.add(parent, child, matrix)
        late = []
        for child, (parent, samples) in self._moving.items():
            matrix_at = _at(samples, stamp_ns)
            if matrix_at is None:
                late.append(f"{parent} to {child}")
            else:
                tree.add(parent, child, matrix_at)
        found = tree.lookup(target, source)
        reason = f"; not known at the stamp of the cloud: {', '.join(late)}" if late else ""
        return found, f"no transform from {source!r} to {target!r}{reason}"


def _at(samples: deque[tuple[int, Float[np.ndarray, "4 4"]]], stamp_ns: int) -> Float[np.ndarray, "4 4"] | None:
    """Between the two samples about a moment; None outside."""
    times = [stamp for stamp, _ in samples]
    after = bisect.bisect_left(times, stamp_ns)
    if after == len(times) or (after == 0 and times[0] != stamp_ns):
        return None
    if times[after] == stamp_ns:
        return samples[after][1]
    (t0, first), (t1, second) = samples[after - 1], samples[after]
    share = (stamp_ns - t0) / (t1 - t0)
    matrix = np.eye(4)
    both = np.stack([first[:3, :3], second[:3, :3]])
    matrix[:3, :3] = interpolated_rotations(np.array([share]), np.array([0.0, 1.0]), both)[0]
    matrix[:3, 3] = (1.0 - share) * first[:3, 3] + share * second[:3, 3]
    return matrix


class OdometryBuffer:
    """Poses `odom_from_base` by time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._samples: deque[tuple[int, SE2]] = deque()

    def add(self, stamp_ns: int, odom_from_base: SE2) -> None:
        """One pose more; stamps that do not advance are left out, those that go far back begin anew."""
        with self._changed:
            if self._samples and stamp_ns < self._samples[-1][0] - BACK_NS:
                self._samples.clear()
            if self._samples and stamp_ns <= self._samples[-1][0]:
                return
            self._samples.append((stamp_ns, odom_from_base))
            while stamp_ns - self._samples[0][0] > KEPT_NS:
                self._samples.popleft()
            self._changed.notify_all()

    def rewind(self, stamp_ns: int) -> None:
        """Time went back to this moment: forget what was before, unless its odometry is here already."""
        with self._changed:
            if self._samples and self._samples[-1][0] > stamp_ns + BACK_NS:
                self._samples.clear()

    def __len__(self) -> int:
        return len(self._samples)

    def track(self, base_from_ego: SE2) -> PoseTrack:
        """What is kept, as poses of the LiDAR.

        Raises:
            DataError: if nothing is.
        """
        with self._changed:
            samples = list(self._samples)
        poses = [pose @ base_from_ego for _, pose in samples]
        return PoseTrack.sorted(
            np.array([stamp for stamp, _ in samples], dtype=np.int64),
            np.array([(pose.x_m, pose.y_m) for pose in poses], dtype=np.float64).reshape(-1, 2),
            np.array([pose.yaw_rad for pose in poses], dtype=np.float64),
        )

    def at(self, stamp_ns: int, wait_s: float, age_s: float) -> SE2 | None:
        """The pose at a moment.

        Between two samples it is interpolated. A moment after the newest is waited for; then the last two are carried
        on at constant velocity for up to `age_s`. None: there is none so near.
        """
        until_s = time.monotonic() + wait_s
        with self._changed:
            while not self._samples or self._samples[-1][0] < stamp_ns:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            samples = list(self._samples)
        if not samples or stamp_ns < samples[0][0] or stamp_ns - samples[-1][0] > 1e9 * age_s:
            return None
        after = bisect.bisect_left(samples, stamp_ns, key=lambda sample: sample[0])
        if after < len(samples) and samples[after][0] == stamp_ns:
            return samples[after][1]
        if len(samples) < 2:
            return samples[0][1]
        after = min(max(after, 1), len(samples) - 1)
        (t0, first), (t1, second) = samples[after - 1], samples[after]
        share = (stamp_ns - t0) / (t1 - t0)
        turn_rad = wrap_angle(second.yaw_rad - first.yaw_rad)
        return SE2(
            first.x_m + share * (second.x_m - first.x_m),
            first.y_m + share * (second.y_m - first.y_m),
            wrap_angle(first.yaw_rad + share * turn_rad),
        )


def add_transforms(message: Any, buffer: TransformBuffer, static: bool) -> None:
    """Keep all transforms of a message; those that are no rigid motion are left out with a warning."""
    for item, parent, child, matrix in transforms_of(message, lambda told: log.warning("TF %s", told)):
        if static:
            buffer.add_static(parent, child, matrix)
        else:
            buffer.add(parent, child, header_stamp_ns(item), matrix)


def odometry_of(message: Any, parameters: NodeParameters) -> SE2:
    """`odom_from_base` of nav_msgs/Odometry.

    Raises:
        DataError: if it is of other frames, or no pose.
    """
    expected = (parameters.odom_frame, parameters.base_frame)
    found = (bare(message.header.frame_id), bare(message.child_frame_id))
    if found != expected:
        raise DataError(f"~/odom is of {found[1]!r} in {found[0]!r}, expected {expected[1]!r} in {expected[0]!r}")
    return planar_pose(message.pose.pose, "~/odom")


def planar_pose(pose: Any, source: str) -> SE2:
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

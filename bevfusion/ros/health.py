"""The node's health: what it counts and measures, and what of that is a warning or an error on /diagnostics.

Callbacks and the worker write to a `HealthMonitor`; it reports one status with a fixed table of keys.
"""

import logging
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bevfusion.ros.extrinsics import PlanarPose
from bevfusion.ros.parameters import NodeParameters
from bevfusion.structures import PoseEstimate

log = logging.getLogger(__name__)

Level = Literal["ok", "warn", "error"]
NodeState = Literal["inactive", "no map", "waiting", "searching", "following", "doubtful", "lost"]
LEVELS: tuple[Level, ...] = ("ok", "warn", "error")  # 0, 1, 2 of diagnostic_msgs/DiagnosticStatus
REFUSED_IN_A_ROW = 10  # clouds: an error


@dataclass(frozen=True, slots=True)
class DiagnosticKey:
    """A row of the table."""

    name: str
    meaning: str
    warns: str = ""
    errs: str = ""


KEYS: tuple[DiagnosticKey, ...] = (
    DiagnosticKey(
        "state",
        "inactive, no map, waiting (for a start), searching (the whole map), following, doubtful (a pose is held "
        "back), lost; there are a pose and TF while following only",
        "waiting, searching, doubtful",
        "no map, lost",
    ),
    DiagnosticKey("clouds_received", "messages on ~/points while active"),
    DiagnosticKey("clouds_processed", "of those, that went through the network"),
    DiagnosticKey(
        "clouds_dropped", "replaced by a newer one before they were looked at", "more than half since the last report"
    ),
    DiagnosticKey("clouds_late", "older than late_s on arrival; they are used all the same", "the last one"),
    DiagnosticKey(
        "clouds_refused",
        "empty, broken, of an unknown frame, out of order, or from the future",
        "the last one",
        "10 on end",
    ),
    DiagnosticKey("last_refusal", "why"),
    DiagnosticKey("silence_s", "since the last cloud", "longer than silence_s"),
    DiagnosticKey("delay_ms", "age of the last cloud on arrival, by the node's clock"),
    DiagnosticKey("decode_ms", "message to scan, for the last cloud"),
    DiagnosticKey("transform_ms", "wait for TF and odometry"),
    DiagnosticKey("step_ms", "network and filter", "longer than slow_ms"),
    DiagnosticKey("total_ms", "arrival to pose"),
    DiagnosticKey("poses", "poses published"),
    DiagnosticKey("confidence", "probability of being within 2 m and 4 degrees of the pose"),
    DiagnosticKey("position_std_m", "larger axis of the position's covariance"),
    DiagnosticKey("heading_std_deg", "of the heading"),
    DiagnosticKey("extrinsics", "parameter, tf or failed, for the last cloud", "", "failed"),
    DiagnosticKey(
        "odometry", "used, absent (nobody publishes it), missing (at the stamp of the last cloud), off", "missing"
    ),
    DiagnosticKey(
        "tf", "map to odom, map to base, none, or unavailable (no tf2_msgs)", "unavailable though publish_tf is set"
    ),
    DiagnosticKey(
        "direction",
        "as asked (along the route, or to the goal), how many branches lie ahead without one, unasked (nobody "
        "listens), or none and why",
        "none, though there is a route or a goal",
    ),
    DiagnosticKey("resets", "times that the clock went back"),
    DiagnosticKey("search", "steps done / all of a search over the map"),
    DiagnosticKey("crashes", "bugs met by the worker; the log has them", "any"),
)
"""Every key of the status, in its order; `bevfusion/ros/README.md` shows the same table."""


@dataclass(slots=True)
class Health:
    """What the core counts and measures."""

    state: NodeState = "no map"
    clouds_received: int = 0
    clouds_processed: int = 0
    clouds_dropped: int = 0
    clouds_late: int = 0
    clouds_refused: int = 0
    last_refusal: str = ""
    silence_s: float = 0.0
    delay_ms: float = 0.0
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    poses: int = 0
    confidence: float | None = None
    position_std_m: float | None = None
    heading_std_deg: float | None = None
    extrinsics: str = ""
    odometry: str = "absent"
    tf: str = "none"
    direction: str = "unasked"
    off_route: bool = False  # a route or a goal is given, and no way leads along it
    resets: int = 0
    search: str = ""
    crashes: int = 0
    late: bool = False  # the last cloud
    refused_in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The same as diagnostic_msgs/DiagnosticStatus."""

    level: Level
    message: str
    values: tuple[tuple[str, str], ...]


class HealthMonitor:
    """The health of the node, kept by several threads.

    `health.extrinsics`, `health.odometry` and `health.resets` are the worker's, who sets them itself.
    """

    def __init__(self, parameters: NodeParameters) -> None:
        """Nothing has come yet."""
        self.health = Health()
        self._parameters = parameters
        self._reported = Health()
        self._lock = threading.Lock()
        self._arrived_s = time.monotonic()

    def restart_silence(self) -> None:
        """Silence counts from now on."""
        self._arrived_s = time.monotonic()

    def cloud_arrived(self, delay_ms: float) -> float:
        """A cloud came, so old by the node's clock; gives the time of that (monotonic, s)."""
        with self._lock:
            health = self.health
            self._arrived_s = time.monotonic()
            health.clouds_received += 1
            health.delay_ms = delay_ms
            health.late = delay_ms > 1e3 * self._parameters.late_s
            health.clouds_late += health.late
            return self._arrived_s

    def cloud_processed(
        self, estimate: PoseEstimate | None, pose: PlanarPose | None, stages_ms: dict[str, float], tf: str
    ) -> None:
        """A cloud went through the network.

        Args:
            estimate: of the LiDAR.
            pose: of the vehicle; None: lost, or too doubtful to say.
            stages_ms: what took how long.
            tf: what was broadcast, in words.
        """
        with self._lock:
            health = self.health
            health.clouds_processed += 1
            health.refused_in_a_row = 0
            health.stages_ms = stages_ms
            health.tf = tf
            health.confidence = health.position_std_m = health.heading_std_deg = None
            if estimate is not None and pose is not None:
                health.poses += 1
                health.confidence = estimate.confidence
                health.position_std_m = math.sqrt(max(float(np.linalg.eigvalsh(pose.covariance[:2, :2])[-1]), 0.0))
                health.heading_std_deg = math.degrees(estimate.heading_std_rad)

    def cloud_refused(self, reason: str) -> None:
        """A cloud cannot be used; the first of several on end is logged."""
        with self._lock:
            self.health.clouds_refused += 1
            self.health.refused_in_a_row += 1
            self.health.last_refusal = reason
            first = self.health.refused_in_a_row == 1
        if first:
            log.warning("a cloud is refused: %s", reason)

    def input_refused(self, reason: str) -> None:
        """Another message cannot be used; the same reason is logged once."""
        with self._lock:
            new, self.health.last_refusal = self.health.last_refusal != reason, reason
        if new:
            log.warning("%s", reason)

    def direction_said(self, status: str, off_route: bool) -> None:
        """Which ways lead on, in words, and whether a way was asked for and there is none."""
        with self._lock:
            self.health.direction, self.health.off_route = status, off_route

    def report(
        self, state: NodeState, *, active: bool, search: str, dropped: int, crashes: int, tf_available: bool
    ) -> HealthReport:
        """For /diagnostics, with what has changed since the last report.

        Args:
            state: of the node.
            active: whether clouds are taken at all.
            search: how far one over the map has come.
            dropped: clouds replaced by newer ones.
            crashes: bugs met by the worker.
            tf_available: whether TF can be broadcast.
        """
        with self._lock:
            health = replace(self.health, state=state, search=search, clouds_dropped=dropped, crashes=crashes)
        health.silence_s = time.monotonic() - self._arrived_s if active else 0.0
        if not tf_available:
            health.tf = "unavailable"
        before, self._reported = self._reported, health
        return diagnose(health, before, self._parameters)


def diagnose(health: Health, before: Health, parameters: NodeParameters) -> HealthReport:
    """The status.

    Args:
        health: as it is now.
        before: as it was at the last report.
        parameters: of the node, for the limits.
    """
    findings = list(_findings(health, before, parameters))
    level: Level = max((level for level, _ in findings), key=LEVELS.index, default="ok")
    worst = [text for at, text in findings if at == level]
    return HealthReport(
        level, "; ".join(worst) or health.state, tuple((key.name, _value(health, key.name)) for key in KEYS)
    )


def _findings(health: Health, before: Health, parameters: NodeParameters) -> list[tuple[Level, str]]:
    received = health.clouds_received - before.clouds_received
    dropped = health.clouds_dropped - before.clouds_dropped
    step_ms = health.stages_ms.get("step_ms", 0.0)
    active = health.state not in ("inactive", "no map")
    replay = ": is a log replayed? then set use_sim_time and play it with its clock" if health.delay_ms > 6e4 else ""
    checks: list[tuple[bool, Level, str]] = [
        (health.state == "no map", "error", "no map: set the parameter map or send ~/map_image"),
        (health.state == "lost", "error", "lost: no pose"),
        (health.state == "waiting", "warn", "waiting for a start: ~/initialpose, ~/fix or ~/relocalize"),
        (health.state == "searching", "warn", f"searching the map ({health.search or 'from the next cloud on'})"),
        (health.state == "doubtful", "warn", "doubtful: no pose"),
        (health.extrinsics == "failed", "error", f"no extrinsics: {health.last_refusal}"),
        (health.refused_in_a_row >= REFUSED_IN_A_ROW, "error", f"clouds are refused: {health.last_refusal}"),
        (0 < health.refused_in_a_row < REFUSED_IN_A_ROW, "warn", f"a cloud is refused: {health.last_refusal}"),
        (received > 1 and 2 * dropped > received, "warn", f"{dropped} of {received} clouds dropped"),
        (health.late, "warn", f"clouds are {1e-3 * health.delay_ms:.1f} s old{replay}"),
        (active and health.silence_s > parameters.silence_s, "warn", f"no cloud for {health.silence_s:.1f} s"),
        (active and step_ms > parameters.slow_ms, "warn", f"a step took {step_ms:.0f} ms"),
        (health.odometry == "missing", "warn", "no odometry at the stamp of the cloud"),
        (health.tf == "unavailable" and parameters.publish_tf, "warn", "no TF: tf2_msgs is not installed"),
        (active and health.off_route, "warn", f"no way ahead: {health.direction.removeprefix('none: ')}"),
        (health.crashes > 0, "warn", f"{health.crashes} clouds met a bug, see the log"),
    ]
    return [(level, text) for holds, level, text in checks if holds]


def _value(health: Health, name: str) -> str:
    value = health.stages_ms.get(name) if name in ("decode_ms", "transform_ms", "step_ms", "total_ms") else None
    if value is None and hasattr(health, name):
        value = getattr(health, name)
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)

"""What the node counts and measures: written by callbacks and by the worker, read for /diagnostics."""

import logging
import math
import threading
import time
from dataclasses import replace

import numpy as np

from bevfusion.ros.diagnostics import Health, State, Status, diagnose
from bevfusion.ros.mounting import PlanarPose
from bevfusion.ros.parameters import NodeParameters
from bevfusion.structures import PoseEstimate

log = logging.getLogger(__name__)


class Ledger:
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

    def starts(self) -> None:
        """Silence counts from now on."""
        self._arrived_s = time.monotonic()

    def arrived(self, delay_ms: float) -> float:
        """A cloud came, so old by the node's clock; gives the time of that (monotonic, s)."""
        with self._lock:
            health = self.health
            self._arrived_s = time.monotonic()
            health.clouds_received += 1
            health.delay_ms = delay_ms
            health.late = delay_ms > 1e3 * self._parameters.late_s
            health.clouds_late += health.late
            return self._arrived_s

    def processed(
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

    def refused(self, reason: str) -> None:
        """A cloud cannot be used; the first of several on end is logged."""
        with self._lock:
            self.health.clouds_refused += 1
            self.health.refused_in_a_row += 1
            self.health.last_refusal = reason
            first = self.health.refused_in_a_row == 1
        if first:
            log.warning("a cloud is refused: %s", reason)

    def refused_input(self, reason: str) -> None:
        """Another message cannot be used; the same reason is logged once."""
        with self._lock:
            new, self.health.last_refusal = self.health.last_refusal != reason, reason
        if new:
            log.warning("%s", reason)

    def report(
        self, state: State, *, active: bool, search: str, dropped: int, crashes: int, tf_available: bool
    ) -> Status:
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

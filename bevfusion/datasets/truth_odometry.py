"""Odometry for drives that have none, made from their true poses: for experiments only."""

from dataclasses import replace

import numpy as np

from bevfusion.datasets.drive import Derived, Drive
from bevfusion.filters.motion import Motion, interval_s
from bevfusion.filters.settings import MotionNoise
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError, Frame


class TruthOdometry(Derived):
    """A drive whose odometry is made from its truth, with noise: for experiments on drives that have none."""

    def __init__(self, drive: Drive, seed: int = 0, noise: MotionNoise | None = None) -> None:
        """The drive with other odometry.

        Args:
            drive: with truth.
            seed: of the noise; the same for every reader of the drive.
            noise: of each step.
        """
        super().__init__(drive)
        self._seed, self._noise = seed, noise or MotionNoise()
        self._poses: list[SE2 | None] = []  # odometry, as far as it was needed yet
        self._metres: LocalFrame | None = None
        self._last: tuple[Frame, SE2, SE2] | None = None  # with truth: frame, true pose, odometry

    @property
    def odometry(self) -> str:
        """Always truth."""
        return "truth"

    def __getitem__(self, position: int) -> Frame:
        """The frame with its new odometry; asked for out of order, the frames before it are read once."""
        for earlier in range(len(self._poses), position):
            try:
                self._extend(earlier, self._drive[earlier])
            except DataError:  # told when it is asked for
                self._poses.append(None)
        frame = self._drive[position]
        if position == len(self._poses):
            self._extend(position, frame)
        return replace(frame, odom_from_ego=self._poses[position])

    def _extend(self, position: int, frame: Frame) -> None:
        if frame.truth is None:
            self._poses.append(None)
            return
        self._metres = self._metres or LocalFrame(frame.truth.lat_deg, frame.truth.lon_deg)
        true = self._metres.map_from_ego(frame.truth)
        odom = SE2()
        if self._last is not None:
            before, true_before, odom_before = self._last
            rng = np.random.default_rng([self._seed, position])
            motion = Motion.of_step(true_before.inverse() @ true, interval_s(before, frame), self._noise)
            error = rng.normal(0.0, (motion.std_along_m, motion.std_across_m, motion.std_yaw_rad))
            odom = odom_before @ motion.before_from_after @ SE2(*(float(value) for value in error))
        self._poses.append(odom)
        self._last = (frame, true, odom)

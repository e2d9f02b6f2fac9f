"""Vehicles that drive made-up routes, and locators that know where they are, more or less."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bevfusion.filters.search import ScoredWindow, WindowSearch
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import Frame, Locator, PoseBelief, PoseEstimate, Scan, SearchArea

YAW_STEP = math.radians(4.0)


def scan_at(pose: SE2) -> Scan:
    """A scan that carries the true pose in its only point."""
    return Scan(np.array([[pose.x_m, pose.y_m, pose.yaw_rad]], dtype=np.float32), np.zeros(1, dtype=np.float32))


def drive(
    start: SE2, steps: Sequence[SE2], *, odometry: bool = True, jump: tuple[int, SE2] | None = None, seed: int = 0
) -> tuple[list[Frame], list[SE2]]:
    """Frames and true poses; odometry with some noise. At frame `jump[0]` the vehicle is carried off, unnoticed."""
    rng = np.random.default_rng(seed)
    pose, odom = start, SE2()
    frames, truths = [], []
    for i in range(len(steps) + 1):
        if i:
            step = steps[i - 1]
            pose = pose @ step
            scale, turn = 1.0 + rng.normal(0.0, 0.01), rng.normal(0.0, 0.001)
            odom = odom @ SE2(scale * step.x_m, scale * step.y_m, step.yaw_rad + turn)
        if jump is not None and i == jump[0]:
            pose = SE2(pose.x_m + jump[1].x_m, pose.y_m + jump[1].y_m, wrap_angle(pose.yaw_rad + jump[1].yaw_rad))
        frames.append(Frame(i, i * 100_000_000, scan_at(pose), odom if odometry else None))
        truths.append(pose)
    return frames, truths


def winding(count: int, speed_m: float = 1.0) -> list[SE2]:
    """Steps of a road with bends."""
    return [SE2(speed_m, 0.0, 0.03 * math.sin(0.15 * i)) for i in range(count)]


@dataclass
class InformedLocator(Locator):
    """Sees the true pose through a volume that is sure of itself.

    In its window the truth is a peak off by `error_m`; `ghosts` are further peaks, poses relative to the truth, as
    high. A share `outliers` of the scans, and all those with no such peak in the window, show one anywhere.
    """

    error_m: float = 0.4
    outliers: float = 0.0
    ghosts: tuple[SE2, ...] = ()
    sharpness: float = 25.0  # nats from peak to plain
    flat: bool = False
    seed: int = 0
    asked: list[tuple[SE2, float, float]] = field(default_factory=list)

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        centre, window, logits = self._logits(scan, prior, offset_m, offset_rad)
        belief = PoseBelief(logits.flatten().log_softmax(0).view(1, *window.shape), window)
        return PoseEstimate(centre, np.eye(3), 0.1, 0.5, centre, belief)

    def map_search(self, area: SearchArea) -> WindowSearch:
        def score(scan: Scan, place: SE2, offset_m: float) -> ScoredWindow:
            centre, window, logits = self._logits(scan, place, offset_m, math.pi)
            return ScoredWindow(centre, window, logits.numpy())

        return WindowSearch(area, score)

    def _logits(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> tuple[SE2, PoseWindow, Tensor]:
        self.asked.append((prior, offset_m, offset_rad))
        rng = np.random.default_rng([self.seed, len(self.asked)])
        window = PoseWindow(offset_m + 0.25, min(offset_rad, math.pi), 1.0, YAW_STEP)
        centre = SE2(0.5 * round(2.0 * prior.x_m), 0.5 * round(2.0 * prior.y_m), prior.yaw_rad)  # as tiles snap
        truth = SE2(*(float(v) for v in scan.xyz[0]))
        peaks = [truth, *(truth @ ghost for ghost in self.ghosts)]
        off = rng.normal(0.0, self.error_m, 2)
        scores = [self._peak(window, centre, SE2(p.x_m + off[0], p.y_m + off[1], p.yaw_rad)) for p in peaks]
        seen = any(_within(peak, prior, offset_m, offset_rad) for peak in peaks)
        if not seen or rng.random() < self.outliers:
            x_m, y_m = rng.uniform(-offset_m, offset_m, 2)
            yaw_rad = wrap_angle(centre.yaw_rad + rng.uniform(-offset_rad, offset_rad))
            scores = [0.6 * self._peak(window, centre, SE2(centre.x_m + x_m, centre.y_m + y_m, yaw_rad))]
        logits = torch.zeros(window.shape) if self.flat else torch.from_numpy(np.max(scores, axis=0)).float()
        return centre, window, logits

    def _peak(self, window: PoseWindow, centre: SE2, pose: SE2) -> np.ndarray:
        """Height of a hill of 1.5 m and 4 degrees about a pose."""
        dx = (window.shifts_m() + centre.x_m - pose.x_m) / 1.5
        dy = (window.shifts_m() + centre.y_m - pose.y_m) / 1.5
        turn = window.yaw_offsets_rad() + centre.yaw_rad - pose.yaw_rad
        dyaw = ((turn + math.pi) % (2.0 * math.pi) - math.pi) / math.radians(4.0)
        distance = dyaw[:, None, None] ** 2 + dy[None, :, None] ** 2 + dx[None, None, :] ** 2
        return self.sharpness * np.exp(-0.5 * distance / 2.0)


def _within(pose: SE2, prior: SE2, offset_m: float, offset_rad: float) -> bool:
    shifted = max(abs(pose.x_m - prior.x_m), abs(pose.y_m - prior.y_m))
    return shifted < offset_m and abs(wrap_angle(pose.yaw_rad - prior.yaw_rad)) <= offset_rad + 1e-6


def position_error_m(estimate: PoseEstimate, truth: SE2) -> float:
    return math.hypot(estimate.map_from_ego.x_m - truth.x_m, estimate.map_from_ego.y_m - truth.y_m)


def heading_error_deg(estimate: PoseEstimate, truth: SE2) -> float:
    return abs(math.degrees(wrap_angle(estimate.map_from_ego.yaw_rad - truth.yaw_rad)))

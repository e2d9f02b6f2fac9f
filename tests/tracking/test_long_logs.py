"""A log of hours costs a frame of it no more than one of minutes: neither memory nor time."""

import math
import os
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import Frame, Locator, PoseBelief, PoseEstimate, Scan
from bevfusion.summary import InputSummary
from bevfusion.tracking.follow import Start, track_drive
from tests.tracking.test_track import SECOND_NS, Plain

STEP_M = 0.04  # a frame: the map has a square kilometre
FRAMES = int(os.environ.get("BEVFUSION_LONG_LOG", "1500"))
PARTS = 5
MOST_BYTES_A_FRAME = 6_000  # an answer: pose, covariance, prior


@dataclass
class Crawl:
    """A vehicle on its way east; each frame is made when it is asked for."""

    count: int
    name: str = "crawl"
    odometry: str = "log"
    summary: InputSummary = field(default_factory=lambda: InputSummary("crawl"))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Frame:
        scan = Scan(np.ones((1000, 3), np.float32), np.zeros(1000, np.float32))
        pose = SE2(STEP_M * position, 0.0, 0.0)
        return Frame(position, position * SECOND_NS // 10, scan, odom_from_ego=pose)

    def __iter__(self) -> Iterator[Frame]:
        return (self[position] for position in range(len(self)))


class Knowing(Locator):
    """Sees the vehicle of `Crawl` where it is, half a metre wide."""

    def __init__(self) -> None:
        self.count = 0

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float, *_: object) -> PoseEstimate:
        window = PoseWindow(offset_m, offset_rad, 0.5, math.radians(1.0))
        here = STEP_M * self.count
        self.count += 1
        x = torch.from_numpy(window.shifts_m() + prior.x_m - here)
        y = torch.from_numpy(window.shifts_m() + prior.y_m)
        yaw = torch.from_numpy(window.yaw_offsets_rad() + prior.yaw_rad)
        scores = -0.5 * ((x / 0.5) ** 2 + (y[:, None] / 0.5) ** 2 + (yaw[:, None, None] / 0.03) ** 2)
        log_prob = scores.flatten().log_softmax(0).view(window.shape)[None].float()
        return PoseEstimate(SE2(here, 0.0, 0.0), np.eye(3), 0.03, 0.9, prior, PoseBelief(log_prob, window))


@pytest.mark.slow
@pytest.mark.parametrize("smooth", [False, True], ids=["filter", "smooth"])
def test_a_frame_late_in_a_log_costs_what_an_early_one_does(smooth: bool) -> None:
    part = FRAMES // PARTS
    bytes_at, seconds_at, answered, kept = [], [], 0, []
    tracemalloc.start()
    frames = track_drive(Crawl(FRAMES), Knowing(), Plain(), start=Start(SE2(), 4.0, 0.1), smooth=smooth)
    began = time.process_time()
    for done, frame in enumerate(frames, start=1):
        kept.append(frame)  # as `track` does
        answered += frame.answered
        if done % part == 0:
            bytes_at.append(tracemalloc.get_traced_memory()[0])
            seconds_at.append(time.process_time() - began)
            began = time.process_time()
    tracemalloc.stop()
    assert len(kept) == FRAMES
    assert answered > 0.95 * FRAMES
    slope_bytes = np.polyfit(np.arange(1, PARTS) * part, bytes_at[1:], 1)[0]
    told = f"{slope_bytes:.0f} bytes a frame; seconds for {part} frames: {np.round(seconds_at, 2).tolist()}"
    assert slope_bytes < MOST_BYTES_A_FRAME, told
    assert np.median(seconds_at[-2:]) < 1.6 * np.median(seconds_at[:2]), told

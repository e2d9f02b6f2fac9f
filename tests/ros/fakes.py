"""Messages as rclpy would bring them, without ROS, and a locator without a network."""

import math
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from bevfusion.filters.sequence import SequenceLocalizer
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import LAYERS, layer_index
from bevfusion.structures import Locator, PoseBelief, PoseEstimate, Scan
from bevfusion.summary import InputSummary

START_NS = 1_700_000_000 * 10**9


def header(frame: str, stamp_ns: int) -> SimpleNamespace:
    sec, nanosec = divmod(stamp_ns, 10**9)
    return SimpleNamespace(frame_id=frame, stamp=SimpleNamespace(sec=sec, nanosec=nanosec))


def cloud(
    stamp_ns: int, xyz: np.ndarray | None = None, frame: str = "lidar", times_s: np.ndarray | None = None
) -> SimpleNamespace:
    points = np.array([[5.0, 1.0, 0.0], [7.0, -2.0, 1.0]]) if xyz is None else xyz
    last = np.zeros(len(points)) if times_s is None else times_s
    data = np.column_stack([points, last]).astype("<f4").tobytes()
    names = enumerate(("x", "y", "z", "intensity" if times_s is None else "t"))
    return SimpleNamespace(
        header=header(frame, stamp_ns),
        height=1,
        width=len(points),
        point_step=16,
        row_step=16 * len(points),
        is_bigendian=False,
        fields=[SimpleNamespace(name=name, offset=4 * at, datatype=7, count=1) for at, name in names],
        data=data,
    )


def pose_of(pose: SE2) -> SimpleNamespace:
    turn = SimpleNamespace(x=0.0, y=0.0, z=math.sin(0.5 * pose.yaw_rad), w=math.cos(0.5 * pose.yaw_rad))
    return SimpleNamespace(position=SimpleNamespace(x=pose.x_m, y=pose.y_m, z=0.0), orientation=turn)


def odometry(stamp_ns: int, pose: SE2, frame: str = "odom", child: str = "base_link") -> SimpleNamespace:
    inner = SimpleNamespace(pose=pose_of(pose))
    return SimpleNamespace(header=header(frame, stamp_ns), child_frame_id=child, pose=inner)


def initial(pose: SE2, frame: str = "map") -> SimpleNamespace:
    return SimpleNamespace(header=header(frame, 0), pose=SimpleNamespace(pose=pose_of(pose)))


def fix(lat_deg: float, lon_deg: float, status: int = 0, std_m: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(
        header=header("gnss", 0),
        latitude=lat_deg,
        longitude=lon_deg,
        status=SimpleNamespace(status=status),
        position_covariance=[std_m**2, 0.0, 0.0, 0.0, std_m**2, 0.0, 0.0, 0.0, 4.0 * std_m**2],
        position_covariance_type=2 if std_m else 0,
    )


class FakeMap:
    """A road along x over 400 m."""

    frame = LocalFrame(49.0, 8.0)
    name = "fake"
    bounds_m = (-200.0, -200.0, 200.0, 200.0)
    summary = InputSummary("fake")

    def covers(self, x_m: float, y_m: float) -> bool:
        return max(abs(x_m), abs(y_m)) <= 200.0

    def draw(self, grid: Grid, map_from_tile: SE2, mirrored: bool = False) -> np.ndarray:
        layers = np.zeros((len(LAYERS), grid.height, grid.width), np.int8)
        places = map_from_tile.apply(grid.centres_m())
        layers[layer_index("road")][np.abs(places[..., 1]) < 3.0] = 127
        layers[layer_index("building")][np.abs(places[..., 1] - 20.0) < 5.0] = 127
        return layers


class FakeLocalizer(SequenceLocalizer, Locator):
    """A localizer that says what it is told: where the vehicle is by odometry from its start, or nothing."""

    state: str = "idle"

    def __init__(self, step_s: float = 0.0) -> None:
        self.step_s = step_s
        self.silent = False
        self.starts: list[Any] = []
        self.frames: list[Any] = []
        self.threads: set[str] = set()
        self._start = SE2()
        self._origin: SE2 | None = None

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        raise NotImplementedError

    def start(self, prior: SE2, offset_m: float, offset_rad: float) -> None:
        self.starts.append((prior, offset_m, offset_rad))
        self._start, self._origin, self.state = prior, None, "following"

    def start_anywhere(self, on_step: Any = None) -> None:
        self.starts.append("anywhere")
        self._search, self.state = on_step, "lost"

    def step(self, frame: Any) -> PoseEstimate | None:
        self.threads.add(threading.current_thread().name)
        self.frames.append(frame)
        if self.state == "lost" and self.starts[-1] == "anywhere":
            for tile in range(1, 51):
                time.sleep(self.step_s)
                self._search(tile, 50)
            self.state = "following"
        time.sleep(self.step_s)
        if self.silent or self.state != "following":
            return None
        odom = frame.odom_from_ego or SE2()
        self._origin = self._origin or odom
        return estimate(self._start @ self._origin.inverse() @ odom)


def estimate(map_from_ego: SE2, covariance: np.ndarray | None = None) -> PoseEstimate:
    window = PoseWindow(2.0, 0.1, 0.5, 0.05)
    volume = torch.full(window.shape, 0.1)
    volume[2, 6, 3] = 5.0
    log_prob = volume.flatten().log_softmax(0).reshape(1, *window.shape)
    spread = np.diag([0.25, 0.04, 0.01]) if covariance is None else covariance
    return PoseEstimate(map_from_ego, spread, 0.1, 0.9, SE2(10.0, 20.0, 0.0), PoseBelief(log_prob, window))

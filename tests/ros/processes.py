"""Processes of a real ROS, and drives to play to them."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bevfusion.datasets.drive import Drive
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.source import MapSource
from bevfusion.structures import Frame

REPOSITORY = Path(__file__).resolve().parents[2]
BASE_FROM_LIDAR = SE2(1.2, 0.3, 0.5 * np.pi)  # a quarter turn: numbers stay what they are
HEIGHT_M = 1.7


@dataclass
class Middleware:
    """A ROS and the Python that has it."""

    name: str
    python: str
    environment: dict[str, str]
    nodes: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, arguments: list[str], log: Path | None = None) -> subprocess.Popen[str]:
        """Start a Python program there."""
        return self.start([self.python, *arguments], log)

    def start(self, command: list[str], log: Path | None = None) -> subprocess.Popen[str]:
        """Start a program in the environment of this ROS."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)} | self.environment
        out = None if log is None else log.open("w")
        error = subprocess.STDOUT if out else None
        return subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=out, stderr=error, text=True)

    def forget(self, names: set[str]) -> None:
        """Take parameters off the ROS 1 master."""
        self._set_ros1({}, names)

    def node(self, parameters: dict[str, Any], log: Path | None = None) -> subprocess.Popen[str]:
        """Start the node with its topics where the robot has them."""
        remaps = [f"~{'/' if self.name == 'ros2' else ''}{name}:=/{name}" for name in ("points", "odom", "initialpose")]
        if self.name == "ros1":
            self._set_ros1({"/bevfusion": parameters, "/use_sim_time": True}, {"/bevfusion"})
            return self.run(["-m", "bevfusion.ros.node_ros1", *remaps], log)
        values = [f"{name}:={json.dumps(value)}" for name, value in ({"use_sim_time": True} | parameters).items()]
        words = [word for value in values for word in ("-p", value)] + [w for r in remaps for w in ("-r", r)]
        return self.run(["-m", "bevfusion.ros.node_ros2", "--ros-args", *words], log)

    def play(self, script: dict[str, Any], folder: Path, limit_s: float) -> dict[str, Any]:
        """Let the robot play a script in a process of its own; what it recorded."""
        (folder / "script.json").write_text(json.dumps(script))
        robot = self.run(
            [
                str(Path(__file__).with_name("robot.py")),
                self.name,
                str(folder / "script.json"),
                str(folder / "out.json"),
            ],
            folder / "robot.log",
        )
        try:
            robot.wait(limit_s)
        finally:
            robot.kill()
        result: dict[str, Any] = json.loads((folder / "out.json").read_text())
        return result

    def _set_ros1(self, values: dict[str, Any], cleared: set[str]) -> None:
        program = "import sys, json, rospy\n" + "".join(
            f"rospy.delete_param({name!r}) if rospy.has_param({name!r}) else None\n" for name in cleared
        )
        program += "for name, value in json.loads(sys.argv[1]).items(): rospy.set_param(name, value)\n"
        assert self.run(["-c", program, json.dumps(values)]).wait(60) == 0


def interrupted(node: subprocess.Popen[str]) -> tuple[int, float]:
    """Exit status after a SIGINT, and the seconds that it took."""
    began = time.monotonic()
    node.send_signal(signal.SIGINT)
    status = node.wait(30)
    return status, time.monotonic() - began


def pack(path: Path, drive: Drive) -> Path:
    """A drive as one file that the robot reads: points in ego axes, odometry of the vehicle."""
    ego_from_base = SE2(BASE_FROM_LIDAR.x_m, BASE_FROM_LIDAR.y_m, 0.0).inverse()
    points, stamps, odometry = [], [], []
    for frame in drive:
        points.append(np.column_stack([frame.scan.xyz, frame.scan.intensity]).astype(np.float32))
        stamps.append(frame.stamp_ns)
        odom = frame.odom_from_ego @ ego_from_base if frame.odom_from_ego is not None else None
        odometry.append([np.nan] * 3 if odom is None else [odom.x_m, odom.y_m, odom.yaw_rad])
    np.savez(
        path,
        points=np.concatenate(points),
        bounds=np.cumsum([0] + [len(cloud) for cloud in points]),
        stamps=np.array(stamps),
        odom_from_base=np.array(odometry),
    )
    return path


def base_from_lidar() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    matrix[:3, 3] = (BASE_FROM_LIDAR.x_m, BASE_FROM_LIDAR.y_m, HEIGHT_M)
    return matrix


def extrinsics() -> list[float]:
    half = float(np.sqrt(0.5))
    return [BASE_FROM_LIDAR.x_m, BASE_FROM_LIDAR.y_m, HEIGHT_M, 0.0, 0.0, half, half]


@dataclass(frozen=True)
class Played:
    """A drive that is played."""

    drive: Drive  # with odometry
    source: MapSource
    map: Path
    file: Path

    def truth(self, position: int) -> SE2:
        """Of the LiDAR."""
        truth = self.drive[position].truth
        assert truth is not None
        return self.source.frame.map_from_ego(truth)

    def base(self, map_from_ego: SE2) -> SE2:
        """The vehicle where the LiDAR is."""
        return map_from_ego @ SE2(BASE_FROM_LIDAR.x_m, BASE_FROM_LIDAR.y_m, 0.0).inverse()


class Joined:
    """Two drives behind each other, with the odometry of a vehicle that was carried in between and did not notice."""

    name, odometry = "joined", "truth"

    def __init__(self, first: Drive, second: Drive, start_ns: int, period_ns: int) -> None:
        self._frames: list[Frame] = []
        self.summary = first.summary
        carried = SE2()
        for drive in (first, second):
            origin = carried
            for frame in drive:
                assert frame.odom_from_ego is not None
                carried = origin @ frame.odom_from_ego
                stamp_ns = start_ns + period_ns * len(self._frames)
                index = len(self._frames)
                self._frames.append(replace(frame, index=index, stamp_ns=stamp_ns, odom_from_ego=carried))

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, position: int) -> Frame:
        return self._frames[position]

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)


KIDNAPPED_AT = 20  # frame of the drive `kidnapped`

"""Any drive with truth, written out again in every format."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bevfusion.structures import Frame
from tests.datasets.bag_writing import FIX, IMU, LIDAR, Messages, single_file, write_ros1, write_ros2
from tests.datasets.scan_writing import records, write_pcd

NAME = "drive"  # of every copy: priors are drawn by the drive's name


def points(frame: Frame) -> np.ndarray:
    return np.column_stack([frame.scan.xyz, frame.scan.intensity]).astype("<f4")


def as_kitti_raw(folder: Path, frames: Sequence[Frame]) -> Path:
    path = folder / NAME
    for part in ("velodyne_points/data", "oxts/data"):
        (path / part).mkdir(parents=True)
    stamps = ""
    for number, frame in enumerate(frames):
        (path / f"velodyne_points/data/{number:010d}.bin").write_bytes(points(frame).tobytes())
        pose = frame.truth
        values = f"{pose.lat_deg!r} {pose.lon_deg!r} 0 0 0 {pose.yaw_rad!r}" + " 0" * 24
        (path / f"oxts/data/{number:010d}.txt").write_text(values)
        second = np.datetime64(frame.stamp_ns // 10**9, "s")
        stamps += f"{second}".replace("T", " ") + f".{frame.stamp_ns % 10**9:09d}\n"
    (path / "velodyne_points/timestamps.txt").write_text(stamps)
    (path / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\nT: 0 0 0\n")
    return path


def as_messages(frames: Sequence[Frame], messages: Messages) -> list[tuple[str, int, object]]:
    written: list[tuple[str, int, object]] = []
    for frame in frames:
        pose, stamp_ns = frame.truth, frame.stamp_ns
        written += [
            (FIX, stamp_ns, messages.fix(stamp_ns, pose.lat_deg, pose.lon_deg)),
            (IMU, stamp_ns, messages.imu(stamp_ns, pose.yaw_rad)),
            (LIDAR, stamp_ns, messages.cloud(stamp_ns, points(frame))),
        ]
    return written


def as_ros1(folder: Path, frames: Sequence[Frame]) -> Path:
    return write_ros1(folder / f"{NAME}.bag", as_messages(frames, Messages(ros1=True)), compression="LZ4")


def as_ros2(folder: Path, frames: Sequence[Frame]) -> Path:
    return write_ros2(folder / NAME, as_messages(frames, Messages(ros1=False)))


def as_mcap(folder: Path, frames: Sequence[Frame]) -> Path:
    bag = write_ros2(folder / "bag", as_messages(frames, Messages(ros1=False)), storage="mcap")
    return Path(shutil.move(single_file(bag), folder / f"{NAME}.mcap"))


def as_pcd_folder(folder: Path, frames: Sequence[Frame]) -> Path:
    path = folder / NAME
    path.mkdir()
    rows = ["stamp_ns,lat,lon,yaw_rad"]
    for frame in frames:
        write_pcd(path / f"{frame.stamp_ns}.pcd", records(points(frame)))
        pose = frame.truth
        rows.append(f"{frame.stamp_ns},{pose.lat_deg!r},{pose.lon_deg!r},{pose.yaw_rad!r}")
    (path / "truth.csv").write_text("\n".join(rows))
    return path


FORMATS: dict[str, Callable[[Path, Sequence[Frame]], Path]] = {
    "KITTI raw": as_kitti_raw,
    "ROS 1 bag": as_ros1,
    "ROS 2 sqlite3": as_ros2,
    "MCAP": as_mcap,
    "PCD folder": as_pcd_folder,
}


def carried_off(frames: Sequence[Frame], half: int, metres: float) -> list[int]:
    """Positions of `half` frames and as many that begin about `metres` away from the last of them."""
    places = [(frame.truth.lat_deg, frame.truth.lon_deg) for frame in frames]
    lat, lon = places[half - 1]

    def distance_m(place: tuple[float, float]) -> float:
        return math.hypot(111_200.0 * (place[0] - lat), 111_200.0 * math.cos(math.radians(lat)) * (place[1] - lon))

    starts = range(half, len(frames) - half + 1)
    there = min(starts, key=lambda at: abs(distance_m(places[at]) - metres))
    return [*range(half), *range(there, there + half)]

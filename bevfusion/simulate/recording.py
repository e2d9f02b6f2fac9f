"""Writing a drive in the layout of the KITTI raw recordings."""

import math
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.lidar.packed import SUFFIX, pack_scan
from bevfusion.structures import Scan

_START = datetime(2024, 5, 1, 12, 0, 0)
# where the LiDAR sits on the vehicle: p_lidar = p_imu + T, axes alike
LIDAR_FROM_IMU_M = np.array([-0.81, 0.32, -0.80])


def rotation(roll_rad: float, pitch_rad: float, yaw_rad: float) -> Float[np.ndarray, "3 3"]:
    """Rz(yaw) Ry(pitch) Rx(roll), the order of KITTI's oxts files."""
    cr, sr, cp, sp = math.cos(roll_rad), math.sin(roll_rad), math.cos(pitch_rad), math.sin(pitch_rad)
    cy, sy = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


class Recording:
    """A folder that fills with frames.

    Args:
        folder: an existing empty folder.
        frame: how metres of the map become latitude and longitude.
        packed: write scans in a tenth of the space, labels and all, as only this project reads them.
    """

    def __init__(self, folder: Path, frame: LocalFrame, packed: bool = False) -> None:
        self._frame = frame
        self._packed = packed
        self._oxts = folder / "oxts" / "data"
        self._scans = folder / "velodyne_points" / "data"
        self._labels = folder / "labels"
        self._folder = folder
        self._stamps: list[str] = []
        for place in (self._oxts, self._scans, *([] if packed else [self._labels])):
            place.mkdir(parents=True)
        shift = " ".join(f"{value:.12e}" for value in LIDAR_FROM_IMU_M)
        calibration = f"calib_time: simulated\nR: 1 0 0 0 1 0 0 0 1\nT: {shift}\n"
        (folder / "calib_imu_to_velo.txt").write_text(calibration)

    def add(
        self,
        scan: Scan,
        position_m: Float[np.ndarray, " 3"],
        angles_rad: tuple[float, float, float],
        motion: tuple[float, float],
        time_s: float,
    ) -> None:
        """Write one frame.

        Args:
            scan: with a label for every point.
            position_m: of the LiDAR in the map frame.
            angles_rad: (roll, pitch, yaw) of the LiDAR, yaw in the map frame.
            motion: (forward speed in m/s, yaw rate in rad/s).
            time_s: since the first frame.
        """
        name = f"{len(self._stamps):010d}"
        if self._packed:
            (self._scans / f"{name}{SUFFIX}").write_bytes(pack_scan(scan))
        else:
            points = np.column_stack([scan.xyz, scan.intensity]).astype("<f4")
            (self._scans / f"{name}.bin").write_bytes(points.tobytes())
            labels = np.zeros(len(scan), "<u4") if scan.labels is None else scan.labels.astype("<u4")
            (self._labels / f"{name}.label").write_bytes(labels.tobytes())
        roll, pitch, yaw = angles_rad
        imu_m = position_m + rotation(roll, pitch, yaw) @ LIDAR_FROM_IMU_M
        # the convergence is that of the LiDAR's place, a metre away: 1e-7 rad
        geo = self._frame.geo_pose(SE2(float(imu_m[0]), float(imu_m[1]), yaw))
        speed, rate = motion
        values = [geo.lat_deg, geo.lon_deg, float(imu_m[2]), roll, pitch, geo.yaw_rad]
        values += [speed * math.sin(geo.yaw_rad), speed * math.cos(geo.yaw_rad), speed, 0.0, 0.0]  # vn ve vf vl vu
        values += [0.0, 0.0, 9.81] * 2 + [0.0, 0.0, rate] * 2  # ax..au, wx..wu
        values += [0.02, 0.01]  # accuracies of position and speed
        text = " ".join(f"{value:.13g}" for value in values)
        (self._oxts / f"{name}.txt").write_text(f"{text} 4 10 5 5 5\n")
        stamp = _START + timedelta(microseconds=round(time_s * 1e6))
        self._stamps.append(f"{stamp:%Y-%m-%d %H:%M:%S.%f}000")

    def close(self) -> None:
        """Write the timestamps of all frames."""
        text = "".join(stamp + "\n" for stamp in self._stamps)
        for sensor in ("oxts", "velodyne_points"):
            (self._folder / sensor / "timestamps.txt").write_text(text)

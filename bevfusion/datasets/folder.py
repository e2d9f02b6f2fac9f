"""A drive as a folder of scan files, with poses or fixes in text beside them, or none.

* DRIVE/*.pcd, .ply, .bin, .npy, .las or .laz, or the same in one of `SCAN_FOLDERS`; in the order of their numbers
* stamps: the names of the scans where they are times (1700000000.123456789.pcd, or whole ns), else a line a scan in
  timestamps.txt or times.txt, else ten scans a second
* truth.csv, poses.csv: lat, lon and a heading of the LiDAR; gnss.csv, gps.csv: lat, lon
* odometry.csv, odometry.tum, odometry.txt, poses.tum, poses.txt, trajectory.txt: x, y and a heading, or TUM lines

Where a pose file has stamps, it is interpolated at those of the scans; without, it has a row for each scan.
"""

import logging
import re
from pathlib import Path

import numpy as np

from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.kitti import read_lines
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.pose_files import PoseTable, read_pose_file, stamp_from_text
from bevfusion.datasets.scan_files import CLOUD_READERS, read_cloud, scan_suffix
from bevfusion.datasets.tracks import GeoTrack, PoseTrack, course_rad
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

SCAN_FOLDERS = (
    "scans",
    "clouds",
    "points",
    "pointclouds",
    "lidar",
    "velodyne",
    "pcd",
    "ply",
    "bin",
    "las",
    "laz",
    "npy",
)
STAMP_FILES = ("timestamps.txt", "times.txt", "timestamps.csv")
GLOBE_TRUTH = ("truth.csv", "ground_truth.csv", "poses.csv")
FIXES = ("gnss.csv", "gps.csv")
LOCAL = (
    *("odometry.csv", "odometry.tum", "odometry.txt", "poses.csv", "poses.tum", "poses.txt"),
    *("trajectory.tum", "trajectory.txt", "trajectory.csv"),
)
PERIOD_NS = 100_000_000
LEAST_STAMP_NS = 10**17  # 1973: smaller numbers in file names count frames


class ScanFiles:
    """Scan files with their stamps."""

    def __init__(self, files: list[Path], stamps_ns: list[int]) -> None:
        self.files = files
        self.stamps_ns = stamps_ns

    def __len__(self) -> int:
        return len(self.files)

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp and points of a file.

        Raises:
            DataError: if it is broken.
        """
        return self.stamps_ns[position], read_cloud(self.files[position])


def is_scan_folder(path: Path) -> bool:
    """Whether a path is a folder with scan files in it, or in a folder for them."""
    return path.is_dir() and _scan_folder(path) is not None


def open_scan_folder(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive in a folder.

    Raises:
        DataError: if stamps or a pose file are malformed, or do not belong to the scans.
    """
    folder = _scan_folder(path)
    if folder is None:
        raise DataError(f"{path}: no scan files in it; read are: {', '.join(CLOUD_READERS)}")
    files = scan_files(folder)
    scans = ScanFiles(files, _stamps_ns(files, path))
    return LoggedDrive(path.resolve().name, scans, _tracks(path, scans), options)


def scan_files(folder: Path) -> list[Path]:
    """The scan files of a folder, in the order of the numbers in their names.

    Raises:
        DataError: if they are of several types.
    """
    files = [file for file in folder.iterdir() if scan_suffix(file) in CLOUD_READERS and file.is_file()]
    types = sorted({scan_suffix(file) for file in files})
    if len(types) > 1:
        raise DataError(f"{folder}: scans of several types ({', '.join(types)}), expected one")
    return sorted(files, key=lambda file: [int(w) if w.isdigit() else w for w in re.split(r"([0-9]+)", file.name)])


def _scan_folder(path: Path) -> Path | None:
    for folder in (path, *(path / name for name in SCAN_FOLDERS)):
        if folder.is_dir() and any(scan_suffix(file) in CLOUD_READERS for file in folder.iterdir()):
            return folder
    return None


def _stamps_ns(files: list[Path], path: Path) -> list[int]:
    """Ascending stamps, one a scan."""
    named = [stamp_from_text(file.name[: -len(scan_suffix(file))]) for file in files]
    known = [stamp_ns for stamp_ns in named if stamp_ns is not None and stamp_ns >= LEAST_STAMP_NS]
    if len(known) == len(files):
        return known
    for name in STAMP_FILES:
        for file in (path / name, files[0].parent / name):
            if file.is_file():
                lines = [line for line in read_lines(file) if line.strip()]
                read = [stamp_from_text(line) for line in lines]
                good = [stamp_ns for stamp_ns in read if stamp_ns is not None]
                if len(good) != len(files) or len(read) != len(good) or good != sorted(good):
                    raise DataError(f"{file}: expected {len(files)} ascending stamps, one a line, got {len(good)}")
                return good
    log.info("%s: no stamps: ten scans a second are assumed", path)
    return [number * PERIOD_NS for number in range(len(files))]


def _tracks(path: Path, scans: ScanFiles) -> Tracks:
    truth = gnss = None
    odometry = None
    for name in (*GLOBE_TRUTH, *FIXES):
        table = _table(path / name)
        if table is None or not table.on_globe:
            continue
        track = GeoTrack.from_degrees(_row_stamps(table, scans, path / name), table.places, table.yaw_rad)
        if name in GLOBE_TRUTH and table.yaw_rad is not None:
            truth = truth or track
        else:  # places without a heading are no pose
            gnss = gnss or track
    for name in LOCAL:
        table = _table(path / name)
        if table is not None and not table.on_globe and odometry is None:
            yaw_rad = course_rad(table.places) if table.yaw_rad is None else table.yaw_rad
            odometry = PoseTrack.sorted(_row_stamps(table, scans, path / name), table.places, yaw_rad)
    return Tracks(truth, gnss, odometry)


def _table(path: Path) -> PoseTable | None:
    return read_pose_file(path) if path.is_file() else None


def _row_stamps(table: PoseTable, scans: ScanFiles, path: Path) -> np.ndarray:
    """Stamps of the rows: their own, or those of the scans."""
    if table.stamps_ns is not None:
        stamps_ns = np.array(table.stamps_ns, dtype=np.int64)
        if stamps_ns.max() < scans.stamps_ns[0] or stamps_ns.min() > scans.stamps_ns[-1]:
            log.warning("%s: its stamps lie before or after those of all scans", path)
        return stamps_ns
    if len(table.places) != len(scans):
        raise DataError(
            f"{path}: without stamps, expected a row for each of {len(scans)} scans, got {len(table.places)}"
        )
    return np.array(scans.stamps_ns, dtype=np.int64)

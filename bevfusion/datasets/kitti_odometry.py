"""Sequences of the KITTI odometry benchmark, with SemanticKITTI labels where they are there.

* SEQUENCE/velodyne/000000.bin and SEQUENCE/labels/000000.label, as in KITTI raw
* SEQUENCE/times.txt: seconds, one line a scan
* SEQUENCE/calib.txt: among others `Tr:` (3 x 4), from the LiDAR to the first camera
* SEQUENCE/poses.txt or ../../poses/SEQUENCE.txt (3 x 4 a line): the first camera's pose, in that of its first frame;
  they are truth, but of no place on the globe, so they serve as odometry, named "truth"
* a GPS/IMU side file, for the truth: SEQUENCE/oxts.txt (a packet of KITTI raw a line) or SEQUENCE/oxts/data/*.txt, and
  calib_imu_to_velo.txt there or above it
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from bevfusion.datasets.bare_files import Layout, find_layout, read_bare
from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.kitti import find_calibration, lidar_pose, oxts_values, read_calibration, read_oxts
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.rigid import inverse, yaws_rad
from bevfusion.datasets.side_files import name_of, read_lines, ways_to
from bevfusion.datasets.stamps import stamps_by_line
from bevfusion.datasets.tracks import GeoTrack, PoseTrack
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

PERIOD_NS = 100_000_000


class KittiScans:
    """Scan files of KITTI by frame number, with the labels that lie beside them."""

    def __init__(self, files: dict[int, Path], labels: Path | None, stamps_ns: dict[int, int], layout: Layout) -> None:
        self.numbers = sorted(files)
        self._files = files
        self._labels = labels
        self._layout = layout
        self._stamps_ns = stamps_ns
        self.stamps_ns: Int[np.ndarray, " n"] = np.array([stamps_ns[number] for number in self.numbers], np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp and points of a scan.

        Raises:
            DataError: if it or its labels are broken.
        """
        number = self.numbers[position]
        file = self._files[number]
        return self._stamps_ns[number], read_bare(file, self._layout, self._labels).usable(str(file))


def is_kitti_odometry(path: Path) -> bool:
    """Whether a path looks like the folder of a sequence."""
    return (path / "velodyne").is_dir() and (path / "calib.txt").is_file()


def open_kitti_odometry(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive of a sequence.

    Raises:
        DataError: if there are no scans, or times, calibration or poses are malformed or too few.
    """
    files = numbered_scans(path / "velodyne")
    name = name_of(path)
    summary = InputSummary(name)
    stamps_ns = _stamps_ns(path / "times.txt", files, summary)
    layout = find_layout(in_order(files), options.columns if options else (), summary)
    scans = KittiScans(files, path / "labels", stamps_ns, layout)
    tracks = Tracks(truth=_truth(path, stamps_ns), odometry=_odometry(path, stamps_ns))
    return LoggedDrive(name, scans, tracks, options, odometry="truth", summary=summary, stamps_ns=scans.stamps_ns)


def numbered_scans(folder: Path) -> dict[int, Path]:
    """The .bin files of a folder by the number that is their name.

    Raises:
        DataError: if there is none.
    """
    files = {int(file.stem): file for file in folder.iterdir() if re.fullmatch(r"[0-9]{1,18}\.bin", file.name)}
    if not files:
        raise DataError(f"no scans named like 000000.bin in {folder}")
    return files


def in_order(files: dict[int, Path]) -> list[Path]:
    """The files by ascending number."""
    return [files[number] for number in sorted(files)]


def matrices(lines: list[str], path: Path) -> Float[np.ndarray, "n 4 4"]:
    """Poses of 12 numbers (3 x 4, by rows) a line.

    Raises:
        DataError: if a line is not that.
    """
    poses = np.tile(np.eye(4), (len(lines), 1, 1))
    for at, line in enumerate(lines):
        try:
            values = np.array([float(word) for word in line.split()])
        except ValueError:
            values = np.zeros(0)
        if len(values) != 12 or not np.isfinite(values).all():
            raise DataError(f"{path}: line {at + 1} is not a pose of 12 numbers: {line[:60]!r}")
        poses[at, :3] = values.reshape(3, 4)
    return poses


def _stamps_ns(path: Path, files: dict[int, Path], summary: InputSummary) -> dict[int, int]:
    if not path.is_file():
        summary.add("assumed", "stamps", f"ten scans a second, there is no {path.name}")
        return {number: number * PERIOD_NS for number in files}
    known = stamps_by_line(path, summary)
    missing = [number for number in sorted(files) if number not in known]
    if missing:
        raise DataError(f"{path}: expected a time for each of {max(files) + 1} frames, got none for {missing[0]}")
    return {number: known[number] for number in files}


def _odometry(path: Path, stamps_ns: dict[int, int]) -> PoseTrack | None:
    """The LiDAR's poses in its first frame, by the camera's."""
    beside = [way.parents[1] / "poses" / f"{way.name}.txt" for way in ways_to(path) if len(way.parents) > 1]
    found = [file for file in (path / "poses.txt", *beside) if file.is_file()]
    if not found:
        return None
    start_from_camera = matrices([line for line in read_lines(found[0]) if line.strip()], found[0])
    entries = dict(line.split(":", 1) for line in read_lines(path / "calib.txt") if ":" in line)
    if "Tr" not in entries:
        raise DataError(f"{path / 'calib.txt'}: expected a line 'Tr:' of 12 numbers, LiDAR to camera")
    camera_from_lidar = matrices([entries["Tr"]], path / "calib.txt")[0]
    start_from_lidar = inverse(camera_from_lidar) @ start_from_camera @ camera_from_lidar
    numbers = [number for number in sorted(stamps_ns) if number < len(start_from_lidar)]
    if not numbers:
        return None
    poses = start_from_lidar[numbers]
    stamps = np.array([stamps_ns[number] for number in numbers], dtype=np.int64)
    return PoseTrack.sorted(stamps, poses[:, :2, 3], yaws_rad(poses[:, :3, :3]))


def _truth(path: Path, stamps_ns: dict[int, int]) -> GeoTrack | None:
    """The LiDAR's places by the GPS/IMU side file, if there is one."""
    if (path / "oxts.txt").is_file():
        lines = [line for line in read_lines(path / "oxts.txt") if line.strip()]
        packets = {
            number: oxts_values(lines[number], f"{path / 'oxts.txt'}: line {number + 1}")
            for number in sorted(stamps_ns)
            if number < len(lines)
        }
    else:
        files = {int(file.stem): file for file in (path / "oxts/data").glob("*.txt") if file.stem.isdecimal()}
        packets = {number: read_oxts(files[number]) for number in sorted(stamps_ns) if number in files}
    if not packets:
        return None
    velo_from_imu = read_calibration(find_calibration(path))
    poses = [lidar_pose(packet, velo_from_imu) for packet in packets.values()]
    return GeoTrack.from_degrees(
        np.array([stamps_ns[number] for number in packets], dtype=np.int64),
        np.array([(pose.lat_deg, pose.lon_deg) for pose in poses]),
        np.array([pose.yaw_rad for pose in poses]),
    )

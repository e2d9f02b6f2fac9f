"""KITTI-360 drives.

* ROOT/data_3d_raw/DRIVE (the path to give): velodyne_points/data/0000000000.bin, velodyne_points/timestamps.txt
* ROOT/data_poses/DRIVE/poses.txt: frame number and 3 x 4 pose of the GPS/IMU, in Mercator metres about a lake
* ROOT/calibration/calib_cam_to_velo.txt, calib_cam_to_pose.txt
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.bare_files import find_layout
from bevfusion.datasets.kitti_odometry import KittiScans, in_order, matrices, numbered_scans
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.mercator import degrees_from_mercator
from bevfusion.datasets.rigid import inverse, yaws_rad
from bevfusion.datasets.side_files import name_of, read_lines, ways_to
from bevfusion.datasets.stamps import stamps_by_line
from bevfusion.datasets.tracks import GeoTrack
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

CALIBRATION = "calibration/calib_cam_to_velo.txt"
ORIGIN_DEG = (48.9843445, 8.4295857)  # of the poses, by the data set's own scripts


def is_kitti360(path: Path) -> bool:
    """Whether a path looks like a drive in data_3d_raw."""
    return (path / "velodyne_points").is_dir() and (_root(path) / CALIBRATION).is_file()


def open_kitti360(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive of a folder in data_3d_raw; without data_poses it has no truth.

    Raises:
        DataError: if scans or stamps are missing, or calibration or poses are malformed.
    """
    if not (path / "velodyne_points/data").is_dir():
        raise DataError(f"{path}: a KITTI-360 drive has a folder velodyne_points/data, this one does not")
    files = numbered_scans(path / "velodyne_points/data")
    summary = InputSummary(name_of(path))
    stamps = path / "velodyne_points/timestamps.txt"
    stamps_ns = stamps_by_line(stamps, summary)
    missing = [number for number in sorted(files) if number not in stamps_ns]
    if missing:
        raise DataError(f"{stamps}: no timestamp of frame {missing[0]}")
    layout = find_layout(in_order(files), options.columns if options else (), summary)
    scans = KittiScans(files, None, stamps_ns, layout)
    tracks = Tracks(truth=_truth(path, stamps_ns))
    return LoggedDrive(name_of(path), scans, tracks, options, summary=summary, stamps_ns=scans.stamps_ns)


def _root(path: Path) -> Path:
    """The folder with data_3d_raw and calibration, as the path is written or where its links lead."""
    roots = [way.parents[min(1, len(way.parents) - 1)] for way in ways_to(path) if len(way.parents)]
    return next((root for root in roots if (root / CALIBRATION).is_file()), roots[0] if roots else path)


def _truth(path: Path, stamps_ns: dict[int, int]) -> GeoTrack | None:
    names = dict.fromkeys(way.name for way in ways_to(path))
    files = [_root(path) / "data_poses" / name / "poses.txt" for name in names]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    numbers, rows = [], []
    for at, line in enumerate(line for line in read_lines(file) if line.strip()):
        number, _, rest = line.strip().partition(" ")
        if not number.isdecimal():
            raise DataError(f"{file}: line {at + 1} does not begin with a frame number: {line[:60]!r}")
        numbers.append(int(number))
        rows.append(rest)
    known = [at for at, number in enumerate(numbers) if number in stamps_ns]
    if not known:
        return None
    world_from_pose = matrices(rows, file)[known]
    world_from_velo = world_from_pose @ _pose_from_velo(_root(path) / "calibration")
    return GeoTrack.from_degrees(
        np.array([stamps_ns[numbers[at]] for at in known], dtype=np.int64),
        degrees_from_mercator(world_from_velo[:, :2, 3], *ORIGIN_DEG),
        yaws_rad(world_from_velo[:, :3, :3]),
    )


def _pose_from_velo(folder: Path) -> Float[np.ndarray, "4 4"]:
    velo, pose = folder / "calib_cam_to_velo.txt", folder / "calib_cam_to_pose.txt"
    if not pose.is_file():
        raise DataError(f"{pose}: no such file")
    velo_from_camera = matrices([line for line in read_lines(velo) if line.strip()][:1] or [""], velo)[0]
    entries = dict(line.split(":", 1) for line in read_lines(pose) if ":" in line)
    if "image_00" not in entries:
        raise DataError(f"{pose}: expected a line 'image_00:' of 12 numbers")
    pose_from_camera = matrices([entries["image_00"]], pose)[0]
    result: np.ndarray = pose_from_camera @ inverse(velo_from_camera)
    return result

"""From a path to the reader that understands it."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bevfusion.datasets.argoverse2 import is_argoverse2, open_argoverse2
from bevfusion.datasets.bags import is_bag, open_bag
from bevfusion.datasets.drive import Drive
from bevfusion.datasets.folder import is_scan_folder, open_scan_folder
from bevfusion.datasets.kitti import (
    KittiRawDrive,
    is_kitti360,
    is_kitti_odometry,
    is_kitti_raw,
    open_kitti360,
    open_kitti_odometry,
)
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.nuscenes import is_nuscenes, open_nuscenes
from bevfusion.datasets.pose_files import with_truth
from bevfusion.datasets.scan_files import CLOUD_READERS, SingleScans, scan_suffix
from bevfusion.structures import DataError, Scan

# (what the reader reads, whether it knows a path, how it opens it); the first that knows the path opens it
READERS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path, LogOptions], Drive]], ...] = (
    ("a KITTI-360 drive (ROOT/data_3d_raw/DRIVE beside ROOT/calibration)", is_kitti360, open_kitti360),
    ("a KITTI odometry sequence (folder with velodyne/ and calib.txt)", is_kitti_odometry, open_kitti_odometry),
    (
        "a KITTI raw drive (folder with velodyne_points/ and oxts/)",
        is_kitti_raw,
        lambda path, options: KittiRawDrive(path, "truth" if options.odometry == "truth" else "none", options.columns),
    ),
    ("a nuScenes scene (ROOT/scene-0061 beside ROOT/v1.0-*)", is_nuscenes, open_nuscenes),
    ("an Argoverse 2 log (folder with sensors/lidar and city_SE3_egovehicle.feather)", is_argoverse2, open_argoverse2),
    ("a ROS bag (.bag, .db3, .mcap, or the folder of one)", is_bag, open_bag),
    ("a folder of scans (.pcd, .ply, .bin, .npy, .las, .laz) with CSV or TUM poses", is_scan_folder, open_scan_folder),
)


def open_drive(path: str | os.PathLike[str], options: LogOptions | None = None) -> Drive:
    """The drive at a path, whatever its format.

    Raises:
        DataError: if nothing is there, no reader knows it, or its reader cannot use it.
    """
    path = Path(path)
    for what, knows, opened in READERS:
        if knows(path):
            if not path.exists() and opened is not open_nuscenes:  # a scene has no folder of its own
                break
            options = options or LogOptions()
            if options.extrinsics and opened is not open_bag:
                raise DataError(f"{path}: extrinsics are for bags; the poses of other drives are those of the LiDAR")
            if options.columns and opened in (open_bag, open_argoverse2):
                raise DataError(f"{path}: --columns is for .bin and .npy scans, and this is {what.split(' (')[0]}")
            drive = opened(path, options)
            for other, knows_other, opened_other in READERS:
                if opened_other is not opened and open_bag in (opened, opened_other) and knows_other(path):
                    told = f"{other.split(' (')[0]} lies in it, too; give the path of that to read it"
                    drive.summary.add("ignored", "other data", f"read as {what.split(' (')[0]}; {told}")
            return drive if options.truth is None else with_truth(drive, options.truth)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    near = _drives_near(path)
    if near:
        raise DataError(f"{path}: not a drive itself, but {', '.join(map(str, near))}: give one of them")
    if _is_map(path):
        raise DataError(f"{path}: not a drive that is read here: it looks like a map, which stands behind --map")
    raise DataError(f"{path}: not a drive that is read here; read are: {'; '.join(reader[0] for reader in READERS)}")


def _drives_near(path: Path, most: int = 5) -> list[Path]:
    """Drives right inside a folder; of a scan, or the metadata of a bag, the folder that it lies in."""
    part = path.name == "metadata.yaml" or scan_suffix(path) in CLOUD_READERS
    candidates = sorted(path.iterdir()) if path.is_dir() else [path.absolute().parent] if part else []
    found = []
    for candidate in candidates:
        with suppress(DataError, OSError):  # one that is in doubt is no help
            if any(knows(candidate) for _, knows, _ in READERS):
                found.append(candidate)
        if len(found) == most:
            break
    return found


def _is_map(path: Path) -> bool:
    from bevfusion.maps.raster import SUFFIXES  # heavy, and of use when something is wrong alone
    from bevfusion.maps.reading import holds_features

    return holds_features(path) or path.suffix.lower() in SUFFIXES


def read_scan(path: str | os.PathLike[str]) -> Scan:
    """A single scan file.

    Raises:
        DataError: if the file is missing, of an unknown format, or broken.
    """
    return SingleScans([Path(path)]).read(Path(path))

"""From a path to the reader that understands it."""

from collections.abc import Callable
from pathlib import Path

from bevfusion.datasets.bags import is_bag, open_bag
from bevfusion.datasets.drive import Drive
from bevfusion.datasets.folder import is_scan_folder, open_scan_folder
from bevfusion.datasets.kitti import KittiRawDrive, is_kitti_raw
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.scan_files import read_cloud
from bevfusion.structures import DataError, Scan

# (what the reader reads, whether it knows a path, how it opens it); the first that knows the path opens it
READERS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path, LogOptions], Drive]], ...] = (
    (
        "a KITTI raw drive (folder with velodyne_points/ and oxts/)",
        is_kitti_raw,
        lambda path, _: KittiRawDrive(path),  # its scans carry no times, and there is nothing to name
    ),
    ("a ROS bag (.bag, .db3, .mcap, or the folder of one)", is_bag, open_bag),
    ("a folder of scans (.pcd, .ply, .bin, .npy, .las, .laz) with CSV or TUM poses", is_scan_folder, open_scan_folder),
)


def open_drive(path: Path, options: LogOptions | None = None) -> Drive:
    """The drive at a path, whatever its format.

    Raises:
        DataError: if nothing is there, no reader knows it, or its reader cannot use it.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    for _, knows, opened in READERS:
        if knows(path):
            return opened(path, options or LogOptions())
    raise DataError(f"{path}: not a drive that is read here; read are: {'; '.join(reader[0] for reader in READERS)}")


def read_scan(path: Path) -> Scan:
    """A single scan file.

    Raises:
        DataError: if the file is missing, of an unknown format, or broken.
    """
    return read_cloud(path).scan()

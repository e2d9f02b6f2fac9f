"""Scans in files of their own: the type is known by the suffix."""

import struct
import tokenize
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bevfusion.datasets.cloud import MAX_POINTS, Cloud
from bevfusion.datasets.fields import cloud_from_fields
from bevfusion.datasets.kitti_points import read_kitti_points
from bevfusion.datasets.las import read_las
from bevfusion.datasets.pcd import read_pcd
from bevfusion.datasets.ply import read_ply
from bevfusion.lidar.packed import SUFFIX as PACKED
from bevfusion.lidar.packed import read_packed_scan
from bevfusion.structures import DataError

NUSCENES = ".pcd.bin"
NPY_MAGIC = b"\x93NUMPY"
# numpy parses the header as Python text, and lets through what goes wrong there
UNREADABLE_ARRAY = (
    *(ValueError, OSError, EOFError, TypeError, OverflowError, MemoryError, RecursionError, KeyError, AttributeError),
    *(SyntaxError, tokenize.TokenError, struct.error),
)
NUSCENES_POINT_BYTES = 20  # float32 x, y, z, intensity, ring
# nuScenes' LIDAR_TOP looks to the right with its x axis: what is ahead lies along y
FORWARD_FROM_NUSCENES = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def read_cloud(path: Path) -> Cloud:
    """The points of a scan file.

    Raises:
        DataError: if the file is missing, of an unknown type, broken, or holds no scan.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such scan file")
    suffix = scan_suffix(path)
    if suffix not in CLOUD_READERS:
        known = ", ".join(CLOUD_READERS)
        raise DataError(f"{path}: scans of type {suffix or '(none)'} are not read; read are: {known}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: empty scan file")
    return CLOUD_READERS[suffix](path).usable(str(path))


def scan_suffix(path: Path) -> str:
    """What tells the type of a scan file."""
    return NUSCENES if path.name.lower().endswith(NUSCENES) else path.suffix.lower()


def read_nuscenes_points(path: Path) -> Cloud:
    """A sweep of nuScenes in the axes of its sensor (x to the right, y ahead); intensity counts to 255.

    Raises:
        DataError: if the size is wrong.
    """
    count, rest = divmod(path.stat().st_size, NUSCENES_POINT_BYTES)
    if rest or not 0 < count <= MAX_POINTS:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes, expected a multiple of {NUSCENES_POINT_BYTES} "
            "(float32 x, y, z, intensity, ring): truncated, or another format"
        )
    points = np.fromfile(path, dtype="<f4").astype(np.float32, copy=False).reshape(-1, 5)
    ring = np.nan_to_num(points[:, 4]).clip(0, 255).astype(np.int32)
    return Cloud(points[:, :3], np.clip(np.nan_to_num(points[:, 3]) / np.float32(255.0), 0.0, 1.0), ring)


def _read_packed(path: Path) -> Cloud:
    scan = read_packed_scan(path)
    return Cloud(scan.xyz, scan.intensity)


def _read_nuscenes(path: Path) -> Cloud:
    return read_nuscenes_points(path).turned(FORWARD_FROM_NUSCENES)


def _read_npy(path: Path) -> Cloud:
    """An array (N, 3) or (N, 4 and more): x, y, z, intensity; or one with named fields."""
    with path.open("rb") as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:  # numpy would try archives and pickles
            raise DataError(f"{path}: not an .npy array, it does not begin with \\x93NUMPY")
    try:
        # mapped: a header that lies about its size is found out before memory is asked for
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE_ARRAY as error:
        told = (str(error).splitlines() or ["damaged"])[0][:80]
        raise DataError(f"{path}: cannot be read as an array ({told})") from error
    if not isinstance(array, np.ndarray) or not 0 < array.size <= 16 * MAX_POINTS:
        raise DataError(f"{path}: expected one array of points")
    if array.dtype.names is not None and array.ndim == 1:
        return cloud_from_fields({name: np.array(array[name]) for name in array.dtype.names}, None, str(path))
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind != "f":
        raise DataError(f"{path}: expected floats of shape (N, 3) or (N, 4), got {array.dtype} of {array.shape}")
    with np.errstate(over="ignore"):
        points = np.array(array[:, :4], dtype=np.float32)
    flat = np.zeros(len(points), np.float32) if points.shape[1] == 3 else points[:, 3]
    return Cloud(points[:, :3], flat)


CLOUD_READERS: dict[str, Callable[[Path], Cloud]] = {
    ".bin": read_kitti_points,
    PACKED: _read_packed,  # of our own simulation
    NUSCENES: _read_nuscenes,
    ".pcd": read_pcd,
    ".ply": read_ply,
    ".npy": _read_npy,
    ".las": read_las,
    ".laz": read_las,
}

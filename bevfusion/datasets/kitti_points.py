"""The scans of KITTI in its raw drives, odometry and 360, and the labels that SemanticKITTI adds to them."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt32

from bevfusion.datasets.cloud import Cloud
from bevfusion.structures import DataError

POINT_BYTES = 16  # float32 x, y, z, reflectance
LABEL_BYTES = 4  # uint32: the lower half is the class, the upper numbers the instance


def read_kitti_points(path: Path, labels: Path | None = None) -> Cloud:
    """The points of a scan file, all of them, with the class of each where `labels` is a folder that has it.

    Raises:
        DataError: if the size is wrong, there is nothing in it, or the labels do not match.
        OSError: if a file cannot be read.
    """
    size = path.stat().st_size
    if size % POINT_BYTES:
        raise DataError(
            f"{path}: {size} bytes is not a multiple of {POINT_BYTES} (float32 x, y, z, reflectance): "
            "truncated, or another format"
        )
    if size == 0:
        raise DataError(f"{path}: empty scan file")
    points = np.fromfile(path, dtype="<f4").astype(np.float32, copy=False).reshape(-1, 4)
    classes = None if labels is None else _read_labels(labels / f"{path.stem}.label", len(points))
    return Cloud(points[:, :3], points[:, 3], labels=classes)


def _read_labels(path: Path, count: int) -> UInt32[np.ndarray, " n"] | None:
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size != LABEL_BYTES * count:
        raise DataError(f"{path}: expected {LABEL_BYTES * count} bytes (uint32 a point of the scan), got {size}")
    labels: np.ndarray = np.fromfile(path, dtype="<u4").astype(np.uint32, copy=False) & np.uint32(0xFFFF)
    return labels

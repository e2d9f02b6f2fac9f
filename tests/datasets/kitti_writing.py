"""Files of KITTI's benchmarks, written small."""

import math

import numpy as np

from tests.datasets.bag_writing import SmallDrive

SMALL = SmallDrive()
# x of the camera is right, y down, z ahead
TR = np.array([[0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.3]], float)


def text(matrix):
    return " ".join(repr(float(value)) for value in np.asarray(matrix).ravel()[:12])


def scans(folder, digits=6):
    folder.mkdir(parents=True)
    for number, xyzi in enumerate(SMALL.xyzi):
        xyzi.astype("<f4").tofile(folder / f"{number:0{digits}d}.bin")


def square(matrix):
    return np.vstack([matrix, [0, 0, 0, 1]])


def ahead(number):
    """LiDAR poses on an arc: 1 m and 0.1 rad a frame."""
    cos, sin = math.cos(0.1 * number), math.sin(0.1 * number)
    return np.array([[cos, -sin, 0, number], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)

"""Scans in a tenth of their bytes, for drives that are made by the thousand and carried to where they train.

A point is kept as range, elevation, azimuth, reflectance and, where known, class. Scans come beam by beam, so from one
point to the next the angles hardly change: what is written are differences, high and low bytes apart, then deflated
(zlib). Places keep to 6 mm within 100 m, a quarter of what a LiDAR's own noise amounts to.

The file: MAGIC, then deflated: number of points (uint32), whether there are classes (uint8), and each of these columns.
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from bevfusion.structures import DataError, Scan

SUFFIX = ".scan"
MAGIC = b"BEVSCAN1"
FARTHEST_M = 655.0
MOST_POINTS = 10_000_000  # the largest scanners give half a million: what claims more is damaged
_RANGE_M = 0.01  # what one step stands for
_ANGLE_RAD = 2.0 * math.pi / 65536.0  # 0.0055 degrees, 5 mm to either side at 100 m
_STRENGTH = 1.0 / 200.0  # KITTI's hundredths stay what they are
_HEADER = struct.Struct("<IB")
_PLANES = 4  # range, elevation, azimuth, reflectance; and the class


def pack_scan(scan: Scan) -> bytes:
    """A scan as bytes.

    Args:
        scan: the upper half of its labels, which numbers instances, is not kept.

    Raises:
        DataError: if it has more than ten million points, or one beyond 655 m.
    """
    if len(scan) > MOST_POINTS:
        raise DataError(f"{len(scan)} points cannot be packed: up to {MOST_POINTS} can")
    x, y, z = scan.xyz.astype(np.float64).T
    away_m = np.hypot(x, y)
    range_m = np.hypot(away_m, z)
    if range_m.max(initial=0.0) > FARTHEST_M:
        raise DataError(f"a point {range_m.max():.0f} m away cannot be packed: up to {FARTHEST_M:.0f} m can")
    columns = [
        range_m / _RANGE_M,
        np.arctan2(z, away_m) / _ANGLE_RAD,
        np.arctan2(y, x) / _ANGLE_RAD,
        np.clip(scan.intensity, 0.0, 1.0) / _STRENGTH,
    ]
    planes = [(np.rint(column).astype(np.int64) & 0xFFFF).astype(np.uint16) for column in columns]
    if scan.labels is not None:
        planes.append((scan.labels & 0xFFFF).astype(np.uint16))
    header = _HEADER.pack(len(scan), scan.labels is not None)
    return MAGIC + zlib.compress(header + b"".join(_differences(plane) for plane in planes))


def unpack_scan(data: bytes, source: str) -> Scan:
    """The scan that `pack_scan` made bytes of.

    Args:
        data: the bytes.
        source: what the message of an error names.

    Raises:
        DataError: if they are not that, or damaged.
    """
    if not data.startswith(MAGIC):
        raise DataError(f"{source}: not a packed scan (expected it to begin with {MAGIC.decode()})")
    inflate = zlib.decompressobj()
    try:
        count, labelled = _HEADER.unpack(inflate.decompress(data[len(MAGIC) :], _HEADER.size))
        size = 2 * (_PLANES + labelled) * count
        if labelled > 1 or count > MOST_POINTS:
            raise DataError(f"{source}: broken packed scan: {count} points")
        body = inflate.decompress(inflate.unconsumed_tail, size + 1)
    except (zlib.error, struct.error) as error:
        raise DataError(f"{source}: broken packed scan: {error}") from error
    if len(body) != size or not inflate.eof:
        raise DataError(f"{source}: broken packed scan: {len(body)} bytes for {count} points")
    values = _sums(np.frombuffer(body, np.uint8).reshape(_PLANES + labelled, 2, count))
    range_m = values[0] * _RANGE_M
    elevation, azimuth = (values[i].astype(np.int16) * _ANGLE_RAD for i in (1, 2))
    away_m = range_m * np.cos(elevation)
    xyz = np.stack([away_m * np.cos(azimuth), away_m * np.sin(azimuth), range_m * np.sin(elevation)], axis=1)
    strength = np.minimum(values[3] * _STRENGTH, 1.0)
    labels = values[_PLANES].astype(np.uint32) if labelled else None
    return Scan(xyz.astype(np.float32), strength.astype(np.float32), labels)


def read_packed_scan(path: Path) -> Scan:
    """The scan in a file.

    Raises:
        DataError: if it is empty, damaged or something else.
        OSError: if it cannot be read.
    """
    scan = unpack_scan(path.read_bytes(), str(path))
    if len(scan) == 0:
        raise DataError(f"{path}: empty scan file")
    return scan


def _differences(values: UInt16[np.ndarray, " n"]) -> bytes:
    """Steps from value to value (modulo 2^16), all low bytes before all high ones: runs that deflate well."""
    steps = np.diff(values, prepend=np.uint16(0)).astype("<u2")
    return steps.view(np.uint8).reshape(-1, 2).T.tobytes()


def _sums(planes: UInt8[np.ndarray, "p 2 n"]) -> UInt16[np.ndarray, "p n"]:
    """The values of `_differences`, a row a plane."""
    steps = planes[:, 0].astype(np.uint16) | (planes[:, 1].astype(np.uint16) << 8)
    values: np.ndarray = np.cumsum(steps, axis=1, dtype=np.uint16)
    return values

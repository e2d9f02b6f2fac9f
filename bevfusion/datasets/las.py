"""LAS and LAZ files, through laspy (extra `las`): scans about the sensor, not aerial surveys."""

import struct
from pathlib import Path

import numpy as np

from bevfusion.datasets.cloud import MAX_POINTS, Cloud
from bevfusion.datasets.fields import seconds_after
from bevfusion.structures import DataError

HEADER_BYTES = 227  # of the oldest version
RECORD_BYTES = 54  # the least that a record before the points takes
PACKED_BITS = 0xC0  # of the point format
VARIABLE_CHUNKS = 0xFFFFFFFF
MAX_RATIO = 200  # of LAZ: more points than this many to a byte pair are a lie


def read_las(path: Path) -> Cloud:
    """The points of a LAS or LAZ file.

    Raises:
        DataError: if laspy is not installed, the file is damaged, or it holds more points than its size allows.
    """
    try:
        import laspy  # type: ignore[import-untyped]
        import lazrs  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError(f"{path}: LAS and LAZ are read by laspy: pip install 'bevfusion[las]'") from error
    damaged = (
        laspy.errors.LaspyException,
        lazrs.LazrsError,
        *(ValueError, OSError, EOFError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, AttributeError),
        *(AssertionError, MemoryError, struct.error),
    )
    size = path.stat().st_size
    _check_header(path, size)
    try:
        with laspy.open(path, laz_backend=laspy.LazBackend.Lazrs, read_evlrs=False) as reader:
            header = reader.header
            count, step = int(header.point_count), int(header.point_format.size)
            packed = bool(header.are_points_compressed)
            if not 0 < count <= MAX_POINTS:
                raise DataError(f"{path}: its header declares {count} points, expected 1 to {MAX_POINTS}")
            if count * (1 if packed else step) > size * (MAX_RATIO if packed else 1):
                raise DataError(f"{path}: declares {count} points of {step} bytes, but holds {size} bytes: cut off?")
            points = reader.read_points(count)
            xyz = np.stack([np.array(points[name], dtype=np.float64) for name in ("x", "y", "z")], axis=1)
            intensity = np.array(points["intensity"])
            timed = "gps_time" in points.point_format.dimension_names
            time = np.array(points["gps_time"]) if timed else None
    except DataError:
        raise
    except damaged as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise DataError(f"{path}: cannot be read as LAS ({told})") from error
    if len(xyz) != count:
        raise DataError(f"{path}: declares {count} points, but holds {len(xyz)}")
    with np.errstate(over="ignore"):
        return Cloud(
            xyz.astype(np.float32),
            intensity,
            time_s=None if time is None else seconds_after(time, None),
        )


def _check_header(path: Path, size: int) -> None:
    """Refuse what laspy would be busy with for minutes, or would end the process over: sizes that cannot be.

    Raises:
        DataError: if the file has no room for what its header declares.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        if len(head) < HEADER_BYTES or head[:4] != b"LASF":
            raise DataError(f"{path}: not a LAS file, it begins with {head[:4]!r}")
        at, points_at, records = (int.from_bytes(head[i : i + n], "little") for i, n in ((94, 2), (96, 4), (100, 4)))
        if points_at + 8 > size or records * RECORD_BYTES > points_at:
            raise DataError(f"{path}: its LAS header declares {records} records before byte {points_at} of {size}")
        if not head[104] & PACKED_BITS:
            return
        point_size = int.from_bytes(head[105:107], "little")
        for _ in range(records):
            file.seek(at)
            record = file.read(RECORD_BYTES)
            length = int.from_bytes(record[20:22], "little")
            if record[2:16] == b"laszip encoded":
                _check_packing(path, file.read(length), point_size)
            at += RECORD_BYTES + length
        file.seek(points_at)
        table_at = int.from_bytes(file.read(8), "little", signed=True)
        if table_at == -1:  # written by a stream: the place stands at the end
            file.seek(size - 8)
            table_at = int.from_bytes(file.read(8), "little", signed=True)
        if not points_at < table_at <= size - 8:
            raise DataError(f"{path}: its table of chunks lies at byte {table_at} of {size}: cut off?")
        file.seek(table_at + 4)
        chunks = int.from_bytes(file.read(4), "little")
        if chunks > size:
            raise DataError(f"{path}: declares {chunks} chunks in {size} bytes")


def _check_packing(path: Path, record: bytes, point_size: int) -> None:
    """Of a LAZ file: how its points are packed."""
    chunk_points, items = (int.from_bytes(record[i : i + n], "little") for i, n in ((12, 4), (32, 2)))
    sizes = [int.from_bytes(record[at + 2 : at + 4], "little") for at in range(34, min(34 + 6 * items, len(record)), 6)]
    if sum(sizes) != point_size or not (0 < chunk_points <= MAX_POINTS or chunk_points == VARIABLE_CHUNKS):
        raise DataError(
            f"{path}: packs {chunk_points} points of {sum(sizes)} bytes, of a point's {point_size}: damaged"
        )

"""LAS and LAZ files, through laspy (extra `las`): scans about the sensor, not aerial surveys."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np

from bevfusion.datasets.cloud import MAX_POINTS, Cloud, seconds_after
from bevfusion.structures import DataError

HEADER_BYTES = 227  # of the oldest version
HEADER_BYTES_14 = 375
MAX_DECODING_S = 120
RECORD_BYTES = 54  # the least that a record before the points takes
PACKED_BITS = 0xC0  # of the point format
VARIABLE_CHUNKS = 0xFFFFFFFF
MAX_RATIO = 200  # of LAZ: more points than this many to a byte pair are a lie


def read_las(path: Path) -> Cloud:
    """The points of a LAS or LAZ file.

    LAZ is decoded by a child process (`las_points`): data that crash its native decoder cost this file alone.

    Raises:
        DataError: if laspy is not installed, the file is damaged, or it holds more points than its size allows.
    """
    try:
        from bevfusion.datasets import las_points
    except ImportError as error:
        raise DataError(f"{path}: LAS and LAZ are read by laspy: pip install 'bevfusion[las]'") from error
    count, packed = _check_header(path, path.stat().st_size)
    try:
        if packed:
            xyz, intensity, time = _decoded_by_child(path, Path(las_points.__file__), count)
        else:
            xyz, intensity, time = las_points.decode(str(path))
    except DataError:
        raise
    except las_points.DAMAGED as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise DataError(f"{path}: cannot be read as LAS ({told})") from error
    if not len(xyz) == len(intensity) == count or len(time) not in (0, count):
        raise DataError(f"{path}: declares {count} points, but holds {len(xyz)}")
    with np.errstate(over="ignore"):
        return Cloud(xyz.astype(np.float32), intensity, time_s=seconds_after(time, None) if len(time) else None)


def _decoded_by_child(path: Path, decoder: Path, count: int) -> list[np.ndarray]:
    """What the child makes of a file.

    Raises:
        DataError: if it says that the file is damaged, crashes, or takes too long.
    """
    # not by its path: the files beside it would hide modules of the same names
    command = [sys.executable, "-c", decoder.read_text(encoding="utf-8"), str(path.absolute())]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=MAX_DECODING_S, check=False, cwd=path.anchor or None
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path}: its {count} points are not decoded within {MAX_DECODING_S} s: damaged") from error
    if done.returncode < 0:
        raise DataError(f"{path}: its decoder crashed (signal {-done.returncode}): damaged")
    if done.returncode:
        told = (done.stderr.decode(errors="replace").splitlines() or ["damaged"])[-1][:80]
        raise DataError(f"{path}: cannot be read as LAZ ({told})")
    stream = io.BytesIO(done.stdout)
    return [np.load(stream, allow_pickle=False) for _ in range(3)]


def _check_header(path: Path, size: int) -> tuple[int, bool]:
    """Number of points, and whether they are packed; refused are sizes that cannot be, before anything is decoded.

    Raises:
        DataError: if the file has no room for what its header declares.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES_14)
        if len(head) < HEADER_BYTES or head[:4] != b"LASF":
            raise DataError(f"{path}: not a LAS file, it begins with {head[:4]!r}")
        at, points_at, records = (int.from_bytes(head[i : i + n], "little") for i, n in ((94, 2), (96, 4), (100, 4)))
        if points_at + 8 > size or records * RECORD_BYTES > points_at:
            raise DataError(f"{path}: its LAS header declares {records} records before byte {points_at} of {size}")
        packed, step = bool(head[104] & PACKED_BITS), int.from_bytes(head[105:107], "little")
        count = int.from_bytes(head[107:111], "little")
        if head[25] >= 4 and len(head) >= HEADER_BYTES_14:  # the older field counts no further than 32 bits
            count = int.from_bytes(head[247:255], "little") or count
        if not 0 < count <= MAX_POINTS:
            raise DataError(f"{path}: its header declares {count} points, expected 1 to {MAX_POINTS}")
        if count * (1 if packed else step) > size * (MAX_RATIO if packed else 1):
            raise DataError(f"{path}: declares {count} points of {step} bytes, but holds {size} bytes: cut off?")
        if not packed:
            return count, False
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
        if not 0 < chunks <= min(count, size):
            raise DataError(f"{path}: declares {chunks} chunks of {count} points in {size} bytes")
        return count, True


def _check_packing(path: Path, record: bytes, point_size: int) -> None:
    """Of a LAZ file: how its points are packed."""
    chunk_points, items = (int.from_bytes(record[i : i + n], "little") for i, n in ((12, 4), (32, 2)))
    sizes = [int.from_bytes(record[at + 2 : at + 4], "little") for at in range(34, min(34 + 6 * items, len(record)), 6)]
    if sum(sizes) != point_size or not (0 < chunk_points <= MAX_POINTS or chunk_points == VARIABLE_CHUNKS):
        raise DataError(
            f"{path}: packs {chunk_points} points of {sum(sizes)} bytes, of a point's {point_size}: damaged"
        )

"""PLY files: the vertices, ascii or binary of either byte order."""

from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bevfusion.datasets.cloud import MAX_POINTS, Cloud, cloud_from_fields
from bevfusion.structures import DataError

MAX_HEADER_LINES = 512
MAX_LINE_BYTES = 4096
ASCII_BYTES = 512  # at most this many a value
ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}


class _Header(NamedTuple):
    storage: str
    dtype: np.dtype[Any]  # of a vertex
    points: int
    skip: int  # values (ascii: lines) or bytes of the elements before


def read_ply(path: Path) -> Cloud:
    """The vertices of a PLY file.

    Raises:
        DataError: if the header is damaged, or sizes and data disagree.
    """
    with path.open("rb") as file:
        header = _read_header(file, path)
        remaining = path.stat().st_size - file.tell()
        if header.storage == "ascii":
            records = _ascii_records(file, header, remaining, path)
        else:
            size = header.points * header.dtype.itemsize
            if remaining < header.skip + size:
                declared = f"{header.points} vertices of {header.dtype.itemsize} bytes"
                raise DataError(f"{path}: declares {declared}, but holds {remaining} bytes: cut off?")
            file.seek(header.skip, 1)
            records = np.frombuffer(file.read(size), header.dtype)
    return cloud_from_fields({name: records[name] for name in header.dtype.names or ()}, None, str(path))


def _read_header(file: BufferedReader, path: Path) -> _Header:
    if file.readline(8).strip() != b"ply":
        raise DataError(f"{path}: not a PLY file, it does not begin with 'ply'")
    storage = ""
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for _ in range(MAX_HEADER_LINES):
        words = file.readline(MAX_LINE_BYTES).decode("ascii", "replace").split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "end_header":
            break
        try:
            if words[0] == "format":
                storage = words[1]
            elif words[0] == "element":
                elements.append((words[1], int(words[2]), []))
            elif words[0] == "property":
                kind = "list" if words[1] == "list" else TYPES[words[1]]
                elements[-1][2].append((words[-1], kind))
            else:
                raise ValueError(f"unknown word {words[0][:30]!r}")
        except (IndexError, ValueError, KeyError) as error:
            raise DataError(f"{path}: its PLY header is damaged at '{' '.join(words)[:60]}'") from error
    else:
        raise DataError(f"{path}: its PLY header has no end")
    if storage not in ORDERS:
        raise DataError(f"{path}: format {storage[:30] or '(none)'} is not read; read are {', '.join(ORDERS)}")
    return _layout(storage, elements, path)


def _layout(storage: str, elements: list[tuple[str, int, list[tuple[str, str]]]], path: Path) -> _Header:
    skip = 0
    for name, count, properties in elements:
        if any(kind == "list" for _, kind in properties):
            raise DataError(f"{path}: lists in or before its vertices ({name}) are not read")
        try:
            dtype = np.dtype([(prop, ORDERS[storage] + kind) for prop, kind in properties])
        except ValueError as error:
            raise DataError(f"{path}: its PLY header is damaged ({str(error)[:60]})") from error
        if not 0 <= count <= MAX_POINTS or (name == "vertex" and (count == 0 or dtype.itemsize == 0)):
            raise DataError(f"{path}: declares {count} x {name}, expected 1 to {MAX_POINTS} vertices")
        if name == "vertex":
            return _Header(storage, dtype, count, skip)
        skip += count if storage == "ascii" else count * dtype.itemsize
    raise DataError(f"{path}: a PLY file without vertices")


def _ascii_records(file: BufferedReader, header: _Header, remaining: int, path: Path) -> np.ndarray:
    names = header.dtype.names or ()
    least = 2 * len(names) * header.points - 1
    if not least <= remaining <= ASCII_BYTES * len(names) * (header.points + header.skip) or header.skip > remaining:
        raise DataError(f"{path}: declares {header.points} vertices of {len(names)} values, holds {remaining} bytes")
    try:
        table = np.loadtxt(
            file, np.float64, skiprows=header.skip, ndmin=2, max_rows=header.points, encoding="ascii", comments=None
        )
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: expected rows of {len(names)} numbers ({str(error).splitlines()[0][:80]})") from error
    if table.shape != (header.points, len(names)):
        raise DataError(f"{path}: expected {header.points} rows of {len(names)} numbers, got {table.shape}")
    records = np.zeros(header.points, header.dtype)
    for at, name in enumerate(names):
        with np.errstate(invalid="ignore", over="ignore"):
            records[name] = table[:, at]
    return records

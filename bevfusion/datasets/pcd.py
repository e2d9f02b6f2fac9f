"""PCD files of the Point Cloud Library: ascii, binary and binary_compressed."""

from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bevfusion.datasets.cloud import MAX_POINTS, Cloud, cloud_from_fields
from bevfusion.structures import DataError

MAX_HEADER_LINES = 64
MAX_LINE_BYTES = 4096
MAX_POINT_BYTES = 4096
ASCII_BYTES = 512  # at most this many a value
KINDS = {"F": {4: "f4", 8: "f8"}, "U": {1: "u1", 2: "u2", 4: "u4", 8: "u8"}, "I": {1: "i1", 2: "i2", 4: "i4", 8: "i8"}}


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    points: int
    storage: str


def read_pcd(path: Path) -> Cloud:
    """The points of a PCD file, as they are: its VIEWPOINT is not applied.

    Raises:
        DataError: if the header is damaged, or sizes and data disagree.
    """
    with path.open("rb") as file:
        header = _read_header(file, path)
        if header.storage == "ascii":
            records = _ascii_records(file, header, path)
        else:
            data = _plain_data(file, header, path)
            records = data.view(header.dtype) if header.storage == "binary" else _from_columns(data, header)
    names = [name for name in header.dtype.names or () if records[name].ndim == 1]
    return cloud_from_fields({name: records[name] for name in names}, None, str(path))


def _read_header(file: BufferedReader, path: Path) -> _Header:
    entries: dict[str, list[str]] = {}
    for _ in range(MAX_HEADER_LINES):
        line = file.readline(MAX_LINE_BYTES)
        words = line.decode("ascii", "replace").split()
        if not line:
            break
        if words and not words[0].startswith("#"):
            entries[words[0]] = words[1:]
            if words[0] == "DATA":
                break
    if "DATA" not in entries or "FIELDS" not in entries:
        raise DataError(f"{path}: not a PCD file, its header has no FIELDS or no DATA line")
    names = entries["FIELDS"]
    try:
        sizes = [int(word) for word in entries["SIZE"]]
        counts = [int(word) for word in entries.get("COUNT", ["1"] * len(names))]
        points = int(entries["POINTS"][0]) if "POINTS" in entries else _area(entries)
        layout = [
            # unnamed and padding fields are called _, several times over
            (f"{name}#{at}" if name == "_" else name, "<" + KINDS[kind][size], (count,) if count != 1 else ())
            for at, (name, kind, size, count) in enumerate(zip(names, entries["TYPE"], sizes, counts, strict=True))
        ]
        if min(counts, default=1) < 1 or sum(counts) > MAX_POINT_BYTES:
            raise ValueError("a point of no or too many values")
        dtype = np.dtype(layout)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(f"{path}: its PCD header is damaged ({type(error).__name__}: {str(error)[:60]})") from error
    if not 0 < points <= MAX_POINTS:
        raise DataError(f"{path}: its header declares {points} points, expected 1 to {MAX_POINTS}")
    storage = " ".join(entries["DATA"])
    if storage not in ("ascii", "binary", "binary_compressed"):
        raise DataError(f"{path}: DATA {storage[:30]} is not read; read are ascii, binary, binary_compressed")
    return _Header(dtype, points, storage)


def _area(entries: dict[str, list[str]]) -> int:
    return int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0])


def _ascii_records(file: BufferedReader, header: _Header, path: Path) -> np.ndarray:
    width = header.dtype.itemsize and sum(int(np.prod(header.dtype[name].shape)) for name in header.dtype.names or ())
    remaining = path.stat().st_size - file.tell()
    if not 2 * width * header.points - 1 <= remaining <= ASCII_BYTES * width * header.points:
        raise DataError(f"{path}: declares {header.points} points of {width} values, but holds {remaining} bytes")
    try:
        table = np.loadtxt(file, dtype=np.float64, ndmin=2, max_rows=header.points, encoding="ascii", comments=None)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: expected rows of {width} numbers ({str(error).splitlines()[0][:80]})") from error
    if table.shape != (header.points, width):
        raise DataError(f"{path}: expected {header.points} rows of {width} numbers, got {table.shape}")
    records = np.zeros(header.points, header.dtype)
    at = 0
    for name in header.dtype.names or ():
        count = int(np.prod(header.dtype[name].shape))
        with np.errstate(invalid="ignore", over="ignore"):
            records[name] = table[:, at].reshape(-1) if count == 1 else table[:, at : at + count]
        at += count
    return records


def _plain_data(file: BufferedReader, header: _Header, path: Path) -> np.ndarray:
    """The bytes of all points."""
    expected = header.points * header.dtype.itemsize
    remaining = path.stat().st_size - file.tell()
    if header.storage == "binary":
        if remaining < expected:
            declared = f"{header.points} points of {header.dtype.itemsize} bytes"
            raise DataError(f"{path}: declares {declared}, but holds {remaining} bytes: cut off?")
        return np.frombuffer(file.read(expected), np.uint8)
    packed, plain = (int.from_bytes(file.read(4), "little") for _ in range(2))
    if plain != expected or packed > remaining - 8:
        raise DataError(f"{path}: declares {packed} bytes for {plain}, expected {expected} and holds {remaining - 8}")
    return np.frombuffer(_lzf(file.read(packed), plain, path), np.uint8)


def _from_columns(data: np.ndarray, header: _Header) -> np.ndarray:
    """Records of the compressed form, which stores one field of all points after the other."""
    records = np.zeros(header.points, header.dtype)
    at = 0
    for name in header.dtype.names or ():
        field = header.dtype[name]
        size = field.itemsize * header.points
        records[name] = np.ascontiguousarray(data[at : at + size]).view(field.base).reshape(records[name].shape)
        at += size
    return records


def _lzf(data: bytes, size: int, path: Path) -> bytearray:
    """Marc Lehmann's LZF: runs of new bytes, and copies of what came before."""
    out = bytearray()
    at = 0
    try:
        while at < len(data):
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
            else:
                length = control >> 5
                if length == 7:
                    length += data[at]
                    at += 1
                start = len(out) - ((control & 31) << 8) - data[at] - 1
                at += 1
                if start < 0:
                    raise IndexError("a copy from before the beginning")
                piece = out[start : start + length + 2]
                repeats, rest = divmod(length + 2, len(piece))
                out += piece * repeats + piece[:rest]
            if len(out) > size:
                raise IndexError("more bytes than declared")
    except IndexError as error:
        raise DataError(f"{path}: its compressed data are damaged ({error})") from error
    if len(out) != size:
        raise DataError(f"{path}: its compressed data are damaged ({len(out)} of {size} bytes)")
    return out

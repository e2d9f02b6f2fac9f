"""Scans as NumPy arrays (.npy): points in rows or in columns, or records with named fields."""

import struct
import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.bare_files import COLUMNS, HINT, columns_from_names, name_columns, named_cloud
from bevfusion.datasets.cloud import MAX_POINTS, Cloud
from bevfusion.datasets.fields import cloud_from_fields
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

MAGIC = b"\x93NUMPY"
# numpy parses the header as Python text, and lets through what goes wrong there
UNREADABLE = (
    *(ValueError, OSError, EOFError, TypeError, OverflowError, MemoryError, RecursionError, KeyError, AttributeError),
    *(SyntaxError, tokenize.TokenError, struct.error),
)
LEAST_POINTS = 128  # fewer tell nothing of their columns
USUAL = ("x", "y", "z", "intensity")


def find_array_columns(files: Sequence[Path], names: Sequence[str], summary: InputSummary) -> tuple[str, ...]:
    """What the columns of the arrays of a drive hold; nothing for arrays whose fields have names.

    Args:
        files: all of them; three are looked into.
        names: what the user says of the columns, as of `columns_from_names`; empty: nothing.
        summary: is told what was found.

    Raises:
        DataError: if it is in doubt.
    """
    if names:
        summary.add("used", "columns", f"as they were named: {', '.join(names)}")
        return tuple(name for name, _ in columns_from_names(names))
    found: list[tuple[str, ...]] = []
    doubts: list[DataError] = []
    for file in [files[at] for at in sorted({0, len(files) // 2, len(files) - 1})]:
        try:
            array = _read_array(file)
            if array.dtype.names is None:
                table = _points_in_rows(array, file)
                found.append(tuple(_told_names(table, file)))
        except DataError as error:
            doubts.append(error)
    if not found:
        return ()  # of records; or each file is told of by itself
    columns = max(found, key=found.count)
    if 2 * found.count(columns) <= len(found) + len(doubts):
        if doubts:
            raise doubts[0]
        shown = " or ".join(", ".join(_shown(one)) for one in dict.fromkeys(found))
        raise DataError(f"{files[0].parent}: columns differ from file to file ({shown}): {HINT}")
    if columns not in (USUAL, USUAL[:3]):
        summary.add("assumed", "columns", f"as the numbers tell: {', '.join(_shown(columns))}")
    return columns


def read_array_cloud(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """The points of an array: floats of shape (N, k) or (k, N), also of an image of points, or records.

    Args:
        path: of the file.
        columns: what its columns hold; empty: x, y, z, intensity, and others that are not used.

    Raises:
        DataError: if it is no such array, or has another number of columns.
    """
    array = _read_array(path)
    if array.dtype.names is not None:
        fields: dict[str, np.ndarray] = {}
        for name in array.dtype.names:
            values = np.array(array[name])
            if values.ndim == array.ndim + 1 and values.shape[-1] == 3 and name.lower() in ("xyz", "position", "point"):
                fields |= {axis: values[..., at].ravel() for at, axis in enumerate("xyz")}
            elif values.ndim == array.ndim:
                fields[name] = values.ravel()
        return cloud_from_fields(fields, None, str(path))
    table = _points_in_rows(array, path)
    names = columns or _usual(table.shape[1])
    if len(names) != table.shape[1]:
        raise DataError(f"{path}: {table.shape[1]} columns, expected {', '.join(_shown(names))}")
    return named_cloud({name: np.array(table[:, at]) for at, name in enumerate(names)}, str(path))


def _usual(count: int) -> tuple[str, ...]:
    return (*USUAL[:count], *(f"_{at}" for at in range(len(USUAL), count)))


def _shown(names: Sequence[str]) -> list[str]:
    return ["_" if name.startswith("_") else name for name in names]


def _told_names(table: Float[np.ndarray, "n k"], path: Path) -> Sequence[str]:
    count = table.shape[1]
    return _usual(count) if count == 3 or len(table) < LEAST_POINTS else name_columns(table, str(path))


def _read_array(path: Path) -> np.ndarray:
    """The array of a file, which stays on disk."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:  # numpy would try archives and pickles
            raise DataError(f"{path}: not an .npy array, it does not begin with \\x93NUMPY")
    try:
        # mapped: a header that lies about its size is found out before memory is asked for
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        told = (str(error).splitlines() or ["damaged"])[0][:80]
        raise DataError(f"{path}: cannot be read as an array ({told})") from error
    if not isinstance(array, np.ndarray) or array.size > 16 * MAX_POINTS:
        raise DataError(f"{path}: expected one array of points")
    if array.size == 0:
        raise DataError(f"{path}: no points")
    return array


def _points_in_rows(array: np.ndarray, path: Path) -> Float[np.ndarray, "n k"]:
    """The same with a point in each row, whichever way it was written.

    Raises:
        DataError: if neither the last nor the first axis can be that of the columns.
    """
    shape = array.shape
    if array.dtype.kind == "f" and array.ndim in (2, 3):
        if shape[-1] in COLUMNS:
            return array.reshape(-1, shape[-1])
        if shape[0] in COLUMNS:
            return np.moveaxis(array, 0, -1).reshape(-1, shape[0])
    raise DataError(f"{path}: expected floats of shape (N, 3), (N, 4) or (4, N), got {array.dtype} of {shape}")

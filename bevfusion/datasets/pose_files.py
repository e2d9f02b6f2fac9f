"""Poses and fixes in text: CSV with a header, and TUM trajectories (stamp x y z qx qy qz qw)."""

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.kitti import read_lines
from bevfusion.datasets.rigid import rotations, yaws_rad
from bevfusion.structures import DataError

MAX_BYTES = 1 << 30
STAMP_NAMES = ("stamp_ns", "timestamp_ns", "stamp", "timestamp", "time", "t", "utc")
LAT_NAMES = ("lat", "latitude", "lat_deg")
LON_NAMES = ("lon", "lng", "longitude", "lon_deg")
X_NAMES, Y_NAMES = ("x", "x_m", "tx", "east"), ("y", "y_m", "ty", "north")
# name -> (scale, offset): the yaw counter-clockwise from east (or x) is scale * number + offset, in radians
YAWS = {
    "yaw_rad": (1.0, 0.0),
    "yaw": (1.0, 0.0),
    "yaw_deg": (math.pi / 180.0, 0.0),
    # compass bearings
    "heading_deg": (-math.pi / 180.0, 0.5 * math.pi),
    "bearing_deg": (-math.pi / 180.0, 0.5 * math.pi),
    "azimuth_deg": (-math.pi / 180.0, 0.5 * math.pi),
}
QUATERNION = ("qx", "qy", "qz", "qw")
NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{0,9})?[0-9]*")


@dataclass(frozen=True, slots=True)
class PoseTable:
    """The rows of a pose file; `places` are latitude and longitude in degrees if `on_globe`, else metres."""

    on_globe: bool
    stamps_ns: list[int] | None
    places: Float[np.ndarray, "n 2"]
    yaw_rad: Float[np.ndarray, " n"] | None  # counter-clockwise from east, or from x


def stamp_from_text(word: str) -> int | None:
    """Nanoseconds of a stamp in seconds (with a fraction), or in whole milli-, micro- or nanoseconds since 1970.

    None if it is no number. Small whole numbers count as seconds.
    """
    word = word.strip()
    if not NUMBER.fullmatch(word):
        return None
    whole, _, fraction = word.partition(".")
    value = int(whole)
    if not fraction:  # since 1970, seconds have 10 digits, milliseconds 13 and so on
        for digits, unit_ns in ((17, 1), (14, 1_000), (12, 1_000_000)):
            if len(whole.lstrip("0")) >= digits:
                return value * unit_ns if value * unit_ns < 2**63 else None
    stamp_ns = value * 10**9 + int(fraction[:9].ljust(9, "0"))
    return stamp_ns if stamp_ns < 2**63 else None


def read_pose_file(path: Path) -> PoseTable:
    """A CSV file with a header that names its columns, or a TUM trajectory.

    A CSV has either lat, lon or x, y, and perhaps stamp (or timestamp, in s or ns) and a heading: yaw_deg or
    yaw_rad (counter-clockwise from east or x), heading_deg (a compass bearing), or qx, qy, qz, qw.

    Raises:
        DataError: if it is neither, or a row is malformed.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: {path.stat().st_size} bytes, at most {MAX_BYTES} are read")
    lines = [line for line in read_lines(path) if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise DataError(f"{path}: no poses in it")
    words = re.split(r"[,;\s]+", lines[0].strip())
    if not all(_is_number(word) for word in words):
        return _read_csv(lines, path)
    if len(words) == 8:
        return _read_tum(lines, path)
    raise DataError(f"{path}: expected CSV with a header, or TUM lines of 8 numbers; its first line has {len(words)}")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _read_tum(lines: list[str], path: Path) -> PoseTable:
    rows, stamps_ns = [], []
    for number, line in enumerate(lines, start=1):
        words = re.split(r"[,\s]+", line.strip())
        stamp_ns = stamp_from_text(words[0])
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            values = []
        if stamp_ns is None or len(values) != 7:
            raise DataError(f"{path}: line {number} is not stamp x y z qx qy qz qw: {line.strip()[:60]!r}")
        rows.append(values)
        stamps_ns.append(stamp_ns)
    table = np.array(rows)
    return PoseTable(False, stamps_ns, table[:, :2], yaws_rad(rotations(table[:, 3:])))


def _read_csv(lines: list[str], path: Path) -> PoseTable:
    delimiter = next((mark for mark in ",;\t" if mark in lines[0]), " ")
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error
    names = [name.strip().strip('"').lower() for name in rows[0]]
    columns = {name: at for at, name in enumerate(names)}
    on_globe = _first(columns, LAT_NAMES) is not None and _first(columns, LON_NAMES) is not None
    pair = (LAT_NAMES, LON_NAMES) if on_globe else (X_NAMES, Y_NAMES)
    places = [_first(columns, wanted) for wanted in pair]
    if None in places or len(rows) < 2:
        raise DataError(f"{path}: expected columns lat, lon or x, y and at least one row, got {', '.join(names)[:120]}")
    stamp = _first(columns, STAMP_NAMES)
    yaw = _first(columns, tuple(YAWS))
    yaw_rad: np.ndarray | None = None
    if yaw is not None:
        scale, offset = YAWS[names[yaw]]
        yaw_rad = scale * _numbers(rows, yaw, path) + offset
    elif all(name in columns for name in QUATERNION):
        yaw_rad = yaws_rad(rotations(np.stack([_numbers(rows, columns[name], path) for name in QUATERNION], axis=1)))
    return PoseTable(
        on_globe,
        None if stamp is None else _stamps(rows, stamp, path),
        np.stack([_numbers(rows, at, path) for at in places if at is not None], axis=1),
        yaw_rad,
    )


def _first(columns: dict[str, int], wanted: tuple[str, ...]) -> int | None:
    return next((columns[name] for name in wanted if name in columns), None)


def _numbers(rows: list[list[str]], column: int, path: Path) -> Float[np.ndarray, " n"]:
    """A column; an empty field is NaN."""
    values = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            word = row[column].strip()
            values.append(float(word) if word else math.nan)
        except (IndexError, ValueError) as error:
            raise DataError(f"{path}: row {number} has no number in column {rows[0][column][:30]!r}") from error
    return np.array(values)


def _stamps(rows: list[list[str]], column: int, path: Path) -> list[int]:
    stamps_ns = []
    for number, row in enumerate(rows[1:], start=2):
        stamp_ns = stamp_from_text(row[column]) if column < len(row) else None
        if stamp_ns is None:
            raise DataError(f"{path}: row {number} has no stamp in column {rows[0][column][:30]!r}")
        stamps_ns.append(stamp_ns)
    return stamps_ns

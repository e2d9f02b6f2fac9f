"""Where a picture lies on the globe: GeoTIFF tags, or a world file beside it."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyproj
from jaxtyping import Float

from bevfusion.structures import DataError

_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 11: "f", 12: "d", 16: "Q"}  # TIFF field type -> struct
WIDTH, HEIGHT = 256, 257
_SCALE, _TIEPOINT, _MATRIX = 33550, 33922, 34264
_GEO_KEYS = 34735
NODATA = 42113
_WANTED = (WIDTH, HEIGHT, _SCALE, _TIEPOINT, _MATRIX, _GEO_KEYS, NODATA)
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072  # keys of the directory in tag 34735
_MAX_VALUES = 65_536

Fields = Mapping[int, tuple[int | float | bytes, ...]]


def read_tiff_fields(path: Path) -> Fields:
    """The size and georeferencing fields of a TIFF's first picture (classic or BigTIFF).

    Raises:
        DataError: if the file is no TIFF or is cut short.
    """
    try:
        with path.open("rb") as file:
            return _read_directory(file)
    except (OSError, struct.error, KeyError) as error:
        raise DataError(f"{path} is not a readable TIFF ({error}); export it again") from error


def _read_directory(file: BinaryIO) -> Fields:
    order = {b"II": "<", b"MM": ">"}[file.read(2)]
    big = {42: False, 43: True}[struct.unpack(order + "H", file.read(2))[0]]
    if big:
        file.read(4)
    word, size = ("Q", 8) if big else ("I", 4)
    file.seek(struct.unpack(order + word, file.read(size))[0])
    (entries,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
    directory = file.read(entries * (20 if big else 12))
    fields: dict[int, tuple[int | float | bytes, ...]] = {}
    for at in range(entries):
        entry = directory[at * (20 if big else 12) : (at + 1) * (20 if big else 12)]
        tag, kind, count = struct.unpack(order + "HH" + word, entry[: 4 + size])
        if tag not in _WANTED:
            continue
        if count > _MAX_VALUES:
            raise struct.error(f"field {tag} claims {count} values")
        layout = order + (f"{count}s" if kind == 2 else _FORMATS[kind] * count)
        data = entry[4 + size :]
        if struct.calcsize(layout) > size:
            file.seek(struct.unpack(order + word, data)[0])
            data = file.read(struct.calcsize(layout))
        fields[tag] = struct.unpack(layout, data[: struct.calcsize(layout)])
    return fields


def _numbers(fields: Fields, tag: int) -> list[float]:
    return [float(value) for value in fields.get(tag, ()) if not isinstance(value, bytes)]


def nodata_value(fields: Fields) -> float | None:
    """The pixel value that stands for nothing (GDAL's field 42113)."""
    for value in fields.get(NODATA, ()):
        if isinstance(value, bytes):
            try:
                return float(value.rstrip(b"\0 ").decode("ascii"))
            except ValueError:
                return None
    return None


def _geo_keys(fields: Fields) -> dict[int, int]:
    """Keys of the directory that hold their value in place (the codes)."""
    words = [int(word) for word in _numbers(fields, _GEO_KEYS)]
    quads = [words[i : i + 4] for i in range(4, len(words) - 3, 4)]
    return {key: value for key, location, _, value in quads if location == 0}


def crs_of_tiff(fields: Fields) -> pyproj.CRS | None:
    """The coordinate reference system by its EPSG code; None if the file names none."""
    keys = _geo_keys(fields)
    for key in (_PROJECTED, _GEOGRAPHIC):
        if 1024 <= keys.get(key, 0) < 32767:
            return pyproj.CRS.from_epsg(keys[key])
    return None


def crs_from_tiff_pixel(fields: Fields) -> Float[np.ndarray, "2 3"] | None:
    """Affine map (column, row, 1) of pixel centres -> coordinates; None if the file holds no georeferencing."""
    scale, tie, matrix = (_numbers(fields, tag) for tag in (_SCALE, _TIEPOINT, _MATRIX))
    if len(matrix) == 16:
        affine = np.array([[matrix[0], matrix[1], matrix[3]], [matrix[4], matrix[5], matrix[7]]])
    elif len(scale) >= 2 and len(tie) >= 6:
        affine = np.array([[scale[0], 0.0, tie[3] - tie[0] * scale[0]], [0.0, -scale[1], tie[4] + tie[1] * scale[1]]])
    else:
        return None
    if _geo_keys(fields).get(_RASTER_TYPE, 1) == 1:  # coordinates name the pixels' corners
        affine[:, 2] += affine[:, :2] @ (0.5, 0.5)
    return affine


def read_world_file(picture: Path) -> Float[np.ndarray, "2 3"] | None:
    """Affine map (column, row, 1) of pixel centres -> coordinates from the world file beside a picture; None if none.

    Raises:
        DataError: if the world file does not hold six numbers.
    """
    suffix = picture.suffix
    for candidate in (suffix[:2] + suffix[-1] + "w", suffix + "w", ".wld"):
        path = picture.with_suffix(candidate)
        if path.is_file():
            try:
                a, d, b, e, c, f = (float(word) for word in path.read_text(encoding="ascii").split())
            except ValueError as error:
                raise DataError(f"{path} is no world file: expected six numbers ({error})") from error
            return np.array([[a, b, c], [d, e, f]])
    return None

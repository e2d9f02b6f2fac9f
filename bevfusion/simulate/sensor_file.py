"""LiDARs that users describe: a YAML file or a section of a configuration, with a table of beams beside it."""

import csv
import math
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bevfusion.config import ConfigError, SensorConfig, explain, parse_yaml
from bevfusion.simulate.sensor import Sensor, sensor_of
from bevfusion.structures import DataError

SUFFIXES = (".yaml", ".yml")
_ELEVATIONS, _AZIMUTHS = ("elevation", "vertical", "altitude", "pitch"), ("azimuth", "horizontal")


def sensor_choice(words: str) -> str | Sensor:
    """What a user names: one of the LiDARs that ship, which stays a name, or the path of a YAML file.

    Raises:
        DataError: if there is no such LiDAR or file, or the file describes none.
    """
    if words.lower().endswith(SUFFIXES) or "/" in words:
        return read_sensor(Path(words))
    sensor_of(words)
    return words


def read_sensor(path: Path) -> Sensor:
    """The LiDAR that a YAML file describes by the keys of `SensorConfig`; its table of beams lies beside it.

    Raises:
        DataError: in one line that begins with the path.
    """
    try:
        values: Any = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        if not isinstance(values, dict):
            raise DataError(f"{path}: expected keys and values of a sensor, got {type(values).__name__}")
        return described_sensor(
            SensorConfig.model_validate({"name": re.sub("[^A-Za-z0-9_-]", "-", path.stem), **values}), path.parent
        )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except ConfigError as error:
        raise DataError(str(error)) from error
    except ValidationError as error:
        raise DataError(f"{path}: " + "; ".join(explain(error, SensorConfig))) from error


def described_sensor(described: SensorConfig, folder: Path = Path()) -> Sensor:
    """The LiDAR that a section describes.

    Args:
        described: the section.
        folder: what the path of its table of beams is relative to.

    Raises:
        DataError: if its beams cannot be read, or are none.
    """
    beams = list(described.beams_deg)
    if described.beams:
        beams = read_beams(folder / described.beams)
    beams.sort(key=lambda beam: -beam[0])
    columns = described.columns
    if columns is None:
        columns = round(described.points_per_s / (described.rate_hz * len(beams)))
    sensor = Sensor(
        elevations_rad=tuple(math.radians(elevation) for elevation, _ in beams),
        columns=columns,
        max_range_m=described.max_range_m,
        height_m=described.height_m,
        noise_m=described.range_noise_m,
        dropout=described.dropout,
        azimuths_rad=tuple(math.radians(azimuth) for _, azimuth in beams) if any(a for _, a in beams) else (),
        name=described.name,
    )
    return sensor.with_columns(columns)


def read_beams(path: Path) -> list[tuple[float, float]]:
    """Elevation above the horizon and azimuth of every beam, in degrees, from CSV.

    The header names a column of elevations (elevation, vertical, altitude or pitch) and, where beams of one firing
    point to different sides, one of azimuths (azimuth or horizontal; counter-clockwise); all others are left. A file
    without a header holds one elevation a line.

    Raises:
        DataError: if it is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no table of beams: {error}") from error
    delimiter = next((mark for mark in ",;\t" if mark in text), ",")
    rows = [[word.strip() for word in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    rows = [row for row in rows if any(row) and not row[0].startswith("#")]
    if not rows:
        raise DataError(f"{path}: no table of beams: it is empty")
    elevation, azimuth = _column(rows[0], _ELEVATIONS), _column(rows[0], _AZIMUTHS)
    if elevation is not None:
        rows = rows[1:]
    elif len(rows[0]) == 1:
        elevation = 0
    else:
        raise DataError(
            f"{path}: expected a header with a column of {', '.join(_ELEVATIONS)}, got {', '.join(rows[0])}"
        )
    try:
        beams = [(float(row[elevation]), 0.0 if azimuth is None else float(row[azimuth])) for row in rows]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: expected numbers of degrees in every row: {error}") from error
    wrong = [beam for beam in beams if not (abs(beam[0]) < 90.0 and abs(beam[1]) <= 180.0)]
    if wrong or not beams:
        told = f"got {wrong[0]}" if wrong else "got no row"
        raise DataError(f"{path}: expected elevations within -90 and 90 degrees, azimuths within 180, {told}")
    return beams


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((at for at, word in enumerate(header) if word.lower().startswith(names)), None)

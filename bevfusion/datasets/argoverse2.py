"""Logs of the Argoverse 2 sensor and LiDAR data sets (extra `argoverse2`, for pyarrow).

* LOG/sensors/lidar/STAMP_NS.feather: x, y, z (m, vehicle frame, already compensated for motion), intensity 0 to 255
* LOG/city_SE3_egovehicle.feather: poses of the vehicle in its city's metres; the city is known by LOG/map/*CITY_city*
* LOG/calibration/egovehicle_SE3_sensor.feather: where the LiDAR sits

The ego frame has the vehicle's axes and lies at the upper LiDAR.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from jaxtyping import Float

from bevfusion.datasets.cloud import MAX_POINTS, Cloud
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.rigid import rotations, yaws_rad
from bevfusion.datasets.side_files import name_of
from bevfusion.datasets.tracks import GeoTrack
from bevfusion.structures import DataError

# UTM zone (north), and latitude and longitude of the city frame's origin; its axes are those of UTM
CITIES = {
    "ATX": (14, 30.27464237939507, -97.7404457407424),
    "DTW": (17, 42.29993066912924, -83.17555750783717),
    "MIA": (17, 25.77452579915163, -80.19656914449405),
    "PAO": (10, 37.416065, -122.13571963362166),
    "PIT": (17, 40.44177902989321, -80.01294377242584),
    "WDC": (18, 38.889377, -77.0355047439081),
}
LIDAR = "up_lidar"
POSE_COLUMNS = ("qx", "qy", "qz", "qw", "tx_m", "ty_m", "tz_m")
MAX_ROWS = 50_000_000


class FeatherSweeps:
    """The sweeps of a log, about the upper LiDAR."""

    def __init__(self, files: list[Path], lidar_m: Float[np.ndarray, " 3"]) -> None:
        self._files = files
        self._lidar_m = lidar_m

    def __len__(self) -> int:
        return len(self._files)

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp and points of a sweep.

        Raises:
            DataError: if it is broken.
        """
        file = self._files[position]
        columns = read_columns(file, ("x", "y", "z", "intensity"), MAX_POINTS)
        xyz = np.stack([columns[name].astype(np.float64) for name in ("x", "y", "z")], axis=1) - self._lidar_m
        with np.errstate(over="ignore"):
            cloud = Cloud(xyz.astype(np.float32), columns["intensity"])
        return int(file.stem), cloud.usable(str(file))


def is_argoverse2(path: Path) -> bool:
    """Whether a path looks like the folder of a log."""
    return (path / "sensors/lidar").is_dir() and (path / "city_SE3_egovehicle.feather").is_file()


def open_argoverse2(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive of a log; without a known city it has no truth.

    Raises:
        DataError: if pyarrow is not installed, there are no sweeps, or poses or calibration cannot be read.
    """
    files = sorted(
        (file for file in (path / "sensors/lidar").glob("*.feather") if re.fullmatch("[0-9]{1,18}", file.stem)),
        key=lambda file: int(file.stem),
    )
    if not files:
        raise DataError(f"{path}: no sweeps named like 315966265259836000.feather in sensors/lidar")
    lidar_m = _lidar_place_m(path / "calibration/egovehicle_SE3_sensor.feather")
    return LoggedDrive(name_of(path), FeatherSweeps(files, lidar_m), Tracks(truth=_truth(path, lidar_m)), options)


def read_columns(path: Path, names: tuple[str, ...], most: int) -> dict[str, np.ndarray]:
    """Columns of a feather file.

    Raises:
        DataError: if pyarrow is not installed, the file is broken, lacks a column, or has more than `most` rows.
    """
    try:
        import pyarrow as pa
        from pyarrow import feather
    except ImportError as error:
        raise DataError(f"{path}: feather files are read by pyarrow: pip install 'bevfusion[argoverse2]'") from error
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        table: Any = feather.read_table(path, columns=list(names), memory_map=False)
        table.validate(full=True)
        if table.num_rows > most:
            raise DataError(f"{path}: {table.num_rows} rows, at most {most} are read")
        for name in names:
            if table[name].null_count:
                raise DataError(f"{path}: {table[name].null_count} of {table.num_rows} rows have no {name}")
            wanted = _is_text if name == "sensor_name" else _is_number
            if not wanted(table[name].type):
                raise DataError(f"{path}: its column {name} holds {str(table[name].type)[:40]}")
        return {name: table[name].to_numpy() for name in names}
    except DataError:
        raise
    except (pa.ArrowException, ValueError, KeyError, OSError, TypeError, MemoryError, OverflowError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise DataError(f"{path}: cannot be read as feather with columns {', '.join(names)} ({told})") from error


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def _lidar_place_m(path: Path) -> Float[np.ndarray, " 3"]:
    columns = read_columns(path, ("sensor_name", *POSE_COLUMNS), MAX_ROWS)
    rows = [row for row, name in enumerate(columns["sensor_name"]) if name == LIDAR]
    if not rows:
        raise DataError(f"{path}: no sensor {LIDAR}")
    place: np.ndarray = np.array([float(columns[name][rows[0]]) for name in ("tx_m", "ty_m", "tz_m")])
    if not np.isfinite(place).all():
        raise DataError(f"{path}: {LIDAR} sits at {place}")
    return place


def _truth(path: Path, lidar_m: Float[np.ndarray, " 3"]) -> GeoTrack | None:
    """The LiDAR's places by the poses of the vehicle."""
    cities = [
        found[1] for file in sorted((path / "map").glob("*")) if (found := re.search("_([A-Z]{3})_city", file.name))
    ]
    if not cities or cities[0] not in CITIES:
        return None
    zone, lat_deg, lon_deg = CITIES[cities[0]]
    columns = read_columns(path / "city_SE3_egovehicle.feather", ("timestamp_ns", *POSE_COLUMNS), MAX_ROWS)
    values = np.stack([columns[name].astype(np.float64) for name in POSE_COLUMNS], axis=1)
    good = np.isfinite(values).all(axis=1) & (np.abs(values[:, 4:]).max(axis=1) < 1e6)
    if not good.any():
        raise DataError(f"{path}: none of its {len(good)} poses is finite")
    city_from_ego = rotations(values[good, :4])
    places_m = values[good, 4:] + city_from_ego @ lidar_m
    utm = pyproj.Proj(proj="utm", zone=zone, datum="WGS84", units="m")
    east_m, north_m = utm(lon_deg, lat_deg)
    lon, lat = utm(places_m[:, 0] + east_m, places_m[:, 1] + north_m, inverse=True)
    # the grid's north is not the meridian's
    grid_north = np.radians(np.asarray(utm.get_factors(lon, lat).meridian_convergence))
    yaw_rad = yaws_rad(city_from_ego) - grid_north
    stamps_ns = columns["timestamp_ns"][good].astype(np.int64)
    return GeoTrack.from_degrees(stamps_ns, np.stack([lat, lon], axis=1), np.remainder(yaw_rad, 2 * math.pi))

"""The columns of a point cloud by the names that drivers and file formats give them."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.cloud import Cloud
from bevfusion.structures import DataError

COORDINATES = ("x", "y", "z")
# the first one found counts
INTENSITY = ("reflectivity", "reflectance", "intensity", "intensities", "scalar_intensity", "i", "signal")
RING = ("ring", "channel", "laser_id", "line")
TIME = ("t", "time", "timestamp", "time_stamp", "offset_time", "timeOffset", "point_time_offset", "gps_time")
MAX_SWEEP_S = 0.6  # no turn takes longer
TIME_UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)


def cloud_from_fields(columns: Mapping[str, np.ndarray], stamp_ns: int | None, source: str) -> Cloud:
    """The cloud of named columns: x, y, z in metres, and of the others what is known by its name.

    Intensity stays as the sensor counts it, zero where there is none. Times in seconds, milli-, micro- or
    nanoseconds, absolute or relative, come as seconds after the stamp; times that fit no turn of a LiDAR are left out.

    Args:
        columns: by name, of equal length.
        stamp_ns: moment of the scan, or None where it is not known: absolute times then count from the first point.
        source: what is read, for messages.

    Raises:
        DataError: if a coordinate is missing or no floating-point number.
    """
    missing = [name for name in COORDINATES if name not in columns]
    if missing:
        known = ", ".join(columns) or "none"
        raise DataError(f"{source} has no field {', '.join(missing)}; its fields are {known[:200]}")
    for name in COORDINATES:
        if columns[name].dtype.kind != "f":
            kind = columns[name].dtype.name
            raise DataError(f"{source} field {name} is {kind}, expected float32 or float64")
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is dropped as such
        xyz = np.stack([columns[name].astype(np.float32) for name in COORDINATES], axis=1)
    intensity, ring, time = (_first(columns, names) for names in (INTENSITY, RING, TIME))
    return Cloud(
        xyz,
        np.zeros(len(xyz), np.float32) if intensity is None else intensity,
        None if ring is None or ring.dtype.kind not in "iu" else ring.astype(np.int32),
        None if time is None else seconds_after(time, stamp_ns),
    )


def seconds_after(time: np.ndarray, stamp_ns: int | None) -> Float[np.ndarray, " n"] | None:
    """Times of points as seconds after the stamp of their scan, or None if they fit no turn.

    The unit is the coarsest in which the turn takes at most 0.6 s. Times on a clock of their own, neither near the
    stamp nor near zero, count from the first point, which is then taken to be the moment of the stamp.
    """
    if time.dtype.kind not in "iuf":
        return None
    finite = np.isfinite(time)
    if not finite.any():
        return None
    # whole numbers of ns since 1970 would lose their last digits as float64
    whole = time.dtype.kind in "iu"
    if not whole:
        time = time.astype(np.float64)
    elif time.dtype.itemsize < 8:
        time = time.astype(np.int64)
    first = time[finite].min()
    with np.errstate(over="ignore"):
        since_first = time - first
    span = float(since_first[finite].max())
    if span <= 0.0:
        return None
    for unit_s in TIME_UNITS_S:
        if span * unit_s <= MAX_SWEEP_S:
            break
    else:
        return None
    start_s = float(first) * unit_s
    if abs(start_s) > MAX_SWEEP_S:
        if stamp_ns is None:
            return np.asarray(since_first.astype(np.float64) * unit_s)
        start_s = (int(first) * round(unit_s * 1e9) - stamp_ns) / 1e9 if whole else start_s - stamp_ns / 1e9
        if abs(start_s) > MAX_SWEEP_S:
            start_s = 0.0
    seconds: np.ndarray = since_first.astype(np.float64) * unit_s + start_s
    return seconds


def _first(columns: Mapping[str, np.ndarray], wanted: tuple[str, ...]) -> np.ndarray | None:
    found = [name for name in wanted if name in columns]
    return columns[found[0]] if found else None

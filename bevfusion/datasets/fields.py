"""The columns of a point cloud by the names that drivers and file formats give them."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from bevfusion.datasets.cloud import Cloud
from bevfusion.structures import DataError

COORDINATES = ("x", "y", "z")
# the first one found counts; capitals and underscores make no difference
INTENSITY = (
    *("reflectivity", "reflectance", "intensity", "intensities", "scalar_intensity", "i", "signal", "remission"),
    *("remissions", "amplitude", "reflec"),
)
RING = ("ring", "channel", "laser_id", "line")
TIME = (
    *("t", "time", "timestamp", "offset_time", "time_offset", "point_time_offset", "gps_time", "ts", "dt"),
    *("rel_time", "relative_time", "point_time"),
)
MAX_SWEEP_S = 0.6  # no turn takes longer
TIME_UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)
OUTLIERS = 0.01  # share of the points whose times may be impossible
YEAR_S = 3.2e7


def cloud_from_fields(
    columns: Mapping[str, np.ndarray], stamp_ns: int | None, source: str, period_s: float | None = None
) -> Cloud:
    """The cloud of named columns: x, y, z in metres, and of the others what is known by its name.

    Intensity stays as the sensor counts it, zero where there is none. Times in seconds, milli-, micro- or
    nanoseconds, absolute or relative, come as seconds after the stamp; times that fit no turn of a LiDAR are all NaN.

    Args:
        columns: by name, of equal length.
        stamp_ns: moment of the scan, or None where it is not known: absolute times then count from the first point.
        source: what is read, for messages.
        period_s: between scans, where it is known: tells the unit of times.

    Raises:
        DataError: if a coordinate is missing or no floating-point number.
    """
    coordinates = [first_column(columns, (name,)) for name in COORDINATES]
    missing = [name for name, values in zip(COORDINATES, coordinates, strict=True) if values is None]
    if missing:
        known = ", ".join(columns) or "none"
        raise DataError(f"{source} has no field {', '.join(missing)}; its fields are {known[:200]}")
    axes = [values for values in coordinates if values is not None]
    for name, values in zip(COORDINATES, axes, strict=True):
        if values.dtype.kind != "f":
            raise DataError(f"{source} field {name} is {values.dtype.name}, expected float32 or float64")
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is dropped as such
        xyz = np.stack([values.astype(np.float32) for values in axes], axis=1)
    intensity, ring, time = (first_column(columns, names) for names in (INTENSITY, RING, TIME))
    # drivers leave garbage in the times of what did not come back
    came_back = np.isfinite(xyz).all(axis=1) & (xyz != 0.0).any(axis=1) if time is not None else None
    seconds = None if time is None else seconds_after(time, stamp_ns, came_back, period_s)
    if time is not None and seconds is None:
        seconds = np.full(len(xyz), np.nan)
    return Cloud(
        xyz,
        np.zeros(len(xyz), np.float32) if intensity is None or intensity.dtype.kind not in "iuf" else intensity,
        None if ring is None or ring.dtype.kind not in "iu" else ring.astype(np.int32),
        seconds,
    )


def seconds_after(
    time: np.ndarray,
    stamp_ns: int | None,
    came_back: Bool[np.ndarray, " n"] | None = None,
    period_s: float | None = None,
) -> Float[np.ndarray, " n"] | None:
    """Times of points as seconds after the stamp of their scan, or None if they fit no turn.

    The unit is that in which the times stand near the stamp, if they count from 1970; else that in which the turn, or
    the piece of one, takes about as long as from one scan to the next; else the coarsest in which it takes at most
    0.6 s. Times on a clock of their own, neither near the stamp nor near zero, count from the first point, which is
    then taken to be the moment of the stamp. One point in a hundred may have an impossible time, which becomes NaN.

    Args:
        time: as the driver wrote them.
        stamp_ns: moment of the scan, or None where it is not known.
        came_back: which points are returns; the times of others do not count.
        period_s: between scans, where it is known.
    """
    if time.dtype.kind not in "iuf":
        return None
    counted = np.isfinite(time) if came_back is None else np.isfinite(time) & came_back
    if not counted.any():
        return None
    # whole numbers of ns since 1970 would lose their last digits as float64
    whole = time.dtype.kind in "iu"
    if not whole:
        time = time.astype(np.float64)
    elif time.dtype.itemsize < 8:
        time = time.astype(np.int64)
    low, high = np.quantile(time[counted], [0.5 * OUTLIERS, 1.0 - 0.5 * OUTLIERS], method="inverted_cdf")
    core = float(high) - float(low)
    reach = time.dtype.type(2.0 * core)
    with np.errstate(over="ignore", invalid="ignore"):  # unsigned: compare without going below zero
        usual = counted & (time <= high + reach) & (time + reach >= low)
    first = time[usual].min()
    with np.errstate(over="ignore", invalid="ignore"):
        since_first = np.where(usual, time - first, 0).astype(np.float64)
    span = float(since_first.max())
    unit_s = _unit_s(float(first), span, stamp_ns, period_s) if span > 0.0 else None
    if unit_s is None:
        return None
    start_s = float(first) * unit_s
    if abs(start_s) > MAX_SWEEP_S:
        if stamp_ns is None:
            start_s = 0.0
        else:
            start_s = (int(first) * round(unit_s * 1e9) - stamp_ns) / 1e9 if whole else start_s - stamp_ns / 1e9
            if abs(start_s) > MAX_SWEEP_S:
                start_s = 0.0
    seconds: np.ndarray = np.where(usual, since_first * unit_s + start_s, np.nan)
    return seconds


def _unit_s(first: float, span: float, stamp_ns: int | None, period_s: float | None) -> float | None:
    """Seconds of a unit of times, or None if they fit no turn in any."""
    possible = [unit_s for unit_s in TIME_UNITS_S if span * unit_s <= MAX_SWEEP_S]
    if not possible:
        return None
    if stamp_ns is not None and stamp_ns > 0:
        near = [
            unit_s for unit_s in possible if abs(first * unit_s - stamp_ns / 1e9) < min(YEAR_S, 0.1 * stamp_ns / 1e9)
        ]
        if near:
            return near[0]
    if period_s is None or period_s <= 0.0:
        return possible[0]
    return min(possible, key=lambda unit_s: abs(math.log(span * unit_s / period_s)))


def first_column(columns: Mapping[str, np.ndarray], wanted: tuple[str, ...]) -> np.ndarray | None:
    """The first of some names that there is, as it is written here, or else in capitals or without underscores."""
    exact = [columns[name] for name in wanted if name in columns]
    if exact:
        return exact[0]
    written = {_plain(name): values for name, values in reversed(list(columns.items()))}
    return next((written[_plain(name)] for name in wanted if _plain(name) in written), None)


def _plain(name: str) -> str:
    return name.lower().replace("_", "")

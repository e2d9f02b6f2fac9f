"""A LiDAR turn as a file or message holds it: its columns, the times and intensities of its points, its motion.

Columns go by the names that drivers and file formats give them. Sensors and drivers count intensity as they like: 0 to
1, to 100, 255, 3000 or 65535, linear or not, signed or not. Only its order within a drive means anything. Values that
are reflectances of 0 to 1 already (KITTI, our simulation) stay as they are, to the last bit; all others are mapped
piecewise linearly, quantile by quantile, to the reflectances that the networks were trained on. Motion compensation
puts the points of a turn where the sensor would have seen them all at one moment.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Integer, Real, UInt32

from bevfusion.datasets.tracks import PoseTrack
from bevfusion.structures import DataError, Scan

# share of the points of a drive that lie below, and the reflectance there: what HDL-64E, VLP-16 and OS1-128 of our
# simulation have, and KITTI's scans to within 0.05
_SHARES = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999])
_REFLECTANCES = np.array([0.0, 0.0, 0.15, 0.25, 0.32, 0.38, 0.46, 0.53, 0.70, 0.90])
_LEAST_REFLECTANCE = 0.02  # drives whose 99th percentile is lower do not count from 0 to 1
SAMPLE_POINTS = 4096  # of a scan: quantiles of a drive need no more
_RUNNING_SCANS = 64
_SETTLED_SCANS = 16
MAX_POINTS = 20_000_000  # a scan that claims more is not read: no LiDAR turn is near it
FAR_M = 1e4  # no LiDAR sees farther: beyond, the bytes are not coordinates
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
TIME_UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)
OUTLIERS = 0.01  # share of the points whose times may be impossible
YEAR_S = 3.2e7
MAX_SWEEP_S = 0.6  # no turn takes longer: times that say so have another meaning
LEAST_KNOWN = 0.5  # of the points: where fewer have times that can be, they mean something else
REACH_S = 0.3  # of the track before and after the turn, whose samples the motion is taken from


@dataclass(frozen=True)
class IntensityScale:
    """How the intensities of one drive become 0 to 1; it depends on their order alone.

    Args:
        values: ascending, of the sensor; none: intensities are reflectances already, one: they say nothing.
        reflectances: what becomes of each value; between them the mapping is linear, beyond them constant.
        low: 1st percentile of the drive.
        high: 99th percentile of the drive.
    """

    values: tuple[float, ...] = ()
    reflectances: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, samples: Iterable[Real[np.ndarray, "_"]]) -> "IntensityScale":
        """The scale of a drive.

        Args:
            samples: intensities of some of its scans, as the sensor counts.
        """
        parts = [_finite(sample) for sample in samples]
        values = np.concatenate(parts) if parts else np.zeros(0)
        if len(values) == 0:
            return cls()
        low, high, top = (float(value) for value in np.quantile(values, [0.01, 0.99, 0.999]))
        if values.min() == values.max() != 0.0:  # also all 1: a driver that fills the field in
            return cls((low,), (0.0,), low, high)
        if low >= 0.0 and top <= 1.0 and (high >= _LEAST_REFLECTANCE or not values.any()):
            return cls(low=low, high=high)
        knots, which = np.unique(np.quantile(values, _SHARES), return_inverse=True)
        # of a value that many points share, the middle of its shares counts
        levels = np.bincount(which, weights=_REFLECTANCES) / np.bincount(which)
        if len(knots) == 1:  # all but a few points are equal
            knots, levels = np.array([knots[0], max(float(values.max()), knots[0] + 1.0)]), np.array([levels[0], 1.0])
        return cls(tuple(map(float, knots)), tuple(map(float, levels)), low, high)

    @property
    def is_reflectance(self) -> bool:
        """Whether intensities stay as they are."""
        return not self.values

    @property
    def is_flat(self) -> bool:
        """Whether every point has the same: as good as none."""
        return len(self.values) == 1 or (self.is_reflectance and self.high == self.low == 0.0)

    def reflectance(self, intensity: Real[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Intensities as the sensor counts them, as float32 of 0 to 1; what is not finite becomes 0."""
        with np.errstate(over="ignore"):
            values = np.asarray(intensity).astype(np.float32)
        strength = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        if self.is_reflectance:
            clipped: np.ndarray = np.clip(strength, 0.0, 1.0)
            return clipped
        mapped = np.interp(strength, self.values, self.reflectances).astype(np.float32)
        return np.where(np.isfinite(values), mapped, np.float32(0.0))

    def describe(self) -> str:
        """The scale in words."""
        if self.is_flat:
            return "none, or the same for all points: not used"
        if self.is_reflectance:
            return "0 to 1, taken as it is"
        return f"{self.low:.4g} to {self.high:.4g} (1st to 99th percentile), scaled to 0 to 1 by quantiles of the drive"


AS_IT_IS = IntensityScale()  # of reflectances


class RunningIntensity:
    """The scale of a drive that is still going on: of a fair sample of the scans so far."""

    def __init__(self) -> None:
        self._samples: list[np.ndarray] = []
        self._scans = 0
        self._choice = np.random.default_rng(0)
        self.scale = IntensityScale()

    def reflectance(self, intensity: Real[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The intensities of the next scan as 0 to 1, by it and those before it."""
        self._scans += 1
        if len(self._samples) < _RUNNING_SCANS:
            self._samples.append(intensity_sample(intensity))
        else:  # every scan so far is kept with the same chance
            place = int(self._choice.integers(self._scans))
            if place < _RUNNING_SCANS:
                self._samples[place] = intensity_sample(intensity)
        if self._scans <= _SETTLED_SCANS or self._scans % _SETTLED_SCANS == 0:
            self.scale = IntensityScale.of(self._samples)
        return self.scale.reflectance(intensity)


def intensity_sample(intensity: Real[np.ndarray, " n"]) -> Real[np.ndarray, " m"]:
    """Evenly spread points of a scan, enough for its share in the quantiles of a drive."""
    sample: np.ndarray = intensity[:: max(1, len(intensity) // SAMPLE_POINTS)].copy()
    return sample


def _finite(values: Real[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    numbers = np.asarray(values).astype(np.float64)
    finite: np.ndarray = numbers[np.isfinite(numbers)]
    return finite


@dataclass(frozen=True, slots=True)
class Cloud:
    """Points in the LiDAR's frame (x forward, y left, z up), perhaps with the moment each was taken.

    Points may be NaN where the sensor saw nothing; `scan` drops them.

    Raises:
        DataError: if the arrays do not belong together.
    """

    xyz: Float[np.ndarray, "n 3"]  # metres, float32
    intensity: Real[np.ndarray, " n"]  # as the sensor counts it; zeros where it does not
    ring: Integer[np.ndarray, " n"] | None = None
    time_s: Float[np.ndarray, " n"] | None = None  # seconds after the stamp of the scan, may be negative; NaN: unknown
    labels: UInt32[np.ndarray, " n"] | None = None  # SemanticKITTI class

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3:
            raise DataError(f"expected points of shape (N, 3), got {self.xyz.shape}")
        for name in ("intensity", "ring", "time_s", "labels"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.xyz):
                raise DataError(f"expected one {name} a point, got {len(values)} for {len(self.xyz)} points")

    def __len__(self) -> int:
        return len(self.xyz)

    def turned(self, rotation: Float[np.ndarray, "3 3"], shift_m: Float[np.ndarray, " 3"] | None = None) -> "Cloud":
        """The same points in another frame: rotated, then shifted."""
        moved = self.xyz.astype(np.float64) @ rotation.T
        if shift_m is not None:
            moved += shift_m
        return replace(self, xyz=moved.astype(np.float32))

    def select(self, keep: np.ndarray) -> "Cloud":
        """The points at a boolean mask."""
        return Cloud(
            self.xyz[keep],
            self.intensity[keep],
            None if self.ring is None else self.ring[keep],
            None if self.time_s is None else self.time_s[keep],
            None if self.labels is None else self.labels[keep],
        )

    def usable(self, source: str) -> "Cloud":
        """The returns: finite points within reach of a LiDAR. Drivers write NaN or zeros where nothing came back.

        Args:
            source: what is read, for the message.

        Raises:
            DataError: if there are none, or most finite ones are absurdly far: then the bytes are something else.
        """
        if len(self) == 0:
            raise DataError(f"{source}: no points")
        finite = np.isfinite(self.xyz).all(axis=1)
        far = finite & (np.abs(self.xyz) > FAR_M).any(axis=1)
        if far.sum() > 0.5 * finite.sum():
            share = f"{far.sum()} of {len(self)} points lie beyond {FAR_M:.0f} m"
            raise DataError(f"{source}: {share}: not a LiDAR scan about its sensor")
        returns = finite & ~far & (self.xyz != 0.0).any(axis=1)
        if not returns.any():
            raise DataError(f"{source}: none of its {len(self)} points is a finite return")
        return self if returns.all() else self.select(returns)

    def scan(self, scale: IntensityScale | None = None) -> Scan:
        """Without ring and time, as the rest of the package takes it.

        Args:
            scale: of the intensities of its drive; a scan without a drive has its own.
        """
        scale = IntensityScale.of([self.intensity]) if scale is None else scale
        return Scan.cleaned(self.xyz, scale.reflectance(self.intensity), self.labels)


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


def deskewed(
    xyz: Float[np.ndarray, "n 3"], time_s: Float[np.ndarray, " n"], stamp_ns: int, odometry: PoseTrack
) -> Float[np.ndarray, "n 3"]:
    """Points moved to where they lie in the frame of the LiDAR at `stamp_ns`.

    The motion is that of the plane: x, y and yaw of the track, steady between its samples. Before its first and
    after its last sample the motion of the nearest interval goes on.

    Args:
        xyz: metres, each in the LiDAR's frame at its own moment.
        time_s: seconds of each point after `stamp_ns`; where it is not finite, or impossible, the point stays.
        stamp_ns: the moment of the scan.
        odometry: poses of the LiDAR.

    Returns:
        The points, or `xyz` itself where the track does not cover the turn or the times span no plausible turn.
    """
    times_s = time_s.astype(np.float64)
    known = np.isfinite(times_s) & (np.abs(np.nan_to_num(times_s)) <= MAX_SWEEP_S)
    if not known.any() or known.mean() < LEAST_KNOWN:
        return xyz
    times_s = np.where(known, times_s, 0.0)
    if odometry.at(stamp_ns) is None:
        return xyz
    first_s, last_s = float(times_s.min()), float(times_s.max())
    if last_s - first_s > MAX_SWEEP_S or first_s == last_s == 0.0:
        return xyz
    reach_ns = int(REACH_S * 1e9)
    low = int(np.searchsorted(odometry.stamps_ns, stamp_ns + int(first_s * 1e9) - reach_ns))
    high = int(np.searchsorted(odometry.stamps_ns, stamp_ns + int(last_s * 1e9) + reach_ns, side="right"))
    low, high = max(low - 1, 0), min(high + 1, len(odometry.stamps_ns))
    if high - low < 2:
        return xyz
    knots_s = (odometry.stamps_ns[low:high] - stamp_ns) / 1e9
    x_m, y_m, yaw_rad = (
        _steady(times_s, knots_s, values) for values in (*odometry.xy_m[low:high].T, odometry.yaw_rad[low:high])
    )
    x0_m, y0_m, yaw0_rad = (
        float(_steady(np.zeros(1), knots_s, values)[0])
        for values in (*odometry.xy_m[low:high].T, odometry.yaw_rad[low:high])
    )
    turn = yaw_rad - yaw0_rad
    cos, sin = np.cos(turn), np.sin(turn)
    cos0, sin0 = np.cos(yaw0_rad), np.sin(yaw0_rad)
    ahead_m = cos0 * (x_m - x0_m) + sin0 * (y_m - y0_m)
    left_m = -sin0 * (x_m - x0_m) + cos0 * (y_m - y0_m)
    moved = xyz.copy()
    moved[:, 0] = cos * xyz[:, 0] - sin * xyz[:, 1] + ahead_m
    moved[:, 1] = sin * xyz[:, 0] + cos * xyz[:, 1] + left_m
    return moved


def _steady(
    at_s: Float[np.ndarray, " n"], knots_s: Float[np.ndarray, " k"], values: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " n"]:
    """Linear interpolation that goes on beyond both ends with the slope found there."""
    inside = np.interp(at_s, knots_s, values)
    first = (values[1] - values[0]) / (knots_s[1] - knots_s[0])
    last = (values[-1] - values[-2]) / (knots_s[-1] - knots_s[-2])
    before, after = np.minimum(at_s - knots_s[0], 0.0), np.maximum(at_s - knots_s[-1], 0.0)
    result: np.ndarray = inside + first * before + last * after
    return result

"""Intensity of any LiDAR as 0 to 1, by robust quantiles of a whole drive.

Sensors and drivers count intensity as they like: 0 to 1, to 100, 255, 3000 or 65535, linear or not, signed or not. Only
its order within a drive means anything. Values that are reflectances of 0 to 1 already (KITTI, our simulation) stay as
they are, to the last bit; all others are mapped piecewise linearly, quantile by quantile, to the reflectances that the
networks were trained on.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

# share of the points of a drive that lie below, and the reflectance there: what HDL-64E, VLP-16 and OS1-128 of our
# simulation have, and KITTI's scans to within 0.05
_SHARES = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999])
_REFLECTANCES = np.array([0.0, 0.0, 0.15, 0.25, 0.32, 0.38, 0.46, 0.53, 0.70, 0.90])
_LEAST_REFLECTANCE = 0.02  # drives whose 99th percentile is lower do not count from 0 to 1
SAMPLE_POINTS = 4096  # of a scan: quantiles of a drive need no more
_RUNNING_SCANS = 64
_SETTLED_SCANS = 16


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

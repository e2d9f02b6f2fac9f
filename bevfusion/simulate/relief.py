"""The natural lie of the land, before anybody built a road: hills and dips as a sum of plane waves.

Grades as measured from altitude and pitch of the GPS/IMU of eight KITTI raw drives in Karlsruhe, 9.4 km
(`tools/grades.py` prints the table):

| | root mean square | above 2 % | above 5 % | above 8 % | steepest |
|---|---|---|---|---|---|
| seven drives on the plain, 7.7 km | 0.7 % | 1.2 % of the way | 0 | 0 | 4 % |
| 2011_09_30_drive_0033, 1.7 km | 6.6 % | 82 % | 43 % | 34 % | 11 % (a moment's pitch: 15 %) |

The grade changes by 2 to 3 % over 10 to 36 m at crossings of the plain (15 times a km), and by 5 to 12 % over 15 to
72 m (median 30 m) on the hill; no crest or dip is sharper than a radius of 100 m.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

STEEPEST = 0.15
"""No road rises more than this per metre of its course."""

_LONG_M = (150.0, 900.0, 5)  # shortest and longest wave, and how many: sides of valleys
_MIDDLE_M = (45.0, 130.0, 4)  # crests and dips
_MIDDLE_SHARE = 0.45  # of their slope, beside that of long waves
_SHORT_M = (15.0, 40.0, 4)  # unevenness of centimetres


@dataclass(frozen=True, slots=True)
class Relief:
    """Height above the datum as a sum of plane waves: smooth, endless, and cheap anywhere."""

    wave_per_m: Float[np.ndarray, "k 2"]  # angular wave numbers
    phase_rad: Float[np.ndarray, " k"]
    amplitude_m: Float[np.ndarray, " k"]
    hills: float  # root mean square of the slope in any one direction

    @classmethod
    def random(cls, rng: np.random.Generator, hills: float) -> "Relief":
        """Land whose slope in any one direction has the root mean square `hills`; with 0 it is level."""
        if hills == 0.0:
            return cls.flat()
        bands = (_LONG_M, _MIDDLE_M, _SHORT_M)
        length_m = np.concatenate([rng.uniform(low, high, count) for low, high, count in bands])
        heading = rng.uniform(-math.pi, math.pi, len(length_m))
        number = 2.0 * np.pi / length_m
        share = np.repeat([1.0, _MIDDLE_SHARE], [_LONG_M[2], _MIDDLE_M[2]])
        slope = share * rng.uniform(0.4, 1.0, len(share))
        # a wave of slope s has the mean square s^2 / 4 over all places and directions
        slope *= 2.0 * hills / math.sqrt(float(slope @ slope))
        bumps_m = min(1.0, hills / 0.005) * rng.uniform(0.004, 0.015, _SHORT_M[2])
        return cls(
            number[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1),
            rng.uniform(0.0, 2.0 * math.pi, len(number)),
            np.concatenate([slope / number[: len(slope)], bumps_m]),
            hills,
        )

    @classmethod
    def flat(cls) -> "Relief":
        """Land without slopes, at height zero everywhere."""
        return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0), 0.0)

    def height_m(self, xy_m: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
        """Height of the untouched land at points of the map frame."""
        waves = np.sin(xy_m.astype(float) @ self.wave_per_m.T + self.phase_rad) @ self.amplitude_m
        return np.asarray(waves, float)

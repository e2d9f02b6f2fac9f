"""How an evaluation asks: the mode, and how far from the truth the priors lie."""

import hashlib
import math
from dataclasses import dataclass, field, fields

import numpy as np

from bevfusion.choices import meant
from bevfusion.filters.settings import FilterConfig
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.heads.map_error import MAP_ERROR_M, MOST_M
from bevfusion.sequence import ESTIMATORS


@dataclass(frozen=True, slots=True)
class Protocol:
    """How frames are asked for and what counts.

    Raises:
        ValueError: if a value makes no sense.
    """

    mode: str = "single"  # a key of `ESTIMATORS`
    offset_m: float = 20.0  # the prior lies uniformly within, along map x and y
    offset_deg: float = 10.0  # the same for its heading; 180 is a heading drawn from the full circle
    draws: int = 1  # priors a frame
    seed: int = 0
    scans: int = 1  # the last so many make one cloud, by odometry
    map_error_m: float = MAP_ERROR_M  # how far the map may be off as a whole, which every answer carries
    filter: FilterConfig = field(default_factory=FilterConfig)  # of sequences

    def __post_init__(self) -> None:
        if self.mode not in ESTIMATORS:
            raise ValueError(f"mode is one of {', '.join(ESTIMATORS)}, got {self.mode!r}{meant(self.mode, ESTIMATORS)}")
        if not (math.isfinite(self.offset_m) and self.offset_m > 0):
            raise ValueError(f"offset_m is a positive distance in metres, got {self.offset_m}")
        if not 0 < self.offset_deg <= 180:
            raise ValueError(f"offset_deg lies above 0 and up to 180, got {self.offset_deg}")
        if not 0.0 <= self.map_error_m <= MOST_M:
            raise ValueError(f"map_error_m is a standard deviation from 0 to {MOST_M:g} m, got {self.map_error_m}")
        if self.draws < 1 or self.seed < 0:
            raise ValueError(f"draws is at least 1 and seed at least 0, got {self.draws} and {self.seed}")
        if self.scans < 1 or (self.scans > 1 and self.mode != "single"):
            raise ValueError(
                f"scans is at least 1, and more go with mode single: a sequence remembers what it saw, and would count "
                f"it twice; got {self.scans} with {self.mode}"
            )

    def described(self) -> dict[str, object]:
        """For metrics.json; of the filter what differs from the defaults, if anything does."""
        values: dict[str, object] = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "filter"}
        values["readout"] = "argmax"  # the best bin, refined: the only read-out there is
        changes = self.filter.changes()
        return values | ({"filter": changes} if changes else {})


@dataclass(frozen=True, slots=True)
class AuxiliaryChecks:
    """What is asked beside, of so many frames of each drive, evenly spread; sequences are not asked."""

    classical: int = 0  # what the training-free matcher makes of them
    traffic: int = 0  # how far the answer moves as vehicles come and go


NO_CHECKS = AuxiliaryChecks()
CLASSICAL_FRAMES = 50  # of a drive: at half a second to three a frame, all of a long one would take hours


def evenly_spaced(length: int, count: int | None) -> list[int]:
    """`count` indices of 0 .. length - 1, in order, or all."""
    if count is None or count >= length:
        return list(range(length))
    return [int(index) for index in np.linspace(0, length - 1, count).round()]


def displaced(truth: SE2, protocol: Protocol, drive: str, frame: int, draw: int) -> SE2:
    """The prior for a frame: the truth moved at random, the same whatever else is evaluated and in which order."""
    name_seed = int.from_bytes(hashlib.sha256(drive.encode()).digest()[:8], "little")
    rng = np.random.default_rng([protocol.seed, name_seed, frame, draw])
    east, north, turn = (float(value) for value in rng.uniform(-1.0, 1.0, 3))
    return SE2(
        truth.x_m + protocol.offset_m * east,
        truth.y_m + protocol.offset_m * north,
        wrap_angle(truth.yaw_rad + math.radians(protocol.offset_deg) * turn),
    )

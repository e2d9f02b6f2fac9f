"""A LiDAR turn as a file or message holds it, before motion compensation."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Integer, Real, UInt32

from bevfusion.datasets.intensity import IntensityScale
from bevfusion.structures import DataError, Scan

MAX_POINTS = 20_000_000  # a scan that claims more is not read: no LiDAR turn is near it
FAR_M = 1e4  # no LiDAR sees farther: beyond, the bytes are not coordinates


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

"""A LiDAR turn as a file or message holds it, before motion compensation."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Integer, UInt32

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
    intensity: Float[np.ndarray, " n"]  # 0 to 1
    ring: Integer[np.ndarray, " n"] | None = None
    time_s: Float[np.ndarray, " n"] | None = None  # seconds after the stamp of the scan, may be negative
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

    def scan(self) -> Scan:
        """Without ring and time, as the rest of the package takes it."""
        return Scan.cleaned(self.xyz, self.intensity, self.labels)


def scaled_intensity(values: np.ndarray) -> Float[np.ndarray, " n"]:
    """Intensities as 0 to 1, by what the type and the values allow.

    Whole numbers of 8 bits count to 255, of 16 bits to 65535 if any exceeds 255. Floating-point values above 1 mean
    a scale of 0 to 255 (Velodyne, Hesai, Argoverse); all at most 1 are left as they are (KITTI). Beyond the scale
    (retro-reflectors, Ouster's raw signal) they are clipped.
    """
    with np.errstate(over="ignore"):
        strength = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(strength.max(initial=0.0))
    if values.dtype == np.uint16 and top > 255.0:
        scale = 65535.0
    elif values.dtype.kind in "iu" or top > 1.0:
        scale = 255.0
    else:
        scale = 1.0
    clipped: np.ndarray = np.clip(strength / np.float32(scale), 0.0, 1.0)
    return clipped

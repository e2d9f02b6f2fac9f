"""Rigid motions of the plane: `map_from_ego` takes ego coordinates to map coordinates."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


def wrap_angle(angle_rad: float) -> float:
    """The same angle in [-pi, pi)."""
    return (angle_rad + math.pi) % (2.0 * math.pi) - math.pi


def circular_mean(prob: Float[np.ndarray, " n"], angles_rad: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Mean of a distribution over angles and its circular standard deviation sqrt(-2 ln R), radians.

    Args:
        prob: sums to one.
        angles_rad: where the probabilities are.
    """
    mean = complex(prob @ np.exp(1j * angles_rad))
    length = min(max(abs(mean), 1e-12), 1.0)
    return math.atan2(mean.imag, mean.real), math.sqrt(-2.0 * math.log(length))


@dataclass(frozen=True, slots=True)
class SE2:
    """A pose or transform `dst_from_src`: rotate by `yaw_rad` (counter-clockwise), then shift by (x_m, y_m).

    Raises:
        ValueError: if a value is not finite.
    """

    x_m: float = 0.0
    y_m: float = 0.0
    yaw_rad: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x_m) and math.isfinite(self.y_m) and math.isfinite(self.yaw_rad)):
            raise ValueError(f"a pose needs finite numbers, got x={self.x_m}, y={self.y_m}, yaw={self.yaw_rad}")

    def __matmul__(self, other: "SE2") -> "SE2":
        """Compose: `a_from_b @ b_from_c` is `a_from_c`."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return SE2(
            self.x_m + c * other.x_m - s * other.y_m,
            self.y_m + s * other.x_m + c * other.y_m,
            wrap_angle(self.yaw_rad + other.yaw_rad),
        )

    def inverse(self) -> "SE2":
        """`src_from_dst` of this `dst_from_src`."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return SE2(-c * self.x_m - s * self.y_m, s * self.x_m - c * self.y_m, wrap_angle(-self.yaw_rad))

    def moved_by(self, offset: "SE2") -> "SE2":
        """The pose shifted along the axes of the destination and turned on the spot: an offset as windows have them."""
        return SE2(self.x_m + offset.x_m, self.y_m + offset.y_m, wrap_angle(self.yaw_rad + offset.yaw_rad))

    def apply(self, points_m: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Transform points (..., 2) in metres from the source frame to the destination frame."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        rotation = np.array([[c, s], [-s, c]], dtype=points_m.dtype)  # transposed: points are rows
        shift = np.array([self.x_m, self.y_m], dtype=points_m.dtype)
        moved: np.ndarray = points_m @ rotation + shift
        return moved

    def mirrored(self) -> "SE2":
        """The same motion seen in frames whose y axes are both turned round."""
        return SE2(self.x_m, -self.y_m, wrap_angle(-self.yaw_rad))

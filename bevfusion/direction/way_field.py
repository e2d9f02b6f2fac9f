"""The field of directions that leads along a line: on it as it goes, beside it back onto it.

At a place p let s be how far along the line its nearest point lies, left(p) how far p lies to the left of it there,
and yaw(s) the direction of the line. Whoever drives on from p drives towards

    yaw(s) - arctan(left(p) / RETURN_M)

so that what is left of an offset falls as exp(-s / RETURN_M) (the vector pursuit of a line; Hoffmann et al. 2007 steer
the same way). Beyond its ends a line goes on straight.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RETURN_M = 8.0
"""Over so much of the way two thirds of an offset from a line are made up for."""


@dataclass(frozen=True)
class WayField:
    """What a line says at places: arrays of their shape."""

    yaw_rad: Float[np.ndarray, " *places"]  # of the line at its nearest point, continuous along it
    left_m: Float[np.ndarray, " *places"]  # of the line; to the right negative
    along_m: Float[np.ndarray, " *places"]  # from its first vertex; negative behind it

    @property
    def direction_rad(self) -> Float[np.ndarray, " *places"]:
        """Where one drives from each place."""
        directions: np.ndarray = self.yaw_rad - np.arctan(self.left_m / RETURN_M)
        return directions


def way_field(
    line_m: Float[np.ndarray, "n 2"], yaw_rad: Float[np.ndarray, " n"], places_m: Float[np.ndarray, "*places 2"]
) -> WayField:
    """What a line says at places.

    Args:
        line_m: vertices in the order of driving, two at least, none twice.
        yaw_rad: direction of driving at each; between them it turns evenly.
        places_m: in the same frame.
    """
    shape, places = places_m.shape[:-1], places_m.reshape(-1, 2)
    start, step = line_m[:-1], np.diff(line_m, axis=0)
    length_m = np.hypot(*step.T)
    unit = step / length_m[:, None]
    # products of matrices, not a difference for each pair of place and piece: four times as fast
    ahead_m = places @ unit.T - (start * unit).sum(1)
    normal = np.stack([-unit[:, 1], unit[:, 0]], axis=1)
    left_m = places @ normal.T - (start * normal).sum(1)
    low, high = np.zeros(len(step)), length_m.copy()
    low[0], high[-1] = -math.inf, math.inf
    over_m = ahead_m - np.clip(ahead_m, low, high)  # past the end of a piece
    best = (left_m**2 + over_m**2).argmin(axis=1)
    rows = np.arange(len(places))
    ahead, piece_m = ahead_m[rows, best], length_m[best]
    inside = np.clip(ahead, low[best], high[best])
    share = np.clip(inside / piece_m, 0.0, 1.0)
    yaws = np.unwrap(yaw_rad)
    ticks_m = np.concatenate([[0.0], np.cumsum(length_m)])
    # past the end of a piece, at a corner, the distance counts with the side that it is on
    beside = np.copysign(np.hypot(left_m[rows, best], over_m[rows, best]), left_m[rows, best])
    return WayField(
        ((1.0 - share) * yaws[best] + share * yaws[best + 1]).reshape(shape),
        beside.reshape(shape),
        (ticks_m[best] + inside).reshape(shape),
    )


def from_vehicle(
    xy_m: Float[np.ndarray, "n 2"], yaw_rad: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, " m"]]:
    """The points of a path with the vehicle itself before them; the direction there is that of an arc to the first.

    Of a path without points: straight ahead.
    """
    if not len(xy_m):
        return np.array([[0.0, 0.0], [1.0, 0.0]]), np.zeros(2)
    chord_rad = math.atan2(*xy_m[0, ::-1].tolist())
    first_rad = 2.0 * chord_rad - float(yaw_rad[0])
    first_rad = chord_rad + min(max(first_rad - chord_rad, -0.5), 0.5)
    return np.concatenate([np.zeros((1, 2)), xy_m]), np.concatenate([[first_rad], yaw_rad])

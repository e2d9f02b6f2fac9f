"""Where the ground is: a plane through the lowest points, fitted anew for every scan.

Sensors sit at different heights and cars pitch, so heights are measured from the ground and not from the sensor.
"""

import numpy as np
from jaxtyping import Float

_CELL_M = 2.0  # one candidate a cell: the lowest point of it
_REACH_M = 30.0  # beyond, few points are ground and the road may bend
_ROUNDS = 6


def fit_ground(xyz: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " 3"]:
    """Coefficients (a, b, c) of the ground plane z = a x + b y + c, in metres of the sensor's frame.

    Candidates are the lowest points of 2 m cells; a plane is fitted to them again and again, each time without those
    that lie well off the last one, above (walls, cars) sooner than below. With too few points the result is a level
    plane through the lowest tenth of them, or 1.7 m below the sensor when there are none.
    """
    lowest = _lowest_of_cells(xyz)
    if len(lowest) == 0:
        return np.array([0.0, 0.0, -1.7])
    level = np.array([0.0, 0.0, float(np.quantile(lowest[:, 2], 0.3))])
    plane = level
    for round_ in range(_ROUNDS):
        above = lowest[:, 2] - _height(lowest, plane)
        slack_m = max(0.15, 1.0 * 0.5**round_)
        kept = lowest[(above < slack_m) & (above > -2.0 * slack_m)]
        if len(kept) < 12:
            return level
        design = np.column_stack([kept[:, :2], np.ones(len(kept))])
        # a little ridge on the slopes keeps a plane seen only along one line from tipping over
        normal = design.T @ design + np.diag([1.0, 1.0, 0.0]) * len(kept)
        plane = np.linalg.solve(normal, design.T @ kept[:, 2])
    return plane


def height_above_ground(xyz: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Height of every point above the fitted plane, in metres (float32)."""
    a, b, c = fit_ground(xyz)
    heights: np.ndarray = xyz[:, 2] - (a * xyz[:, 0] + b * xyz[:, 1] + c)
    return heights.astype(np.float32)


def _height(points: np.ndarray, plane: np.ndarray) -> np.ndarray:
    z: np.ndarray = points[:, :2] @ plane[:2] + plane[2]
    return z


def _lowest_of_cells(xyz: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "m 3"]:
    """The lowest point of every cell within reach; more where several are equally low."""
    near = np.flatnonzero((np.abs(xyz[:, 0]) < _REACH_M) & (np.abs(xyz[:, 1]) < _REACH_M))
    side = int(2 * _REACH_M / _CELL_M)
    column, row = (
        ((xyz[near, axis].astype(np.float64) + _REACH_M) * (1.0 / _CELL_M)).astype(np.int64) for axis in (0, 1)
    )
    key = row * side + column
    z = xyz[near, 2]
    lowest_z = np.full(side * side, np.inf, z.dtype)
    np.minimum.at(lowest_z, key, z)
    lowest: np.ndarray = xyz[near[z <= lowest_z[key]]].astype(np.float64)
    return lowest

"""How far a path lies from the one that was driven: pure functions on arrays.

Paths are rows of points 2 m apart along them, the first 2 m ahead, in the ego frame and in metres. What the field
scores is the first 16 m, eight points (Bhattacharyya et al., MTP; Xu et al. 2022, *Trajectory prediction for
intelligent vehicles*).
"""

import math

import numpy as np
from jaxtyping import Float

from bevfusion.metrics import wrap_angles

HIT_M = 2.0
TURNING_DEG = 10.0
BINS_M = ((0.0, 10.0), (10.0, 20.0), (20.0, 40.0))
"""Of the direction's error: along the path, the upper end counts."""

Points = Float[np.ndarray, "_ 2"]


def displacements_m(path: Points, driven: Points) -> Float[np.ndarray, " _"]:
    """Distance between points of the same number, as many as both have."""
    count = min(len(path), len(driven))
    distances: np.ndarray = np.hypot(*(path[:count] - driven[:count]).T)
    return distances


def final_displacement_m(path: Points, driven: Points) -> float:
    """Distance of the last points that both have (FDE)."""
    return float(displacements_m(path, driven)[-1])


def average_displacement_m(path: Points, driven: Points) -> float:
    """Mean distance of the points (ADE)."""
    return float(displacements_m(path, driven).mean())


def is_hit(path: Points, driven: Points, within_m: float = HIT_M) -> bool:
    """Whether no point lies farther than so much from its counterpart."""
    return bool(displacements_m(path, driven).max() <= within_m)


def hausdorff_m(path: Points, driven: Points) -> float:
    """The farthest that a point of either set lies from the other set."""
    distances = np.hypot(*(path[:, None] - driven[None]).transpose(2, 0, 1))
    return float(max(distances.min(axis=1).max(), distances.min(axis=0).max()))


def is_turning(driven_yaw_rad: Float[np.ndarray, " n"], more_than_deg: float = TURNING_DEG) -> bool:
    """Whether the heading changes by more than 10 degrees on the way, from the vehicle's own (0) to that at any point.

    Args:
        driven_yaw_rad: direction at the points of the driven path, ego frame.
        more_than_deg: what counts as turning.
    """
    changes = np.concatenate([[0.0], np.cumsum(wrap_angles(np.diff(driven_yaw_rad, prepend=0.0)))])
    return bool(changes.max() - changes.min() > math.radians(more_than_deg))


def direction_errors_deg(
    yaw_rad: Float[np.ndarray, " n"], driven_yaw_rad: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " k"]:
    """How far the direction is off at each point that both have, absolute."""
    count = min(len(yaw_rad), len(driven_yaw_rad))
    errors: np.ndarray = np.abs(np.degrees(wrap_angles(yaw_rad[:count] - driven_yaw_rad[:count])))
    return errors


def bin_of_point(index: int, spacing_m: float = 2.0) -> str | None:
    """Name of the stretch that a point of a path lies in ("0-10"); None beyond the last."""
    along_m = (index + 1) * spacing_m
    return next((f"{low:g}-{high:g}" for low, high in BINS_M if low < along_m <= high), None)


def nearest_branch(driven: Points, branches: list[Points]) -> int:
    """Which of several branches a path takes: that with the smallest mean distance over the points that both have."""
    return int(np.argmin([average_displacement_m(branch, driven) for branch in branches]))

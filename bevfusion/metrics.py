"""What the reports count: pure functions on arrays, used in training and evaluation alike.

Poses are rows (x, y, yaw): metres in map axes and radians. Recalls and coverages are percent, 0 to 100, and a recall
counts errors strictly below its threshold.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import PoseBelief

THRESHOLDS = (1.0, 3.0, 5.0)  # metres or degrees


def wrap_angles(angles_rad: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The same angles in [-pi, pi)."""
    wrapped: np.ndarray = (angles_rad + math.pi) % (2.0 * math.pi) - math.pi
    return wrapped


def heading_error_deg(estimate: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Signed error of the heading in degrees, in [-180, 180), positive counter-clockwise of the truth."""
    error_deg: np.ndarray = np.degrees(wrap_angles(estimate[:, 2] - truth[:, 2]))
    return error_deg


def position_errors_m(estimate: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """Signed (longitudinal, lateral) error in metres along the true heading: ahead and to the left are positive."""
    east_m, north_m = estimate[:, 0] - truth[:, 0], estimate[:, 1] - truth[:, 1]
    cos, sin = np.cos(truth[:, 2]), np.sin(truth[:, 2])
    return np.stack([cos * east_m + sin * north_m, -sin * east_m + cos * north_m], axis=1)


def threshold_key(threshold: float) -> str:
    """Name of a threshold in reports: "1", "3", "2.5"."""
    return f"{threshold:g}"


def recalls(errors: Float[np.ndarray, " n"], thresholds: Sequence[float] = THRESHOLDS) -> dict[str, float]:
    """Percent of errors (signed or not) whose size is strictly below each threshold; NaN of no errors."""
    size = np.abs(errors)
    return {threshold_key(t): _percent(size < t) for t in thresholds}


def summary(errors: Float[np.ndarray, " n"], thresholds: Sequence[float] = THRESHOLDS) -> dict[str, object]:
    """Recalls, median and 95th percentile of the errors' size."""
    size = np.abs(errors)
    median, p95 = np.percentile(size, [50.0, 95.0]) if len(size) else (math.nan, math.nan)
    return {"recall": recalls(errors, thresholds), "median": float(median), "p95": float(p95)}


def flips_180(heading_errors_deg: Float[np.ndarray, " n"]) -> float:
    """Percent of headings wrong by more than 90 degrees: the street read the other way round."""
    return _percent(np.abs(heading_errors_deg) > 90.0)


def constant_offset_m(estimate: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "n 3"]) -> tuple[float, float]:
    """Median error (east, north) in map axes: what a shifted map or a shifted truth adds to every frame alike."""
    east_m, north_m = np.median(estimate[:, :2] - truth[:, :2], axis=0)
    return float(east_m), float(north_m)


def credibility(belief: PoseBelief, prior: SE2, truth: SE2) -> tuple[float, float]:
    """How credible a belief (batch of one) finds the truth.

    Args:
        belief: log-probabilities over offsets from the prior.
        prior: the pose that the belief's window is centred on, map frame.
        truth: the true pose, map frame.

    Returns:
        The mass of the smallest credible region that reaches the truth (0 to 1), and minus the log of the probability
        density at the truth, in nats, the density per m^2 and radian. A region takes in bin after bin, the most
        probable first, and each bin from its centre outwards: else a belief in one coarse bin would hold every truth
        in it at no cost, and would look too modest. A truth outside the window has mass 1 and an infinite second value.
    """
    volume = belief.log_prob[0].double().numpy()
    offset = SE2(truth.x_m - prior.x_m, truth.y_m - prior.y_m, wrap_angle(truth.yaw_rad - prior.yaw_rad))
    place = bin_of(belief.window, offset)
    if place is None:
        return 1.0, math.inf
    window, (bins, share) = belief.window, place
    step_rad = 2.0 * math.pi / volume.shape[0] if window.full_circle else window.yaw_step_rad
    at_truth = float(volume[bins])
    mass = float(np.exp(volume[volume > at_truth]).sum()) + share * math.exp(at_truth)
    return min(mass, 1.0), -at_truth + math.log(window.cell_m**2 * step_rad)


def bin_of(window: PoseWindow, offset: SE2) -> tuple[tuple[int, int, int], float] | None:
    """Nearest bin (r, y, x) of an offset from the prior and the share of it nearer to its centre; None outside.

    A pose up to one bin outside belongs to the border: locators move the window to whole cells of their map.
    """
    exact = window.bins_from_offset(offset)
    bins = [round(value) for value in exact]
    from_centre = min(0.5, max(abs(value - found) for value, found in zip(exact, bins, strict=True)))
    if window.full_circle:
        bins[0] %= window.shape[0]
    if any(not -1 <= found <= size for found, size in zip(bins, window.shape, strict=True)):
        return None
    r, y, x = (min(max(found, 0), size - 1) for found, size in zip(bins, window.shape, strict=True))
    if [r, y, x] != bins:
        from_centre = 0.5
    return (r, y, x), (2.0 * from_centre) ** 3


def coverage(credible_mass: Float[np.ndarray, " n"], level: float) -> float:
    """Percent of truths inside the credible region of a level (0 to 1); near 100 * level if the belief is honest."""
    return _percent(credible_mass < level)


def _percent(hits: np.ndarray) -> float:
    return 100.0 * float(np.mean(hits)) if len(hits) else math.nan

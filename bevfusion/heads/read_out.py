"""From a probability volume to one pose, its covariance and a confidence."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2, circular_mean

_NEAR_M, _NEAR_RAD = 2.0 + 1e-9, math.radians(4.0) + 1e-9  # what "at the estimate" means for the confidence


@dataclass(frozen=True, slots=True)
class PoseReading:
    """One pose out of a volume, as an offset from the prior."""

    offset: SE2
    covariance: Float[np.ndarray, "3 3"]  # x, y in m, yaw in rad
    heading_std_rad: float  # circular standard deviation of the heading, whatever the place
    confidence: float  # probability within 2 m and 4 degrees


def read_out(log_prob: Float[np.ndarray, "r y x"], window: PoseWindow) -> PoseReading:
    """The best bin of a volume, refined below a cell by a parabola through its neighbours along each axis.

    Args:
        log_prob: log-probabilities that sum to one.
        window: the poses of the volume.
    """
    best = np.unravel_index(int(np.argmax(log_prob)), log_prob.shape)
    peak = window.offset_from_bins(*(float(b) for b in best))
    dx_m, dy_m, dyaw_rad = _deviations(window, peak)
    prob = np.exp(log_prob.astype(np.float64))
    prob /= prob.sum()
    near = prob * _near(dx_m, dy_m, dyaw_rad)
    offset = window.offset_from_bins(*_parabola_peak(log_prob, best, window.full_circle))
    covariance = _covariance(prob, window, dx_m, dy_m, dyaw_rad)
    _, heading_std_rad = circular_mean(prob.sum((1, 2)), window.yaw_offsets_rad())
    return PoseReading(offset, covariance, heading_std_rad, float(near.sum()))


def _deviations(window: PoseWindow, centre: SE2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance of every bin from a pose along (x, y, yaw); yaw the short way round."""
    yaw_rad = (window.yaw_offsets_rad() - centre.yaw_rad + math.pi) % (2.0 * math.pi) - math.pi
    return window.shifts_m() - centre.x_m, window.shifts_m() - centre.y_m, yaw_rad


def _near(dx_m: np.ndarray, dy_m: np.ndarray, dyaw_rad: np.ndarray) -> np.ndarray:
    close_m = dx_m[None, :] ** 2 + dy_m[:, None] ** 2 <= _NEAR_M**2
    mask: np.ndarray = (np.abs(dyaw_rad) <= _NEAR_RAD)[:, None, None] & close_m
    return mask


def _mean(prob: np.ndarray, dx_m: np.ndarray, dy_m: np.ndarray, dyaw_rad: np.ndarray) -> tuple[float, float, float]:
    return (
        float(prob.sum((0, 1)) @ dx_m),
        float(prob.sum((0, 2)) @ dy_m),
        float(prob.sum((1, 2)) @ dyaw_rad),
    )


def _covariance(
    prob: np.ndarray, window: PoseWindow, dx_m: np.ndarray, dy_m: np.ndarray, dyaw_rad: np.ndarray
) -> np.ndarray:
    """Second moments about the mean; a bin's own width counts as a uniform spread inside it."""
    mean = np.array(_mean(prob, dx_m, dy_m, dyaw_rad))
    xy, xr, yr = prob.sum(0), prob.sum(1), prob.sum(2)
    second = np.diag([xy.sum(0) @ dx_m**2, xy.sum(1) @ dy_m**2, xr.sum(1) @ dyaw_rad**2])
    second[0, 1] = second[1, 0] = dy_m @ xy @ dx_m
    second[0, 2] = second[2, 0] = dyaw_rad @ xr @ dx_m
    second[1, 2] = second[2, 1] = dyaw_rad @ yr @ dy_m
    bins = np.array([window.cell_m, window.cell_m, window.yaw_step_rad])
    covariance: np.ndarray = second - np.outer(mean, mean) + np.diag(bins**2 / 12.0)
    return covariance


def _parabola_peak(log_prob: np.ndarray, best: tuple[np.intp, ...], full_circle: bool) -> tuple[float, float, float]:
    """Real-valued (r, y, x) of the peak: at a border, or where an axis is flat, the bin itself."""
    refined = []
    for axis, (index, size) in enumerate(zip(best, log_prob.shape, strict=True)):
        wraps = axis == 0 and full_circle
        if size < 3 or not (wraps or 0 < index < size - 1):
            refined.append(float(index))
            continue
        line = log_prob[tuple(slice(None) if a == axis else b for a, b in enumerate(best))]
        before, middle, after = (float(line[(index + step) % size]) for step in (-1, 0, 1))
        curvature = before - 2.0 * middle + after
        refined.append(float(index) + (0.5 * (before - after) / curvature if curvature < -1e-12 else 0.0))
    return refined[0], refined[1], refined[2]

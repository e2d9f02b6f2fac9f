"""What answering the prior is worth, by formula: the reference for what an evaluation measures of it."""

import math
from collections.abc import Sequence

import numpy as np

from bevfusion.metrics import THRESHOLDS, threshold_key


def chance_recalls(
    offset_m: float, offset_deg: float, truth_yaw_rad: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, dict[str, float]]:
    """Recalls to expect of answering the prior, when the truth is uniform within the window.

    Args:
        offset_m: half the window's side, along map x and y.
        offset_deg: half the window's heading range.
        truth_yaw_rad: headings of the frames: they decide how the square window looks in the frame of the car.
        thresholds: metres and degrees.

    Returns:
        Recalls of lateral_m, longitudinal_m, position_m and heading_deg.
    """
    cos_m, sin_m = offset_m * np.abs(np.cos(truth_yaw_rad)), offset_m * np.abs(np.sin(truth_yaw_rad))
    return {
        "lateral_m": {threshold_key(t): 100.0 * _within_sum_of_uniforms(sin_m, cos_m, t) for t in thresholds},
        "longitudinal_m": {threshold_key(t): 100.0 * _within_sum_of_uniforms(cos_m, sin_m, t) for t in thresholds},
        "position_m": {threshold_key(t): 100.0 * _disc_in_square(t / offset_m) for t in thresholds},
        "heading_deg": {threshold_key(t): 100.0 * min(1.0, t / offset_deg) for t in thresholds},
    }


def _within_sum_of_uniforms(a: np.ndarray, b: np.ndarray, limit: float) -> float:
    """Mean probability of |a u + b v| < limit for u, v uniform in [-1, 1]: a trapezoid's tails, by ramps squared."""
    large = np.maximum(a, b)
    small = np.maximum(np.minimum(a, b), 1e-6 * large)  # a box is a trapezoid with very steep sides
    beyond = np.maximum(large + small - limit, 0.0) ** 2 - np.maximum(large - small - limit, 0.0) ** 2
    tail = beyond / (8.0 * small * large)
    return float(np.mean(1.0 - 2.0 * tail))


def _disc_in_square(radius: float) -> float:
    """Share of the square [-1, 1]^2 that a disc about its centre covers."""
    if radius >= math.sqrt(2.0):
        return 1.0
    area = math.pi * radius**2
    if radius > 1.0:  # less the four segments that stick out
        half_angle = math.acos(1.0 / radius)
        area -= 4.0 * radius**2 * (half_angle - math.sin(half_angle) * math.cos(half_angle))
    return area / 4.0

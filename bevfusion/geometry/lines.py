"""Values along a line of even steps."""

import math

import numpy as np
from jaxtyping import Float


def blurred_along(values: Float[np.ndarray, " n"], sigma_m: float, step_m: float) -> Float[np.ndarray, " n"]:
    """Gaussian smoothing along the line; beyond the ends it goes on straight.

    Args:
        values: one every `step_m` metres.
        sigma_m: of the Gaussian.
        step_m: between values.
    """
    reach = min(math.ceil(3.0 * sigma_m / step_m), len(values) - 1)
    if reach < 1:
        return values
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step_m / sigma_m) ** 2)
    # point reflection keeps slopes at the ends
    before = 2.0 * values[0] - values[reach:0:-1]
    behind = 2.0 * values[-1] - values[-2 : -reach - 2 : -1]
    return np.convolve(np.concatenate([before, values, behind]), kernel / kernel.sum(), "valid")


def yaws_along(xy_m: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    """Direction of travel along a line, unwrapped, rad."""
    slope = np.gradient(xy_m, axis=0)
    return np.unwrap(np.arctan2(slope[:, 1], slope[:, 0]))

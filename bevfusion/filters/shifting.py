"""Moving and blurring a volume (R, Y, X), exactly in mean and variance.

Along one axis a slice is convolved with linear interpolation by the fraction f of its shift, which has variance
f (1 - f), and with the discrete Gaussian T(n, v) = exp(-v) I_n(v) for the variance v that is still missing. The
kernels come from their Fourier transform, ((1 - f) + f exp(-iw)) exp(-iwm) exp(v (cos w - 1)), whole shift m included.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_WEIGHT = 1e-5  # of a node or tap that is worth its time
_SMALL_VARIANCE = 0.05  # cells^2: below, a blur along one direction is put on both axes


def move_slices(
    prob: Float[Tensor, "r y x"],
    shifts: Float[np.ndarray, "r 2"],
    variances: tuple[float, float],
    axis: Float[np.ndarray, "r 2"],
    axis_variance: float,
) -> Float[Tensor, "r y x"]:
    """Shift each slice by its own (x, y) and blur it; what passes the border is gone.

    Args:
        prob: the volume.
        shifts: cells.
        variances: of the blur along x and along y, cells^2. Interpolation blurs by up to 0.25 on its own.
        axis: unit vector of each slice.
        axis_variance: of a further blur along that vector, cells^2: a mixture of shifted copies.
    """
    if axis_variance <= _SMALL_VARIANCE:
        extra = max(axis_variance, 0.0)
        return _convolved(prob, shifts, (variances[0] + extra, variances[1] + extra))
    spacing = max(1.0, 0.5 * math.sqrt(axis_variance))
    weights = _taps(axis_variance / spacing**2)
    reach = len(weights) // 2
    moved = torch.zeros_like(prob)
    for node, weight in zip(range(-reach, reach + 1), weights, strict=True):
        moved.add_(_convolved(prob, shifts + node * spacing * axis, variances), alpha=float(weight))
    return moved


def blur_yaw(prob: Float[Tensor, "r y x"], variance: float, full_circle: bool) -> Float[Tensor, "r y x"]:
    """Blur along the headings, variance in bins^2; on a full circle the ends meet, else what passes them is gone."""
    weights = _taps(variance)
    count, reach = len(prob), len(weights) // 2
    blurred = prob * float(weights[reach])
    for step in range(1, reach + 1):
        weight = float(weights[reach + step])
        if full_circle:
            whole = step % count
            blurred.add_(torch.roll(prob, whole, 0), alpha=weight).add_(torch.roll(prob, -whole, 0), alpha=weight)
        elif step < count:
            blurred[step:].add_(prob[:-step], alpha=weight)
            blurred[:-step].add_(prob[step:], alpha=weight)
    return blurred


def interpolated(
    volume: Float[Tensor, "r y x"], bins: tuple[float, float, float], full_circle: bool
) -> Float[Tensor, "r y x"]:
    """The volume at (r, y, x) + bins, linear between bins; outside, its border (on a full circle r wraps)."""
    for axis, shift in enumerate(bins):
        whole = math.floor(shift)
        fraction = shift - whole
        if fraction > 1.0 - 1e-6:
            whole, fraction = whole + 1, 0.0
        lower = _taken(volume, axis, whole, axis == 0 and full_circle)
        if fraction > 1e-6:
            volume = torch.lerp(lower, _taken(volume, axis, whole + 1, axis == 0 and full_circle), fraction)
        else:
            volume = lower
    return volume


def _taken(volume: Tensor, axis: int, shift: int, wraps: bool) -> Tensor:
    if shift == 0:
        return volume
    size = volume.shape[axis]
    index = torch.arange(size) + shift
    return volume.index_select(axis, index % size if wraps else index.clamp(0, size - 1))


def _convolved(
    prob: Float[Tensor, "r y x"], shifts: Float[np.ndarray, "r 2"], variances: tuple[float, float]
) -> Float[Tensor, "r y x"]:
    """Shift and blur, one axis after the other, as products with banded matrices."""
    along_x = _transition(shifts[:, 0], variances[0], prob.shape[2])
    along_y = _transition(shifts[:, 1], variances[1], prob.shape[1])
    return along_y @ prob @ along_x.transpose(1, 2)


def _transition(shift: Float[np.ndarray, " r"], variance: float, size: int) -> Float[Tensor, "r size size"]:
    """Share of cell j that ends in cell i, for each slice: [r, i, j]."""
    # a shift beyond the window empties it; periods of four windows keep what leaves on one side off the other
    shift = np.clip(shift, -1.5 * size, 1.5 * size)
    period = 64 * math.ceil(4 * size / 64)
    whole = np.floor(shift)
    fraction = (shift - whole)[:, None]
    missing = np.maximum(variance - fraction * (1.0 - fraction), 0.0)
    omega = 2.0 * math.pi * np.arange(period // 2 + 1) / period
    wave = np.exp(-1j * omega)
    spectrum = ((1.0 - fraction) + fraction * wave) * np.exp(missing * (np.cos(omega) - 1.0))
    spectrum = spectrum * np.exp(-1j * omega * whole[:, None])
    kernel = np.maximum(np.fft.irfft(spectrum, period), 0.0).astype(np.float32)
    lags = np.arange(-(size - 1), size)
    by_lag = torch.from_numpy(kernel[:, lags % period])
    return by_lag.unfold(1, size, 1).flip(2)  # [i, j] is lag i - j


def discrete_gaussian(variance: float) -> Float[np.ndarray, " n"]:
    """T(n, variance) = exp(-v) I_n(v) for n = 0, 1, 2, ..., from its Fourier transform.

    Unlike samples of a continuous Gaussian its variance is exact, however small: Lindeberg, Scale-Space for Discrete
    Signals, PAMI 1990, section IV.
    """
    period = 64 * math.ceil((12.0 * math.sqrt(variance) + 16.0) / 64)
    omega = 2.0 * math.pi * np.arange(period // 2 + 1) / period
    kernel: np.ndarray = np.fft.irfft(np.exp(variance * (np.cos(omega) - 1.0)), period)[: period // 2]
    return kernel


def _taps(variance: float) -> Float[np.ndarray, " n"]:
    """The discrete Gaussian for n = -reach .. reach, as far as it counts, summing to one."""
    kernel = discrete_gaussian(variance)
    reach = int(np.flatnonzero(kernel > _LEAST_WEIGHT)[-1])
    both = np.concatenate([kernel[reach:0:-1], kernel[: reach + 1]])
    weights: np.ndarray = both / both.sum()
    return weights

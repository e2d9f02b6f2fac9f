"""What one scan cannot see: how far the map as a whole is off the world.

A network matches a scan with what is drawn, and is as sure of that as the match is sharp. Streets and houses of a map
lie half a metre beside their places, all of a block together, and so does the pose. That doubt belongs to no scan and
cannot be had from its scores, only from many truths (`training.calibration`).
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevfusion.filters.shifting import discrete_gaussian
from bevfusion.structures import PoseBelief

REACH = 6  # cells that a probability is spread over, to each side
_LEAST = 1e-30  # probabilities below are all the same: their logarithm stays finite


class BeliefBlur(nn.Module):
    """Spread each probability over the places about it, whatever the heading; at first over none."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", gaussian_taps(0.0))
        self.taps: Tensor

    def set_variance(self, variance_cells2: float) -> None:
        """Blur by a Gaussian of so much variance along each axis, in cells^2."""
        self.taps.copy_(gaussian_taps(variance_cells2))

    @property
    def std_cells(self) -> float:
        """Standard deviation of the blur along each axis, in cells."""
        lags = torch.arange(-REACH, REACH + 1, device=self.taps.device)
        return float((self.taps * lags.square()).sum().sqrt())

    def forward(self, belief: PoseBelief) -> PoseBelief:
        """The belief, wider. What would leave the window is shared by all that is in it."""
        shape = belief.log_prob.shape
        with torch.autocast(belief.log_prob.device.type, enabled=False):  # rounded probabilities have rough logarithms
            prob = self._band(shape[2]) @ belief.log_prob.float().exp() @ self._band(shape[3])
        return PoseBelief(prob.clamp(min=_LEAST).log().flatten(1).log_softmax(1).view(shape), belief.window)

    def _band(self, size: int) -> Float[Tensor, "size size"]:
        """The matrix that convolves with the taps: far cheaper than a convolution of a single channel."""
        places = torch.arange(size, device=self.taps.device)
        lags = (places[:, None] - places).clamp(-REACH - 1, REACH + 1)
        taps: Tensor = F.pad(self.taps, [1, 1])[lags + REACH + 1]
        return taps


def gaussian_taps(variance_cells2: float) -> Float[Tensor, " n"]:
    """The discrete Gaussian for n = -REACH .. REACH.

    Raises:
        ValueError: if the variance is negative, or too large for the reach.
    """
    if not 0.0 <= variance_cells2 <= (REACH / 4.0) ** 2:
        raise ValueError(f"a variance of 0 to {(REACH / 4.0) ** 2} cells^2 fits {REACH} cells, got {variance_cells2}")
    half = discrete_gaussian(variance_cells2)[: REACH + 1].clip(min=0.0)
    taps = np.concatenate([half[:0:-1], half])
    return torch.from_numpy(taps / taps.sum()).float()

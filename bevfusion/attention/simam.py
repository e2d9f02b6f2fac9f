"""SimAM: A Simple, Parameter-Free Attention Module, http://proceedings.mlr.press/v139/yang21o.html.

    Y = X sigmoid(t),  t = (x - mu)^2 / (4 (var + lambda)) + 1/2,  mu and var of a channel over its N cells,
    var with N - 1, lambda = 1e-4

Cells that deviate from their channel are raised: poles and signs on a flat background. On a single cell var is zero.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_at_least


class SimAM(nn.Module):
    """Gate of every value from its distance to the mean of its channel. It has no parameters.

    Args:
        channels: Channels of input and output (nothing depends on their number).
        regularizer: lambda, in squared units of the features.

    Raises:
        ValueError: if the regularizer is not positive.
    """

    def __init__(self, channels: int, *, regularizer: float = 1e-4):
        super().__init__()
        check_at_least("channels", channels, 1)
        if regularizer <= 0:
            raise ValueError(f"regularizer must be positive, got {regularizer}")
        self.regularizer = regularizer

    def gate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The factor of every value, in (0.62, 1)."""
        cells = x.shape[2] * x.shape[3]
        squared = (x - x.mean((2, 3), keepdim=True)).square()
        # The mean, not the sum: in half precision a sum over a large map overflows.
        variance = squared.mean((2, 3), keepdim=True) * (cells / max(cells - 1, 1))
        return torch.sigmoid(squared / (4 * (variance + self.regularizer)) + 0.5)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Scales every value by its gate."""
        return x * self.gate(x)

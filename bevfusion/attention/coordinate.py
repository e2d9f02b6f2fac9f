"""Coordinate Attention for Efficient Mobile Network Design, https://arxiv.org/abs/2103.02907.

    z^h_c(i) = mean over columns, z^w_c(j) = mean over rows
    f = hswish(BN(F1 [z^h; z^w])),  C -> max(8, C/r), r = 32
    g^h = sigmoid(F_h f^h), g^w = sigmoid(F_w f^w);  Y_c(i, j) = X_c(i, j) g^h_c(i) g^w_c(j)

A row and a column are one descriptor each, without neighbours: the gate follows any permutation of rows and of columns.
Some ports drop the sigmoids and the h-swish. At initialization the gate is about a quarter. It presupposes that what
matters runs along an axis: turn the map to the road first.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, hidden_width
from bevfusion.attention.descriptors import BatchNorm, Seen, mean_over, seen_mask


class Coordinate(nn.Module):
    """Product of a gate of every row and a gate of every column, for each channel.

    Args:
        channels: Channels of input and output.
        reduction: Ratio r of the bottleneck, which is at least 8 wide.
        occupancy: Pool over seen cells only; `forward` and `gate` then need `seen`. In evaluation rows and columns of
            unseen cells change nothing of the others; in training they take part in the batch statistics.

    Raises:
        ValueError: if channels or reduction is below one.
    """

    def __init__(self, channels: int, *, reduction: int = 32, occupancy: bool = False):
        super().__init__()
        hidden = hidden_width(channels, reduction, least=8)
        self.needs = SEEN if occupancy else FEATURES
        self.squeeze = nn.Sequential(nn.Conv1d(channels, hidden, 1, bias=False), BatchNorm(hidden), nn.Hardswish())
        self.rows = nn.Conv1d(hidden, channels, 1)
        self.columns = nn.Conv1d(hidden, channels, 1)

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """The factor of every value, in (0, 1): an outer product in each channel."""
        mask = seen_mask(x, seen, self.needs)
        strips = torch.cat([mean_over(x, (3,), mask), mean_over(x, (2,), mask)], dim=2)
        of_rows, of_columns = self.squeeze(strips).split([x.shape[2], x.shape[3]], dim=2)
        return torch.sigmoid(self.rows(of_rows))[..., None] * torch.sigmoid(self.columns(of_columns))[:, :, None]

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every value by its gate."""
        return x * self.gate(x, seen)

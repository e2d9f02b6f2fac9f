"""Strip Pooling: Rethinking Spatial Pooling for Scene Parsing, https://arxiv.org/abs/2003.13328 (its gate).

    y^h = conv1d_3 of the row means, y^v = conv1d_3 of the column means;  y_c(i, j) = y^h_c(i) + y^v_c(j)
    Y = X sigmoid(f1x1(y))

f is linear, so it is applied to the strips and never to the map. The authors' code normalizes each strip, and has a
ReLU in front of f, which the equation lacks: `norm=True`, where f works on the map. Beside coordinate attention,
neighbouring rows see each other, and a row and a column add before the sigmoid. The authors' module for segmentation
wraps this in further pyramid branches, which are not here.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, check_at_least, check_odd
from bevfusion.attention.descriptors import BatchNorm, Seen, mean_over, seen_mask


class Strip(nn.Module):
    """Gate from the strip of every row and of every column.

    Args:
        channels: Channels of input and output.
        kernel_size: Number of neighbouring rows, and columns, that see each other.
        norm: Batch normalization of both strips and a ReLU of their sum, as in the authors' code.
        occupancy: Pool over seen cells only; `forward` and `gate` then need `seen`.

    Raises:
        ValueError: if the kernel is even.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, norm: bool = False, occupancy: bool = False):
        super().__init__()
        check_at_least("channels", channels, 1)
        check_odd("kernel_size", kernel_size)
        self.needs = SEEN if occupancy else FEATURES
        self.norm = norm
        self.rows = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.columns = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.rows_norm = BatchNorm(channels) if norm else nn.Identity()
        self.columns_norm = BatchNorm(channels) if norm else nn.Identity()
        self.mix = nn.Conv1d(channels, channels, 1)

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """The factor of every value, in (0, 1); without `norm` its logit is a sum of a row's and a column's."""
        mask = seen_mask(x, seen, self.needs)
        of_rows = self.rows_norm(self.rows(mean_over(x, (3,), mask)))
        of_columns = self.columns_norm(self.columns(mean_over(x, (2,), mask)))
        if self.norm:
            sum_of_both = torch.relu(of_rows[..., None] + of_columns[:, :, None])
            return torch.sigmoid(F.conv2d(sum_of_both, self.mix.weight[..., None], self.mix.bias))
        of_rows, of_columns = self.mix(of_rows), F.conv1d(of_columns, self.mix.weight)
        return torch.sigmoid(of_rows[..., None] + of_columns[:, :, None])

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every value by its gate."""
        return x * self.gate(x, seen)

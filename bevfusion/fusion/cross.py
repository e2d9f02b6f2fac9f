"""Cross-attention of LiDAR cells to the map around them.

    q = W_q lidar,  k = W_k map,  v = W_v map,      a(p, d) = softmax_d( q(p) . k(p + d) / sqrt(width) + bias(d) )
    y(p) = lidar(p) + gate W_o sum_d a(p, d) v(p + d),     d in the `window` x `window` cells around p

with gate = 0 at start.

After the cross-attention of P-MapNet, https://arxiv.org/abs/2403.10521, which is there because maps are misaligned: a
gate can only weigh what lies at the same cell, this can fetch it from next door. An offset of the map of up to
window // 2 cells is mended; `weights` shows which. At the start it is the LiDAR branch alone.

Neighbours outside the grid are left out of the softmax. Cost: the weights take window^2 numbers a cell, nothing is
unfolded, no N x N.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_at_least, check_odd, hidden_width


class CrossFusion(nn.Module):
    """Lets LiDAR cells read the map nearby; the LiDAR branch alone at start.

    Args:
        channels: Channels of each branch and of the output.
        window: Side of the neighbourhood in cells; odd.
        reduction: Channels over the width of queries and keys.

    Raises:
        ValueError: if `window` is even or a size is not positive.
    """

    def __init__(self, channels: int, *, window: int = 5, reduction: int = 2) -> None:
        super().__init__()
        check_at_least("channels", channels, 1)
        check_odd("window", window)
        self.window = window
        inner = hidden_width(channels, reduction)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.offset_bias = nn.Parameter(torch.zeros(window * window))
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(
        self, lidar: Float[Tensor, "b c h w"], map_in_ego: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """The joint tensor of two maps that may be a few cells apart."""
        weights = self.weights(lidar, map_in_ego)
        value = self._padded(self.value(map_in_ego))
        gathered = torch.zeros_like(value[:, :, : lidar.shape[2], : lidar.shape[3]])
        for place, (row, col) in enumerate(self._places()):
            shifted = value[:, :, row : row + lidar.shape[2], col : col + lidar.shape[3]]
            gathered = torch.addcmul(gathered, weights[:, place : place + 1], shifted)
        y: Tensor = lidar + self.gate * self.out(gathered)
        return y

    def weights(
        self, lidar: Float[Tensor, "b c h w"], map_in_ego: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b p h w"]:
        """How much each cell reads from each of its neighbours, which are told row by row; sums to one over p."""
        query = self.query(lidar) / math.sqrt(self.query.out_channels)
        key = self._padded(self.key(map_in_ego))
        there = self._padded(torch.ones_like(lidar[:, :1], dtype=torch.bool))
        height, width = lidar.shape[2:]
        logits, usable = [], []
        for place, (row, col) in enumerate(self._places()):
            shifted = key[:, :, row : row + height, col : col + width]
            logits.append((query * shifted).sum(1) + self.offset_bias[place])
            usable.append(there[:, 0, row : row + height, col : col + width])
        mask = torch.stack(usable, dim=1)
        return torch.stack(logits, dim=1).masked_fill(~mask, -torch.inf).softmax(1)

    def _places(self) -> list[tuple[int, int]]:
        return [(row, col) for row in range(self.window) for col in range(self.window)]

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.window // 2,) * 4)

"""Criss-cross attention: CCNet, https://arxiv.org/abs/1811.11721.

Each cell looks along its own row and column, itself counted once:

    a_u = softmax over the H + W - 1 cells p of the cross through u of q_u^T k_p,   y_u = x_u + gamma sum_p a_p v_p

with 1 x 1 convolutions q, k (C/8 wide), v (C wide) and gamma = 0 at start. Two passes with shared weights
(`recurrence=2`, the paper's default for whole images) let every cell reach every other. Where the map is turned to the
road, a row runs along it: this is the attention that looks along the road at N (H + W) cost.

Discrepancies: the reference, too, masks the cell in its column; the choice does not change the result. Its mask lives
on CUDA (or CPU) by name; ours follows the input. Default recurrence here is 1, as for a slot.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_at_least, hidden_width


class CrissCross(nn.Module):
    """Row and column attention; identity at start.

    Args:
        channels: Channels of input and output.
        reduction: Channels over the width of queries and keys.
        recurrence: Passes with shared weights.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(self, channels: int, *, reduction: int = 8, recurrence: int = 1) -> None:
        super().__init__()
        check_at_least("recurrence", recurrence, 1)
        inner = hidden_width(channels, reduction)
        self.recurrence = recurrence
        self.query_conv = nn.Conv2d(channels, inner, 1)
        self.key_conv = nn.Conv2d(channels, inner, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Adds what each cell gathers from its row and column; `B C H W -> B C H W`."""
        for _ in range(self.recurrence):
            x = x + self.gamma * self._gathered(x)
        return x

    def _gathered(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        value = self.value_conv(x)
        row, column = self.weights(x)
        along_row = torch.einsum("bhwv,bchv->bchw", row, value)
        along_column = torch.einsum("bhwg,bcgw->bchw", column, value)
        return along_row + along_column

    def weights(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b h w w"], Float[Tensor, "b h w h"]]:
        """How much each cell (h, w) looks at each cell of its row and of its column; both together sum to one.

        The column's entry for the cell itself is 0: it is counted in the row.
        """
        query, key = self.query_conv(x), self.key_conv(x)
        row = torch.einsum("bchw,bchv->bhwv", query, key)
        column = torch.einsum("bchw,bcgw->bhwg", query, key)
        itself = torch.eye(x.shape[2], dtype=torch.bool, device=x.device)[None, :, None, :]
        logits = torch.cat([row, column.masked_fill(itself, -torch.inf)], dim=3)
        weights = logits.softmax(3)
        return weights[..., : x.shape[3]], weights[..., x.shape[3] :]

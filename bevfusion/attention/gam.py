"""Global Attention Mechanism, https://arxiv.org/abs/2112.05561.

    X' = M_c(X) X,  M_c = sigmoid(MLP over the channels of each cell), C -> C/r -> C
    Y = M_s(X') X', M_s = sigmoid(BN(f7x7(relu(BN(f7x7(X')))))),       C -> C/r -> C;  r = 4

Nothing is pooled: the "channel" gate is one of each cell as well. With `groups` > 1 the convolutions are grouped and
the channels shuffled between them, so that groups mix. Widely copied listings leave out the sigmoid of M_c
(`sigmoid=False`: a gate of both signs), tie the groups to r and shuffle the finished gate, so that a channel is scaled
by the gate of another and no groups mix. That is not offered, but its weights load (`load_reference_state`).
"""

from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_at_least, check_odd, hidden_width
from bevfusion.attention.descriptors import BatchNorm


class GAM(nn.Module):
    """Gate of every value from its cell, then from its neighbourhood.

    Args:
        channels: Channels of input and output.
        reduction: Ratio r of both bottlenecks, at least one wide.
        kernel_size: Side of both convolutions.
        groups: Groups of both convolutions.
        sigmoid: Whether the channel gate ends in a sigmoid.

    Raises:
        ValueError: if the groups do not divide the channels and the hidden width, or the kernel is even.
    """

    def __init__(
        self, channels: int, *, reduction: int = 4, kernel_size: int = 7, groups: int = 1, sigmoid: bool = True
    ):
        super().__init__()
        hidden = hidden_width(channels, reduction)
        check_odd("kernel_size", kernel_size)
        check_at_least("groups", groups, 1)
        if channels % groups or hidden % groups:
            raise ValueError(f"groups must divide {channels} channels and the hidden width {hidden}, got {groups}")
        self.groups = groups
        padding = kernel_size // 2
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid() if sigmoid else nn.Identity(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size, padding=padding, groups=groups, bias=False),
            BatchNorm(hidden),
            nn.ReLU(),
            nn.ChannelShuffle(groups) if groups > 1 else nn.Identity(),
            nn.Conv2d(hidden, channels, kernel_size, padding=padding, groups=groups, bias=False),
            BatchNorm(channels),
            nn.Sigmoid(),
        )

    def gate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The factor of every value, in (0, 1) unless `sigmoid` is off."""
        of_channels: Tensor = self.mlp(x)
        of_cells: Tensor = self.spatial(x * of_channels)
        return of_channels * of_cells

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Scales every value by its gate."""
        scaled: Tensor = x * self.mlp(x)
        of_cells: Tensor = self.spatial(scaled)
        return scaled * of_cells

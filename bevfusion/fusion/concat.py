"""Fusion by concatenation: both branches side by side, one convolution.

    y = ReLU(norm(conv([lidar ; map])))

The honest baseline; with a 3 x 3 kernel and batch norm it is MIT's BEVFusion, https://arxiv.org/abs/2205.13542. Group
norm here, as everywhere in the network: a batch of one is normal.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.options import check_at_least, check_odd
from bevfusion.nn import ConvNormAct


class ConcatFusion(nn.Module):
    """Concatenate, convolve.

    Args:
        channels: Channels of each branch and of the output.
        kernel: Size of the convolution; odd.

    Raises:
        ValueError: if `kernel` is even or a size is not positive.
    """

    def __init__(self, channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        check_at_least("channels", channels, 1)
        check_odd("kernel", kernel)
        self.join = ConvNormAct(2 * channels, channels, kernel=kernel)

    def forward(
        self, lidar: Float[Tensor, "b c h w"], map_in_ego: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """The joint tensor of two aligned maps."""
        y: Tensor = self.join(torch.cat([lidar, map_in_ego], dim=1))
        return y

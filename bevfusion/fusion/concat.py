"""Fusion by concatenation: both branches side by side, one convolution, and a gate of the channels if wanted.

    concat:   y = ReLU(norm(conv([lidar ; map])))
    dynamic:  f = ReLU(norm(conv([lidar ; map]))),  y = f sigmoid(W mean(f) + b),  W a full C x C matrix (no reduction)

The first is the honest baseline; with a 3 x 3 kernel and batch norm it is MIT's BEVFusion,
https://arxiv.org/abs/2205.13542. The second is that of PKU and Alibaba, https://arxiv.org/abs/2205.13790, section 3.3,
whose norm is batch norm (eps 1e-3, momentum 0.01). Group norm here, as everywhere in the network: a batch of one is
normal.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_at_least, check_odd
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


class DynamicFusion(ConcatFusion):
    """Concatenate, convolve, gate the channels.

    Args:
        channels: Channels of each branch and of the output.
        kernel: Size of the convolution; odd.

    Raises:
        ValueError: if `kernel` is even or a size is not positive.
    """

    def __init__(self, channels: int, *, kernel: int = 3) -> None:
        super().__init__(channels, kernel=kernel)
        self.excite = nn.Linear(channels, channels)

    def forward(
        self, lidar: Float[Tensor, "b c h w"], map_in_ego: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """The joint tensor of two aligned maps."""
        joined = super().forward(lidar, map_in_ego)
        gate: Tensor = self.excite(joined.mean((2, 3))).sigmoid()
        return joined * gate[:, :, None, None]

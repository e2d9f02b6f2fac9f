"""Dynamic fusion: BEVFusion of PKU and Alibaba, https://arxiv.org/abs/2205.13790, section 3.3.

    f = ReLU(norm(conv3x3([lidar ; map]))),    y = f sigmoid(W mean(f) + b),    W a full C x C matrix (no reduction)

The authors' norm is batch norm (eps 1e-3, momentum 0.01); here group norm, for batches of one.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.options import check_at_least, check_odd
from bevfusion.nn import ConvNormAct


class DynamicFusion(nn.Module):
    """Concatenate, convolve, gate the channels.

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
        self.excite = nn.Linear(channels, channels)

    def forward(
        self, lidar: Float[Tensor, "b c h w"], map_in_ego: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """The joint tensor of two aligned maps."""
        joined: Tensor = self.join(torch.cat([lidar, map_in_ego], dim=1))
        gate: Tensor = self.excite(joined.mean((2, 3))).sigmoid()
        return joined * gate[:, :, None, None]

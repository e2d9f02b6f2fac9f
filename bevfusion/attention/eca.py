"""ECA-Net: Efficient Channel Attention, https://arxiv.org/abs/1910.03151.

    z = mean over cells of X;  s = sigmoid(conv1d_k(z) along the channels);  Y_c = s_c X_c
    k = the odd number next to |log2(C) / 2 + 1/2|, rounded up from even ones:  64 -> 3, 128 to 512 -> 5, 2048 -> 7

Zero padding, no bias. The kernel slides over the channels, so their order matters.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, check_at_least, check_odd
from bevfusion.attention.descriptors import Seen, mean_over, seen_mask


def adaptive_kernel_size(channels: int) -> int:
    """The paper's kernel size for a number of channels."""
    size = int(abs(math.log2(channels) / 2 + 0.5))
    return size if size % 2 else size + 1


class ECA(nn.Module):
    """Channel gate from the mean of a channel and of its neighbours.

    Args:
        channels: Channels of input and output.
        kernel_size: Number of neighbouring channels; 0 takes the paper's.
        occupancy: Pool over seen cells only; `forward` and `gate` then need `seen`.

    Raises:
        ValueError: if the kernel is even.
    """

    def __init__(self, channels: int, *, kernel_size: int = 0, occupancy: bool = False):
        super().__init__()
        check_at_least("channels", channels, 1)
        kernel_size = kernel_size or adaptive_kernel_size(channels)
        check_odd("kernel_size", kernel_size)
        self.needs = SEEN if occupancy else FEATURES
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c 1 1"]:
        """The factor of every channel, in (0, 1)."""
        z = mean_over(x, (2, 3), seen_mask(x, seen, self.needs))
        return torch.sigmoid(self.conv(z[:, None]))[:, 0, :, None, None]

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every channel by its gate."""
        return x * self.gate(x, seen)

"""Rotate to Attend: Convolutional Triplet Attention Module, https://arxiv.org/abs/2010.03045.

    Z = [max; mean] over one axis;  g = sigmoid(BN(f7x7(Z))) on the plane of the two others, f: 2 -> 1 without bias
    Y = X (g_cw + g_hc + g_hw) / 3

The authors' code scales three rotated copies of X and averages them; that is the same sum with one multiplication. Some
ports put a ReLU in front of the sigmoid (gates then start at 1/2). The kernels slide over the channels too, so their
order matters. At initialization the gate is about a half. How the maximum treats ties: see `descriptors`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_at_least, check_odd
from bevfusion.attention.descriptors import BatchNorm


class PlaneGate(nn.Module):
    """The gate of the plane that is left when one axis is pooled."""

    def __init__(self, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = BatchNorm(1, momentum=0.01)

    def forward(self, x: Float[Tensor, "b p q r"], pooled: int) -> Float[Tensor, "b s t"]:
        """Gate of the axes of x other than the batch and `pooled`, in their order."""
        z = torch.stack([x.amax(pooled), x.mean(pooled)], dim=1)
        return torch.sigmoid(self.norm(self.conv(z)))[:, 0]


class Triplet(nn.Module):
    """Mean of the gates of the planes (C, W), (H, C) and (H, W).

    Args:
        channels: Channels of input and output (nothing depends on their number).
        kernel_size: Side of the convolutions.
        spatial: Whether the plane (H, W) takes part.

    Raises:
        ValueError: if the kernel is even.
    """

    def __init__(self, channels: int, *, kernel_size: int = 7, spatial: bool = True):
        super().__init__()
        check_at_least("channels", channels, 1)
        check_odd("kernel_size", kernel_size)
        self.cw = PlaneGate(kernel_size)
        self.hc = PlaneGate(kernel_size)
        self.hw = PlaneGate(kernel_size) if spatial else None

    def gate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The factor of every value, in (0, 1)."""
        of_cw: Tensor = self.cw(x, pooled=2)[:, :, None, :]
        # This convolution sees rows H and columns C, as the authors' does: its kernel is not symmetric.
        of_hc: Tensor = self.hc(x.transpose(1, 2), pooled=3).transpose(1, 2)[:, :, :, None]
        if self.hw is None:
            return (of_cw + of_hc) / 2
        of_hw: Tensor = self.hw(x, pooled=1)[:, None]
        return (of_cw + (of_hc + of_hw)) / 3

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Scales every value by its gate."""
        return x * self.gate(x)

"""CBAM: Convolutional Block Attention Module, https://arxiv.org/abs/1807.06521.

    M_c(X) = sigmoid(MLP(mean X) + MLP(max X)), one MLP C -> C/r -> C for both, r = 16          (CAM)
    M_s(X) = sigmoid(f7x7([mean over channels; max over channels]))                             (SAM)
    Y = M_s(X') X',  X' = M_c(X) X                                                              (CBAM)

Where sources differ: the authors' code normalizes after f (absent from the equation; `norm=False` leaves it out),
stacks (max, mean) instead of (mean, max) (`load_reference_state` swaps), and gives the MLP biases, which some ports
drop. At initialization the whole gate is about a quarter. How the maximum treats ties: see `descriptors`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, check_at_least, check_choice, check_odd, hidden_width
from bevfusion.attention.descriptors import BatchNorm, Seen, max_over, mean_over, seen_mask


class CAM(nn.Module):
    """Channel gate from the mean and the maximum of every channel.

    Args:
        channels: Channels of input and output.
        reduction: Ratio r of the bottleneck, which is at least one wide.
        bias: Whether the two layers have biases.
        occupancy: Pool over seen cells only; `forward` and `gate` then need `seen`.

    Raises:
        ValueError: if channels or reduction is below one.
    """

    def __init__(self, channels: int, *, reduction: int = 16, bias: bool = True, occupancy: bool = False):
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.needs = SEEN if occupancy else FEATURES
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, channels, bias=bias)
        )

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c 1 1"]:
        """The factor of every channel, in (0, 1)."""
        mask = seen_mask(x, seen, self.needs)
        logits = self.mlp(mean_over(x, (2, 3), mask)) + self.mlp(max_over(x, (2, 3), mask))
        return torch.sigmoid(logits)[:, :, None, None]

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every channel by its gate."""
        return x * self.gate(x, seen)


class SAM(nn.Module):
    """Gate of every cell, the same for all channels.

    Args:
        channels: Channels of input and output (the gate does not depend on their number).
        kernel_size: Side of the convolution.
        norm: Batch normalization after the convolution (the authors' code), or a bias there (the equation).
        padding: "zeros", or "replicate" for no dark frame along the border.
        occupancy: Count unseen cells as zero; `forward` and `gate` then need `seen`. Then, with zero padding, a
            border of unseen cells changes nothing.

    Raises:
        ValueError: if the kernel is even or padding is unknown.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        norm: bool = True,
        padding: str = "zeros",
        occupancy: bool = False,
    ):
        super().__init__()
        check_at_least("channels", channels, 1)
        check_odd("kernel_size", kernel_size)
        check_choice("padding", padding, ("zeros", "replicate"))
        self.needs = SEEN if occupancy else FEATURES
        self.conv = nn.Conv2d(
            2,
            1,
            kernel_size,
            padding=kernel_size // 2,
            bias=not norm,
            padding_mode="replicate" if padding == "replicate" else "zeros",
        )
        self.norm = BatchNorm(1, momentum=0.01) if norm else nn.Identity()

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b 1 h w"]:
        """The factor of every cell, in (0, 1)."""
        mask = seen_mask(x, seen, self.needs)
        planes = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        if mask is not None:
            planes = planes.masked_fill(~mask, 0)
        return torch.sigmoid(self.norm(self.conv(planes)))

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every cell by its gate."""
        return x * self.gate(x, seen)


class CBAM(nn.Module):
    """Channel gate and spatial gate.

    Args:
        channels: Channels of input and output.
        reduction: Ratio of the channel gate's bottleneck.
        kernel_size: Side of the spatial gate's convolution.
        arrangement: "sequential", where the spatial gate sees what the channel gate left, or "parallel", where both
            see the input and are multiplied.
        norm: Batch normalization in the spatial gate.
        padding: "zeros" or "replicate", of the spatial gate.
        occupancy: Pool over seen cells only; `forward` and `gate` then need `seen`.

    Raises:
        ValueError: if an option has no such value.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        kernel_size: int = 7,
        arrangement: str = "sequential",
        norm: bool = True,
        padding: str = "zeros",
        occupancy: bool = False,
    ):
        super().__init__()
        check_choice("arrangement", arrangement, ("sequential", "parallel"))
        self.sequential = arrangement == "sequential"
        self.channel = CAM(channels, reduction=reduction, occupancy=occupancy)
        self.spatial = SAM(channels, kernel_size=kernel_size, norm=norm, padding=padding, occupancy=occupancy)
        self.needs = self.channel.needs

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """The factor of every value, in (0, 1)."""
        of_channels = self.channel.gate(x, seen)
        return of_channels * self.spatial.gate(x * of_channels if self.sequential else x, seen)

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every value by its gate."""
        scaled: Tensor = self.channel(x, seen)
        return scaled * self.spatial.gate(scaled if self.sequential else x, seen)

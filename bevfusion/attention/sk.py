"""Selective Kernel Networks, https://arxiv.org/abs/1903.06586.

    U_m = relu(BN(conv3x3 of dilation m + 1 (X))), m = 0 .. M-1, in G groups       (the second stands in for 5 x 5)
    s = mean over cells of sum_m U_m;  z = relu(BN(W s)) in R^d, d = max(C/r, L)
    Y_c = sum_m w_mc U_mc,  w_c = softmax over m of (A_m z)_c;   M = 2, G = 32, r = 16, L = 32, no biases

A popular PyTorch port has a true 5 x 5 kernel, biases, and neither BN nor ReLU on z; timm has no floor L. Here G is
lowered to the greatest common divisor with the channels. BN of z cannot work at batch 1: see `descriptors`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, check_at_least, hidden_width
from bevfusion.attention.descriptors import BatchNorm, Seen, mean_over, seen_mask


class SK(nn.Module):
    """Chooses for every channel between convolutions of different reach. It replaces its input: there is no gate.

    Args:
        channels: Channels of input and output.
        branches: Number M of kernels.
        groups: Groups G of the convolutions, at most.
        reduction: Ratio r of the descriptor's bottleneck.
        least: Its least width L.
        occupancy: Clear unseen cells and pool over the others; `forward` and `weights` then need `seen`. In
            evaluation a border of unseen cells changes nothing of the rest.

    Raises:
        ValueError: if an option is below one.
    """

    def __init__(
        self,
        channels: int,
        *,
        branches: int = 2,
        groups: int = 32,
        reduction: int = 16,
        least: int = 32,
        occupancy: bool = False,
    ):
        super().__init__()
        for name, value in (("branches", branches), ("groups", groups), ("least", least)):
            check_at_least(name, value, 1)
        width = hidden_width(channels, reduction, least)
        shared = math.gcd(channels, groups)
        self.needs = SEEN if occupancy else FEATURES
        self.kernels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=m + 1, dilation=m + 1, groups=shared, bias=False),
                BatchNorm(channels),
                nn.ReLU(),
            )
            for m in range(branches)
        )
        self.fuse = nn.Sequential(nn.Linear(channels, width, bias=False), BatchNorm(width), nn.ReLU())
        self.select = nn.Linear(width, branches * channels, bias=False)

    def weights(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b m c"]:
        """How much of every channel each kernel gives; sums to one over the kernels."""
        return self._split_and_weigh(x, seen)[1]

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """The weighted sum of the branches."""
        branches, weights = self._split_and_weigh(x, seen)
        y = branches[0] * weights[:, 0, :, None, None]
        for m in range(1, len(branches)):
            y = torch.addcmul(y, branches[m], weights[:, m, :, None, None])
        return y

    def _split_and_weigh(
        self, x: Float[Tensor, "b c h w"], seen: Seen | None
    ) -> tuple[list[Float[Tensor, "b c h w"]], Float[Tensor, "b m c"]]:
        mask = seen_mask(x, seen, self.needs)
        source = x if mask is None else x.masked_fill(~mask, 0)
        branches = [kernel(source) for kernel in self.kernels]
        # The mean of the sum is the sum of the means: the sum itself is never stored.
        s = sum((mean_over(branch, (2, 3), mask) for branch in branches[1:]), mean_over(branches[0], (2, 3), mask))
        logits = self.select(self.fuse(s))
        return branches, logits.unflatten(1, (len(branches), x.shape[1])).softmax(dim=1)

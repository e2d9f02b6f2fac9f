"""BAM: Bottleneck Attention Module, https://arxiv.org/abs/1807.06514.

    Y = X (1 + M),  M = sigmoid(M_c + M_s)
    M_c = BN(W1 relu(W0 mean(X) + b0)),  C -> C/r -> C
    M_s = BN(f1x1(f3x3(f3x3(f1x1(X))))),  C -> C/r -> C/r -> C/r -> 1, both f3x3 of dilation d;  r = 16, d = 4

That is mode "sum". The authors' released weights belong to mode "product": sigmoid(M_c M_s), normalization after every
hidden layer instead of after the last. There a pair of logits and its negative give the same gate. The equation has
no ReLU between the convolutions, which would leave one linear map; the authors' code has them, and so has this.

Batch normalization of the C/r-wide descriptor cannot work at batch 1: see `descriptors`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, check_at_least, check_choice, hidden_width
from bevfusion.attention.descriptors import BatchNorm, Seen, mean_over, seen_mask


class BAM(nn.Module):
    """Gate between one and two from a channel branch and a dilated spatial branch.

    Args:
        channels: Channels of input and output.
        reduction: Ratio r of both bottlenecks, at least one wide.
        dilation: Of the two 3 x 3 convolutions.
        mode: "sum" (paper) or "product" (the authors' code and weights).
        occupancy: Pool over seen cells and clear the others before each convolution; `forward` and `gate` then need
            `seen`. In evaluation a border of unseen cells changes nothing.

    Raises:
        ValueError: if an option has no such value.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        dilation: int = 4,
        mode: str = "sum",
        occupancy: bool = False,
    ):
        super().__init__()
        hidden = hidden_width(channels, reduction)
        check_at_least("dilation", dilation, 1)
        check_choice("mode", mode, ("sum", "product"))
        self.needs = SEEN if occupancy else FEATURES
        self.dilation = dilation
        self.summed = mode == "sum"

        # A bias in front of a normalization would have no effect.
        def hidden_norm() -> nn.Module:
            return nn.Identity() if self.summed else BatchNorm(hidden)

        def output_norm(width: int) -> nn.Module:
            return BatchNorm(width) if self.summed else nn.Identity()

        self.channel = nn.Sequential(
            nn.Linear(channels, hidden, bias=self.summed),
            hidden_norm(),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=not self.summed),
            output_norm(channels),
        )
        convs = [nn.Conv2d(channels, hidden, 1, bias=self.summed)]
        for _ in range(2):
            convs.append(nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation, bias=self.summed))
        self.spatial = nn.ModuleList(nn.Sequential(conv, hidden_norm(), nn.ReLU()) for conv in convs)
        self.spatial_out = nn.Sequential(nn.Conv2d(hidden, 1, 1, bias=not self.summed), output_norm(1))

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """The factor of every value, in (1, 2)."""
        mask = seen_mask(x, seen, self.needs)
        of_channels = self.channel(mean_over(x, (2, 3), mask))[:, :, None, None]
        features = x
        for stage in self.spatial:
            features = stage(features)
            if mask is not None:
                features = features.masked_fill(~mask, 0)
        of_cells = self.spatial_out(features)
        return 1 + torch.sigmoid(of_channels + of_cells if self.summed else of_channels * of_cells)

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every value by its gate."""
        return x * self.gate(x, seen)

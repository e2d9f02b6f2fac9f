"""Squeeze-and-Excitation Networks, https://arxiv.org/abs/1709.01507.

    z = mean over cells of X;  s = sigmoid(W2 relu(W1 z + b1) + b2);  Y_c = s_c X_c,  W1: C -> C/r, W2: C/r -> C, r = 16

The authors' layers have biases; the widely copied PyTorch port (moskomule/senet.pytorch) has none: `bias=False`. For
fewer channels than r the hidden width is one; ports that divide get a layer of width zero and a gate of 0.5.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, hidden_width
from bevfusion.attention.descriptors import Seen, mean_over, seen_mask


class SE(nn.Module):
    """Channel gate from the mean of every channel.

    Args:
        channels: Channels of input and output.
        reduction: Ratio r of the bottleneck.
        bias: Whether the two layers have biases.
        occupancy: Pool over seen cells only; `forward` and `gate` then need `seen`.

    Raises:
        ValueError: if channels or reduction is below one.
    """

    def __init__(self, channels: int, *, reduction: int = 16, bias: bool = True, occupancy: bool = False):
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.needs = SEEN if occupancy else FEATURES
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.excite = nn.Linear(hidden, channels, bias=bias)

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c 1 1"]:
        """The factor of every channel, in (0, 1)."""
        z = mean_over(x, (2, 3), seen_mask(x, seen, self.needs))
        s = torch.sigmoid(self.excite(torch.relu(self.squeeze(z))))
        return s[:, :, None, None]

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every channel by its gate."""
        return x * self.gate(x, seen)

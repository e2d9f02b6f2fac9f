"""The squeeze-and-excitation of GhostNetV2, https://arxiv.org/abs/2211.12905 (from MobileNetV3, 1905.02244).

    z = mean over cells of X;  s = h(W2 relu(W1 z + b1) + b2);  Y_c = s_c X_c,  h(t) = min(max(t + 3, 0), 6) / 6

The hidden width is a quarter of the channels, rounded to a multiple of 4 (64 -> 16, 100 -> 24). The gate has zero
gradient outside of +-3, where the sigmoid of `SE` still learns.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, check_at_least
from bevfusion.attention.descriptors import Seen, mean_over, seen_mask


def make_divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `value`, at least one of it and never below 90 % of `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class GhostSE(nn.Module):
    """Channel gate from the mean of every channel, with a hard sigmoid.

    Args:
        channels: Channels of input and output.
        ratio: Hidden width as a share of the channels.
        divisor: The hidden width is a multiple of it.
        occupancy: Pool over seen cells only; `forward` and `gate` then need `seen`.

    Raises:
        ValueError: if channels or divisor is below one or ratio is not positive.
    """

    def __init__(self, channels: int, *, ratio: float = 0.25, divisor: int = 4, occupancy: bool = False):
        super().__init__()
        check_at_least("channels", channels, 1)
        check_at_least("divisor", divisor, 1)
        if ratio <= 0:
            raise ValueError(f"ratio must be positive, got {ratio}")
        hidden = make_divisible(ratio * channels, divisor)
        self.needs = SEEN if occupancy else FEATURES
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c 1 1"]:
        """The factor of every channel, in [0, 1]."""
        z = mean_over(x, (2, 3), seen_mask(x, seen, self.needs))
        s = F.hardsigmoid(self.excite(torch.relu(self.squeeze(z))))
        return s[:, :, None, None]

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every channel by its gate."""
        return x * self.gate(x, seen)

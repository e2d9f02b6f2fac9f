"""GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, https://arxiv.org/abs/1904.11492.

    context = sum over cells of softmax_N(w_k^T x) x
    Y = X + W2 relu(LN(W1 context + b1)) + b2,  C -> C/r -> C, r = 16

The form that adds. W2 and b2 start at zero, so the block starts as the identity. The scalar bias of w_k changes nothing
under the softmax and is absent. The bottleneck is at least 4 wide: layer normalization of one value is always zero.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, hidden_width
from bevfusion.attention.descriptors import Seen, seen_mask


class GC(nn.Module):
    """Adds the same vector, made from the cells that matter most, to every cell. There is no gate.

    Args:
        channels: Channels of input and output.
        reduction: Ratio r of the bottleneck, which is at least 4 wide.
        occupancy: Pool over seen cells only; `forward` then needs `seen`. Where nothing was seen the context is zero.

    Raises:
        ValueError: if channels or reduction is below one.
    """

    def __init__(self, channels: int, *, reduction: int = 16, occupancy: bool = False):
        super().__init__()
        hidden = hidden_width(channels, reduction, least=4)
        self.needs = SEEN if occupancy else FEATURES
        self.key = nn.Conv2d(channels, 1, 1, bias=False)
        last = nn.Linear(hidden, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.transform = nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), last)

    def context(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c"]:
        """The weighted mean of all cells."""
        mask = seen_mask(x, seen, self.needs)
        logits: Tensor = self.key(x)
        if mask is not None:
            # The least finite number, not -inf: where nothing was seen, -inf would give NaN, if only in passing.
            logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        weights = logits.flatten(1).softmax(dim=1)
        if mask is not None:
            weights = weights.masked_fill(~mask.flatten(1), 0)
        return (x.flatten(2) @ weights[:, :, None])[:, :, 0]

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Adds the transformed context to every cell."""
        added: Tensor = self.transform(self.context(x, seen))
        return x + added[:, :, None, None]

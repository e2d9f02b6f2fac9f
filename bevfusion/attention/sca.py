"""SCA-CNN: Spatial and Channel-wise Attention in CNNs for Image Captioning, https://arxiv.org/abs/1611.05594.

    channel:  b = tanh(w_c v^T + b_c) in R^(k x C), v = mean over cells;  beta = softmax over C of w_i'^T b
    spatial:  a = tanh(W_s V + b_s) in R^(k x N), V the cells;            alpha = softmax over N of w_i^T a
    Y = alpha beta X, the second branch looking at what the first has left

Without a caption there is no hidden state h, which leaves self-gating. The scalar biases inside the softmaxes change
nothing and are absent. A softmax divides features by C or N on the average; the authors' code multiplies the channel
half by C again. `rescale=True` does so for both halves, so that the mean of each gate is one; `rescale=False` is the
paper. A PyTorch port takes the softmax over the batch: samples must not see each other (tested).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, SEEN, check_at_least, check_choice
from bevfusion.attention.descriptors import Seen, mean_over, seen_mask


class SCA(nn.Module):
    """Channels compete with channels, cells with cells.

    Args:
        channels: Channels of input and output.
        hidden: Width k of both branches.
        order: "channel_first" or "spatial_first".
        rescale: Multiply the softmaxes by the number of what they weigh, so that each gate has mean one.
        occupancy: Only seen cells compete, the others get a factor of zero; `forward` and `gate` then need `seen`.

    Raises:
        ValueError: if hidden is below one or order is unknown.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden: int = 32,
        order: str = "channel_first",
        rescale: bool = True,
        occupancy: bool = False,
    ):
        super().__init__()
        check_at_least("channels", channels, 1)
        check_at_least("hidden", hidden, 1)
        check_choice("order", order, ("channel_first", "spatial_first"))
        self.channel_first = order == "channel_first"
        self.rescale = rescale
        self.needs = SEEN if occupancy else FEATURES
        self.channel = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
        self.spatial = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.Tanh(), nn.Conv2d(hidden, 1, 1, bias=False))

    def gate(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """The factor of every value, positive (zero in unseen cells)."""
        mask = seen_mask(x, seen, self.needs)
        if self.channel_first:
            beta = self._of_channels(x, mask)
            return beta * self._of_cells(x * beta, mask)
        alpha = self._of_cells(x, mask)
        return alpha * self._of_channels(x * alpha, mask)

    def forward(self, x: Float[Tensor, "b c h w"], seen: Seen | None = None) -> Float[Tensor, "b c h w"]:
        """Scales every value by its gate."""
        return x * self.gate(x, seen)

    def _of_channels(
        self, x: Float[Tensor, "b c h w"], mask: Bool[Tensor, "b 1 h w"] | None
    ) -> Float[Tensor, "b c 1 1"]:
        v = mean_over(x, (2, 3), mask)
        logits: Tensor = self.channel(v[:, :, None])
        beta = logits.softmax(dim=1)[..., None]
        return beta * x.shape[1] if self.rescale else beta

    def _of_cells(self, x: Float[Tensor, "b c h w"], mask: Bool[Tensor, "b 1 h w"] | None) -> Float[Tensor, "b 1 h w"]:
        logits: Tensor = self.spatial(x)
        if mask is None:
            alpha = logits.flatten(1).softmax(dim=1).view_as(logits)
            return alpha * (x.shape[2] * x.shape[3]) if self.rescale else alpha
        # The least finite number, not -inf: where nothing was seen, -inf would give NaN, if only in passing.
        hidden = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        alpha = hidden.flatten(1).softmax(dim=1).view_as(logits).masked_fill(~mask, 0)
        return alpha * mask.sum((1, 2, 3), keepdim=True).to(alpha.dtype) if self.rescale else alpha

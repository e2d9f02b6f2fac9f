"""Self-attention of SAGAN: Self-Attention Generative Adversarial Networks, https://arxiv.org/abs/1805.08318.

    s_ij = f(x_i)^T g(x_j),   b_ji = softmax_i(s_ij),   o_j = v(sum_i b_ji h(x_i)),   y = gamma o + x

with 1 x 1 convolutions f, g (C/8 wide) and h, and gamma = 0 at start. The logits are not scaled by 1/sqrt(d).

Discrepancies. The paper's figure and the common PyTorch port keep h at C channels and have no v: `form="full"`, the
default here. The authors' TensorFlow code pools keys and values 2 x 2, has h at C/2 with v back to C, no biases, and
spectral norm on each convolution: `form="official"` (spectral norm by its own option). "full" equals the position
attention of DANet.

Cost: the softmax over N = H W cells is computed in tiles and the N x N matrix is never stored. There is no second
derivative: torch's fused attention has a first one only (a gradient penalty, as GANs have it, raises).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as normalized

from bevfusion.attention.contract import check_choice, hidden_width


def attend(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b m d"], value: Float[Tensor, "b m e"], scale: float = 1.0
) -> Float[Tensor, "b n e"]:
    """softmax(scale * query key^T) value, without the N x M matrix.

    Torch's fused kernels want equal widths of query, key and value (CPU) in multiples of eight (half precision on
    GPU) and otherwise fall back, silently, to one that stores the matrix. Columns of zeros change no dot product. They
    have no second derivative.
    """
    width = value.shape[-1]
    common = -(-max(query.shape[-1], width) // 8) * 8
    # Contiguous, since they want that, too, of the last axis, and padding by nothing returns a view.
    query, key, value = (
        F.pad(part, (0, common - part.shape[-1]))[:, None].contiguous() for part in (query, key, value)
    )
    return F.scaled_dot_product_attention(query, key, value, scale=scale)[:, 0, :, :width]


def tokens(x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b n c"]:
    """Cells as rows, in the order of memory of a contiguous map."""
    return x.flatten(2).transpose(1, 2)


def as_map(rows: Float[Tensor, "b n c"], like: Float[Tensor, "b _ *space"]) -> Float[Tensor, "b c *space"]:
    """The inverse of `tokens`, for a map of the spatial size of `like`."""
    return rows.transpose(1, 2).reshape(like.shape[0], rows.shape[2], *like.shape[2:])


def pooled_pairs(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """2 x 2 max-pooling that leaves an axis of one cell alone (torch would refuse it)."""
    return F.max_pool2d(x, (min(2, x.shape[2]), min(2, x.shape[3])))


class SelfAttention(nn.Module):
    """Every cell looks at every cell; identity at start.

    Args:
        channels: Channels of input and output.
        form: "full" or "official", see above.
        reduction: Channels over the width of queries and keys.
        spectral_norm: Bound the largest singular value of every convolution by one.

    Raises:
        ValueError: if `form` is unknown or a size is not positive.
    """

    def __init__(
        self,
        channels: int,
        *,
        form: str = "full",
        reduction: int = 8,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        check_choice("form", form, ("full", "official"))
        full = form == "full"
        inner = hidden_width(channels, reduction)
        value_width = channels if full else hidden_width(channels, 2)
        self.pooled = not full
        self.query_conv = nn.Conv2d(channels, inner, 1, bias=full)
        self.key_conv = nn.Conv2d(channels, inner, 1, bias=full)
        self.value_conv = nn.Conv2d(channels, value_width, 1, bias=full)
        self.out_conv = nn.Identity() if full else nn.Conv2d(value_width, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))
        if spectral_norm:
            for part in self.children():
                if isinstance(part, nn.Conv2d):
                    normalized(part)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Adds what each cell gathers from the others; `B C H W -> B C H W`."""
        query, key, value = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        if self.pooled:
            key, value = pooled_pairs(key), pooled_pairs(value)
        gathered = attend(tokens(query), tokens(key), tokens(value))
        out: Tensor = self.out_conv(as_map(gathered, x))
        return x + self.gamma * out

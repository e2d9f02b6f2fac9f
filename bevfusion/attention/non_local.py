"""Non-local block: Non-local Neural Networks, https://arxiv.org/abs/1711.07971; over 1, 2 or 3 axes.

    y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j),   z_i = W y_i + x_i,   W = 0 at start

    gaussian           f = exp(x_i . x_j)                C = sum_j f
    embedded_gaussian  f = exp(theta(x_i) . phi(x_j))    C = sum_j f
    dot_product        f = theta(x_i) . phi(x_j)         C = N
    concatenation      f = ReLU(w . [theta(x_i), phi(x_j)])    C = N

theta, phi, g are 1 x 1 convolutions to C/2 channels. `subsample` pools phi and g (keys and values) by two along each
axis but, in 3D, the first (time).

No form stores the N x N matrix. The Gaussian ones run in tiles, by torch's fused attention, and have no second
derivative; dot_product is theta (phi^T g) / N by associativity; concatenation is ReLU(u_i + v_j) with one number a
cell, u = w_theta . theta, v = w_phi . phi, so with v sorted

    sum_j ReLU(u_i + v_j) g_j = u_i G(i) + V(i),   G(i) = sum_{v_j > -u_i} g_j,   V(i) = sum_{v_j > -u_i} v_j g_j,

two suffix sums and a binary search: O(N log N), exact.

Discrepancies. `scaled` divides the logits by sqrt(width) (FAIR's Caffe2 code; not the paper). FAIR pools, then
projects; the common PyTorch port projects, then pools (here). `norm` puts batch norm with zero weight behind W, as in
both; the default is the zero convolution, which does not mix the samples of a batch.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_at_least, check_choice, hidden_width
from bevfusion.attention.descriptors import BatchNorm
from bevfusion.attention.self_attention import as_map, attend, tokens

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}

_PAIRWISE = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")


class NonLocal(nn.Module):
    """Every cell gathers from every cell, weighted by a function of the pair; identity at start.

    Args:
        channels: Channels of input and output.
        pairwise: "gaussian", "embedded_gaussian", "dot_product" or "concatenation".
        dimensions: Number of axes behind the channels, 1 to 3.
        reduction: Channels over the inner width.
        subsample: Pool keys and values by two.
        scaled: Divide the dot products by the square root of their width.
        norm: Batch norm with zero weight behind W instead of a zero W.

    Raises:
        ValueError: if an option is unknown or a size is not positive.
    """

    def __init__(
        self,
        channels: int,
        *,
        pairwise: str = "embedded_gaussian",
        dimensions: int = 2,
        reduction: int = 2,
        subsample: bool = False,
        scaled: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        check_choice("pairwise", pairwise, _PAIRWISE)
        check_choice("dimensions", dimensions, tuple(_CONV))
        check_at_least("channels", channels, 1)
        inner = hidden_width(channels, reduction)
        conv = _CONV[dimensions]
        self.pairwise = pairwise
        self.dimensions = dimensions
        self.subsample = subsample
        self.scale = 1.0 / math.sqrt(channels if pairwise == "gaussian" else inner) if scaled else 1.0
        self.g = conv(channels, inner, 1)
        if pairwise != "gaussian":
            self.theta = conv(channels, inner, 1)
            self.phi = conv(channels, inner, 1)
        if pairwise == "concatenation":
            self.concat_project = nn.Conv2d(2 * inner, 1, 1, bias=False)
        out = conv(inner, channels, 1)
        norms = [BatchNorm(channels)] if norm else []
        for parameter in (norms[0] if norm else out).parameters():
            nn.init.zeros_(parameter)
        self.W = nn.Sequential(out, *norms)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        """Adds what each cell gathers; `B C * -> B C *` with `dimensions` axes behind C.

        Raises:
            ValueError: if the number of axes is another.
        """
        if x.dim() != self.dimensions + 2:
            raise ValueError(f"expected (B, C) and {self.dimensions} axes, got {tuple(x.shape)}")
        y: Tensor = self.W(as_map(self._gathered(x), x))
        return x + y

    def _gathered(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b n d"]:
        value = tokens(self._pooled(self.g(x)))
        if self.pairwise == "gaussian":
            return attend(tokens(x), tokens(self._pooled(x)), value, self.scale)
        query, key = tokens(self.theta(x)), tokens(self._pooled(self.phi(x)))
        if self.pairwise == "embedded_gaussian":
            return attend(query, key, value, self.scale)
        if self.pairwise == "dot_product":
            return _dot_product(query, key, value) * self.scale
        of_query, of_key = self.concat_project.weight[0, :, 0, 0].chunk(2)
        return _relu_of_sum(query @ of_query, key @ of_key, value)

    def _pooled(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *pooled"]:
        if not self.subsample:
            return x
        window = [min(2, size) for size in x.shape[2:]]
        if self.dimensions == 3:
            window[0] = 1
        y: Tensor = _POOL[self.dimensions](x, window)
        return y


def _dot_product(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b m d"], value: Float[Tensor, "b m e"]
) -> Float[Tensor, "b n e"]:
    """(query key^T) value / m, in the order that needs no n x m matrix."""
    return query @ (key.transpose(1, 2) @ (value / value.shape[1]))


def _relu_of_sum(
    u: Float[Tensor, "b n"], v: Float[Tensor, "b m"], value: Float[Tensor, "b m e"]
) -> Float[Tensor, "b n e"]:
    """1/m sum_j ReLU(u_i + v_j) value_j, by sorting v once."""
    dtype = value.dtype
    if dtype != torch.float64:  # sums over a whole map lose everything in half precision
        u, v, value = u.float(), v.float(), value.float()
    v_sorted, order = v.sort(dim=1)
    sorted_value = value.gather(1, order[..., None].expand_as(value))
    columns = torch.cat([sorted_value, v_sorted[..., None] * sorted_value], dim=2)
    # One row of zeros behind: for a cell whose every sum is negative.
    suffix = F.pad(columns.flip(1).cumsum(1).flip(1), (0, 0, 0, 1))
    # The search is over values alone: where it falls is piecewise constant, so it carries no gradient.
    first = torch.searchsorted(v_sorted.detach().contiguous(), -u.detach().contiguous(), right=True)
    sums = suffix.gather(1, first[..., None].expand(-1, -1, suffix.shape[2]))
    plain, weighted = sums.chunk(2, dim=2)
    return ((u[..., None] * plain + weighted) / v.shape[1]).to(dtype)

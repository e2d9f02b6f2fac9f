"""Operations of the network in a form that other runtimes have, compute fast and compute exactly.

The matching is a product of matrices: ONNX has an FFT that few runtimes implement well, but a transform of a few
hundred points is a small matrix, and only those rows of the inverse that belong to the window are ever multiplied.
Group norm is a mean of means: see `GroupNormByRows`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.geometry.grid import Grid
from bevfusion.heads.matching import rotate_templates, window_of


def match_by_products(
    template: Float[Tensor, "b c h w"],
    map_features: Float[Tensor, "b k hm wm"],
    yaw_rad: Float[Tensor, "b r"],
    grid: Grid,
    reach: int,
    *,
    circle: bool = False,
    apart: bool = False,
) -> Float[Tensor, "b *c r s s"]:
    """`heads.matching.match` for a graph; `circle` makes no difference to the result, nor here to the way."""
    turned = rotate_templates(template, yaw_rad, grid)
    window = window_of(template, map_features, reach)
    size = (window.shape[-2], window.shape[-1])
    t_re, t_im = _transform(turned, size)
    m_re, m_im = (part[:, None] for part in _transform(window, size))
    # conjugate of the template's spectrum times the map's, summed over channels
    re, im = t_re * m_re + t_im * m_im, t_re * m_im - t_im * m_re
    re, im = (part.transpose(1, 2) if apart else part.sum(2) for part in (re, im))
    return _back(re, im, size, 2 * reach + 1)


def _transform(planes: Float[Tensor, "*n h w"], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Real and imaginary part (..., N, M // 2 + 1) of the real Fourier transform of planes padded to (N, M)."""
    height, width = planes.shape[-2:]
    col_cos, col_sin = _waves(width, size[1] // 2 + 1, size[1], planes)
    row_cos, row_sin = _waves(size[0], height, size[0], planes)
    re, im = planes @ col_cos, -(planes @ col_sin)
    return row_cos @ re + row_sin @ im, row_cos @ im - row_sin @ re


def _back(re: Tensor, im: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """The first `side` rows and columns of the inverse."""
    half = size[1] // 2 + 1
    row_cos, row_sin = _waves(side, size[0], size[0], re)
    col_cos, col_sin = _waves(half, side, size[1], re)
    # every frequency but the first, and the last of an even length, stands for its conjugate too
    weight = torch.full((half, 1), 2.0 / (size[0] * size[1]), dtype=re.dtype, device=re.device)
    weight[0] *= 0.5
    if size[1] % 2 == 0:
        weight[-1] *= 0.5
    back_re, back_im = row_cos @ re - row_sin @ im, row_cos @ im + row_sin @ re
    return back_re @ (weight * col_cos) - back_im @ (weight * col_sin)


def _waves(rows: int, columns: int, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2 pi row column / length; the product is taken modulo the length, to keep its digits."""
    turns = torch.outer(torch.arange(rows, device=like.device), torch.arange(columns, device=like.device)) % length
    angle = turns.double() * (2.0 * math.pi / length)
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


class GroupNormByRows(nn.Module):
    """`nn.GroupNorm` with the same weights, summed along rows, then columns, then channels.

    ONNX makes one sum of a quarter of a million float32 of the usual one, and onnxruntime was 1.5e-3 nats off PyTorch
    with it. Summed in steps it is 6e-5 off, as far as PyTorch is from float64, for a third more time.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        """Takes the weights over."""
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalize each group of channels of each sample."""
        batch, channels, height, width = x.shape
        y = x.reshape(batch, self.groups, channels // self.groups, height, width)
        y = y - _mean(y)
        y = y * torch.rsqrt(_mean(y * y) + self.eps)
        return y.reshape(x.shape) * self.weight[:, None, None] + self.bias[:, None, None]


def _mean(y: Tensor) -> Tensor:
    return y.mean(-1, keepdim=True).mean(-2, keepdim=True).mean(2, keepdim=True)


def norms_by_rows(module: nn.Module) -> None:
    """Put `GroupNormByRows` in the place of every group norm, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, GroupNormByRows(child))
        else:
            norms_by_rows(child)

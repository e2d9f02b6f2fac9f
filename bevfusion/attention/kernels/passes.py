"""The kernels as functions of tensors: one launch each. Tensors come as `layout.dense` leaves them."""

import torch
import triton
from torch import Tensor, nn

from bevfusion.attention.kernels import cells, gates, strips
from bevfusion.attention.kernels.layout import along_both, along_cells, along_channels, layout, parts, power

_STRIP_TILE = 2048  # elements
_MANY_WARPS = 8  # for tiles of 4096 elements: with 4 they take so many registers that a processor holds only two


def cell_sums(x: Tensor, *, g: Tensor | None = None, peak: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over cells of x or of x g; with `peak` also maxima and how often they are attained; each (B, C, splits)."""
    of = layout(x)
    block_c, block_p = along_cells(of)
    channel_blocks = triton.cdiv(of.channels, block_c)
    splits, each = parts(of.batch * channel_blocks, of.cells, block_p)
    total = _float(x, of.batch, of.channels, splits)
    top, ties = (torch.empty_like(total), torch.empty_like(total)) if peak else (total, total)
    cells.sum_cells[splits, channel_blocks, of.batch](
        x, x if g is None else g, total, top, ties, *of[1:], splits, each,
        BLOCK_C=block_c, BLOCK_P=block_p, PRODUCT=g is not None, MAX=peak,
    )  # fmt: skip
    return total, top, ties


def channel_sums(x: Tensor, a: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and maximum over channels of x a, (B, 2, H, W), and how often the maximum is attained, (B, P)."""
    of = layout(x)
    block_c, block_p = along_channels(of)
    planes, ties = _float(x, of.batch, 2, *x.shape[2:]), _float(x, of.batch, of.cells)
    cells.sum_channels[triton.cdiv(of.cells, block_p), of.batch](
        x, x if a is None else a, planes, ties, *of[1:],
        BLOCK_C=block_c, BLOCK_P=block_p, GATED=a is not None, REVERSE=a is not None,
        num_warps=_MANY_WARPS,
    )  # fmt: skip
    return planes, ties


def product(x: Tensor, a: Tensor | None, s: Tensor | None) -> Tensor:
    """The result x a s in the type and layout of x; a is (B, C), s is (B, 1, H, W), either may be absent."""
    of, y = layout(x), torch.empty_like(x)
    block_c, block_p = along_cells(of) if s is None else along_both(of)
    # with both gates this is the third pass over x, and the second went backwards
    cells.multiply[triton.cdiv(of.cells, block_p), triton.cdiv(of.channels, block_c), of.batch](
        x, x if a is None else a, x if s is None else s, y, *of[1:],
        BLOCK_C=block_c, BLOCK_P=block_p,
        CHANNEL=a is not None, SPATIAL=s is not None, REVERSE=a is None or s is None,
    )  # fmt: skip
    return y


def gate_gradients(x: Tensor, g: Tensor, a: Tensor | None, s: Tensor) -> tuple[Tensor | None, Tensor]:
    """Gradients of a (B, C), if there is one, and of s (B, 1, H, W), through y = x a s."""
    of = layout(x)
    block_c, block_p = along_channels(of)
    blocks = triton.cdiv(of.cells, block_p)
    of_s = _float(x, *s.shape)
    of_a = of_s if a is None else _float(x, of.batch, of.channels, blocks)
    cells.gate_gradients[blocks, of.batch](
        x, g, x if a is None else a, s, of_a, of_s, *of[1:], blocks,
        BLOCK_C=block_c, BLOCK_P=block_p, CHANNEL=a is not None, num_warps=_MANY_WARPS,
    )  # fmt: skip
    return None if a is None else of_a.sum(2), of_s


def pooled_gradient(x: Tensor, a: Tensor, planes: Tensor, ties: Tensor, of_planes: Tensor) -> Tensor:
    """Gradient (B, C) of a through `channel_sums`."""
    of = layout(x)
    block_c, block_p = along_both(of)
    channel_blocks = triton.cdiv(of.channels, block_c)
    splits, each = parts(of.batch * channel_blocks, of.cells, block_p)
    of_a = _float(x, of.batch, of.channels, splits)
    cells.pooled_gradient[splits, channel_blocks, of.batch](
        x, a, planes, ties, of_planes, of_a, *of[1:], splits, each,
        BLOCK_C=block_c, BLOCK_P=block_p, REVERSE=True,
    )  # fmt: skip
    return of_a.sum(2)


def input_gradient(
    x: Tensor,
    g: Tensor,
    *,
    channel: tuple[Tensor, Tensor] | None = None,
    peak: tuple[Tensor, Tensor] | None = None,
    spatial: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """Gradient of x.

    Args:
        x: the input.
        g: gradient of y, laid out as x.
        channel: a and the gradient of each cell through the mean, (B, C) both.
        peak: maximum of each channel and the gradient of each cell that attains it, (B, C) both.
        spatial: s, and planes, ties and gradient of the planes as of `channel_sums`.
    """
    of, out = layout(x), torch.empty_like(x)
    block_c, block_p = along_cells(of) if spatial is None else along_both(of)
    a, of_mean = channel or (x, x)
    top, of_max = peak or (x, x)
    s, planes, ties, of_planes = spatial or (x, x, x, x)
    cells.input_gradient[triton.cdiv(of.cells, block_p), triton.cdiv(of.channels, block_c), of.batch](
        x, g, a, s, of_mean, of_max, top, planes, ties, of_planes, out, *of[1:],
        BLOCK_C=block_c, BLOCK_P=block_p,
        CHANNEL=channel is not None, MAX=peak is not None, SPATIAL=spatial is not None,
    )  # fmt: skip
    return out


def channel_gate(total: Tensor, peak: Tensor | None, first: nn.Linear, second: nn.Linear, count: int) -> Tensor:
    """The gate (B, C) from `cell_sums` over `count` cells and the two layers of the bottleneck."""
    batch, channels, splits = total.shape
    gate = _float(total, batch, channels)
    block_c, biased = power(channels, 1 << 20), first.bias is not None
    block_h = power(first.out_features, max(1, 8192 // block_c))
    gates.channel_gate[(batch,)](
        total, total if peak is None else peak, first.weight, first.bias if biased else total,
        second.weight, second.bias if biased else total, gate,
        channels, count, first.out_features, splits,
        BLOCK_C=block_c, BLOCK_H=block_h, MAX=peak is not None, BIAS=biased,
    )  # fmt: skip
    return gate


def cell_gate(planes: Tensor, convolution: nn.Conv2d, norm: nn.Module) -> Tensor:
    """The gate (B, 1, H, W) from the planes; `norm` is a batch norm in evaluation, or none."""
    batch, _, height, width = planes.shape
    gate = _float(planes, batch, 1, height, width)
    normed = isinstance(norm, nn.BatchNorm2d)
    bias = planes if convolution.bias is None else convolution.bias
    statistics = (norm.weight, norm.bias, norm.running_mean, norm.running_var) if normed else (planes,) * 4
    block_p = power(height * width, 128)
    gates.cell_gate[triton.cdiv(height * width, block_p), batch](
        planes, convolution.weight, bias, *statistics, gate, height, width, norm.eps if normed else 0.0,
        KERNEL=convolution.kernel_size[0], BLOCK_P=block_p, NORM=normed,
    )  # fmt: skip
    return gate


def strip_sums(x: Tensor, gradient: tuple[Tensor, Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Sums over columns (B, C, H) and over rows (B, C, splits, W) of x.

    With `gradient` = (g, r, k): the gradients of the gates r (B, C, H) and k (B, C, splits, W) of y = x r k.
    """
    batch, channels, height, width = x.shape
    of = layout(x)
    block_w = power(width, 1 << 20)
    block_c = 1 if of.cell_stride == 1 else power(channels, 16)
    block_h = power(height, max(1, _STRIP_TILE // (block_w * block_c)))
    channel_blocks = triton.cdiv(channels, block_c)
    splits, each = parts(batch * channel_blocks, height, block_h)
    rows, columns = _float(x, batch, channels, height), _float(x, batch, channels, splits, width)
    strips.sum_strips[splits, channel_blocks, batch](
        x, *(gradient or (x, x, x)), rows, columns,
        channels, height, width, of.channel_stride, of.cell_stride, splits, each,
        BLOCK_C=block_c, BLOCK_H=block_h, BLOCK_W=block_w, PRODUCT=gradient is not None,
    )  # fmt: skip
    return rows, columns


def strip_product(x: Tensor, r: Tensor, k: Tensor, added: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The result x r k, plus `added` of each row and of each column, in the type and layout of x."""
    batch, channels, height, width = x.shape
    of, y = layout(x), torch.empty_like(x)
    block_c, block_p = along_cells(of)
    strips.multiply_strips[triton.cdiv(of.cells, block_p), triton.cdiv(channels, block_c), batch](
        x, r, k, *(added or (x, x)), y, channels, height, width, of.channel_stride, of.cell_stride,
        BLOCK_C=block_c, BLOCK_P=block_p, ADD=added is not None, REVERSE=True,
    )  # fmt: skip
    return y


def strip_gate(total: Tensor, count: int, squeeze: nn.Conv1d, norm: nn.BatchNorm2d, expand: nn.Conv1d) -> Tensor:
    """The gate (B, C, L) of rows or columns from sums (B, C, splits, L) over `count` cells; `norm` in evaluation."""
    batch, channels, splits, length = total.shape
    gate = _float(total, batch, channels, length)
    block_c = power(channels, 1 << 20)
    block_l = power(length, max(1, 4096 // block_c))
    strips.strip_gate[triton.cdiv(length, block_l), batch](
        total, squeeze.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var,
        expand.weight, expand.bias, gate, channels, length, squeeze.out_channels, splits, count, norm.eps,
        BLOCK_C=block_c, BLOCK_L=block_l,
    )  # fmt: skip
    return gate


def _float(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)

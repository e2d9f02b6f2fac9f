"""Triton kernels behind coordinate attention: sums along rows and columns in one read, and products.

Names: x is the input, r (B, C, H) the gate of rows, k (B, C, W) that of columns, y = x r k, g the gradient of y. All
sums and products are in float32. A tile is (channels, rows, all columns).
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def sum_strips(
    x, g, r, k, of_rows, of_columns,
    C, H, W, stride_c, stride_p, splits, each,
    BLOCK_C: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    """Sums over columns (B, C, H) and over rows (B, C, splits, W) of x; PRODUCT: of x g k and of x g r.

    The second are the gradients of r and k. `splits` are parts of the rows.
    """
    split, b = tl.program_id(0), tl.program_id(2)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    w = tl.arange(0, BLOCK_W)
    base = b.to(tl.int64) * C * H * W
    of_channel = b * C + c
    at_columns = of_channel[:, None] * W + w[None, :]
    there = (c[:, None] < C) & (w[None, :] < W)
    if PRODUCT:
        column_gate = tl.load(k + at_columns, mask=there, other=0.0)[:, None, :]
    below = tl.zeros([BLOCK_C, BLOCK_H, BLOCK_W], tl.float32)
    end = tl.minimum((split + 1) * each, H)
    for start in range(split * each, end, BLOCK_H):
        h = start + tl.arange(0, BLOCK_H)
        inside = there[:, None, :] & (h[None, :, None] < end)
        p = h[None, :, None] * W + w[None, None, :]
        at = base + c[:, None, None] * stride_c + p * stride_p
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        at_rows = of_channel[:, None] * H + h[None, :]
        row_there = (c[:, None] < C) & (h[None, :] < end)
        if PRODUCT:
            value *= tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
            tl.store(of_rows + at_rows, tl.sum(value * column_gate, 2), mask=row_there)
            below += value * tl.load(r + at_rows, mask=row_there, other=0.0)[:, :, None]
        else:
            tl.store(of_rows + at_rows, tl.sum(value, 2), mask=row_there)
            below += value
    to = (of_channel[:, None] * splits + split) * W + w[None, :]
    tl.store(of_columns + to, tl.sum(below, 1), mask=there)


@triton.jit
@no_type_check
def multiply_strips(
    x, r, k, add_r, add_k, y,
    C, H, W, stride_c, stride_p,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, ADD: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """The result y = x r k, with ADD plus add_r of the row and add_k of the column: so is the gradient of x."""
    b = tl.num_programs(2) - 1 - tl.program_id(2) if REVERSE else tl.program_id(2)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (c[:, None] < C) & (p[None, :] < H * W)
    at = b.to(tl.int64) * C * H * W + c[:, None] * stride_c + p[None, :] * stride_p
    row = (b * C + c)[:, None] * H + (p // W)[None, :]
    column = (b * C + c)[:, None] * W + (p % W)[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    value = value * (tl.load(r + row, mask=inside, other=0.0) * tl.load(k + column, mask=inside, other=0.0))
    if ADD:
        value += tl.load(add_r + row, mask=inside, other=0.0) + tl.load(add_k + column, mask=inside, other=0.0)
    tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def strip_gate(
    total, squeeze, norm_weight, norm_bias, norm_mean, norm_var, expand, expand_bias, gate,
    C, L, hidden, splits, count, eps,
    BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """The gate (B, C, L) of rows or of columns from their sums over `count` cells (B, C, splits, L).

    1 x 1 convolution, norm in evaluation, h-swish, 1 x 1 convolution, sigmoid; a program takes some of L, all channels.
    """
    b = tl.program_id(1)
    c = tl.arange(0, BLOCK_C)
    place = tl.program_id(0) * BLOCK_L + tl.arange(0, BLOCK_L)
    there = c < C
    inside = there[:, None] & (place[None, :] < L)
    strip = tl.zeros([BLOCK_C, BLOCK_L], tl.float32)
    for split in range(splits):
        at = ((b * C + c)[:, None] * splits + split) * L + place[None, :]
        strip += tl.load(total + at, mask=inside, other=0.0)
    strip /= count
    logit = tl.zeros([BLOCK_C, BLOCK_L], tl.float32)
    logit += tl.load(expand_bias + c, mask=there, other=0.0).to(tl.float32)[:, None]
    for j in range(hidden):
        weight = tl.load(squeeze + j * C + c, mask=there, other=0.0).to(tl.float32)
        f = tl.sum(strip * weight[:, None], 0) - tl.load(norm_mean + j).to(tl.float32)
        f /= tl.sqrt(tl.load(norm_var + j).to(tl.float32) + eps)
        f = f * tl.load(norm_weight + j).to(tl.float32) + tl.load(norm_bias + j).to(tl.float32)
        f = f * tl.minimum(tl.maximum(f + 3.0, 0.0), 6.0) / 6.0
        logit += tl.load(expand + c * hidden + j, mask=there, other=0.0).to(tl.float32)[:, None] * f[None, :]
    tl.store(gate + (b * C + c)[:, None] * L + place[None, :], tl.sigmoid(logit), mask=inside)

"""Triton kernels behind SE, CAM, SAM and CBAM: sums over cells, sums over channels, and products.

Names: x is the input, a (B, C) the channel gate, s (B, P) the gate of cells, y = x a s, g the gradient of y. All sums
and products are in float32. A maximum that several values attain shares its gradient among them, as `amax` does.

The last read of one pass is the first of the next (`REVERSE`): what the cache still holds need not come from memory.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def sum_cells(
    x, g, total, peak, ties,
    C, P, stride_c, stride_p, splits, each,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, PRODUCT: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    """Sum over cells of x, or of x g (PRODUCT), and with MAX its maximum and how often it is attained.

    Results are (B, C, splits): parts of the cells.
    """
    split, b = tl.program_id(0), tl.program_id(2)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    base = b.to(tl.int64) * C * P
    end = tl.minimum((split + 1) * each, P)
    added = tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    top = tl.full([BLOCK_C, BLOCK_P], -float("inf"), tl.float32)
    count = tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    for start in range(split * each, end, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = (c[:, None] < C) & (p[None, :] < end)
        at = base + c[:, None] * stride_c + p[None, :] * stride_p
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        if PRODUCT:
            value *= tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        added += value
        if MAX:
            value = tl.where(inside, value, -float("inf"))
            higher = tl.maximum(top, value)
            count = tl.where(top == higher, count, 0.0) + tl.where(value == higher, 1.0, 0.0)
            top = higher
    to = (b * C + c) * splits + split
    tl.store(total + to, tl.sum(added, 1), mask=c < C)
    if MAX:
        best = tl.max(top, 1)
        tl.store(peak + to, best, mask=c < C)
        tl.store(ties + to, tl.sum(tl.where(top == best[:, None], count, 0.0), 1), mask=c < C)


@triton.jit
@no_type_check
def sum_channels(
    x, a, planes, ties,
    C, P, stride_c, stride_p,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, GATED: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Mean and maximum over channels of x, or of x a (GATED), as (B, 2, P), and how often the maximum is attained."""
    b = tl.num_programs(1) - 1 - tl.program_id(1) if REVERSE else tl.program_id(1)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    base = b.to(tl.int64) * C * P
    added = tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    top = tl.full([BLOCK_C, BLOCK_P], -float("inf"), tl.float32)
    count = tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        inside = (c[:, None] < C) & (p[None, :] < P)
        value = tl.load(x + base + c[:, None] * stride_c + p[None, :] * stride_p, mask=inside, other=0.0)
        value = value.to(tl.float32)
        if GATED:
            value *= tl.load(a + b * C + c, mask=c < C, other=0.0)[:, None]
        added += value
        value = tl.where(inside, value, -float("inf"))
        higher = tl.maximum(top, value)
        count = tl.where(top == higher, count, 0.0) + tl.where(value == higher, 1.0, 0.0)
        top = higher
    best = tl.max(top, 0)
    tl.store(planes + (2 * b) * P + p, tl.sum(added, 0) / C, mask=p < P)
    tl.store(planes + (2 * b + 1) * P + p, best, mask=p < P)
    tl.store(ties + b * P + p, tl.sum(tl.where(top == best[None, :], count, 0.0), 0), mask=p < P)


@triton.jit
@no_type_check
def multiply(
    x, a, s, y,
    C, P, stride_c, stride_p,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, CHANNEL: tl.constexpr, SPATIAL: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """The result y = x a s; CHANNEL and SPATIAL say which of the factors there are."""
    b = tl.num_programs(2) - 1 - tl.program_id(2) if REVERSE else tl.program_id(2)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (c[:, None] < C) & (p[None, :] < P)
    at = b.to(tl.int64) * C * P + c[:, None] * stride_c + p[None, :] * stride_p
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if CHANNEL:
        value *= tl.load(a + b * C + c, mask=c < C, other=0.0)[:, None]
    if SPATIAL:
        value *= tl.load(s + b * P + p, mask=p < P, other=0.0)[None, :]
    tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def gate_gradients(
    x, g, a, s, of_a, of_s,
    C, P, stride_c, stride_p, blocks,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, CHANNEL: tl.constexpr,
):  # fmt: skip
    """Gradient of s, sum over channels of g x a; with CHANNEL also that of a through y, sum over cells of g x s.

    The second in parts (B, C, blocks), one for each block of cells.
    """
    block, b = tl.program_id(0), tl.program_id(1)
    p = block * BLOCK_P + tl.arange(0, BLOCK_P)
    base = b.to(tl.int64) * C * P
    gate = tl.load(s + b * P + p, mask=p < P, other=0.0)
    of_gate = tl.zeros([BLOCK_P], tl.float32)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        inside = (c[:, None] < C) & (p[None, :] < P)
        at = base + c[:, None] * stride_c + p[None, :] * stride_p
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        value *= tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        if CHANNEL:
            of_gate += tl.sum(value * tl.load(a + b * C + c, mask=c < C, other=0.0)[:, None], 0)
            tl.store(of_a + (b * C + c) * blocks + block, tl.sum(value * gate[None, :], 1), mask=c < C)
        else:
            of_gate += tl.sum(value, 0)
    tl.store(of_s + b * P + p, of_gate, mask=p < P)


@triton.jit
@no_type_check
def pooled_gradient(
    x, a, planes, ties, of_planes, of_a,
    C, P, stride_c, stride_p, splits, each,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Gradient of a through mean and maximum over channels of u = x a, in parts (B, C, splits) of the cells.

    sum over cells of x (dmean / C + dmax [u = max] / ties)
    """
    b = tl.num_programs(2) - 1 - tl.program_id(2) if REVERSE else tl.program_id(2)
    split = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    base = b.to(tl.int64) * C * P
    gate = tl.load(a + b * C + c, mask=c < C, other=0.0)
    end = tl.minimum((split + 1) * each, P)
    added = tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    for start in range(split * each, end, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = (c[:, None] < C) & (p[None, :] < end)
        value = tl.load(x + base + c[:, None] * stride_c + p[None, :] * stride_p, mask=inside, other=0.0)
        value = value.to(tl.float32)
        of_mean = tl.load(of_planes + (2 * b) * P + p, mask=p < end, other=0.0) / C
        of_max = tl.load(of_planes + (2 * b + 1) * P + p, mask=p < end, other=0.0)
        of_max /= tl.load(ties + b * P + p, mask=p < end, other=1.0)
        best = tl.load(planes + (2 * b + 1) * P + p, mask=p < end, other=0.0)
        attains = value * gate[:, None] == best[None, :]
        added += value * (of_mean[None, :] + tl.where(attains, of_max[None, :], 0.0))
    tl.store(of_a + (b * C + c) * splits + split, tl.sum(added, 1), mask=c < C)


@triton.jit
@no_type_check
def input_gradient(
    x, g, a, s, of_mean, of_max, peak, planes, ties, of_planes, out,
    C, P, stride_c, stride_p,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, CHANNEL: tl.constexpr, MAX: tl.constexpr, SPATIAL: tl.constexpr,
):  # fmt: skip
    """Gradient of x through y and through whatever was pooled of x on the way to a and s.

    dx = a (g s + dplanes_mean / C + dplanes_max [x a = planes_max] / ties) + dmean + dmax [x = peak]

    with dmean and dmax (B, C) already divided by the number of cells and of ties. CHANNEL: there is a; MAX: it comes
    from a maximum, too; SPATIAL: there is s. SE needs no x.
    """
    b = tl.program_id(2)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (c[:, None] < C) & (p[None, :] < P)
    at = b.to(tl.int64) * C * P + c[:, None] * stride_c + p[None, :] * stride_p
    result = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    if MAX or SPATIAL:
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if CHANNEL:
        gate = tl.load(a + b * C + c, mask=c < C, other=0.0)[:, None]
    if SPATIAL:
        result *= tl.load(s + b * P + p, mask=p < P, other=0.0)[None, :]
        mean_part = tl.load(of_planes + (2 * b) * P + p, mask=p < P, other=0.0) / C
        max_part = tl.load(of_planes + (2 * b + 1) * P + p, mask=p < P, other=0.0)
        max_part /= tl.load(ties + b * P + p, mask=p < P, other=1.0)
        best = tl.load(planes + (2 * b + 1) * P + p, mask=p < P, other=0.0)[None, :]
        attains = (value * gate == best) if CHANNEL else (value == best)
        result += mean_part[None, :] + tl.where(attains, max_part[None, :], 0.0)
    if CHANNEL:
        result = result * gate + tl.load(of_mean + b * C + c, mask=c < C, other=0.0)[:, None]
    if MAX:
        attains = value == tl.load(peak + b * C + c, mask=c < C, other=0.0)[:, None]
        result += tl.where(attains, tl.load(of_max + b * C + c, mask=c < C, other=0.0)[:, None], 0.0)
    tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)

"""Triton kernels for the small steps between the passes, where no gradient is wanted; each replaces many launches.

With gradients these steps are left to torch; they touch a hundredth of the data.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def channel_gate(
    total, peak, first, first_bias, second, second_bias, gate,
    C, P, hidden, splits,
    BLOCK_C: tl.constexpr, BLOCK_H: tl.constexpr, MAX: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """The result sigmoid(MLP(mean)), with MAX sigmoid(MLP(mean) + MLP(max)); one program takes one sample."""
    b = tl.program_id(0)
    c = tl.arange(0, BLOCK_C)
    there = c < C
    mean = tl.zeros([BLOCK_C], tl.float32)
    top = tl.full([BLOCK_C], -float("inf"), tl.float32)
    for split in range(splits):
        at = (b * C + c) * splits + split
        mean += tl.load(total + at, mask=there, other=0.0)
        if MAX:
            top = tl.maximum(top, tl.load(peak + at, mask=there, other=0.0))
    mean /= P
    logit = tl.zeros([BLOCK_C], tl.float32)
    if BIAS:
        logit += tl.load(second_bias + c, mask=there, other=0.0).to(tl.float32) * (2.0 if MAX else 1.0)
    for start in range(0, hidden, BLOCK_H):
        j = start + tl.arange(0, BLOCK_H)
        inside = (j[:, None] < hidden) & there[None, :]
        weight = tl.load(first + j[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32)
        bias = tl.zeros([BLOCK_H], tl.float32)
        if BIAS:
            bias += tl.load(first_bias + j, mask=j < hidden, other=0.0).to(tl.float32)
        f = tl.maximum(tl.sum(weight * mean[None, :], 1) + bias, 0.0)
        if MAX:
            f += tl.maximum(tl.sum(weight * tl.where(there, top, 0.0)[None, :], 1) + bias, 0.0)
        back = tl.load(second + c[None, :] * hidden + j[:, None], mask=inside, other=0.0).to(tl.float32)
        logit += tl.sum(back * f[:, None], 0)
    tl.store(gate + b * C + c, tl.sigmoid(logit), mask=there)


@triton.jit
@no_type_check
def cell_gate(
    planes, weight, bias, norm_weight, norm_bias, norm_mean, norm_var, gate,
    H, W, eps,
    KERNEL: tl.constexpr, BLOCK_P: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    """The result sigmoid(norm(conv(planes))): two planes to one, zero padding, norm in evaluation or a bias."""
    b = tl.program_id(1)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    row, column = p // W, p % W
    logit = tl.zeros([BLOCK_P], tl.float32)
    for plane in tl.static_range(2):
        for i in range(KERNEL):
            for j in tl.static_range(KERNEL):
                h, w = row + i - KERNEL // 2, column + j - KERNEL // 2
                inside = (p < H * W) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
                value = tl.load(planes + (2 * b + plane) * H * W + h * W + w, mask=inside, other=0.0)
                logit += value * tl.load(weight + (plane * KERNEL + i) * KERNEL + j).to(tl.float32)
    if NORM:
        logit = (logit - tl.load(norm_mean).to(tl.float32)) / tl.sqrt(tl.load(norm_var).to(tl.float32) + eps)
        logit = logit * tl.load(norm_weight).to(tl.float32) + tl.load(norm_bias).to(tl.float32)
    else:
        logit += tl.load(bias).to(tl.float32)
    tl.store(gate + b * H * W + p, tl.sigmoid(logit), mask=p < H * W)

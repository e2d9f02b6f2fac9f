"""How a tensor lies in memory, and how the kernels cut it up."""

from typing import NamedTuple

import torch
from torch import Tensor

_PROGRAMS = 528  # four for each of the 132 processors of an H100 or H200


class Layout(NamedTuple):
    """A dense B C H W tensor as B x C x P, P = H W; a sample takes C * P elements."""

    batch: int
    channels: int
    cells: int
    channel_stride: int
    cell_stride: int


def dense(x: Tensor) -> Tensor:
    """The tensor itself where it is contiguous or channels-last, else a contiguous copy."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return x if last or x.is_contiguous() else x.contiguous()


def layout(x: Tensor) -> Layout:
    """Of a tensor that `dense` returned."""
    batch, channels, height, width = x.shape
    cells = height * width
    return Layout(batch, channels, cells, *((cells, 1) if x.is_contiguous() else (1, channels)))


def same_layout(gradient: Tensor, x: Tensor) -> Tensor:
    """A gradient laid out as x is."""
    wanted = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return gradient.contiguous(memory_format=wanted)


def power(size: int, most: int) -> int:
    """The least power of two that holds `size`, but `most` at most."""
    return min(1 << max(0, size - 1).bit_length(), most)


def along_cells(of: Layout) -> tuple[int, int]:
    """(channels, cells) of a tile for sums over cells and for what has none: long in the direction of memory."""
    if of.cell_stride == 1:
        return 1, power(of.cells, 2048)
    return power(of.channels, 32), power(of.cells, 64)


def along_both(of: Layout) -> tuple[int, int]:
    """(channels, cells) of a tile where values of each cell serve all channels: each is read once for many of them."""
    if of.cell_stride == 1:
        return power(of.channels, 16), power(of.cells, 128)
    return power(of.channels, 32), power(of.cells, 64)


def along_channels(of: Layout) -> tuple[int, int]:
    """(channels, cells) of a tile for sums over channels."""
    if of.cell_stride == 1:
        return power(of.channels, 32), power(of.cells, 128)
    return power(of.channels, 128), power(of.cells, 32)


def parts(programs: int, length: int, block: int) -> tuple[int, int]:
    """Into how many parts to cut a sum so that the GPU is busy, and how long each is (whole blocks)."""
    blocks = -(-length // block)
    wanted = max(1, min(blocks, -(-_PROGRAMS // programs)))
    each = -(-blocks // wanted)
    return -(-blocks // each), each * block

"""Features at occupied voxels, and what a backend of sparse convolutions has to offer."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SparseMap:
    """Features at some cells of a batch of volumes; zero everywhere else. No cell occurs twice."""

    features: Float[Tensor, "v c"]
    cells: Int[Tensor, "v 4"]  # int32: sample, layer, row, column
    size: Size  # layers, rows, columns
    batch: int
    rulebooks: dict[str, Any] = field(
        default_factory=dict
    )  # which cells neighbour which, by key: found once, used often

    def with_features(self, features: Float[Tensor, "v c2"]) -> "SparseMap":
        """Other features at the same cells."""
        return SparseMap(features, self.cells, self.size, self.batch, self.rulebooks)


@runtime_checkable
class Backend(Protocol):
    """How sparse convolutions are computed. Kernel 3, padding 1, no bias, weights (C_out, 3, 3, 3, C_in).

    Order of axes of the weights is that of spconv: output, layer, row, column, input.
    """

    name: str

    def submanifold(self, x: SparseMap, weight: Tensor, key: str) -> SparseMap:
        """Convolve at the occupied cells only; layers of one `key` share cells."""

    def strided(self, x: SparseMap, weight: Tensor) -> SparseMap:
        """Convolve with stride 2; output wherever the kernel meets an occupied cell."""


def halved(size: Size) -> Size:
    """The size behind a convolution with kernel 3, stride 2, padding 1."""
    return ((size[0] + 1) // 2, (size[1] + 1) // 2, (size[2] + 1) // 2)


def flat_cells(cells: Int[Tensor, "v 4"], size: Size) -> Int[Tensor, " v"]:
    """Number of each cell in its batch of volumes, row-major."""
    sample, layer, row, column = cells.long().unbind(1)
    layers, rows, columns = size
    return ((sample * layers + layer) * rows + row) * columns + column


def collapsed(x: SparseMap) -> Float[Tensor, "b cl h w"]:
    """Dense maps from above: the layers of each channel become channels, C major and layer minor."""
    layers, rows, columns = x.size
    channels = x.features.shape[1]
    volume = x.features.new_zeros(x.batch * layers * rows * columns, channels)
    volume = volume.index_copy(0, flat_cells(x.cells, x.size), x.features)
    volume = volume.view(x.batch, layers, rows, columns, channels).permute(0, 4, 1, 2, 3)
    return volume.reshape(x.batch, channels * layers, rows, columns)


def meeting(sizes: Size, cells: Int[Tensor, "v 4"], tap: Size, stride: int) -> tuple[Tensor, Tensor]:
    """Which cells one tap of a 3 x 3 x 3 kernel carries where.

    Output o takes input i = stride * o + tap - 1 along each axis.

    Args:
        sizes: of the output.
        cells: of the input.
        tap: 0 to 2 along each axis.
        stride: 1 or 2.

    Returns:
        (V,) whether the input reaches an output by this tap, and (V, 3) that output.
    """
    shifted = cells[:, 1:].long() + 1 - torch.tensor(tap, device=cells.device)
    target = shifted // stride
    bound = torch.tensor(sizes, device=cells.device)
    there = ((target * stride == shifted) & (target >= 0) & (target < bound)).all(1)
    return there, target

"""Sparse convolutions in plain torch, for every machine and as the oracle of faster ones.

    y(o) = sum over taps k of W_k x(i),   i = stride * o + k - 1

(Graham, Engelcke, van der Maaten, Submanifold Sparse Convolutional Networks, https://arxiv.org/abs/1711.10275.) For
each of the 27 taps: gather the inputs, multiply, add to the outputs. Neighbours are found by binary search in the
sorted cell numbers, so memory grows with the voxels and never with the volume; backward gathers again instead of
keeping 27 copies.
"""

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bevfusion.lidar.sparse_map import Size, SparseMap, flat_cells, halved, meeting

_TAPS: tuple[Size, ...] = tuple(itertools.product(range(3), range(3), range(3)))
Rulebook = list[tuple[Tensor, Tensor]]  # of each tap: indices of inputs, and of the outputs they go to


class ReferenceBackend:
    """Gather, multiply, scatter. float64 where features and weights are."""

    name = "reference"

    def submanifold(self, x: SparseMap, weight: Tensor, key: str) -> SparseMap:
        """Output at the cells of the input."""
        if key not in x.rulebooks:
            x.rulebooks[key] = neighbours(x)
        return x.with_features(_apply(x.features, weight, x.rulebooks[key], len(x.cells)))

    def strided(self, x: SparseMap, weight: Tensor) -> SparseMap:
        """Output at every cell that an input reaches, in ascending order."""
        rulebook, cells = _reached(x)
        return SparseMap(_apply(x.features, weight, rulebook, len(cells)), cells, halved(x.size), x.batch)


def neighbours(x: SparseMap) -> Rulebook:
    """Pairs of occupied cells that each tap connects."""
    number = flat_cells(x.cells, x.size)
    ascending, order = number.sort()
    rulebook: Rulebook = []
    for tap in _TAPS[:13]:
        there, target = meeting(x.size, x.cells, tap, 1)
        source = there.nonzero().flatten()
        wanted = flat_cells(torch.cat([x.cells[source, :1].long(), target[source]], dim=1), x.size)
        place = torch.searchsorted(ascending, wanted).clamp(max=max(len(ascending) - 1, 0))
        found = (ascending[place] == wanted).nonzero().flatten()
        rulebook.append((source[found], order[place[found]]))
    own = torch.arange(len(number), device=number.device)
    # the other half mirrors the first: who is my left neighbour has me on the right
    return [*rulebook, (own, own), *((out, source) for source, out in reversed(rulebook))]


def _reached(x: SparseMap) -> tuple[Rulebook, Tensor]:
    size = halved(x.size)
    sources, targets = [], []
    for tap in _TAPS:
        there, target = meeting(size, x.cells, tap, 2)
        source = there.nonzero().flatten()
        sources.append(source)
        targets.append(torch.cat([x.cells[source, :1].long(), target[source]], dim=1))
    numbers = flat_cells(torch.cat(targets), size)
    distinct, place = torch.unique(numbers, return_inverse=True)
    outputs = place.split([len(source) for source in sources])
    layers, rows, columns = size
    cells = [distinct // (layers * rows * columns), distinct // (rows * columns) % layers]
    cells += [distinct // columns % rows, distinct % columns]
    return list(zip(sources, outputs, strict=True)), torch.stack(cells, dim=1).int()


def _apply(features: Tensor, weight: Tensor, rulebook: Rulebook, count: int) -> Tensor:
    y: Tensor = _GatherScatter.apply(features, weight, rulebook, count)  # type: ignore[no-untyped-call]
    return y


class _GatherScatter(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, rulebook: Rulebook, count: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.rulebook = rulebook
        out = features.new_zeros(count, weight.shape[0])
        for (source, target), matrix in zip(rulebook, _matrices(weight), strict=True):
            if len(source):
                out.index_add_(0, target, features.index_select(0, source) @ matrix.T)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = ctx.saved_tensors
        of_features, of_weight = torch.zeros_like(features), torch.zeros_like(weight)
        into = _matrices(of_weight)
        for (source, target), matrix, sink in zip(ctx.rulebook, _matrices(weight), into, strict=True):
            if len(source):
                arrived = gradient.index_select(0, target)
                of_features.index_add_(0, source, arrived @ matrix)
                sink.add_(arrived.T @ features.index_select(0, source))
        return of_features, of_weight, None, None


def _matrices(weight: Tensor) -> tuple[Tensor, ...]:
    """(C_out, C_in) of each tap, in the order of `_TAPS`; views."""
    return weight.view(weight.shape[0], 27, weight.shape[-1]).unbind(1)

"""Forward and backward of the large passes; what lies between them (MLP, convolution, norms) stays torch's own.

    pool over x  ->  small layers  ->  gates  ->  y = x * gates

Every step would hand autograd a gradient the size of x, to be added up: most of the traffic of backward. Here later
steps take x as a constant and leave what they know in `Pending`; the first, whose backward runs last, since all others
follow from it, returns the whole gradient of x in one pass.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bevfusion.attention.kernels.layout import same_layout
from bevfusion.attention.kernels.passes import (
    cell_sums,
    channel_sums,
    gate_gradients,
    input_gradient,
    pooled_gradient,
    product,
    strip_product,
    strip_sums,
)


@dataclass(slots=True)
class Pending:
    """What backward of the later steps leaves for the first."""

    g: Tensor | None = None  # gradient of y
    gates: tuple[Tensor | None, Tensor | None] = (None, None)  # a and s, or r and k
    of_planes: tuple[Tensor, Tensor, Tensor] | None = None  # planes, ties, gradient of the planes

    def taken(self) -> tuple[Tensor, tuple[Tensor | None, Tensor | None], tuple[Tensor, Tensor, Tensor] | None]:
        """All of it, once."""
        if self.g is None:
            raise RuntimeError("backward of the result has not run: the gradient of x is of the result alone")
        kept = self.g, self.gates, self.of_planes
        self.g, self.gates, self.of_planes = None, (None, None), None
        return kept


class PoolCells(Function):
    """Mean over cells of every channel, and with `peak` the maximum; its backward is that of all of SE, CAM, CBAM."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pending: Pending, peak: bool) -> Any:
        """(B, C) mean, and maximum if asked for."""
        total, top, ties = cell_sums(x, peak=peak)
        mean = total.sum(2) / (x.shape[2] * x.shape[3])
        ctx.pending, ctx.peak = pending, peak
        if not peak:
            ctx.save_for_backward(x)
            return mean
        best = top.amax(2)
        ctx.save_for_backward(x, best, ties.masked_fill(top != best[:, :, None], 0.0).sum(2))
        return mean, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mean: Tensor, of_peak: Tensor | None = None) -> tuple[Tensor, None, None]:
        """The gradient of x, whole."""
        x, *rest = ctx.saved_tensors
        g, (a, s), planes = ctx.pending.taken()
        peak = None
        if of_peak is not None:
            best, ties = rest
            peak = best, (of_peak / ties).contiguous()
        channel = None if a is None else (a, (of_mean / (x.shape[2] * x.shape[3])).contiguous())
        spatial = None if s is None or planes is None else (s, *planes)
        return input_gradient(x, g, channel=channel, peak=peak, spatial=spatial), None, None


class PoolChannels(Function):
    """Mean and maximum over channels of x a, (B, 2, H, W); the first step of SAM (no a), the second of CBAM."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor | None, pending: Pending) -> Tensor:
        """(B, 2, H, W) planes."""
        planes, ties = channel_sums(x, a)
        ctx.save_for_backward(x, a, planes, ties)
        ctx.pending = pending
        return planes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_planes: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradient of a, or, without one, that of x, whole."""
        x, a, planes, ties = ctx.saved_tensors
        of_planes = of_planes.contiguous()
        if a is not None:
            ctx.pending.of_planes = planes, ties, of_planes
            return None, pooled_gradient(x, a, planes, ties, of_planes), None
        g, (_, s), _ = ctx.pending.taken()
        return input_gradient(x, g, spatial=(s, planes, ties, of_planes)), None, None


class Product(Function):
    """The last step of SE, CAM, SAM and CBAM: y = x a s; x counts as a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor | None, s: Tensor | None, pending: Pending) -> Tensor:
        """Of x's shape; a is (B, C), s is (B, 1, H, W)."""
        ctx.save_for_backward(x, a, s)
        ctx.pending = pending
        return product(x, a, s)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        """The gradients of the gates."""
        x, a, s = ctx.saved_tensors
        g = same_layout(g, x)
        ctx.pending.g, ctx.pending.gates = g, (a, s)
        if s is None:
            return None, cell_sums(x, g=g)[0].sum(2), None, None
        return None, *gate_gradients(x, g, a, s), None


class PoolStrips(Function):
    """Means of rows (B, C, H) and of columns (B, C, W); its backward is that of all of coordinate attention."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pending: Pending) -> tuple[Tensor, Tensor]:
        """Row and column means."""
        rows, columns = strip_sums(x)
        ctx.pending = pending
        return rows / x.shape[3], columns.sum(2) / x.shape[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_rows: Tensor, of_columns: Tensor) -> tuple[Tensor, None]:
        """The gradient of x, whole."""
        g, (r, k), _ = ctx.pending.taken()
        added = (of_rows / g.shape[3]).contiguous(), (of_columns / g.shape[2]).contiguous()
        return strip_product(g, r, k, added), None


class StripProduct(Function):
    """The last step of coordinate attention: y = x r k; x counts as a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, r: Tensor, k: Tensor, pending: Pending) -> Tensor:
        """Of x's shape; r is (B, C, H), k is (B, C, W)."""
        ctx.save_for_backward(x, r, k)
        ctx.pending = pending
        return strip_product(x, r, k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor, Tensor, None]:
        """The gradients of the gates."""
        x, r, k = ctx.saved_tensors
        g = same_layout(g, x)
        ctx.pending.g, ctx.pending.gates = g, (r, k)
        of_r, of_k = strip_sums(x, (g, r, k))
        return None, of_r, of_k.sum(2), None

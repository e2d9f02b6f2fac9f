"""SE, CAM, SAM, CBAM and coordinate attention by fused kernels: the same values, gradients and weights as the modules.

Least bytes first. One pass over a float32 tensor of 16 x 128 x 128 x 128 moves 134 MB; at the 4.3 TB/s that one copy
reaches on an H200 (issue 5) that is 0.031 ms, half in half precision. Passes over tensors of that size:

                forward            backward                                       in all, ms
    se, cam     x x | y            x g | (x) g | dx                               0.22 (0.25)
    sam         x x | y            x g | x g | dx                                 0.25
    cbam        x x x | y          x g | x | x g | dx                             0.31
    coordinate  x x | y            x g | g | dx                                   0.22

Everything between the passes is a hundredth of that or less. Without gradients it takes one small kernel for each
gate; with gradients torch's own layers, so norms, running statistics and hooks behave as ever. The result has the type
of x; sums, gates and gradients of gates are float32.
"""

import torch
from torch import Tensor, nn

from bevfusion.attention.kernels.functions import (
    Pending,
    PoolCells,
    PoolChannels,
    PoolStrips,
    Product,
    StripProduct,
)
from bevfusion.attention.kernels.layout import dense
from bevfusion.attention.kernels.passes import (
    cell_gate,
    cell_sums,
    channel_gate,
    channel_sums,
    product,
    strip_gate,
    strip_product,
    strip_sums,
)


def channel_attention(x: Tensor, first: nn.Linear, second: nn.Linear, *, peak: bool) -> Tensor:
    """SE, and with `peak` CAM: x sigmoid(MLP(mean)) or x sigmoid(MLP(mean) + MLP(max))."""
    x = dense(x)
    if not _needs_gradient(x, first, second):
        return product(x, _channel_gate(x, first, second, peak), None)
    pending = Pending()
    a = _pooled_gate(x, first, second, peak, pending)
    return _made(Product, x.detach(), a, None, pending)


def spatial_attention(x: Tensor, convolution: nn.Conv2d, norm: nn.Module) -> Tensor:
    """SAM: x sigmoid(norm(conv([mean; max over channels])))."""
    x = dense(x)
    if not _needs_gradient(x, convolution, norm):
        return product(x, None, _cell_gate(channel_sums(x, None)[0], convolution, norm))
    pending = Pending()
    planes = _made(PoolChannels, x, None, pending)
    return _made(Product, x.detach(), None, _layers_gate(planes, convolution, norm), pending)


def channel_spatial_attention(
    x: Tensor, first: nn.Linear, second: nn.Linear, convolution: nn.Conv2d, norm: nn.Module
) -> Tensor:
    """CBAM in sequence: CAM, then SAM of its result."""
    x = dense(x)
    if not _needs_gradient(x, first, second, convolution, norm):
        a = _channel_gate(x, first, second, True)
        return product(x, a, _cell_gate(channel_sums(x, a)[0], convolution, norm))
    pending = Pending()
    a = _pooled_gate(x, first, second, True, pending)
    planes = _made(PoolChannels, x.detach(), a, pending)
    return _made(Product, x.detach(), a, _layers_gate(planes, convolution, norm), pending)


def coordinate_attention(x: Tensor, squeeze: nn.Sequential, to_rows: nn.Conv1d, to_columns: nn.Conv1d) -> Tensor:
    """Coordinate attention; `squeeze` is convolution, batch norm, h-swish."""
    x = dense(x)
    convolution, norm = squeeze[0], squeeze[1]
    assert isinstance(convolution, nn.Conv1d)
    assert isinstance(norm, nn.BatchNorm2d)
    if not _needs_gradient(x, squeeze, to_rows, to_columns) and not norm.training and _plain(norm):
        rows, columns = strip_sums(x)
        r = strip_gate(rows[:, :, None], x.shape[3], convolution, norm, to_rows)
        k = strip_gate(columns, x.shape[2], convolution, norm, to_columns)
        return strip_product(x, r, k)
    pending = Pending()
    with torch.autocast(x.device.type, enabled=False):
        means = PoolStrips.apply(x, pending)  # type: ignore[no-untyped-call]
        strips = torch.cat(means, dim=2).to(convolution.weight.dtype)
        of_rows, of_columns = squeeze(strips).split([x.shape[2], x.shape[3]], dim=2)
        r = torch.sigmoid(to_rows(of_rows)).float().contiguous()
        k = torch.sigmoid(to_columns(of_columns)).float().contiguous()
    return _made(StripProduct, x.detach(), r, k, pending)


def _channel_gate(x: Tensor, first: nn.Linear, second: nn.Linear, peak: bool) -> Tensor:
    total, top, _ = cell_sums(x, peak=peak)
    return channel_gate(total, top if peak else None, first, second, x.shape[2] * x.shape[3])


def _pooled_gate(x: Tensor, first: nn.Linear, second: nn.Linear, peak: bool, pending: Pending) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        pooled = PoolCells.apply(x, pending, peak)  # type: ignore[no-untyped-call]
        # mean and maximum through the layers at once
        z = torch.stack(pooled if peak else [pooled]).to(first.weight.dtype)
        logits = second(torch.relu(first(z))).sum(0)
        return torch.sigmoid(logits).float().contiguous()


def _cell_gate(planes: Tensor, convolution: nn.Conv2d, norm: nn.Module) -> Tensor:
    normed = isinstance(norm, nn.BatchNorm2d)
    if convolution.padding_mode == "zeros" and (not normed or (not norm.training and _plain(norm))):
        return cell_gate(planes, convolution, norm)
    return _layers_gate(planes, convolution, norm)


def _layers_gate(planes: Tensor, convolution: nn.Conv2d, norm: nn.Module) -> Tensor:
    with torch.autocast(planes.device.type, enabled=False):
        logits = norm(convolution(planes.to(convolution.weight.dtype)))
        return torch.sigmoid(logits).float().contiguous()


def _plain(norm: nn.Module) -> bool:
    """Whether a batch norm has running statistics and a scale, as ours have."""
    return isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats


def _needs_gradient(x: Tensor, *modules: nn.Module) -> bool:
    if not torch.is_grad_enabled():
        return False
    return x.requires_grad or any(p.requires_grad for module in modules for p in module.parameters())


def _made(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    y: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return y

"""Group norm for a graph, by means of means."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


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

"""The correlation that every faster way is compared with."""

import torch
from torch import Tensor
from torch.nn import functional as F


def correlate_direct(templates: Tensor, map_features: Tensor, reach: int) -> Tensor:
    """The sum of products for every shift, by a plain convolution: (B, R, C, H, W), (B, C, Hm, Wm) -> (B, R, S, S)."""
    row, column = ((map_features.shape[axis] - templates.shape[axis]) // 2 - reach for axis in (-2, -1))
    side = 2 * reach + 1
    scores = [
        F.conv2d(features[None], kernels)[0, :, row : row + side, column : column + side]
        for features, kernels in zip(map_features, templates, strict=True)
    ]
    return torch.stack(scores)

"""The matching written plainly: what `matching.py` is compared with, in tests and in `tools/benchmark.py matching`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bevfusion.fusion.align import cell_centres_m, rotated
from bevfusion.geometry.grid import Grid


def rotate_all(
    template: Float[Tensor, "b c h w"], yaw_rad: Float[Tensor, "b r"], grid: Grid
) -> Float[Tensor, "b r c h w"]:
    """Turn each template by each heading, a copy for each (bilinear)."""
    batch, headings = yaw_rad.shape
    source_m = rotated(cell_centres_m(grid, template), -yaw_rad.reshape(-1))
    repeated = template.to(source_m.dtype)[:, None].expand(-1, headings, -1, -1, -1).flatten(0, 1)
    turned = F.grid_sample(repeated, grid.normalized(source_m), align_corners=False)
    return turned.reshape(batch, headings, *template.shape[1:])


def correlate_all(
    templates: Float[Tensor, "b r c h w"], map_features: Float[Tensor, "b c hm wm"], reach: int
) -> Float[Tensor, "b r s s"]:
    """All templates through the FFT at once, at the size of the map, as in OrienterNet (arXiv:2304.02009)."""
    size = map_features.shape[-2:]
    row, column = ((size[axis] - templates.shape[axis]) // 2 - reach for axis in (-2, -1))
    map_spectrum = torch.fft.rfft2(map_features.float())
    template_spectrum = torch.fft.rfft2(templates.float(), s=size)
    product = torch.einsum("brchw,bchw->brhw", template_spectrum.conj(), map_spectrum)
    scores: Tensor = torch.fft.irfft2(product, s=size)
    side = 2 * reach + 1
    return scores[..., row : row + side, column : column + side]

"""Template matching over (x, y, yaw): turn what the LiDAR saw, slide it over the map, compare.

score(r, s) = sum_p w(R_r^-1 p) <t(R_r^-1 p), m(p + s)> / sum_p v(R_r^-1 p)

with template t, its confidence w and validity v in the ego frame, map features m in the tile frame, r a heading and
s a shift in whole cells. Exhaustive over headings and shifts, as in OrienterNet (Sarlin et al., arXiv:2304.02009).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bevfusion.fusion.align import cell_centres_m, rotated
from bevfusion.geometry.grid import Grid


def disc(grid: Grid) -> Float[Tensor, "h w"]:
    """1 in the largest disc that every rotation keeps inside the grid, 0 outside."""
    centres_m = torch.from_numpy(grid.centres_m()).float()
    inside: Tensor = torch.linalg.vector_norm(centres_m, dim=-1) <= min(grid.half_extent_m)
    return inside.float()


def rotate_templates(
    template: Float[Tensor, "b c h w"], yaw_rad: Float[Tensor, "b r"], grid: Grid
) -> Float[Tensor, "b r c h w"]:
    """Turn each template, given in the ego frame, by each of its headings into the axes of the tile (bilinear)."""
    batch, headings = yaw_rad.shape
    # A cell of the turned template at p shows what the ego frame has at R(-yaw) p.
    source_m = rotated(cell_centres_m(grid, template), -yaw_rad.reshape(-1))
    repeated = template.to(source_m.dtype)[:, None].expand(-1, headings, -1, -1, -1).flatten(0, 1)
    turned = F.grid_sample(repeated, grid.normalized(source_m), align_corners=False)
    return turned.reshape(batch, headings, *template.shape[1:])


def correlate(
    templates: Float[Tensor, "b r c h w"], map_features: Float[Tensor, "b c hm wm"], reach: int
) -> Float[Tensor, "b r s s"]:
    """Sum over c, p of template(p) map(p + shift) for every shift of up to `reach` cells, by FFT.

    Template and map are centred on each other at shift 0. Equal to `correlate_direct` up to rounding.

    Raises:
        ValueError: if the map does not reach `reach` cells beyond the template on every side.
    """
    row, column = _first_shift(templates, map_features, reach)
    size = map_features.shape[-2:]
    # float32 throughout: cuFFT has no bfloat16, and half precision would drown the differences between poses
    map_spectrum = torch.fft.rfft2(map_features.float())
    template_spectrum = torch.fft.rfft2(templates.float(), s=size)
    product = torch.einsum("brchw,bchw->brhw", template_spectrum.conj(), map_spectrum)
    scores: Tensor = torch.fft.irfft2(product, s=size)
    side = 2 * reach + 1
    # valid shifts never wrap round: the template fits into the map at each of them
    return scores[..., row : row + side, column : column + side]


def correlate_direct(
    templates: Float[Tensor, "b r c h w"], map_features: Float[Tensor, "b c hm wm"], reach: int
) -> Float[Tensor, "b r s s"]:
    """The same by a plain convolution, slow and obvious: the reference for `correlate`."""
    row, column = _first_shift(templates, map_features, reach)
    side = 2 * reach + 1
    scores = [
        F.conv2d(features[None], kernels)[0, :, row : row + side, column : column + side]
        for features, kernels in zip(map_features, templates, strict=True)
    ]
    return torch.stack(scores)


def _first_shift(templates: Tensor, map_features: Tensor, reach: int) -> tuple[int, int]:
    """Where shift (-reach, -reach) stands among all placements of the template inside the map."""
    margins = [map_features.shape[axis] - templates.shape[axis] for axis in (-2, -1)]
    if any(margin < 2 * reach or margin % 2 for margin in margins):
        raise ValueError(
            f"a template of {tuple(templates.shape[-2:])} cells cannot move by {reach} cells in a map of "
            f"{tuple(map_features.shape[-2:])}: the map must be larger by an even number, at least {2 * reach}"
        )
    return margins[0] // 2 - reach, margins[1] // 2 - reach

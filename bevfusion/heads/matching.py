"""Template matching over (x, y, yaw): turn what the LiDAR saw, slide it over the map, compare.

score(r, s) = sum_p w(R_r^-1 p) <t(R_r^-1 p), m(p + s)> / sum_p v(R_r^-1 p)

with template t, its confidence w and validity v in the ego frame, map features m in the tile frame, r a heading and
s a shift in whole cells. Exhaustive over headings and shifts, as in OrienterNet (Sarlin et al., arXiv:2304.02009).
`matching_reference.py` is the same written plainly.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bevfusion.fusion.align import turned_cells_m
from bevfusion.geometry.grid import Grid
from bevfusion.heads.correlation import correlation


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
    source_m = turned_cells_m(grid, -yaw_rad.reshape(-1), template)
    # All headings below one another are one tall picture: no copy of the template for each of them.
    places = grid.normalized(source_m).view(batch, headings * grid.height, grid.width, 2)
    turned = F.grid_sample(template.to(source_m.dtype), places, align_corners=False)
    return turned.view(batch, -1, headings, grid.height, grid.width).transpose(1, 2)


def match(
    template: Float[Tensor, "b c h w"],
    map_features: Float[Tensor, "b k hm wm"],
    yaw_rad: Float[Tensor, "b r"],
    grid: Grid,
    reach: int,
    *,
    circle: bool = False,
    apart: bool = False,
) -> Float[Tensor, "b *c r s s"]:
    """Sum over c, p of the template, turned by each heading, times the map at p + shift, up to `reach` cells away.

    Args:
        template: ego frame, cells of `grid`.
        map_features: tile frame, the same cells, centred on the template at shift 0; as many channels.
        yaw_rad: headings in the tile frame.
        grid: of the template.
        reach: shifts on each side of zero, along both axes.
        circle: the headings are equal steps round a full circle. Then those of one quadrant are enough: a template
            turned by a right angle more fits the map as the template itself fits the map turned back.
        apart: not the sum over c, but each channel of the template times the one channel that the map has then.

    Raises:
        ValueError: if the map does not reach `reach` cells beyond the template on every side.
    """
    quarter, rest = divmod(yaw_rad.shape[1], 4)
    window = window_of(template, map_features, reach)
    if not circle or rest or grid.height != grid.width:
        turned = rotate_templates(template, yaw_rad, grid)
        return _on_each(turned, window[:, None], reach, apart)[:, 0]
    # counter-clockwise with y up is clockwise in memory order (row 0 is the lowest y): `rot90` counts the other way
    turned_back = torch.stack([window.rot90(turns, (-2, -1)) for turns in range(4)], dim=1)
    scores = _on_each(rotate_templates(template, yaw_rad[:, :quarter], grid), turned_back, reach, apart)
    return torch.cat([scores[:, turns].rot90(-turns, (-2, -1)) for turns in range(4)], dim=-3)


def _on_each(
    templates: Float[Tensor, "b r c h w"], maps: Float[Tensor, "b k c2 hm wm"], reach: int, apart: bool
) -> Float[Tensor, "b k *c r s s"]:
    """Every template on every map; with `apart` every channel of it, as a template of its own."""
    if not apart:
        return correlation(templates, maps, 2 * reach + 1)
    batch, headings, channels = templates.shape[:3]
    planes = templates.transpose(1, 2).flatten(1, 2)[:, :, None]
    scores = correlation(planes, maps, 2 * reach + 1)
    return scores.view(batch, maps.shape[1], channels, headings, *scores.shape[-2:])


def correlate(
    templates: Float[Tensor, "b r c h w"], map_features: Float[Tensor, "b c hm wm"], reach: int
) -> Float[Tensor, "b r s s"]:
    """Sum over c, p of template(p) map(p + shift) for every shift of up to `reach` cells, by FFT.

    Template and map are centred on each other at shift 0.

    Raises:
        ValueError: if the map does not reach `reach` cells beyond the template on every side.
    """
    return correlation(templates, window_of(templates, map_features, reach)[:, None], 2 * reach + 1)[:, 0]


def window_of(templates: Tensor, map_features: Float[Tensor, "b c hm wm"], reach: int) -> Float[Tensor, "b c hw ww"]:
    """The part of the map that the templates touch at one of the shifts."""
    margins = [map_features.shape[axis] - templates.shape[axis] for axis in (-2, -1)]
    if any(margin < 2 * reach or margin % 2 for margin in margins):
        raise ValueError(
            f"a template of {tuple(templates.shape[-2:])} cells cannot move by {reach} cells in a map of "
            f"{tuple(map_features.shape[-2:])}: the map must be larger by an even number, at least {2 * reach}"
        )
    top, left = margins[0] // 2 - reach, margins[1] // 2 - reach
    height, width = (templates.shape[axis] + 2 * reach for axis in (-2, -1))
    return map_features[..., top : top + height, left : left + width]

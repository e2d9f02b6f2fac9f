"""What tells the carriageway from its verge in a single scan: how dark and how smooth the ground is.

Asphalt is darker than grass, gravel and paving, and smoother: neighbouring cells of the ground lie on one plane, those
of a lawn, a ditch or a kerb do not. Both are kept as local contrast

    c(p) = clip((v(p) - sum_q k(p - q) g(q) v(q) / sum_q k(p - q) g(q)) / scale, -2, 2)

with ground g, a Gaussian k of 8 m, and the scale that holds 68 % of the scan's values. Reflectance falls with range and
with the angle of incidence, sensors differ in scale, age and noise, and roads climb: all of that cancels where road and
verge are seen side by side. This is the calibration, and each scan has its own.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from bevfusion.geometry.grid import Grid
from bevfusion.structures import Scan

CONTRAST_PLANES = ("ground", "darkness", "smoothness")
OWN_M = 2.0  # nearer returns are of the vehicle that carries the sensor
GROUND_M = 0.5  # a cell whose lowest return is as near to the ground's surface shows ground
_LOWEST_M = 0.15  # returns this little above the lowest of a ground cell are of its surface
_CONTRAST_M = 8.0  # wide enough to hold road and verge, narrow enough that range and slope hardly change
_CLIP = 2.0
_FINEST_M = 0.01  # roughness below is the sensor's own noise
_FEWEST_BESIDE = 3  # ground cells of the 3 x 3 about a cell that make a roughness


def ground_contrast(
    xyz: Float[Tensor, "n 3"],
    height_m: Float[Tensor, " n"],
    intensity: Float[Tensor, " n"],
    grid: Grid,
    coarser: int = 1,
) -> Float[Tensor, "3 h w"]:
    """The planes of `CONTRAST_PLANES` of a scan: where ground was seen (0 to 1), and both contrasts (-2 to 2) there.

    Contrasts are 0 where they are not known, and 0 in the mean over what is: a scan without reflectance, or without
    ground, says nothing.

    Args:
        xyz: points in metres, ego frame; the sensor stands at the origin.
        height_m: of each above the ground.
        intensity: reflectance of each.
        grid: raster on which contrast is measured.
        coarser: this many of its cells, along each axis, are one of the answer.
    """
    index, inside = grid.flat_index(xyz[:, 0].contiguous(), xyz[:, 1].contiguous())
    seen = inside & (xyz[:, 0].square() + xyz[:, 1].square() > OWN_M**2) & torch.isfinite(height_m)
    # higher points show no ground, and make none; and once, for a mask would be gone through for each of them
    kept = (seen & (height_m < GROUND_M + _LOWEST_M)).nonzero()[:, 0]
    index, height_m, intensity = (part.index_select(0, kept) for part in (index, height_m, intensity))
    bottom = lowest(index, height_m, grid)
    shape = (grid.height, grid.width)
    ground = (bottom.abs() < GROUND_M).float().view(shape)  # not where nothing was seen: NaN is not below
    planes = torch.stack(
        [
            ground,
            -local_contrast(surface_mean(index, height_m, intensity, bottom, grid), ground, grid),
            -local_contrast(*roughness(bottom.nan_to_num(0.0).view(shape), ground), grid),
        ]
    )
    return F.avg_pool2d(planes[None], coarser)[0]


def contrast_of_scan(scan: Scan, height_m: Float[np.ndarray, " n"], grid: Grid, coarser: int) -> Float[Tensor, "3 h w"]:
    """`ground_contrast` of a scan whose points lie `height_m` above the ground."""
    columns = (np.ascontiguousarray(part, dtype=np.float32) for part in (scan.xyz, height_m, scan.intensity))
    xyz, above_m, intensity = (torch.from_numpy(column) for column in columns)
    return ground_contrast(xyz, above_m, intensity, grid, coarser)


def lowest(index: Int[Tensor, " n"], height_m: Float[Tensor, " n"], grid: Grid) -> Float[Tensor, " cells"]:
    """The lowest height in every cell, NaN without points."""
    empty = height_m.new_full((grid.height * grid.width,), torch.nan)
    return empty.scatter_reduce(0, index, height_m, "amin", include_self=False)


def surface_mean(
    index: Int[Tensor, " n"],
    height_m: Float[Tensor, " n"],
    values: Float[Tensor, " n"],
    bottom: Float[Tensor, " cells"],
    grid: Grid,
) -> Float[Tensor, "h w"]:
    """Mean value in every cell of the points that lie on its lowest surface, 0 without points."""
    surface = (height_m < bottom.index_select(0, index) + _LOWEST_M).nonzero()[:, 0]
    cells, index = grid.height * grid.width, index.index_select(0, surface)
    total = torch.bincount(index, weights=values.index_select(0, surface), minlength=cells)
    mean = total.to(values.dtype) / torch.bincount(index, minlength=cells).clamp(min=1)
    return mean.view(grid.height, grid.width)


def roughness(
    bottom_m: Float[Tensor, "h w"], ground: Float[Tensor, "h w"]
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Logarithm of the spread of the ground's height over 3 x 3 cells, and 1 where enough of these are ground."""
    weight = ground.numpy()
    height = bottom_m.numpy() * weight
    count, total, square = (cv2.boxFilter(v, -1, (3, 3), normalize=False) for v in (weight, height, height * height))
    mean = total / np.maximum(count, 1.0)
    variance = np.maximum(square / np.maximum(count, 1.0) - mean * mean, 0.0)
    known = (weight > 0) & (count >= _FEWEST_BESIDE)
    rough = np.where(known, np.log(np.sqrt(variance) + _FINEST_M), 0.0).astype(np.float32)
    return torch.from_numpy(rough), torch.from_numpy(known.astype(np.float32))


def local_contrast(values: Float[Tensor, "h w"], known: Float[Tensor, "h w"], grid: Grid) -> Float[Tensor, "h w"]:
    """Local contrast (see the top of this file) with its mean over known cells taken out; 0 where it says nothing."""
    where, weight = known.numpy() > 0, known.numpy()
    nothing = torch.zeros_like(values)
    if not where.any():
        return nothing
    sigma = _CONTRAST_M / grid.cell_m
    around = cv2.GaussianBlur(weight, (0, 0), sigma)
    local_mean = cv2.GaussianBlur(values.numpy() * weight, (0, 0), sigma) / np.maximum(around, 1e-6)
    excess = (values.numpy() - local_mean)[where]
    scale = float(np.quantile(np.abs(excess), 0.68))
    if scale < 1e-4:
        return nothing
    clipped = np.clip(excess / scale, -_CLIP, _CLIP)
    nothing[torch.from_numpy(where)] = torch.from_numpy((clipped - clipped.mean()).astype(np.float32))
    return nothing

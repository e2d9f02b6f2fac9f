"""What a scan says, as planes of the ego frame that can be laid over a map.

All heights are above the ground of `lidar/ground.py`. In a cell with returns between `bottom` and `top`

* standing = clip((top - 0.5 m) / 1.5 m, 0, 1): a kerb is 0, a car about 0.7, a wall 1;
* free is 1 where rays crossed the cell (`lidar/visibility.py`) and nothing stands in it;
* ground is 1 where bottom lies within 0.5 m of the ground.

Of a ground cell two properties tell road from verge: its reflectance (asphalt is darker than grass, gravel and paving)
and its height (the road lies lower than kerb, pavement and lawn), which is measured from a surface too wide to follow a
kerb. Both are kept as local contrast

    c(p) = clip((v(p) - sum_q k(p - q) g(q) v(q) / sum_q k(p - q) g(q)) / scale, -2, 2)

with ground g, a Gaussian k of 8 m, and the scale that holds 68 % of the scan's values: reflectance falls with range and
with the angle of incidence, sensors differ in scale and age, and roads climb. All of that cancels where road and verge
are seen side by side; elsewhere it is nothing to go by. This is the calibration, and each scan has its own.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bevfusion.geometry.grid import Grid
from bevfusion.heads.matching import disc
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.visibility import seen_cells
from bevfusion.structures import DataError, Scan

_OWN_M = 2.0  # nearer returns are of the vehicle that carries the sensor
_STANDS_M, _WALL_M = 0.5, 2.0
_GROUND_M = 0.5
_KERBS_STAND_M = 4.0  # `finest_m` of a ground surface that goes on below a pavement
_LOWEST_M = 0.15  # returns this little above the lowest of a ground cell are of its surface
_CONTRAST_M = 8.0  # wide enough to hold road and verge, narrow enough that range and slope hardly change
_CLIP = 2.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Planes over one grid of the ego frame, 0 outside the disc that every rotation keeps inside it."""

    standing: Float[Tensor, "h w"]  # 0 to 1
    free: Float[Tensor, "h w"]  # 0 or 1
    ground: Float[Tensor, "h w"]  # 0 or 1
    darkness: Float[Tensor, "h w"]  # minus the contrast of reflectance; mean 0 over the ground, 0 elsewhere
    lowness: Float[Tensor, "h w"]  # minus the contrast of height; likewise


def gather_evidence(scan: Scan, grid: Grid) -> Evidence:
    """Draw the planes of a scan.

    Args:
        scan: points in the ego frame; an intensity that is the same everywhere (a sensor without) is no evidence.
        grid: raster centred on the sensor.

    Raises:
        DataError: if no point lies inside the grid, those on the vehicle itself not counted.
    """
    xyz = torch.from_numpy(np.ascontiguousarray(scan.xyz, dtype=np.float32))
    index, inside = grid.flat_index(xyz[:, 0], xyz[:, 1])
    seen = inside & (torch.linalg.vector_norm(xyz[:, :2], dim=1) > _OWN_M)
    if not bool(seen.any()):
        reach_m = min(grid.half_extent_m)
        raise DataError(f"none of the scan's {len(scan)} points lies between {_OWN_M:g} and {reach_m:g} m")
    height_m = torch.from_numpy(height_above_ground(scan.xyz))[seen]
    above_wide_m = torch.from_numpy(height_above_ground(scan.xyz, finest_m=_KERBS_STAND_M))[seen]
    reflectance = torch.from_numpy(np.ascontiguousarray(scan.intensity, dtype=np.float32))[seen]
    xyz, index, shape = xyz[seen], index[seen], (grid.height, grid.width)
    empty = torch.full((grid.height * grid.width,), torch.nan)
    top = empty.scatter_reduce(0, index, height_m, "amax", include_self=False)
    bottom = empty.scatter_reduce(0, index, height_m, "amin", include_self=False)
    bottom_wide = empty.scatter_reduce(0, index, above_wide_m, "amin", include_self=False)
    surface = height_m < bottom[index] + _LOWEST_M
    mean = _mean(index[surface], reflectance[surface], grid)
    within = disc(grid)
    standing = ((top.nan_to_num(0.0) - _STANDS_M) / (_WALL_M - _STANDS_M)).clamp(0.0, 1.0).view(shape) * within
    ground = (bottom.abs() < _GROUND_M).float().view(shape) * within
    free, _ = seen_cells(xyz[:, :2], height_m, grid)
    return Evidence(
        standing=standing,
        free=free.float() * (standing == 0.0) * within,
        ground=ground,
        darkness=-_contrast(mean.view(shape), ground, grid),
        lowness=-_contrast(bottom_wide.nan_to_num(0.0).view(shape), ground, grid),
    )


def _mean(index: Int[Tensor, " n"], values: Float[Tensor, " n"], grid: Grid) -> Float[Tensor, " cells"]:
    """Mean value in every cell, 0 without points."""
    cells = grid.height * grid.width
    total = torch.bincount(index, weights=values, minlength=cells)
    return total.to(values.dtype) / torch.bincount(index, minlength=cells).clamp(min=1)


def _contrast(values: Float[Tensor, "h w"], known: Float[Tensor, "h w"], grid: Grid) -> Float[Tensor, "h w"]:
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

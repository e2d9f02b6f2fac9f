"""What a scan says, as planes of the ego frame that can be laid over a map.

All heights are above the ground of `lidar/ground.py`. In a cell with returns between `bottom` and `top`

* standing = clip((top - 0.5 m) / 1.5 m, 0, 1): a kerb is 0, a car about 0.7, a wall 1;
* free is 1 where rays crossed the cell (`lidar/visibility.py`) and nothing stands in it;
* ground is 1 where bottom lies within 0.5 m of the ground.

Of a ground cell three properties tell road from verge, each as the local contrast of `lidar/ground_contrast.py`: its
reflectance (asphalt is darker than grass, gravel and paving), its roughness (asphalt is smooth), and its height (the
road lies lower than kerb, pavement and lawn), which is measured from a surface too wide to follow a kerb.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bevfusion.geometry.grid import Grid
from bevfusion.heads.matching import disc
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.ground_contrast import GROUND_M, OWN_M, local_contrast, lowest, roughness, surface_mean
from bevfusion.lidar.visibility import seen_cells
from bevfusion.structures import DataError, Scan

_STANDS_M, _WALL_M = 0.5, 2.0
_KERBS_STAND_M = 4.0  # `finest_m` of a ground surface that goes on below a pavement


@dataclass(frozen=True, slots=True)
class Evidence:
    """Planes over one grid of the ego frame, 0 outside the disc that every rotation keeps inside it."""

    standing: Float[Tensor, "h w"]  # 0 to 1
    free: Float[Tensor, "h w"]  # 0 or 1
    ground: Float[Tensor, "h w"]  # 0 or 1
    darkness: Float[Tensor, "h w"]  # minus the contrast of reflectance; mean 0 over the ground, 0 elsewhere
    lowness: Float[Tensor, "h w"]  # minus the contrast of height; likewise
    smoothness: Float[Tensor, "h w"]  # minus the contrast of roughness; likewise


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
    seen = inside & (torch.linalg.vector_norm(xyz[:, :2], dim=1) > OWN_M)
    if not bool(seen.any()):
        reach_m = min(grid.half_extent_m)
        raise DataError(f"none of the scan's {len(scan)} points lies between {OWN_M:g} and {reach_m:g} m")
    height_m = torch.from_numpy(height_above_ground(scan.xyz))[seen]
    above_wide_m = torch.from_numpy(height_above_ground(scan.xyz, finest_m=_KERBS_STAND_M))[seen]
    reflectance = torch.from_numpy(np.ascontiguousarray(scan.intensity, dtype=np.float32))[seen]
    xyz, index, shape = xyz[seen], index[seen], (grid.height, grid.width)
    empty = torch.full((grid.height * grid.width,), torch.nan)
    top = empty.scatter_reduce(0, index, height_m, "amax", include_self=False)
    bottom, bottom_wide = lowest(index, height_m, grid), lowest(index, above_wide_m, grid)
    mean = surface_mean(index, height_m, reflectance, bottom, grid)
    within = disc(grid)
    standing = ((top.nan_to_num(0.0) - _STANDS_M) / (_WALL_M - _STANDS_M)).clamp(0.0, 1.0).view(shape) * within
    ground = (bottom.abs() < GROUND_M).float().view(shape) * within
    free, _ = seen_cells(xyz[:, :2], height_m, grid)
    return Evidence(
        standing=standing,
        free=free.float() * (standing == 0.0) * within,
        ground=ground,
        darkness=-local_contrast(mean, ground, grid),
        lowness=-local_contrast(bottom_wide.nan_to_num(0.0).view(shape), ground, grid),
        smoothness=-local_contrast(*roughness(bottom.nan_to_num(0.0).view(shape), ground), grid),
    )

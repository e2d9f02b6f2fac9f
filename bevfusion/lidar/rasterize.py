"""A scan as a picture from above: what stands where and how high, what is free, what was never seen."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bevfusion.geometry.grid import Grid
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.visibility import seen_cells
from bevfusion.structures import Scan

_DENSITY_FULL = 32.0  # points in a cell that count as dense
_HEIGHT_FULL_M = 10.0
_GROUND_M = 0.3  # what is lower is ground: its reflectance tells asphalt from grass


def bev_channels(slices_m: Sequence[float]) -> tuple[str, ...]:
    """Names of the planes that `rasterize` draws, in order."""
    slices = tuple(f"occupied_{low:g}_{high:g}m" for low, high in itertools.pairwise(slices_m))
    return (*slices, "density", "max_height", "intensity", "ground", "ground_intensity", "free", "never_seen")


def rasterize(
    xyz: Float[Tensor, "n 3"],
    height_m: Float[Tensor, " n"],
    intensity: Float[Tensor, " n"],
    grid: Grid,
    slices_m: Sequence[float],
) -> Float[Tensor, "c h w"]:
    """Draw a scan into the planes of `bev_channels`; every value lies in [0, 1] but for ground intensity.

    Intensity of the ground is standardized within the scan (then squashed to [-1, 1]): sensors differ in scale and
    age, and what tells road from verge is the contrast. All intensities at 0 (a sensor without) leave the plane at 0.

    Args:
        xyz: (N, 3) points in metres, ego frame; N may be 0.
        height_m: (N,) heights above ground.
        intensity: (N,) reflectance, 0 to 1.
        grid: raster centred on the sensor; points outside are left out.
        slices_m: ascending borders of the height slices.
    """
    index, inside = grid.flat_index(xyz[:, 0], xyz[:, 1])
    inside = inside & torch.isfinite(height_m)
    index, height_m, intensity = index[inside], height_m[inside], intensity[inside]
    planes = [_any(index[(height_m >= low) & (height_m < high)], grid) for low, high in itertools.pairwise(slices_m)]
    count = _sum(index, torch.ones_like(height_m), grid)
    planes.append((count.log1p() / torch.tensor(1.0 + _DENSITY_FULL).log()).clamp(max=1.0))
    planes.append((_max(index, height_m, grid) / _HEIGHT_FULL_M).clamp(0.0, 1.0))
    planes.append(_mean(index, intensity, count, grid))
    ground = height_m < _GROUND_M
    ground_count = _sum(index[ground], torch.ones_like(height_m[ground]), grid)
    planes.append((ground_count > 0).float())
    planes.append(_standardized(_mean(index[ground], intensity[ground], ground_count, grid), ground_count > 0))
    free, reached = seen_cells(xyz[inside, :2], height_m, grid)
    planes.extend([free.float(), (~reached).float()])
    return torch.stack(planes)


def _any(index: Tensor, grid: Grid) -> Tensor:
    plane = torch.zeros(grid.height * grid.width, device=index.device)
    plane[index] = 1.0
    return plane.view(grid.height, grid.width)


def _sum(index: Tensor, values: Tensor, grid: Grid) -> Tensor:
    plane = torch.bincount(index, weights=values, minlength=grid.height * grid.width)
    return plane.to(values.dtype).view(grid.height, grid.width)


def _max(index: Tensor, values: Tensor, grid: Grid) -> Tensor:
    plane = values.new_zeros(grid.height * grid.width)
    return plane.scatter_reduce(0, index, values, "amax").view(grid.height, grid.width)


def _mean(index: Tensor, values: Tensor, count: Tensor, grid: Grid) -> Tensor:
    return _sum(index, values, grid) / count.clamp(min=1.0)


def _standardized(plane: Tensor, known: Tensor) -> Tensor:
    values = plane[known]
    if len(values) < 2:
        return torch.zeros_like(plane)
    spread = values.std().clamp(min=1e-3)
    return torch.where(known, torch.tanh(0.5 * (plane - values.mean()) / spread), torch.zeros_like(plane))


def rasterize_scan(scan: Scan, grid: Grid, slices_m: Sequence[float]) -> Float[Tensor, "c h w"]:
    """`rasterize` with heights above the ground plane that `lidar/ground.py` fits to the scan."""
    xyz = torch.from_numpy(np.ascontiguousarray(scan.xyz, dtype=np.float32))
    heights_m = torch.from_numpy(height_above_ground(scan.xyz))
    intensity = torch.from_numpy(np.ascontiguousarray(scan.intensity, dtype=np.float32))
    return rasterize(xyz, heights_m, intensity, grid, slices_m)

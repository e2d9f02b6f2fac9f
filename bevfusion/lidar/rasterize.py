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

DENSITY_FULL = 32.0  # points in a cell that count as dense
HEIGHT_FULL_M = 10.0
GROUND_M = 0.3  # what is lower is ground: its reflectance tells asphalt from grass


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
    # column by column: on strided memory the same arithmetic takes ten times as long
    x_m, y_m = xyz[:, 0].contiguous(), xyz[:, 1].contiguous()
    index, inside = grid.flat_index(x_m, y_m)
    # What is left out goes to a cell beside the raster that is cut off in the end. So the number of points is the only
    # shape that depends on the data, as a graph for export wants it.
    beside = grid.height * grid.width
    counted = inside & torch.isfinite(height_m)
    index = torch.where(counted, index, beside)
    planes = [_occupied(index, height_m, grid, slices_m)]
    count = _sum(index, torch.ones_like(height_m), grid)
    planes.append((count.log1p() / torch.tensor(1.0 + DENSITY_FULL).log()).clamp(max=1.0)[None])
    planes.append((_max(index, height_m, grid) / HEIGHT_FULL_M).clamp(0.0, 1.0)[None])
    planes.append((_sum(index, intensity, grid) / count.clamp(min=1.0))[None])
    ground = torch.where(height_m < GROUND_M, index, beside)
    ground_count = _sum(ground, torch.ones_like(height_m), grid)
    known = ground_count > 0
    planes.append(known.float()[None])
    ground_intensity = _sum(ground, intensity, grid) / ground_count.clamp(min=1.0)
    planes.append(_standardized(ground_intensity, known)[None])
    free, reached = seen_cells(torch.stack([x_m, y_m], dim=1), height_m, grid, counted=counted)
    planes.append(torch.stack([free.float(), (~reached).float()]))
    return torch.cat(planes)


def _occupied(index: Tensor, height_m: Tensor, grid: Grid, slices_m: Sequence[float]) -> Float[Tensor, "s h w"]:
    """1 in the cells that have a point in the slice."""
    cells = grid.height * grid.width + 1
    slot = torch.stack([height_m >= border_m for border_m in slices_m]).sum(0)
    planes = torch.zeros((len(slices_m) + 1) * cells, device=index.device)
    planes = planes.scatter(0, slot * cells + index, 1.0).view(-1, cells)
    return planes[1:-1, :-1].reshape(-1, grid.height, grid.width)  # the first is below all slices, the last above


def _sum(index: Tensor, values: Tensor, grid: Grid) -> Tensor:
    """The sum of the values in every cell."""
    plane = values.new_zeros(grid.height * grid.width + 1).scatter_add(0, index, values)
    return plane[:-1].view(grid.height, grid.width)


def _max(index: Tensor, values: Tensor, grid: Grid) -> Tensor:
    """The largest value in every cell, 0 where none is larger."""
    plane = values.new_zeros(grid.height * grid.width + 1).scatter_reduce(0, index, values, "amax")
    return plane[:-1].view(grid.height, grid.width)


def _standardized(plane: Tensor, known: Tensor) -> Tensor:
    """Known values less their mean over their spread, squashed; 0 where there are fewer than two, and elsewhere."""
    values = plane.flatten().index_select(0, known.flatten().nonzero()[:, 0])
    wide = values.double()
    count = known.sum()
    variance = (wide - wide.mean()).square().sum() / (count - 1).clamp(min=1)
    spread = variance.sqrt().to(plane.dtype).clamp(min=1e-3)
    squashed = torch.tanh(0.5 * (plane - values.mean()) / spread)
    return torch.where(known & (count > 1), squashed, torch.zeros_like(plane))


def rasterize_scan(
    scan: Scan, grid: Grid, slices_m: Sequence[float], height_m: Float[np.ndarray, " n"] | None = None
) -> Float[Tensor, "c h w"]:
    """`rasterize` with heights above the ground that `lidar/ground.py` fits to the scan, or that are known already."""
    xyz = torch.from_numpy(np.ascontiguousarray(scan.xyz, dtype=np.float32))
    heights_m = torch.from_numpy(height_above_ground(scan.xyz) if height_m is None else height_m)
    intensity = torch.from_numpy(np.ascontiguousarray(scan.intensity, dtype=np.float32))
    return rasterize(xyz, heights_m, intensity, grid, slices_m)

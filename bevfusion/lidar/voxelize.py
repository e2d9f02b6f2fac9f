"""A scan as voxels: the mean of the points in every cell of space that holds any.

As many voxels as there are occupied cells, never a fixed number of which the rest is dropped; as many points in each as
fell there. The result does not depend on the order of the points (but for the last digit of a sum).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor

from bevfusion.geometry.grid import Grid
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.rasterize import rasterize_scan
from bevfusion.lidar.visibility import seen_cells
from bevfusion.structures import Scan, Voxels

# Offsets of the points' mean from the voxel's centre, in voxels (-0.5 to 0.5); how many points (0 to 1, logarithmic);
# their mean reflectance, as it is and against the rest of the scan (-1 to 1).
VOXEL_FEATURES = ("offset_x", "offset_y", "offset_z", "density", "intensity", "contrast")
_DENSITY_FULL = 32.0  # points that count as dense
_TABLE_CELLS = 2**23  # up to here a table of all cells is faster than sorting the points


@dataclass(frozen=True, slots=True)
class VoxelGrid:
    """Boxes of `plan.cell_m` x `plan.cell_m` x `layer_m` metres over a plan; layer 0 begins `low_m` above ground.

    Raises:
        ValueError: if there is no layer, its height is not positive, or there are too many voxels.
    """

    plan: Grid
    low_m: float
    layer_m: float
    layers: int

    def __post_init__(self) -> None:
        if self.layers < 1 or not self.layer_m > 0:
            raise ValueError(f"voxels need layers of positive height, got {self.layers} of {self.layer_m} m")
        if self.layers * self.plan.height * self.plan.width >= 2**31:
            raise ValueError(f"expected less than 2^31 voxels, got {self.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layers, rows, columns)."""
        return self.layers, self.plan.height, self.plan.width


def voxelize(
    xyz: Float[Tensor, "n 3"], height_m: Float[Tensor, " n"], intensity: Float[Tensor, " n"], grid: VoxelGrid
) -> Voxels:
    """Group points into voxels, in ascending order of (layer, row, column).

    Args:
        xyz: (N, 3) points in metres, ego frame; N may be 0.
        height_m: (N,) heights above ground; points without a finite one are left out.
        intensity: (N,) reflectance, 0 to 1.
        grid: centred on the sensor; points outside are left out.

    Returns:
        (V, 6) `VOXEL_FEATURES` and (V, 4) cells of sample 0.
    """
    return _grouped(xyz, height_m, intensity, grid, _inside(xyz, grid.plan))


def _inside(xyz: Float[Tensor, "n 3"], plan: Grid) -> Bool[Tensor, " n"]:
    """Which points stand over the plan: as `Grid.flat_index` says it, without the index."""
    half_x_m, half_y_m = plan.half_extent_m
    x_m, y_m = xyz[:, 0].contiguous(), xyz[:, 1].contiguous()
    return (x_m >= -half_x_m) & (x_m < half_x_m) & (y_m >= -half_y_m) & (y_m < half_y_m)


def _grouped(
    xyz: Float[Tensor, "n 3"],
    height_m: Float[Tensor, " n"],
    intensity: Float[Tensor, " n"],
    grid: VoxelGrid,
    inside: Bool[Tensor, " n"],
) -> Voxels:
    layers, rows, columns = grid.shape
    top_m = grid.low_m + grid.layers * grid.layer_m
    kept = _where(inside & (height_m >= grid.low_m) & (height_m < top_m))
    half_x_m, half_y_m = grid.plan.half_extent_m
    # in voxels from the corner of the grid
    x = xyz[:, 0].index_select(0, kept).add_(half_x_m).div_(grid.plan.cell_m)
    y = xyz[:, 1].index_select(0, kept).add_(half_y_m).div_(grid.plan.cell_m)
    z = height_m.index_select(0, kept).sub_(grid.low_m).div_(grid.layer_m)
    # float32 can round what lies just below a border up to it
    column, row, layer = (at.int().clamp_(0, most - 1) for at, most in ((x, columns), (y, rows), (z, layers)))
    cell, voxel = _ranked((layer * rows + row) * columns + column, layers * rows * columns)
    count = torch.bincount(voxel, minlength=len(cell)).to(x.dtype)
    points = torch.stack([x, y, z, intensity.index_select(0, kept)], dim=1)
    mean = points.new_zeros(len(cell), 4).index_add_(0, voxel, points).div_(count[:, None])
    cells = torch.stack(
        [torch.zeros_like(cell), cell // (rows * columns), cell // columns % rows, cell % columns], dim=1
    )
    offset = (mean[:, :3] - cells[:, [3, 2, 1]] - 0.5).clamp_(-0.5, 0.5)
    density = (count.log1p() / math.log1p(_DENSITY_FULL)).clamp_(max=1.0)
    features = torch.cat([offset, density[:, None], mean[:, 3:], _contrast(mean[:, 3:])], dim=1)
    return Voxels(features, cells)


def _ranked(key: Int[Tensor, " n"], cells: int) -> tuple[Int32[Tensor, " v"], Int[Tensor, " n"]]:
    """The distinct keys in ascending order, and which of them each key is; keys lie in [0, cells)."""
    if cells > _TABLE_CELLS:
        distinct, rank = torch.unique(key, return_inverse=True)
        return distinct.int(), rank
    key = key.long()  # indices of 64 bits are several times faster than those of 32
    distinct = _where(torch.zeros(cells, dtype=torch.bool, device=key.device).index_fill_(0, key, True))
    table = torch.empty(cells, dtype=torch.int32, device=key.device)
    table[distinct] = torch.arange(len(distinct), dtype=torch.int32, device=key.device)
    return distinct.int(), table.index_select(0, key).long()


def _where(mask: Bool[Tensor, " n"]) -> Int[Tensor, " m"]:
    """Indices of what is true; on the CPU numpy finds them four times faster than torch."""
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.nonzero().flatten()


def _contrast(intensity: Float[Tensor, "v 1"]) -> Float[Tensor, "v 1"]:
    """Brighter or darker than the scan: sensors differ in scale and age. No reflectance at all gives zeros."""
    if len(intensity) < 2:
        return torch.zeros_like(intensity)
    return torch.tanh(0.5 * (intensity - intensity.mean()) / intensity.std().clamp(min=1e-3))


def voxelize_scan(
    scan: Scan, bev_grid: Grid, grid: VoxelGrid, height_m: Float[np.ndarray, " n"] | None = None
) -> tuple[Float[Tensor, "2 h w"], Voxels]:
    """Voxels, and the planes (free, never seen) of `bev_grid`, which covers the same square: what no point says."""
    xyz = torch.from_numpy(np.ascontiguousarray(scan.xyz, dtype=np.float32))
    above_m = torch.from_numpy(height_above_ground(scan.xyz) if height_m is None else height_m)
    intensity = torch.from_numpy(np.ascontiguousarray(scan.intensity, dtype=np.float32))
    inside = _inside(xyz, grid.plan)
    near = _where(inside & torch.isfinite(above_m))
    xy_m = xyz.index_select(0, near)[:, :2]
    free, reached = seen_cells(xy_m, above_m.index_select(0, near), bev_grid)
    planes = torch.stack([free, ~reached]).float()
    return planes, _grouped(xyz, above_m, intensity, grid, inside)


def scan_input(
    scan: Scan,
    bev_grid: Grid,
    slices_m: Sequence[float],
    voxel_grid: VoxelGrid | None,
    height_m: Float[np.ndarray, " n"] | None = None,
) -> tuple[Float[Tensor, "c h w"], Voxels | None]:
    """What the encoder takes of a scan: the planes of `rasterize`, or voxels and (free, never seen).

    `height_m` is that of the points above the ground, where it is known already.
    """
    if voxel_grid is None:
        return rasterize_scan(scan, bev_grid, slices_m, height_m), None
    return voxelize_scan(scan, bev_grid, voxel_grid, height_m)

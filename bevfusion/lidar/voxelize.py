"""A scan as voxels: the mean of the points in every cell of space that holds any.

As many voxels as there are occupied cells, never a fixed number of which the rest is dropped; as many points in each as
fell there. The result does not depend on the order of the points (but for the last digit of a sum).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
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
_TABLE_CELLS = 2**25  # up to here a table of all cells is faster than sorting the points


@dataclass(frozen=True, slots=True)
class VoxelGrid:
    """Boxes of `plan.cell_m` x `plan.cell_m` x `layer_m` metres over a plan; layer 0 begins `low_m` above ground.

    Raises:
        ValueError: if there is no layer or its height is not positive.
    """

    plan: Grid
    low_m: float
    layer_m: float
    layers: int

    def __post_init__(self) -> None:
        if self.layers < 1 or not self.layer_m > 0:
            raise ValueError(f"voxels need layers of positive height, got {self.layers} of {self.layer_m} m")

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
    plan = grid.plan
    flat, inside = plan.flat_index(xyz[:, 0], xyz[:, 1])
    level = (height_m - grid.low_m) / grid.layer_m
    inside = (inside & (level >= 0.0) & (level < grid.layers)).nonzero().flatten()
    # float32 can round a height just below the top up to it
    layer = level[inside].long().clamp(max=grid.layers - 1)
    row_col = plan.height * plan.width
    cell, voxel = _ranked(layer * row_col + flat[inside], grid.layers * row_col)
    half_x_m, half_y_m = plan.half_extent_m
    points = torch.stack(
        [
            (xyz[inside, 0] + half_x_m) / plan.cell_m,
            (xyz[inside, 1] + half_y_m) / plan.cell_m,
            level[inside],
            intensity[inside],
        ],
        dim=1,
    )
    count = torch.bincount(voxel, minlength=len(cell)).to(points.dtype)
    mean = points.new_zeros(len(cell), 4).index_add_(0, voxel, points) / count[:, None]
    layer, row, column = cell // row_col, cell // plan.width % plan.height, cell % plan.width
    centre = torch.stack([column, row, layer], dim=1) + 0.5
    density = (count.log1p() / torch.tensor(1.0 + _DENSITY_FULL).log()).clamp(max=1.0)
    features = [(mean[:, :3] - centre).clamp(-0.5, 0.5), density[:, None], mean[:, 3:], _contrast(mean[:, 3:])]
    cells = torch.stack([torch.zeros_like(layer), layer, row, column], dim=1)
    return Voxels(torch.cat(features, dim=1), cells.int())


def _ranked(key: Int[Tensor, " n"], cells: int) -> tuple[Int[Tensor, " v"], Int[Tensor, " n"]]:
    """The distinct keys in ascending order, and which of them each key is; keys lie in [0, cells)."""
    if cells > _TABLE_CELLS:
        distinct, rank = torch.unique(key, return_inverse=True)
        return distinct, rank
    taken = torch.zeros(cells, dtype=torch.bool, device=key.device)
    taken[key] = True
    distinct = taken.nonzero().flatten()
    table = torch.empty(cells, dtype=torch.int64, device=key.device)
    table[distinct] = torch.arange(len(distinct), device=key.device)
    return distinct, table[key]


def _contrast(intensity: Float[Tensor, "v 1"]) -> Float[Tensor, "v 1"]:
    """Brighter or darker than the scan: sensors differ in scale and age. No reflectance at all gives zeros."""
    if len(intensity) < 2:
        return torch.zeros_like(intensity)
    return torch.tanh(0.5 * (intensity - intensity.mean()) / intensity.std().clamp(min=1e-3))


def voxelize_scan(scan: Scan, bev_grid: Grid, grid: VoxelGrid) -> tuple[Float[Tensor, "2 h w"], Voxels]:
    """Voxels, and the planes (free, never seen) of `bev_grid`: what no point says of a cell."""
    xyz = torch.from_numpy(np.ascontiguousarray(scan.xyz, dtype=np.float32))
    height_m = torch.from_numpy(height_above_ground(scan.xyz))
    intensity = torch.from_numpy(np.ascontiguousarray(scan.intensity, dtype=np.float32))
    _, inside = bev_grid.flat_index(xyz[:, 0], xyz[:, 1])
    inside = (inside & torch.isfinite(height_m)).nonzero().flatten()
    free, reached = seen_cells(xyz[inside, :2], height_m[inside], bev_grid)
    return torch.stack([free.float(), (~reached).float()]), voxelize(xyz, height_m, intensity, grid)


def scan_input(
    scan: Scan, bev_grid: Grid, slices_m: Sequence[float], voxel_grid: VoxelGrid | None
) -> tuple[Float[Tensor, "c h w"], Voxels | None]:
    """What the encoder takes of a scan: the planes of `rasterize`, or voxels and (free, never seen)."""
    if voxel_grid is None:
        return rasterize_scan(scan, bev_grid, slices_m), None
    return voxelize_scan(scan, bev_grid, voxel_grid)

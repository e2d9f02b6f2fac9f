"""What a scan says of cells without points: seen free is not the same as never seen."""

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bevfusion.geometry.grid import Grid

SECTORS = 720  # half a degree: finer than a cell's width at 40 m
OBSTACLE_M = 0.4  # what is lower does not end free space (kerbs, grass)
GAP = 4  # sectors: two degrees without a return are a gap between firings, more are open sky


def seen_cells(
    xy_m: Float[Tensor, "n 2"],
    height_m: Float[Tensor, " n"],
    grid: Grid,
    *,
    counted: Bool[Tensor, " n"] | None = None,
) -> tuple[Bool[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """Cells that the rays crossed free, and cells that the rays reached at all.

    In every sector of half a degree rays run from the sensor to the farthest return. Up to the first return of
    something higher than `OBSTACLE_M` the way was free; behind it the sensor saw only what stands out above.

    Args:
        xy_m: (N, 2) points in the ego frame, sensor at the origin.
        height_m: (N,) heights above ground.
        grid: raster centred on the sensor.
        counted: (N,) which points there are at all; by default each of them.

    Returns:
        (free, reached): reached covers free.
    """
    x_m, y_m = xy_m[:, 0].contiguous(), xy_m[:, 1].contiguous()  # atan2 of strided memory takes twenty times as long
    range_m = torch.sqrt(x_m * x_m + y_m * y_m)
    azimuth = torch.atan2(y_m, x_m)
    sector = ((azimuth / (2.0 * math.pi) + 0.5) * SECTORS).long().clamp(0, SECTORS - 1)
    if counted is not None:
        sector = torch.where(counted, sector, SECTORS)  # beside the sectors, and cut off in the end
    farthest = _across_gaps(range_m.new_zeros(SECTORS + 1).scatter_reduce(0, sector, range_m, "amax")[:SECTORS])
    tall_m = torch.where(height_m > OBSTACLE_M, range_m, math.inf)
    nearest = range_m.new_full((SECTORS + 1,), math.inf).scatter_reduce(0, sector, tall_m, "amin")[:SECTORS]
    cell_range_m, cell_sector = cell_rays(grid, xy_m.device)
    reached = cell_range_m <= farthest[cell_sector]
    free = reached & (cell_range_m < nearest[cell_sector] - 0.5 * grid.cell_m)
    return free, reached


def _across_gaps(farthest_m: Float[Tensor, " s"]) -> Float[Tensor, " s"]:
    """Sectors without a return take the nearer end of what lies within two degrees on both sides.

    A coarse sensor fires less often than there are sectors, and a lost return leaves a hole: neither hides anything.
    """
    before_m = torch.stack([farthest_m.roll(step) for step in range(1, GAP + 1)]).amax(0)
    behind_m = torch.stack([farthest_m.roll(-step) for step in range(1, GAP + 1)]).amax(0)
    ends_m = torch.minimum(before_m, behind_m)
    return torch.where(farthest_m > 0, farthest_m, ends_m)


@lru_cache(maxsize=8)
def cell_rays(grid: Grid, device: torch.device) -> tuple[Float[Tensor, "h w"], Int[Tensor, "h w"]]:
    """Range and sector of every cell centre."""
    centres_m = torch.from_numpy(grid.centres_m()).float().to(device)
    azimuth = torch.atan2(centres_m[..., 1], centres_m[..., 0])
    sector = ((azimuth / (2.0 * math.pi) + 0.5) * SECTORS).long().clamp(0, SECTORS - 1)
    return torch.linalg.vector_norm(centres_m, dim=-1), sector

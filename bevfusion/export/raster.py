"""`lidar/rasterize.py` for a graph: no shape but the number of points depends on the data.

Where that file takes points out, here they go to a cell beside the raster that is cut off in the end.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bevfusion.geometry.grid import Grid
from bevfusion.lidar.rasterize import DENSITY_FULL, GROUND_M, HEIGHT_FULL_M
from bevfusion.lidar.visibility import GAP, OBSTACLE_M, SECTORS, cell_rays


class GraphRaster(nn.Module):
    """The planes of `rasterize`, from at least one point, which may lie outside."""

    def __init__(self, grid: Grid, slices_m: Sequence[float]) -> None:
        """As `rasterize`."""
        super().__init__()
        self.grid = grid
        self.slices_m = tuple(slices_m)
        # Made here and not on the way: what is first asked for while a graph is traced is no tensor with values, and
        # the cache of `cell_rays` would hand it to everybody after.
        cell_range_m, cell_sector = cell_rays(grid, torch.device("cpu"))
        self.register_buffer("cell_range_m", cell_range_m.flatten().clone(), persistent=False)
        self.register_buffer("cell_sector", cell_sector.flatten().clone(), persistent=False)
        self.cell_range_m: Tensor
        self.cell_sector: Tensor

    def forward(
        self, xyz: Float[Tensor, "n 3"], height_m: Float[Tensor, " n"], intensity: Float[Tensor, " n"]
    ) -> Float[Tensor, "c h w"]:
        """Draw."""
        grid = self.grid
        x_m, y_m = xyz[:, 0], xyz[:, 1]
        index, inside = grid.flat_index(x_m, y_m)
        cells = grid.height * grid.width
        index = torch.where(inside, index, cells)

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(cells + 1).scatter_add(0, index, values)[:cells]

        planes = [
            (total(((height_m >= low_m) & (height_m < high_m)).float()) > 0).float()
            for low_m, high_m in itertools.pairwise(self.slices_m)
        ]
        count = total(torch.ones_like(height_m))
        planes.append((count.log1p() / math.log(1.0 + DENSITY_FULL)).clamp(max=1.0))
        highest = height_m.new_zeros(cells + 1).scatter_reduce(0, index, height_m, "amax")[:cells]
        planes.append((highest / HEIGHT_FULL_M).clamp(0.0, 1.0))
        planes.append(total(intensity) / count.clamp(min=1.0))
        ground = (height_m < GROUND_M).to(height_m.dtype)
        ground_count = total(ground)
        known = ground_count > 0
        planes.append(known.to(height_m.dtype))
        planes.append(_standardized(total(ground * intensity) / ground_count.clamp(min=1.0), known))
        free, reached = self._seen(x_m, y_m, height_m, inside)
        planes.extend([free.to(height_m.dtype), 1.0 - reached.to(height_m.dtype)])
        return torch.stack([plane.reshape(grid.height, grid.width) for plane in planes])

    def _seen(
        self, x_m: Float[Tensor, " n"], y_m: Float[Tensor, " n"], height_m: Tensor, inside: Bool[Tensor, " n"]
    ) -> tuple[Bool[Tensor, " k"], Bool[Tensor, " k"]]:
        """As `seen_cells`."""
        range_m = torch.sqrt(x_m * x_m + y_m * y_m)
        sector = ((torch.atan2(y_m, x_m) / (2.0 * math.pi) + 0.5) * SECTORS).long()
        sector = torch.where(inside, sector.clamp(0, SECTORS - 1), SECTORS)
        farthest = range_m.new_zeros(SECTORS + 1).scatter_reduce(0, sector, range_m, "amax")[:SECTORS]
        tall_m = torch.where(height_m > OBSTACLE_M, range_m, math.inf)
        nearest = range_m.new_full((SECTORS + 1,), math.inf).scatter_reduce(0, sector, tall_m, "amin")[:SECTORS]
        before = torch.stack([farthest.roll(step) for step in range(1, GAP + 1)]).amax(0)
        behind = torch.stack([farthest.roll(-step) for step in range(1, GAP + 1)]).amax(0)
        farthest = torch.where(farthest > 0, farthest, torch.minimum(before, behind))
        reached = self.cell_range_m <= farthest[self.cell_sector]
        return reached & (self.cell_range_m < nearest[self.cell_sector] - 0.5 * self.grid.cell_m), reached


def _standardized(plane: Float[Tensor, " k"], known: Bool[Tensor, " k"]) -> Float[Tensor, " k"]:
    weight = known.to(plane.dtype)
    count = weight.sum()
    mean = (weight * plane).sum() / count.clamp(min=1.0)
    variance = (weight * (plane - mean) ** 2).sum() / (count - 1.0).clamp(min=1.0)
    return weight * torch.tanh(0.5 * (plane - mean) / variance.sqrt().clamp(min=1e-3)) * (count > 1.5)

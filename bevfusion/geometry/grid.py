"""Cells and metres, both ways, and nowhere else.

One convention for every grid of the project: the last tensor axis (columns, W) runs along +x and the one before
(rows, H) along +y, so row 0 is the *lowest* y (pictures are drawn with origin="lower"). A grid is centred on its own
origin. Cell (row, column) = (0, 0) covers [-W/2, -W/2 + 1) x [-H/2, -H/2 + 1) cells; whole numbers name cell
*centres*, so the centre of that cell lies half a cell inside the border.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bevfusion.geometry.se2 import SE2, wrap_angle


@dataclass(frozen=True, slots=True)
class Grid:
    """A raster of `height` x `width` square cells of `cell_m` metres, centred on the origin of its frame.

    Raises:
        ValueError: if a size is not positive.
    """

    height: int
    width: int
    cell_m: float

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or not (math.isfinite(self.cell_m) and self.cell_m > 0):
            raise ValueError(f"a grid needs positive sizes, got {self.height} x {self.width} cells of {self.cell_m} m")

    @classmethod
    def square(cls, half_extent_m: float, cell_m: float) -> "Grid":
        """The grid that covers at least [-half_extent_m, half_extent_m] in x and y with an even number of cells."""
        cells = 2 * math.ceil(half_extent_m / cell_m - 1e-9)
        return cls(cells, cells, cell_m)

    @property
    def half_extent_m(self) -> tuple[float, float]:
        """Half of the covered length along (x, y)."""
        return 0.5 * self.width * self.cell_m, 0.5 * self.height * self.cell_m

    def coarser(self, factor: int) -> "Grid":
        """The grid of a feature map with stride `factor` over this one (sizes must divide)."""
        if self.height % factor or self.width % factor:
            raise ValueError(f"{self.height} x {self.width} cells do not divide into blocks of {factor}")
        return Grid(self.height // factor, self.width // factor, self.cell_m * factor)

    def cells_from_metres(self, xy_m: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Real-valued (row, column) of points (x, y); whole numbers are cell centres."""
        half_x_m, half_y_m = self.half_extent_m
        rows = (xy_m[..., 1] + half_y_m) / self.cell_m - 0.5
        cols = (xy_m[..., 0] + half_x_m) / self.cell_m - 0.5
        return np.stack([rows, cols], axis=-1)

    def metres_from_cells(self, rows_cols: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Points (x, y) of real-valued (row, column): the inverse of `cells_from_metres`."""
        half_x_m, half_y_m = self.half_extent_m
        x_m = (rows_cols[..., 1] + 0.5) * self.cell_m - half_x_m
        y_m = (rows_cols[..., 0] + 0.5) * self.cell_m - half_y_m
        return np.stack([x_m, y_m], axis=-1)

    def flat_index(
        self, x_m: Float[Tensor, " n"], y_m: Float[Tensor, " n"]
    ) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """Index of the cell that holds each point (row * width + column, clamped), and whether it lies inside.

        float32 can put a point just below the upper border one cell past it, and NaN anywhere: both are clamped,
        the second is also reported as outside.
        """
        half_x_m, half_y_m = self.half_extent_m
        inside = (x_m >= -half_x_m) & (x_m < half_x_m) & (y_m >= -half_y_m) & (y_m < half_y_m)
        cols = torch.nan_to_num((x_m + half_x_m) / self.cell_m).floor().clamp(0, self.width - 1).long()
        rows = torch.nan_to_num((y_m + half_y_m) / self.cell_m).floor().clamp(0, self.height - 1).long()
        return rows * self.width + cols, inside

    def centres_m(self) -> Float[np.ndarray, "h w 2"]:
        """The (x, y) of every cell centre."""
        rows, cols = np.meshgrid(np.arange(self.height), np.arange(self.width), indexing="ij")
        return self.metres_from_cells(np.stack([rows, cols], axis=-1).astype(np.float64))

    def normalized(self, xy_m: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Points (x, y) as `torch.nn.functional.grid_sample` wants them with align_corners=False."""
        half_x_m, half_y_m = self.half_extent_m
        return xy_m / xy_m.new_tensor([half_x_m, half_y_m])


@dataclass(frozen=True, slots=True)
class PoseWindow:
    """The poses that a volume (R, Y, X) scores, as offsets from a prior pose: shift in map axes, yaw about the prior.

    Bins lie on whole multiples of `cell_m` and of the yaw step; the window reaches at least `offset_m` and
    `offset_rad` to either side. With `offset_rad` = pi the yaw bins close to a full circle (no bin twice).

    Raises:
        ValueError: if an extent or a step is not positive, or the yaw reaches beyond pi.
    """

    offset_m: float
    offset_rad: float
    cell_m: float
    yaw_step_rad: float

    def __post_init__(self) -> None:
        values = (self.offset_m, self.offset_rad, self.cell_m, self.yaw_step_rad)
        if not all(math.isfinite(v) and v > 0 for v in values) or self.offset_rad > math.pi + 1e-9:
            raise ValueError(f"a pose window needs positive finite extents with yaw up to pi, got {self}")

    @property
    def full_circle(self) -> bool:
        """Whether every heading is a candidate."""
        return self.offset_rad > math.pi - 0.5 * self.yaw_step_rad

    @property
    def reach(self) -> int:
        """Number of shift bins on each side of zero."""
        return math.ceil(self.offset_m / self.cell_m - 1e-9)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(R, Y, X) of the volume."""
        side = 2 * self.reach + 1
        return len(self.yaw_offsets_rad()), side, side

    def yaw_offsets_rad(self) -> Float[np.ndarray, " r"]:
        """Yaw of each of the R bins, relative to the prior, ascending and symmetric about zero where it can be."""
        if self.full_circle:
            count = max(1, round(2.0 * math.pi / self.yaw_step_rad))
            return (np.arange(count) - count // 2) * (2.0 * math.pi / count)
        reach = math.ceil(self.offset_rad / self.yaw_step_rad - 1e-9)
        return np.arange(-reach, reach + 1) * self.yaw_step_rad

    def shifts_m(self) -> Float[np.ndarray, " s"]:
        """Shift of each X (and Y) bin in metres, ascending."""
        return np.arange(-self.reach, self.reach + 1) * self.cell_m

    def bins_from_offset(self, offset: SE2) -> tuple[float, float, float]:
        """Real-valued (r, y, x) bin of an offset from the prior; on a full circle r wraps into [0, R)."""
        yaws_rad = self.yaw_offsets_rad()
        step_rad = 2.0 * math.pi / len(yaws_rad) if self.full_circle else self.yaw_step_rad
        r = (wrap_angle(offset.yaw_rad) - float(yaws_rad[0])) / step_rad
        if self.full_circle:
            r %= len(yaws_rad)
        return r, offset.y_m / self.cell_m + self.reach, offset.x_m / self.cell_m + self.reach

    def offset_from_bins(self, r: float, y: float, x: float) -> SE2:
        """The offset from the prior at real-valued bins: the inverse of `bins_from_offset`."""
        yaws_rad = self.yaw_offsets_rad()
        step_rad = 2.0 * math.pi / len(yaws_rad) if self.full_circle else self.yaw_step_rad
        yaw_rad = wrap_angle(float(yaws_rad[0]) + r * step_rad)
        return SE2((x - self.reach) * self.cell_m, (y - self.reach) * self.cell_m, yaw_rad)

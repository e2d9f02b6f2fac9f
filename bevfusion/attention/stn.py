"""Spatial transformer: Spatial Transformer Networks, https://arxiv.org/abs/1506.02025.

    localisation net:  theta = f_loc(x) in R^(2 x 3)
    grid generator:    (x_s, y_s)^T = theta (x_t, y_t, 1)^T     target cell t -> source point s, both in [-1, 1]
    sampler:           y_c(t) = sum_nm x_c(n, m) max(0, 1 - |x_s - m|) max(0, 1 - |y_s - n|)

[-1, 1] reaches from border to border of the map (align_corners=False), x along columns and y along rows as in
`geometry.grid`. Outside the map is 0. The last layer starts at zero, so theta starts at the identity.

`motion="affine"` has six free numbers. `"rigid"` has three, turn phi and shift, and is rigid in *metres*: in
normalised coordinates a turn of an H x W map is [cos, -(H/W) sin; (W/H) sin, cos].

It moves geometry: before a metric head, read `theta(x)` and undo it with `input_from_output_m`, or do not use it there
(`moves_geometry` tells a builder so).

Discrepancy. The paper's localisation nets are fully connected over a fixed size. Here: two strided convolutions, then
the moments 1, x, y, x^2, xy, y^2 of their maps, which any size has, then one linear layer.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_at_least, check_choice
from bevfusion.geometry.grid import Grid

_MOMENTS = 6


class SpatialTransformer(nn.Module):
    """Turns, shifts (and shears, if affine) the whole map to where it is easiest to read; identity at start.

    Args:
        channels: Channels of input and output.
        motion: "affine" or "rigid".
        hidden: Channels of the localisation net.

    Raises:
        ValueError: if `motion` is unknown or a size is not positive.
    """

    moves_geometry: ClassVar[bool] = True

    def __init__(self, channels: int, *, motion: str = "affine", hidden: int = 32) -> None:
        super().__init__()
        check_choice("motion", motion, ("affine", "rigid"))
        check_at_least("channels", channels, 1)
        check_at_least("hidden", hidden, 1)
        self.motion = motion
        self.look = nn.Sequential(
            nn.Conv2d(channels, hidden, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 5, stride=2, padding=2),
            nn.ReLU(),
        )
        self.decide = nn.Linear(_MOMENTS * hidden, 6 if motion == "affine" else 3)
        nn.init.zeros_(self.decide.weight)
        nn.init.zeros_(self.decide.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The map warped by `theta(x)`; `B C H W -> B C H W`."""
        return warp(x, self.theta(x))

    def theta(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 3"]:
        """Source point of each target point in [-1, 1] coordinates; at least float32."""
        numbers = self.decide(_moments(self.look(x)))
        numbers = numbers if x.dtype == torch.float64 else numbers.float()
        if self.motion == "rigid":
            return rigid_theta(numbers[:, 0], numbers[:, 1:], x.shape[2], x.shape[3])
        theta: Tensor = numbers.reshape(-1, 2, 3) + torch.eye(2, 3, dtype=numbers.dtype, device=x.device)
        return theta


def warp(x: Float[Tensor, "b c h w"], theta: Float[Tensor, "b 2 3"]) -> Float[Tensor, "b c h w"]:
    """Bilinear sampling of x at the source points of its own cells; zero outside. The geometry is in theta's type."""
    with torch.autocast(x.device.type, enabled=False):
        rows, cols = _normalized_cells(x.shape[2], x.shape[3], theta)
        one = torch.ones_like(rows * cols)
        targets = torch.stack([cols * one, rows * one, one], dim=2)
        # Not F.affine_grid, which refuses an empty batch.
        grid = (targets.flatten(0, 1) @ theta.transpose(1, 2)).reshape(x.shape[0], *targets.shape[:2], 2)
        # Half precision has eight bits for where a cell lies: too few for a map of more than 256 cells.
        return F.grid_sample(x.to(grid.dtype), grid, align_corners=False).to(x.dtype)


def rigid_theta(
    turn_rad: Float[Tensor, " b"], shift: Float[Tensor, "b 2"], height: int, width: int
) -> Float[Tensor, "b 2 3"]:
    """Gives theta of a turn about the centre and a shift (x, y in halves of the map), rigid for H x W square cells."""
    cos, sin = turn_rad.cos(), turn_rad.sin()
    linear = torch.stack([cos, -(height / width) * sin, (width / height) * sin, cos], dim=1).reshape(-1, 2, 2)
    return torch.cat([linear, shift[:, :, None]], dim=2)


def input_from_output_m(theta: Float[Tensor, "b 2 3"], grid: Grid) -> Float[Tensor, "b 2 3"]:
    """The same transform in metres: p_in = A p_out + t, with (x, y) from the centre of a map of raster `grid`.

    A head that finds p in the warped map has found A p + t in the unwarped one. Of a rigid theta, A is a rotation, and
    a heading found in the warped map is to be turned by atan2(A[1, 0], A[0, 0]).
    """
    half_x_m, half_y_m = grid.half_extent_m
    extent = theta.new_tensor([half_x_m, half_y_m])
    return theta * extent[:, None] / torch.cat([extent, extent.new_ones(1)])


def _moments(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
    """Means of x weighted by 1, x, y, x^2, xy, y^2 over cells, positions in [-1, 1]."""
    height, width = x.shape[2:]
    rows, cols = _normalized_cells(height, width, x)
    one = torch.ones_like(rows * cols)
    basis = torch.stack([one, cols * one, rows * one, cols * cols * one, rows * cols, rows * rows * one])
    return torch.einsum("bchw,mhw->bcm", x, basis).flatten(1) / max(1, height * width)


def _normalized_cells(height: int, width: int, like: Tensor) -> tuple[Float[Tensor, "h 1"], Float[Tensor, "1 w"]]:
    """Rows and columns of the cell centres in [-1, 1]."""
    rows, cols = (
        torch.arange(1 - size, size, 2, dtype=like.dtype, device=like.device) / size for size in (height, width)
    )
    return rows[:, None], cols[None, :]

"""The map as a vehicle would see it from a pose."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bevfusion.geometry.grid import Grid


def map_in_ego(
    map_features: Float[Tensor, "b c hm wm"], poses: Float[Tensor, "b 3"], map_grid: Grid, ego_grid: Grid
) -> Float[Tensor, "b c h w"]:
    """Sample map features at the cells of the ego grid of a vehicle at each pose (bilinear).

    Args:
        map_features: tile frame, cells of `map_grid`.
        poses: x, y in m and yaw in rad of the ego frame in the tile frame, whose origin is the tile's centre.
        map_grid: raster of the features of the map.
        ego_grid: raster wanted; what lies outside the tile is 0.
    """
    points_m = turned_cells_m(ego_grid, poses[:, 2], map_features)
    points_m = points_m + poses[:, None, None, :2].to(points_m)
    wide = map_features.to(points_m.dtype)
    return F.grid_sample(wide, map_grid.normalized(points_m), align_corners=False).to(map_features.dtype)


def cell_centres_m(grid: Grid, like: Tensor) -> Float[Tensor, "h w 2"]:
    """The (x, y) of every cell, where `like` is; in half precision a position would be off by whole cells."""
    return torch.from_numpy(grid.centres_m()).to(like.device, torch.promote_types(like.dtype, torch.float32))


def turned_cells_m(grid: Grid, yaw_rad: Float[Tensor, " n"], like: Tensor) -> Float[Tensor, "n h w 2"]:
    """The (x, y) of every cell, turned counter-clockwise by each of the angles: what columns and rows bring, summed."""
    x_m = torch.from_numpy(grid.centres_m()[0, :, 0]).to(like.device, torch.promote_types(like.dtype, torch.float32))
    y_m = torch.from_numpy(grid.centres_m()[:, 0, 1]).to(x_m)
    yaw_rad = yaw_rad.to(x_m)
    cos, sin = yaw_rad.cos()[:, None], yaw_rad.sin()[:, None]
    columns, rows = torch.stack([cos * x_m, sin * x_m], dim=-1), torch.stack([-(sin * y_m), cos * y_m], dim=-1)
    return columns[:, None] + rows[:, :, None]


def wrapped(angle_rad: Tensor) -> Tensor:
    """The same angles in [-pi, pi)."""
    return torch.remainder(angle_rad + torch.pi, 2.0 * torch.pi) - torch.pi


def rotated(points_m: Float[Tensor, "h w 2"], yaw_rad: Float[Tensor, " n"]) -> Float[Tensor, "n h w 2"]:
    """The same points turned counter-clockwise by each of the angles."""
    yaw_rad = yaw_rad.to(points_m)
    cos, sin = yaw_rad.cos()[:, None, None], yaw_rad.sin()[:, None, None]
    x_m, y_m = points_m[..., 0], points_m[..., 1]
    return torch.stack([cos * x_m - sin * y_m, sin * x_m + cos * y_m], dim=-1)

"""The map as the vehicle would see it if the prior were right."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bevfusion.geometry.grid import Grid


def map_in_ego(
    map_features: Float[Tensor, "b c hm wm"], yaw_rad: Float[Tensor, " b"], map_grid: Grid, ego_grid: Grid
) -> Float[Tensor, "b c h w"]:
    """Sample map features at the cells of the ego grid, the vehicle standing at the tile's centre.

    Args:
        map_features: tile frame, cells of `map_grid`.
        yaw_rad: heading of the ego frame in the tile frame.
        map_grid: raster of the features of the map.
        ego_grid: raster wanted; what lies outside the tile is 0.
    """
    points_m = torch.from_numpy(ego_grid.centres_m()).to(map_features)
    points_in_tile_m = rotated(points_m, yaw_rad)
    return F.grid_sample(map_features, map_grid.normalized(points_in_tile_m), align_corners=False)


def rotated(points_m: Float[Tensor, "h w 2"], yaw_rad: Float[Tensor, " n"]) -> Float[Tensor, "n h w 2"]:
    """The same points turned counter-clockwise by each of the angles."""
    cos, sin = yaw_rad.cos()[:, None, None], yaw_rad.sin()[:, None, None]
    x_m, y_m = points_m[..., 0], points_m[..., 1]
    return torch.stack([cos * x_m - sin * y_m, sin * x_m + cos * y_m], dim=-1)

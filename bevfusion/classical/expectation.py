"""What the map leads one to expect, as planes of log-likelihood ratios over a tile.

With d the distance in metres to the outline of the nearest mapped building, b that to the nearest mapped wall, fence or
hedge, and e the depth inside a building (0 outside):

    wall(x)  = log(1 + 3 exp(-d^2 / 2 s^2) + 1.5 exp(-b^2 / 2 s^2)) - (1 - exp(-max(e - 1, 0)))      s = 0.6 m
    solid(x) = -log(10) clip(e - 0.5, 0, 1)

`wall` says how much likelier something standing is here than anywhere: up to four times on an outline (much that stands
is on no map), a third inside, where no sensor on the street looks. `solid` says that one cell in ten of a mapped
building is seen free all the same: passages, errors of the map. Terms that do not depend on the place are left out,
since every pose lays the same evidence down. `road` is the mapped carriageway and parking, blurred by 0.7 m because its
width is a guess. A map without any of these gives a plane of zeros, which scores every pose alike.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import layer_index
from bevfusion.maps.source import MapSource

_MARGIN_M = 8.0  # drawn around the tile, so that what lies just outside counts at its border
_OUTLINE_M = 0.6
_BUILDING_GAIN, _BARRIER_GAIN = 3.0, 1.5
_HIDDEN_M = 1.0
_SOLID_NATS = float(np.log(10.0))
_ROAD_BLUR_M = 0.7
_FAR_M = 1e3  # the distance to what is not there


@dataclass(frozen=True, slots=True)
class Expectation:
    """Planes over one grid in map axes."""

    wall: Float[Tensor, "h w"]  # nats for a cell in which something stands
    solid: Float[Tensor, "h w"]  # nats for a cell that was seen free
    road: Float[Tensor, "h w"]  # 0 to 1


def draw_expectation(source: MapSource, centre: SE2, grid: Grid) -> Expectation:
    """Draw the planes around a place.

    Args:
        source: the map.
        centre: place in the map frame; its heading does not count, the planes are in map axes.
        grid: raster centred there.
    """
    margin = round(_MARGIN_M / grid.cell_m)
    wider = Grid(grid.height + 2 * margin, grid.width + 2 * margin, grid.cell_m)
    layers = source.draw(wider, SE2(centre.x_m, centre.y_m, 0.0))
    building = _any_of(layers, "building")
    depth_m = np.where(building, _distance_m(~building, grid.cell_m) - 0.5 * grid.cell_m, 0.0)
    outline_m = np.where(building, depth_m, _distance_m(building, grid.cell_m) - 0.5 * grid.cell_m)
    barrier_m = _distance_m(_any_of(layers, "wall", "fence", "hedge"), grid.cell_m)
    gain = _BUILDING_GAIN * _bell(outline_m, _OUTLINE_M) + _BARRIER_GAIN * _bell(barrier_m, _OUTLINE_M)
    hidden = 1.0 - np.exp(-np.maximum(depth_m - _HIDDEN_M, 0.0))
    road = _any_of(layers, "road", "parking").astype(np.float32)
    inner = slice(margin, -margin)

    def plane(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values[inner, inner], dtype=np.float32))

    return Expectation(
        wall=plane(np.log1p(gain) - hidden),
        solid=plane(-_SOLID_NATS * np.clip(depth_m - 0.5, 0.0, 1.0)),
        road=plane(cv2.GaussianBlur(road, (0, 0), _ROAD_BLUR_M / grid.cell_m)),
    )


def _any_of(layers: Int8[np.ndarray, "l h w"], *names: str) -> Bool[np.ndarray, "h w"]:
    """Where any of these layers shows something."""
    mask: np.ndarray = np.any(layers[[layer_index(name) for name in names]] > 0, axis=0)
    return mask


def _distance_m(mask: Bool[np.ndarray, "h w"], cell_m: float) -> Float[np.ndarray, "h w"]:
    """Distance of every cell's centre to that of the nearest cell of the mask."""
    if not mask.any():
        return np.full(mask.shape, _FAR_M)
    metres: np.ndarray = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5).astype(np.float64) * cell_m
    return metres


def _bell(distance_m: Float[np.ndarray, "h w"], sigma_m: float) -> Float[np.ndarray, "h w"]:
    bell: np.ndarray = np.exp(-0.5 * (distance_m / sigma_m) ** 2)
    return bell

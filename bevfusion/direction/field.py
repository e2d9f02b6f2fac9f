"""Where one can drive about a pose and which way, cell by cell: what the map and a path say, no scan.

The carriageway of a road reaches half its width to either side of its line. With the doubt about the pose, of standard
deviation sigma at a cell, a cell that lies `d` metres inside of the nearest edge of a carriageway is drivable with

    p = Phi(d / sigma)

The direction in a cell is that of the lanes near it, two for a road with two ways: the mean of unit vectors with the
weights exp(-(distance from the lane)^2 / 2 l^2), whose length R gives its spread, sqrt(-2 ln R) (Mardia and Jupp 2000,
*Directional Statistics*, section 2.3). A path that was asked for decides in the lane that it leads through.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from bevfusion.direction.path import PathAhead
from bevfusion.direction.road_graph import RoadGraph
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.metrics import wrap_angles

UNKNOWN_RAD = math.pi
"""The spread of a direction where no road is near."""

_LANE_M = 1.2  # l: cells a lane's width from a lane hear little of it
_HALF_LANE_M = 1.75
_EDGE_M = 0.4  # standard deviation of the edge of a carriageway whose pose is exact: widths are guessed by class
_NEAR_M = 15.0  # roads beyond the raster that still count in it

Segments = tuple[Float[np.ndarray, "s 2"], Float[np.ndarray, "s 2"]]  # starts, ends


@dataclass(frozen=True)
class DirectionField:
    """Cells about a place; row 0 is the lowest y of the grid's frame."""

    grid: Grid
    map_from_grid: SE2
    drivable: Float[np.ndarray, "h w"]  # probability
    yaw_rad: Float[np.ndarray, "h w"]  # direction of driving in the grid's frame
    std_rad: Float[np.ndarray, "h w"]  # of it; `UNKNOWN_RAD` where nothing is known of it


def field_of(
    graph: RoadGraph | None,
    grid: Grid,
    map_from_grid: SE2,
    map_from_ego: SE2,
    covariance: Float[np.ndarray, "3 3"],
    paths: Sequence[PathAhead] = (),
) -> DirectionField:
    """The field over a raster.

    Args:
        graph: the roads; None: none are known, and the paths alone can be driven.
        grid: the raster.
        map_from_grid: where it lies.
        map_from_ego: pose of the vehicle.
        covariance: of it, x, y in m and yaw in rad, map axes.
        paths: that decide in their lanes, in the ego frame: the one along a route.
    """
    cells_m = map_from_grid.apply(grid.centres_m()).reshape(-1, 2)
    away_m = np.hypot(cells_m[:, 0] - map_from_ego.x_m, cells_m[:, 1] - map_from_ego.y_m)
    place_variance = 0.5 * float(covariance[0, 0] + covariance[1, 1]) + _EDGE_M**2
    sigma_m = np.sqrt(place_variance + float(covariance[2, 2]) * away_m**2)
    inside_m = np.full(len(cells_m), -np.inf)
    yaw_rad, std_rad = np.zeros(len(cells_m)), np.full(len(cells_m), UNKNOWN_RAD)
    if graph is not None:
        reach_m = math.hypot(*grid.half_extent_m) + _NEAR_M
        edges = [each.edge for each in graph.near(map_from_grid.x_m, map_from_grid.y_m, reach_m)]
        if edges:
            starts_m, ends_m = (np.array([graph.places_m[edge[end]] for edge in edges]) for end in (0, 1))
            half_m = np.array([max(0.5 * graph.roads[edge].width_m, _HALF_LANE_M) for edge in edges])
            inside_m = (half_m - _distances_m(cells_m, (starts_m, ends_m))).max(axis=1)
            yaw_rad, std_rad = _lanes(graph, edges, cells_m, (starts_m, ends_m))
    for path in paths:
        line_m = map_from_ego.apply(np.concatenate([np.zeros((1, 2)), path.xy_m]))
        if len(line_m) < 2:
            continue
        distances_m = _distances_m(cells_m, (line_m[:-1], line_m[1:]))
        nearest, distance_m = distances_m.argmin(axis=1), distances_m.min(axis=1)
        inside_m = np.maximum(inside_m, _HALF_LANE_M - distance_m)
        on_it = distance_m < _HALF_LANE_M
        yaw_rad = np.where(on_it, map_from_ego.yaw_rad + path.yaw_rad[nearest], yaw_rad)
        std_rad = np.where(on_it, path.std_rad[nearest], std_rad)
    heading_std_rad = math.sqrt(max(float(covariance[2, 2]), 0.0))
    shape = grid.height, grid.width
    return DirectionField(
        grid,
        map_from_grid,
        torch.special.ndtr(torch.from_numpy(inside_m / sigma_m)).numpy().reshape(shape),
        wrap_angles(yaw_rad - map_from_grid.yaw_rad).reshape(shape),
        np.minimum(np.hypot(std_rad, heading_std_rad), UNKNOWN_RAD).reshape(shape),
    )


def _lanes(
    graph: RoadGraph, edges: Sequence[tuple[int, int]], cells_m: Float[np.ndarray, "n 2"], segments: Segments
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Direction (map frame) and spread in each cell, of the lanes of directed edges."""
    starts_m, ends_m = segments
    ahead = (ends_m - starts_m) / np.hypot(*(ends_m - starts_m).T)[:, None]
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    shift_m = np.array([graph.lane_m(edge) for edge in edges])[:, None] * left
    distance_m = _distances_m(cells_m, (starts_m + shift_m, ends_m + shift_m))
    # what is nearest has the weight 1, so that far from all roads there still is a direction
    least = distance_m.min(axis=1, keepdims=True)
    weight = np.exp(-0.5 * (distance_m**2 - least**2) / _LANE_M**2)
    mean = weight @ ahead / weight.sum(axis=1, keepdims=True)
    length = np.clip(np.hypot(*mean.T), 1e-3, 1.0)
    return np.arctan2(mean[:, 1], mean[:, 0]), np.sqrt(-2.0 * np.log(length))


def _distances_m(cells_m: Float[np.ndarray, "n 2"], segments: Segments) -> Float[np.ndarray, "n s"]:
    """From each place to each segment."""
    starts_m, ends_m = segments
    step = ends_m - starts_m
    length2 = np.maximum((step**2).sum(axis=1), 1e-12)
    away = cells_m[:, None] - starts_m
    share = np.clip((away * step).sum(axis=2) / length2, 0.0, 1.0)
    distances: np.ndarray = np.hypot(*(away - share[..., None] * step).transpose(2, 0, 1))
    return distances

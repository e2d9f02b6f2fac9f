"""The way ahead over a picture of the map: edges of what can be driven, arrows of its directions, and paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bevfusion.direction.field import DirectionField
from bevfusion.direction.path import PathAhead
from bevfusion.drawing import TRUTH
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2

FIELD = "#00695c"
FIELD_GRID = Grid.square(32.0, 1.0)
"""Of the fields that are drawn."""
_ARROW_CELLS = 3  # every so many have an arrow


def draw_field(axis: Any, field: DirectionField) -> None:
    """The edge of what is more likely drivable than not, and arrows within, as strong as they are sure.

    Args:
        axis: in metres of the map.
        field: about the vehicle.
    """
    places_m = field.map_from_grid.apply(field.grid.centres_m())
    if field.drivable.max() > 0.5 > field.drivable.min():
        axis.contour(places_m[..., 0], places_m[..., 1], field.drivable, levels=[0.5], colors=FIELD, linewidths=0.8)
    rows, cols = np.indices(field.drivable.shape)
    shown = (field.drivable > 0.5) & (rows % _ARROW_CELLS == 0) & (cols % _ARROW_CELLS == 0)
    if not shown.any():
        return
    yaw_rad = field.yaw_rad[shown] + field.map_from_grid.yaw_rad
    strength = np.clip(field.drivable[shown] * np.exp(-0.5 * field.std_rad[shown] ** 2), 0.0, 1.0)
    axis.quiver(
        *places_m[shown].T, np.cos(yaw_rad), np.sin(yaw_rad),
        color=FIELD, alpha=strength, units="xy", scale=0.5, width=0.22, pivot="middle", zorder=3,
    )  # fmt: skip


def draw_paths(axis: Any, map_from_ego: SE2, paths: Sequence[PathAhead], colour: str = TRUTH) -> None:
    """Paths from the vehicle on, as wide as they are likely, with their probability where there are several.

    Args:
        axis: in metres of the map.
        map_from_ego: pose that they are ahead of.
        paths: in the ego frame.
        colour: of the lines.
    """
    for path in paths:
        line_m = map_from_ego.apply(np.concatenate([np.zeros((1, 2)), path.xy_m]))
        axis.plot(line_m[:, 0], line_m[:, 1], color=colour, linewidth=1.0 + 3.0 * path.probability, alpha=0.8, zorder=4)
        if len(paths) > 1:
            axis.annotate(f"{100.0 * path.probability:.0f} %", line_m[-1], color=colour, fontsize=9)

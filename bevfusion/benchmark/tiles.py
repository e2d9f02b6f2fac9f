"""Tiles of a map: drawn for the first time, and put together from blocks in memory."""

import itertools
from pathlib import Path

import numpy as np
import torch

from bevfusion.benchmark.comparison import Row, Task, compared
from bevfusion.config import Config
from bevfusion.datasets.simulated import map_file
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import LAYERS
from bevfusion.maps.source import MapSource, open_map
from bevfusion.maps.tiles import TileStore

GRID = Grid(256, 256, 0.5)  # 128 m


def tiles_rows(device: torch.device) -> list[Row]:
    """On the CPU whatever the device is: maps are drawn there."""
    source = open_map(map_file("town:101", Path(Config().simulation.cache)))
    centres = itertools.cycle(shown_centres(source))
    store = TileStore(source, GRID)
    steps = itertools.count()
    store.tile(SE2())
    least = Task("128 m at 0.5 m, all layers", len(LAYERS) * GRID.height * GRID.width, 0.0)
    return compared(
        least,
        {
            "cold": lambda: source.draw(GRID, next(centres)),
            "cached": lambda: store.tile(SE2(0.5 * (next(steps) % 8), 0.0)),
        },
        torch.device("cpu"),
    )


def shown_centres(source: MapSource) -> list[SE2]:
    """Places, a tile apart, where the map shows anything: an empty tile takes next to no time, and would flatter."""
    x0_m, y0_m, x1_m, y1_m = source.bounds_m
    side_m = GRID.width * GRID.cell_m
    places = itertools.product(np.arange(x0_m, x1_m, side_m), np.arange(y0_m, y1_m, side_m))
    centres = [SE2(float(x_m) + 0.5 * side_m, float(y_m) + 0.5 * side_m) for x_m, y_m in places]
    return [centre for centre in centres if source.draw(GRID, centre).any()]

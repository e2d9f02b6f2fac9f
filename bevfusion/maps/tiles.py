"""Tiles around poses, put together from cached blocks."""

from collections import OrderedDict

import numpy as np
from jaxtyping import Int8

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import LAYERS
from bevfusion.maps.source import MapSource
from bevfusion.structures import MapTile

BLOCK_CELLS = 256
"""Side of a cached block: 128 m at 0.5 m a cell, so that a tile is put together from few."""

MAX_BLOCKS = 48
"""Blocks kept, the least recently used dropped first: 24 layers take 1.6 MB each."""


class TileStore:
    """Tiles of one size from one map.

    Blocks lie on a lattice about the map's origin and tiles are snapped to its cells, so that a tile from blocks equals
    one that is drawn at once.
    """

    def __init__(self, source: MapSource, grid: Grid, max_blocks: int = MAX_BLOCKS) -> None:
        self.source = source
        self.grid = grid
        self._block_grid = Grid(BLOCK_CELLS, BLOCK_CELLS, grid.cell_m)
        tile_blocks = (grid.height // BLOCK_CELLS + 2) * (grid.width // BLOCK_CELLS + 2)
        self._max_blocks = max(max_blocks, tile_blocks)
        self._blocks: OrderedDict[tuple[int, int], Int8[np.ndarray, "l h w"]] = OrderedDict()

    def tile(self, pose: SE2) -> MapTile:
        """The tile in map axes around a pose of the map frame, its centre snapped to the lattice of cells.

        Args:
            pose: its position counts, its heading does not.
        """
        cell_m, height, width = self.grid.cell_m, self.grid.height, self.grid.width
        row0, col0 = round(pose.y_m / cell_m - 0.5 * height), round(pose.x_m / cell_m - 0.5 * width)
        layers = np.empty((len(LAYERS), height, width), np.int8)
        for block_row in range(row0 // BLOCK_CELLS, (row0 + height - 1) // BLOCK_CELLS + 1):
            rows, block_rows = _overlap(row0, height, block_row)
            for block_col in range(col0 // BLOCK_CELLS, (col0 + width - 1) // BLOCK_CELLS + 1):
                cols, block_cols = _overlap(col0, width, block_col)
                layers[:, rows, cols] = self._block(block_row, block_col)[:, block_rows, block_cols]
        centre = SE2((col0 + 0.5 * width) * cell_m, (row0 + 0.5 * height) * cell_m, 0.0)
        return MapTile(layers, self.grid, centre)

    def turned_tile(self, map_from_tile: SE2, mirrored: bool) -> MapTile:
        """A tile turned by any yaw, and mirrored if asked for (see `MapSource.draw`): drawn at once, not cached."""
        return MapTile(self.source.draw(self.grid, map_from_tile, mirrored), self.grid, map_from_tile)

    def _block(self, block_row: int, block_col: int) -> Int8[np.ndarray, "l h w"]:
        block = self._blocks.get((block_row, block_col))
        if block is None:
            side_m = BLOCK_CELLS * self.grid.cell_m
            centre = SE2((block_col + 0.5) * side_m, (block_row + 0.5) * side_m, 0.0)
            block = self.source.draw(self._block_grid, centre)
            self._blocks[block_row, block_col] = block
            if len(self._blocks) > self._max_blocks:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end((block_row, block_col))
        return block


def _overlap(first: int, count: int, block: int) -> tuple[slice, slice]:
    """Where the cells `first` .. first + count of the lattice and those of a block meet: in the tile, in the block."""
    start, stop = max(first, block * BLOCK_CELLS), min(first + count, (block + 1) * BLOCK_CELLS)
    return slice(start - first, stop - first), slice(start - block * BLOCK_CELLS, stop - block * BLOCK_CELLS)

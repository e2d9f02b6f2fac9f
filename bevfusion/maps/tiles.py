"""Tiles around poses, put together from cached blocks."""

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from jaxtyping import Int8

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import LAYERS
from bevfusion.maps.source import MapSource
from bevfusion.maps.tile_file import BLOCK_CELLS
from bevfusion.maps.tiled import TiledMap
from bevfusion.structures import DataError, MapTile

MAX_BLOCKS = 48
"""Blocks kept, the least recently used dropped first: 24 layers take 1.6 MB each."""


class _Canvas(NamedTuple):
    """Blocks side by side: what tiles are cut from."""

    row0: int  # cell of the lattice that its first cell is
    col0: int
    layers: Int8[np.ndarray, "l h w"]

    def cut(self, row0: int, col0: int, grid: Grid) -> Int8[np.ndarray, "l h w"] | None:
        """A view of the cells of a grid that begins there; None where they are not all on the canvas."""
        _, height, width = self.layers.shape
        row, col = row0 - self.row0, col0 - self.col0
        if not (0 <= row <= height - grid.height and 0 <= col <= width - grid.width):
            return None
        return self.layers[:, row : row + grid.height, col : col + grid.width]


class TileStore:
    """Tiles of one size from one map.

    Blocks lie on a lattice about the map's origin and tiles are snapped to its cells, so that a tile from blocks equals
    one that is drawn at once. The blocks under the last tile are laid side by side, and tiles are views into these: a
    vehicle leaves them once in a block's length, and until then nothing is copied.
    """

    def __init__(self, source: MapSource, grid: Grid, max_blocks: int = MAX_BLOCKS) -> None:
        """Nothing is drawn yet.

        Args:
            source: the map.
            grid: size and cells of the tiles.
            max_blocks: so many are kept, and more where a tile touches more.

        Raises:
            DataError: if the map was drawn to disk in cells of another size.
        """
        if isinstance(source, TiledMap) and source.cell_m != grid.cell_m:
            raise DataError(
                f"{source.file.path} has cells of {source.cell_m:g} m, and cells of {grid.cell_m:g} m are asked for; "
                f"use the extract, or `bevfusion tile` with --cell-m {grid.cell_m:g}"
            )
        self.source = source
        self.grid = grid
        self._block_grid = Grid(BLOCK_CELLS, BLOCK_CELLS, grid.cell_m)
        tile_blocks = (grid.height // BLOCK_CELLS + 2) * (grid.width // BLOCK_CELLS + 2)
        self._max_blocks = max(max_blocks, tile_blocks)
        self._blocks: OrderedDict[tuple[int, int], Int8[np.ndarray, "l h w"]] = OrderedDict()
        self._canvas = _Canvas(0, 0, np.zeros((len(LAYERS), 0, 0), np.int8))
        self._drawing = threading.Lock()  # one thread may follow a vehicle while another looks ahead

    def tile(self, pose: SE2, grid: Grid | None = None) -> MapTile:
        """The tile in map axes around a pose of the map frame, its centre snapped to the lattice of cells.

        Its layers are read-only: later tiles share their memory.

        Args:
            pose: its position counts, its heading does not.
            grid: of another size than the store's, of the same cells.
        """
        grid = self.grid if grid is None else grid
        cell_m, height, width = grid.cell_m, grid.height, grid.width
        row0, col0 = round(pose.y_m / cell_m - 0.5 * height), round(pose.x_m / cell_m - 0.5 * width)
        centre = SE2((col0 + 0.5 * width) * cell_m, (row0 + 0.5 * height) * cell_m, 0.0)
        return MapTile(self.layers(row0, col0, grid), grid, centre)

    def layers(self, row0: int, col0: int, grid: Grid) -> Int8[np.ndarray, "l h w"]:
        """The cells of the lattice from (row0, col0) on, as many as a grid has; read-only, as those of tiles."""
        layers = self._canvas.cut(row0, col0, grid)
        if layers is None:
            canvas = self._stitched(row0, col0, grid)
            layers = canvas.cut(row0, col0, grid)
            assert layers is not None, "the blocks under a tile hold it"
            self._canvas = canvas
        return layers

    def apart(self, row0: int, col0: int, grid: Grid) -> Int8[np.ndarray, "l h w"]:
        """As `layers`, of cells that lie elsewhere than the next tile: a copy, and tiles share what they shared."""
        layers = self._canvas.cut(row0, col0, grid)
        if layers is None:
            layers = self._stitched(row0, col0, grid).cut(row0, col0, grid)
            assert layers is not None, "the blocks under a tile hold it"
        return layers

    def turned_tile(self, map_from_tile: SE2, mirrored: bool) -> MapTile:
        """A tile turned by any yaw, and mirrored if asked for (see `MapSource.draw`): drawn at once, not cached."""
        return MapTile(self.source.draw(self.grid, map_from_tile, mirrored), self.grid, map_from_tile)

    def _stitched(self, row0: int, col0: int, grid: Grid) -> _Canvas:
        """All blocks that the cells of a grid touch which begins at this one."""
        rows = range(row0 // BLOCK_CELLS, (row0 + grid.height - 1) // BLOCK_CELLS + 1)
        cols = range(col0 // BLOCK_CELLS, (col0 + grid.width - 1) // BLOCK_CELLS + 1)
        blocks = np.empty((len(LAYERS), len(rows), BLOCK_CELLS, len(cols), BLOCK_CELLS), np.int8)
        for i, row in enumerate(rows):
            for j, col in enumerate(cols):
                blocks[:, i, :, j] = self._block(row, col)
        layers = blocks.reshape(len(LAYERS), len(rows) * BLOCK_CELLS, len(cols) * BLOCK_CELLS)
        layers.flags.writeable = False
        return _Canvas(rows[0] * BLOCK_CELLS, cols[0] * BLOCK_CELLS, layers)

    def _block(self, block_row: int, block_col: int) -> Int8[np.ndarray, "l h w"]:
        with self._drawing:
            return self._drawn(block_row, block_col)

    def _drawn(self, block_row: int, block_col: int) -> Int8[np.ndarray, "l h w"]:
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

"""Features of a map, computed once: blocks on a lattice about the map's origin, the same whatever they are asked for.

Encoding a map takes more than half of a step and asks nothing of the scan. What comes out of a cell depends on the
cells about it alone (`MapEncoder`), so a block that is encoded with so much map about it is right for good. Blocks
that are missing are encoded together, as one rectangle.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.tiles import TileStore

Encode = Callable[[Int8[np.ndarray, "l h w"]], Float[Tensor, "c h2 w2"]]

BLOCK = 16  # features along a side: small, so that a vehicle that moves on has little to encode at once
MAX_BLOCKS = 8192
"""Blocks kept, the least recently used dropped first: 2 km^2 at 1 m, 32 channels of float32 take 270 MB."""


class MapFeatures:
    """What a map encoder makes of a map, wherever it is asked for."""

    def __init__(
        self, tiles: TileStore, encode: Encode, *, stride: int, context: int, coarsest: int, most: int = MAX_BLOCKS
    ) -> None:
        """Nothing is encoded yet.

        Args:
            tiles: draws the map in cells.
            encode: layers to features.
            stride: cells a feature.
            context: cells about a feature that make a difference to it.
            coarsest: cells a cell of the encoder's coarsest level, which must lie at the same places every time.
            most: blocks that are kept.

        Raises:
            ValueError: if a block is not of whole cells of the coarsest level.
        """
        if BLOCK * stride % coarsest:
            raise ValueError(f"blocks of {BLOCK * stride} cells do not hold whole cells of {coarsest}")
        self._tiles, self._encode, self._stride, self._most = tiles, encode, stride, most
        self._margin = math.ceil(context / coarsest) * coarsest // stride  # features about a block
        self._blocks: OrderedDict[tuple[int, int], Float[Tensor, "c n n"]] = OrderedDict()

    @property
    def cell_m(self) -> float:
        """Side of a feature's cell."""
        return self._tiles.grid.cell_m * self._stride

    def about(self, centre: SE2, grid: Grid) -> Float[Tensor, "c h w"]:
        """Features of the cells of a grid in map axes about a place of the map frame, a corner of its lattice."""
        row0 = round(centre.y_m / self.cell_m) - grid.height // 2
        col0 = round(centre.x_m / self.cell_m) - grid.width // 2
        return self.window(row0, col0, grid.height, grid.width)

    def window(self, row0: int, col0: int, height: int, width: int) -> Float[Tensor, "c h w"]:
        """Features of the cells from (row0, col0) on; cell (0, 0) has its corner in the origin of the map frame."""
        rows = range(row0 // BLOCK, (row0 + height - 1) // BLOCK + 1)
        cols = range(col0 // BLOCK, (col0 + width - 1) // BLOCK + 1)
        self._fill(rows, cols)
        kept = [[self._blocks[row, col] for col in cols] for row in rows]
        for place in ((row, col) for row in rows for col in cols):
            self._blocks.move_to_end(place)
        while len(self._blocks) > max(self._most, len(rows) * len(cols)):
            self._blocks.popitem(last=False)
        whole = torch.cat([torch.cat(row, dim=2) for row in kept], dim=1)
        top, left = row0 - rows[0] * BLOCK, col0 - cols[0] * BLOCK
        return whole[:, top : top + height, left : left + width]

    def _fill(self, rows: range, cols: range) -> None:
        """Encode the smallest rectangle that holds all blocks which are missing."""
        missing = [(row, col) for row in rows for col in cols if (row, col) not in self._blocks]
        if not missing:
            return
        rows = range(min(row for row, _ in missing), max(row for row, _ in missing) + 1)
        cols = range(min(col for _, col in missing), max(col for _, col in missing) + 1)
        row0, col0 = rows[0] * BLOCK - self._margin, cols[0] * BLOCK - self._margin
        height, width = len(rows) * BLOCK + 2 * self._margin, len(cols) * BLOCK + 2 * self._margin
        stride, cell_m = self._stride, self._tiles.grid.cell_m
        layers = self._tiles.layers(row0 * stride, col0 * stride, Grid(height * stride, width * stride, cell_m))
        features = self._encode(layers)
        for row, col in missing:
            top, left = (row - rows[0]) * BLOCK + self._margin, (col - cols[0]) * BLOCK + self._margin
            # a view would keep the whole rectangle in memory
            self._blocks[row, col] = features[:, top : top + BLOCK, left : left + BLOCK].clone()

"""Features of a map, computed once: blocks on a lattice about the map's origin, the same whatever they are asked for.

Encoding a map takes more than half of a step and asks nothing of the scan. What comes out of a cell depends on the
cells about it alone (`MapEncoder`), so a block that is encoded with so much map about it is right for good. Blocks
that are missing are encoded together, as few rectangles; where a vehicle is about to go, in a thread beside.
"""

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.feature_file import SIDE, FeatureFile
from bevfusion.maps.tiles import TileStore

Encode = Callable[[Int8[np.ndarray, "l h w"]], Float[Tensor, "c h2 w2"]]
Place = tuple[int, int]
"""Row and column of a block."""
AtHand = Callable[[Place], Float[Tensor, "c n n"] | None]
"""A block by its place."""

BLOCK = 16  # features along a side: small, so that a vehicle that moves on has little to encode at once
_MOST_ALONG = 16  # blocks along a side that are encoded at once: more would take hundreds of MB
MAX_BLOCKS = 8192
"""Blocks kept, the least recently used dropped first: 2 km^2 at 1 m, 32 channels of float32 take 270 MB."""


class MapFeatures:
    """What a map encoder makes of a map, wherever it is asked for."""

    def __init__(
        self,
        tiles: TileStore,
        encode: Encode,
        *,
        stride: int,
        context: int,
        coarsest: int,
        most: int = MAX_BLOCKS,
        at_hand: AtHand | None = None,
    ) -> None:
        """Nothing is encoded yet.

        Args:
            tiles: draws the map in cells.
            encode: layers to features.
            stride: cells a feature.
            context: cells about a feature that make a difference to it.
            coarsest: cells a cell of the encoder's coarsest level, which must lie at the same places every time.
            most: blocks that are kept.
            at_hand: gives blocks that were encoded before, or None.

        Raises:
            ValueError: if a block is not of whole cells of the coarsest level.
        """
        if BLOCK * stride % coarsest:
            raise ValueError(f"blocks of {BLOCK * stride} cells do not hold whole cells of {coarsest}")
        self._tiles, self._encode, self._stride, self._most = tiles, encode, stride, most
        self._at_hand = at_hand
        self._margin = math.ceil(context / coarsest) * coarsest // stride  # features about a block
        self._blocks: OrderedDict[Place, Float[Tensor, "c n n"]] = OrderedDict()
        self._changing = threading.Lock()  # of the blocks
        self._beside: ThreadPoolExecutor | None = None
        self._under_way: list[Future[None]] = []

    @property
    def cell_m(self) -> float:
        """Side of a feature's cell."""
        return self._tiles.grid.cell_m * self._stride

    def about(self, centre: SE2, grid: Grid) -> Float[Tensor, "c h w"]:
        """Features of the cells of a grid in map axes about a place of the map frame, a corner of its lattice."""
        return self.window(*self._corner(centre, grid), grid.height, grid.width)

    def prepare(self, centres: Sequence[SE2], grid: Grid) -> None:
        """Begin to encode, in a thread beside, what `about` would need at any of some places and all between them."""
        corners = [self._corner(centre, grid) for centre in centres]
        row0, col0 = (min(corner[axis] for corner in corners) for axis in (0, 1))
        row1, col1 = (max(corner[axis] for corner in corners) for axis in (0, 1))
        rows, cols = _blocks_of(row0, row1 - row0 + grid.height), _blocks_of(col0, col1 - col0 + grid.width)
        self._under_way = [job for job in self._under_way if not job.done()]
        if not self._under_way and not self._missing(rows, cols):
            return
        if self._beside is None:
            self._beside = ThreadPoolExecutor(1, "map features")
        self._under_way.append(self._beside.submit(self._fill, rows, cols))

    def window(self, row0: int, col0: int, height: int, width: int) -> Float[Tensor, "c h w"]:
        """Features of the cells from (row0, col0) on; cell (0, 0) has its corner in the origin of the map frame."""
        rows, cols = _blocks_of(row0, height), _blocks_of(col0, width)
        if self._missing(rows, cols):
            wait(self._under_way)  # what is encoded when is the same then, however fast either thread is
            self._fill(rows, cols)
        with self._changing:
            kept = [[self._blocks[row, col] for col in cols] for row in rows]
            for place in ((row, col) for row in rows for col in cols):
                self._blocks.move_to_end(place)
            while len(self._blocks) > max(self._most, len(rows) * len(cols)):
                self._blocks.popitem(last=False)
        whole = torch.cat([torch.cat(row, dim=2) for row in kept], dim=1)
        top, left = row0 - rows[0] * BLOCK, col0 - cols[0] * BLOCK
        return whole[:, top : top + height, left : left + width]

    def _corner(self, centre: SE2, grid: Grid) -> tuple[int, int]:
        """The first cell of a grid about a place."""
        row, col = round(centre.y_m / self.cell_m), round(centre.x_m / self.cell_m)
        return row - grid.height // 2, col - grid.width // 2

    def _missing(self, rows: range, cols: range) -> list[Place]:
        with self._changing:
            return [(row, col) for row in rows for col in cols if (row, col) not in self._blocks]

    def _fill(self, rows: range, cols: range) -> None:
        """Fetch what is missing where it is at hand, and encode the rest, in few rectangles."""
        if self._at_hand is not None:
            for place in self._missing(rows, cols):
                block = self._at_hand(place)
                if block is not None:
                    with self._changing:
                        self._blocks.setdefault(place, block)
        for band, across in _rectangles(self._missing(rows, cols), self._margin / BLOCK):
            for row in range(band.start, band.stop, _MOST_ALONG):
                for col in range(across.start, across.stop, _MOST_ALONG):
                    self._encode_blocks(
                        range(row, min(row + _MOST_ALONG, band.stop)), range(col, min(col + _MOST_ALONG, across.stop))
                    )

    def _encode_blocks(self, rows: range, cols: range) -> None:
        row0, col0 = rows[0] * BLOCK - self._margin, cols[0] * BLOCK - self._margin
        height, width = len(rows) * BLOCK + 2 * self._margin, len(cols) * BLOCK + 2 * self._margin
        stride, cell_m = self._stride, self._tiles.grid.cell_m
        layers = self._tiles.apart(row0 * stride, col0 * stride, Grid(height * stride, width * stride, cell_m))
        features = self._encode(layers)
        for row, col in itertools.product(rows, cols):
            top, left = (row - rows[0]) * BLOCK + self._margin, (col - cols[0]) * BLOCK + self._margin
            # a view would keep the whole rectangle in memory
            block = features[:, top : top + BLOCK, left : left + BLOCK].clone()
            with self._changing:
                self._blocks.setdefault((row, col), block)


def _blocks_of(first: int, count: int) -> range:
    """The blocks, along one axis, that so many cells lie in."""
    return range(first // BLOCK, (first + count - 1) // BLOCK + 1)


def _rectangles(missing: Sequence[Place], margin: float) -> list[tuple[range, range]]:
    """Rectangles that hold missing blocks, those of few cells: all in one, or one for each band of rows alike.

    A vehicle that moves on lacks a strip, or two that meet in a corner.

    Args:
        missing: row and column of each.
        margin: blocks about a rectangle that are encoded with it.
    """
    if not missing:
        return []
    columns: dict[int, list[int]] = {}
    for row, col in missing:
        columns.setdefault(row, []).append(col)
    bands: list[tuple[range, range]] = []
    for row in sorted(columns):
        cols = range(min(columns[row]), max(columns[row]) + 1)
        last = bands[-1] if bands else None
        if last is not None and last[0].stop == row and last[1] == cols:
            bands[-1] = (range(last[0].start, row + 1), cols)
        else:
            bands.append((range(row, row + 1), cols))
    whole = [
        (
            range(min(columns), max(columns) + 1),
            range(min(cols.start for _, cols in bands), max(cols.stop for _, cols in bands)),
        )
    ]
    return min(
        (whole, bands),
        key=lambda parts: sum((len(rows) + 2 * margin) * (len(cols) + 2 * margin) for rows, cols in parts),
    )


def blocks_of_file(file: FeatureFile, dtype: torch.dtype) -> AtHand:
    """The blocks of a file of features, as they would have been encoded."""
    along = SIDE // BLOCK

    def block(place: Place) -> Float[Tensor, "c n n"] | None:
        whole = file.block(place[0] // along, place[1] // along)
        if whole is None:
            return None
        top, left = (index % along * BLOCK for index in place)
        return torch.from_numpy(whole[:, top : top + BLOCK, left : left + BLOCK].astype(np.float32)).to(dtype)

    return block

"""A map that was drawn to disk once and opens at once: making it, and drawing from it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int8

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.provenance import map_provenance
from bevfusion.maps.reading import read_features
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.schema import LAYERS, layer_index
from bevfusion.maps.tile_file import BLOCK_CELLS, SUFFIX, Contents, TileFile, pack, write_tile_file
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

MARGIN_M = 256.0
"""Drawn around the extract's box: ways reach out of it, and tiles about places at its border show them."""

_DIRECTIONS = ((layer_index("road_cos2"), 2), (layer_index("oneway_cos"), 1))  # the sines follow; turns of each turn


def tile_extract(
    extract: Path, output: Path, cell_m: float = 0.5, on_block: Callable[[int, int], None] | None = None
) -> TileFile:
    """Draw a whole extract to disk.

    Args:
        extract: an OpenStreetMap file, or vector features.
        output: file to write, its suffix .tiles.
        cell_m: side of a cell.
        on_block: called with (blocks done, blocks in all).

    Raises:
        DataError: if the extract cannot be read, or the file not written.
    """
    if output.suffix != SUFFIX:
        raise DataError(f"expected an output that ends in {SUFFIX}, by which maps are known, got {output}")
    renderer = OsmRenderer(read_features(extract))
    try:
        contents = _contents_of(renderer, cell_m, extract)
    except ValueError as error:
        raise DataError(f"{extract} cannot be tiled: {error}") from error
    write_tile_file(output, contents, _drawn_blocks(renderer, contents), on_block)
    return TileFile(output)


def _contents_of(renderer: OsmRenderer, cell_m: float, extract: Path) -> Contents:
    side_m = BLOCK_CELLS * cell_m
    x0_m, y0_m, x1_m, y1_m = renderer.bounds_m
    low = [int((edge_m - MARGIN_M) // side_m) for edge_m in (y0_m, x0_m)]
    high = [int((edge_m + MARGIN_M) // side_m) for edge_m in (y1_m, x1_m)]
    return Contents(
        name=renderer.name,
        origin_deg=(renderer.frame.origin_lat_deg, renderer.frame.origin_lon_deg),
        bounds_m=renderer.bounds_m,
        cell_m=cell_m,
        first_block=(low[0], low[1]),
        blocks=(high[0] - low[0] + 1, high[1] - low[1] + 1),
        made_from=map_provenance(extract),
    )


def _drawn_blocks(renderer: OsmRenderer, contents: Contents) -> Iterator[bytes]:
    (row0, col0), (rows, cols), side_m = contents.first_block, contents.blocks, BLOCK_CELLS * contents.cell_m
    grid = Grid(BLOCK_CELLS, BLOCK_CELLS, contents.cell_m)
    for row in range(row0, row0 + rows):
        shown = renderer.columns_shown(row * side_m, (row + 1) * side_m, col0, cols, side_m)
        for col, shows in zip(range(col0, col0 + cols), shown.tolist(), strict=True):
            yield pack(renderer.draw(grid, SE2((col + 0.5) * side_m, (row + 0.5) * side_m))) if shows else b""


class TiledMap:
    """Draws from a file of tiles (a `MapSource`).

    On whole cells of the file, in map axes, what is drawn is what the extract draws, up to `MARGIN_M` beyond its box.
    Elsewhere each cell shows what the file shows at its centre, up to half a cell off, and lines may have gaps: good
    for pictures, for finding roads and for the classical matcher, not for a network that learnt from other tiles.
    """

    def __init__(self, file: TileFile) -> None:
        self.file = file
        self.frame: LocalFrame = file.contents.frame
        self.name = file.contents.name
        self.bounds_m = file.contents.bounds_m
        self.cell_m = file.contents.cell_m
        self.summary = InputSummary(file.path.name)

    def covers(self, x_m: float, y_m: float) -> bool:
        """Whether a place of the map frame lies in the extract's box."""
        x0_m, y0_m, x1_m, y1_m = self.bounds_m
        return x0_m <= x_m <= x1_m and y0_m <= y_m <= y1_m

    def draw(self, grid: Grid, map_from_tile: SE2, mirrored: bool = False) -> Int8[np.ndarray, "l h w"]:
        """All layers over a grid; see `MapSource.draw`.

        Raises:
            DataError: if the file is damaged there.
        """
        first = None if mirrored else self._first_cell(grid, map_from_tile)
        return self._sampled(grid, map_from_tile, mirrored) if first is None else self._copied(grid, *first)

    def _first_cell(self, grid: Grid, map_from_tile: SE2) -> tuple[int, int] | None:
        """Row and column of the file's lattice at which a grid begins; None if it does not lie on the lattice."""
        if grid.cell_m != self.cell_m or map_from_tile.yaw_rad != 0.0:
            return None
        row = map_from_tile.y_m / self.cell_m - 0.5 * grid.height
        col = map_from_tile.x_m / self.cell_m - 0.5 * grid.width
        if max(abs(row - round(row)), abs(col - round(col))) > 1e-6:
            return None
        return round(row), round(col)

    def _copied(self, grid: Grid, row0: int, col0: int) -> Int8[np.ndarray, "l h w"]:
        layers = np.zeros((len(LAYERS), grid.height, grid.width), np.int8)
        for block_row in range(row0 // BLOCK_CELLS, (row0 + grid.height - 1) // BLOCK_CELLS + 1):
            rows, block_rows = _overlap(row0, grid.height, block_row)
            for block_col in range(col0 // BLOCK_CELLS, (col0 + grid.width - 1) // BLOCK_CELLS + 1):
                cols, block_cols = _overlap(col0, grid.width, block_col)
                block = self.file.block(block_row, block_col)
                if block is not None:
                    layers[:, rows, cols] = block[:, block_rows, block_cols]
        return layers

    def _sampled(self, grid: Grid, map_from_tile: SE2, mirrored: bool) -> Int8[np.ndarray, "l h w"]:
        layers = np.zeros((len(LAYERS), grid.height * grid.width), np.int8)
        tile_m = grid.centres_m().reshape(-1, 2) * (1.0, -1.0 if mirrored else 1.0)
        col, row = np.floor(map_from_tile.apply(tile_m) / self.cell_m).astype(np.int64).T
        for cells in _by_block(row // BLOCK_CELLS, col // BLOCK_CELLS):
            block_row, block_col = row[cells[0]] // BLOCK_CELLS, col[cells[0]] // BLOCK_CELLS
            block = self.file.block(int(block_row), int(block_col))
            if block is not None:
                layers[:, cells] = block[:, row[cells] % BLOCK_CELLS, col[cells] % BLOCK_CELLS]
        if mirrored or map_from_tile.yaw_rad != 0.0:
            for first, turns in _DIRECTIONS:
                _turn(layers[first : first + 2], turns * map_from_tile.yaw_rad, mirrored)
        return layers.reshape(-1, grid.height, grid.width)


def _overlap(first: int, count: int, block: int) -> tuple[slice, slice]:
    """Where the cells `first` .. first + count of the lattice and those of a block meet: in the grid, in the block."""
    start, stop = max(first, block * BLOCK_CELLS), min(first + count, (block + 1) * BLOCK_CELLS)
    return slice(start - first, stop - first), slice(start - block * BLOCK_CELLS, stop - block * BLOCK_CELLS)


def _by_block(row: Int[np.ndarray, " n"], col: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " _"]]:
    """The cells of each block."""
    block = (row - row.min()) * (int(np.ptp(col)) + 1) + col - col.min()
    order = np.argsort(block, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(block[order])) + 1)


def _turn(planes: Int8[np.ndarray, "2 n"], angle_rad: float, mirrored: bool) -> None:
    """Turn vectors from map axes into those of a tile, in place."""
    cos, sin = planes.astype(np.float32)
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    planes[0] = np.clip(np.rint(c * cos + s * sin), -127, 127)  # rounding twice can make 128 of 127
    planes[1] = np.clip(np.rint((c * sin - s * cos) * (-1.0 if mirrored else 1.0)), -127, 127)

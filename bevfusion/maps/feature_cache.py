"""The map about a vehicle, encoded once every few metres.

Encoding a tile takes more than half of a step and asks nothing of the scan. So a larger one is encoded, and until the
vehicle has left its middle every tile of features is cut out of that.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.tiles import TileStore
from bevfusion.structures import MapTile

Encode = Callable[[MapTile], Float[Tensor, "1 c h w"]]


class EncodedTile(NamedTuple):
    """A tile, and what the encoder makes of it."""

    tile: MapTile
    features: Float[Tensor, "1 c h w"]


class MapFeatureCache:
    """Encoded tiles about poses that follow one another."""

    def __init__(self, store: TileStore, grid: Grid, stride: int, encode: Encode, most: int = 24) -> None:
        """Nothing is encoded yet.

        Args:
            store: of the larger tiles.
            grid: of the tiles that are asked for, the same cells and fewer of them.
            stride: cells of a tile to one of its features.
            encode: a larger tile to its features.
            most: larger tiles that are kept, the longest unused forgotten first: a lost vehicle is followed in several
                places at once.

        Raises:
            ValueError: if the larger tiles are not larger by whole features on every side.
        """
        rows, cols = store.grid.height - grid.height, store.grid.width - grid.width
        if store.grid.cell_m != grid.cell_m or any(more < 0 or more % (2 * stride) for more in (rows, cols)):
            raise ValueError(f"tiles of {grid} cannot be cut from {store.grid} by features of {stride} cells")
        self._store, self._grid, self._stride, self._encode, self._most = store, grid, stride, encode, most
        self._margin = rows // (2 * stride), cols // (2 * stride)  # features above, and left of, a tile in the middle
        self._held: list[EncodedTile] = []  # the last used at the end

    def around(self, pose: SE2) -> EncodedTile:
        """The tile in map axes around a pose of the map frame, its centre within half a feature's cell of it."""
        for number, held in enumerate(self._held):
            cut = self._cut(held, pose)
            if cut is not None:
                self._held.append(self._held.pop(number))
                return cut
        tile = self._store.tile(pose)
        tile = replace(tile, layers=tile.layers.copy())  # a view would keep all blocks that it touches in memory
        self._held = [*self._held, EncodedTile(tile, self._encode(tile))][-self._most :]
        cut = self._cut(self._held[-1], pose)
        assert cut is not None, "a pose lies in the middle of a tile about it"
        return cut

    def _cut(self, held: EncodedTile, pose: SE2) -> EncodedTile | None:
        """What lies about a pose, in whole features; None where it reaches beyond what is held."""
        grid, stride, middle = self._grid, self._stride, held.tile.map_from_tile
        cell_m = stride * grid.cell_m
        north, east = round((pose.y_m - middle.y_m) / cell_m), round((pose.x_m - middle.x_m) / cell_m)
        if abs(north) > self._margin[0] or abs(east) > self._margin[1]:
            return None
        row, col = self._margin[0] + north, self._margin[1] + east
        features = held.features[..., row : row + grid.height // stride, col : col + grid.width // stride]
        row, col = row * stride, col * stride
        layers = held.tile.layers[:, row : row + grid.height, col : col + grid.width]
        centre = SE2(middle.x_m + east * cell_m, middle.y_m + north * cell_m, 0.0)
        return EncodedTile(MapTile(layers, grid, centre), features)

"""A whole map encoded to disk, so that a robot that starts in a city has its features at hand."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float16

from bevfusion.localizer import NetworkLocator, open_network
from bevfusion.maps.feature_file import SIDE, SUFFIX, FeatureContents, FeatureFile, write_feature_file
from bevfusion.maps.tile_file import BLOCK_CELLS, TileFile
from bevfusion.maps.tiled import TiledMap

_TOGETHER = 4  # blocks along a side that are encoded at once: fewer would have more margin about them


def encode_tiles(tiles: Path, checkpoint: str, on_block: Callable[[int, int], None] | None = None) -> FeatureFile:
    """Encode a map that was drawn to disk, in float32; the file lies beside the tiles.

    Args:
        tiles: a file of tiles.
        checkpoint: as of `open_localizer`.
        on_block: called with (blocks done, blocks in all).

    Raises:
        DataError: if the tiles or the checkpoint cannot be used, or the file cannot be written.
    """
    source = TiledMap(TileFile(tiles))
    model, loaded = open_network(checkpoint)
    locator = NetworkLocator(model, loaded.config, source)
    contents = source.file.contents
    side = SIDE * locator.template_grid.cell_m / contents.cell_m  # of a block, in cells of the map
    low = [int(first * BLOCK_CELLS // side) for first in contents.first_block]
    high = [
        int(-((first + count) * BLOCK_CELLS // -side))
        for first, count in zip(contents.first_block, contents.blocks, strict=True)
    ]
    about = FeatureContents(
        checkpoint=loaded.sha256,
        tiles=source.file.identity,
        channels=loaded.config.model.channels,
        cell_m=locator.template_grid.cell_m,
        first_block=(low[0], low[1]),
        blocks=(high[0] - low[0], high[1] - low[1]),
    )
    output = tiles.with_suffix(SUFFIX)
    write_feature_file(output, about, _blocks(locator, about), on_block)
    return FeatureFile(output)


def _blocks(locator: NetworkLocator, about: FeatureContents) -> Iterator[Float16[np.ndarray, "c n n"]]:
    """By rows; some rows are encoded together."""
    (row0, col0), (rows, cols) = about.first_block, about.blocks
    for first in range(0, rows, _TOGETHER):
        count = min(_TOGETHER, rows - first)
        band = np.empty((about.channels, count * SIDE, cols * SIDE), np.float16)
        for left in range(0, cols, _TOGETHER):
            width = min(_TOGETHER, cols - left) * SIDE
            part = locator.encoded((row0 + first) * SIDE, (col0 + left) * SIDE, count * SIDE, width)
            band[:, :, left * SIDE : left * SIDE + width] = part.numpy()
        for row in range(count):
            for col in range(cols):
                yield band[:, row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]

"""A held map gives what encoding each tile anew would give, and encodes far less often."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.feature_cache import MapFeatureCache
from bevfusion.maps.source import MapSource, open_map
from bevfusion.maps.tiles import TileStore
from bevfusion.structures import MapTile

SMALL, LARGE = Grid(48, 48, 0.5), Grid(80, 80, 0.5)  # 8 m more on each side
STRIDE = 2


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> MapSource:
    from bevfusion.simulate.town import write_town

    path = tmp_path_factory.mktemp("town") / "town.osm"
    write_town(path, 3)
    return open_map(path)


class CountingEncoder:
    """Means of cells, which know nothing of what lies beyond a tile."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tile: MapTile) -> Tensor:
        self.calls += 1
        return F.avg_pool2d(torch.from_numpy(tile.layers[None].astype(np.float32)), STRIDE)


def held(town: MapSource, most: int = 24) -> tuple[MapFeatureCache, CountingEncoder]:
    encoder = CountingEncoder()
    return MapFeatureCache(TileStore(town, LARGE), SMALL, STRIDE, encoder, most), encoder


def test_tiles_and_features_are_those_of_a_tile_drawn_and_encoded_alone(town: MapSource) -> None:
    ahead, _ = held(town)
    alone = TileStore(town, SMALL)
    for x_m, y_m in np.random.default_rng(0).uniform(-60.0, 60.0, (40, 2)):
        tile, features = ahead.around(SE2(float(x_m), float(y_m), 1.0))
        expected = alone.tile(tile.map_from_tile)
        assert tile.map_from_tile == expected.map_from_tile
        assert tile.grid == SMALL
        np.testing.assert_array_equal(tile.layers, expected.layers)
        torch.testing.assert_close(features, CountingEncoder()(expected), rtol=0, atol=0)


def test_the_centre_lies_within_half_a_feature_of_the_pose(town: MapSource) -> None:
    ahead, _ = held(town)
    for x_m, y_m in np.random.default_rng(1).uniform(-60.0, 60.0, (40, 2)):
        centre = ahead.around(SE2(float(x_m), float(y_m), -2.0)).tile.map_from_tile
        assert max(abs(centre.x_m - x_m), abs(centre.y_m - y_m)) <= 0.5 * STRIDE * SMALL.cell_m + 1e-9
        assert centre.yaw_rad == 0.0


def test_a_drive_encodes_once_every_eight_metres(town: MapSource) -> None:
    ahead, encoder = held(town)
    for step in range(100):
        ahead.around(SE2(-40.0 + 0.8 * step, 0.3, 0.0))
    assert 79.2 / 9.0 <= encoder.calls <= 79.2 / 8.0 + 1.0


def test_several_places_are_held_side_by_side_and_the_longest_unused_is_forgotten(town: MapSource) -> None:
    places = [SE2(60.0 * number, 0.0, 0.0) for number in (-1, 0, 1)]
    ahead, encoder = held(town, most=2)
    for place in (places[0], places[1], places[0], places[1]):
        ahead.around(place)
    assert encoder.calls == 2
    ahead.around(places[2])  # in place of the first, which was used before the second
    ahead.around(places[1])
    assert encoder.calls == 3
    ahead.around(places[0])
    assert encoder.calls == 4
    single, encoder = held(town, most=1)
    for place in (places[0], places[0], places[1], places[0]):
        single.around(place)
    assert encoder.calls == 3


def test_what_is_held_keeps_no_blocks_in_memory(town: MapSource) -> None:
    store = TileStore(town, LARGE)
    ahead = MapFeatureCache(store, SMALL, STRIDE, CountingEncoder())
    assert not np.shares_memory(ahead.around(SE2()).tile.layers, store.tile(SE2()).layers)


@pytest.mark.parametrize("large", [Grid(46, 46, 0.5), Grid(82, 80, 0.5), Grid(80, 80, 0.25)])
def test_larger_tiles_are_larger_by_whole_features(town: MapSource, large: Grid) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        MapFeatureCache(TileStore(town, large), SMALL, STRIDE, CountingEncoder())

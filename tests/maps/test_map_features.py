import threading
from concurrent.futures import wait

import numpy as np
import pytest
import torch

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.encoder import MapEncoder
from bevfusion.maps.map_features import BLOCK, MapFeatures
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.maps.source import MapSource, open_map
from bevfusion.maps.tiles import TileStore
from bevfusion.simulate.town import write_town

CELL_M, STRIDE, LEVELS = 0.5, 2, 3


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> MapSource:
    path = tmp_path_factory.mktemp("town") / "town.osm.gz"
    write_town(path, 5)
    return open_map(path)


@pytest.fixture(scope="module")
def encoder() -> MapEncoder:
    torch.manual_seed(0)
    encoder = MapEncoder(LAYER_NAMES, 6, width=4, levels=LEVELS, stride=STRIDE).eval()
    for part in encoder.modules():
        if isinstance(part, torch.nn.BatchNorm2d):  # fresh ones let zero be zero, beyond a border too
            part.running_mean.normal_()
            part.bias.data.normal_()
    return encoder


class Encoding:
    """Counts what it is asked for."""

    def __init__(self, encoder: MapEncoder) -> None:
        self.encoder, self.sizes = encoder, []

    @torch.inference_mode()
    def __call__(self, layers: np.ndarray) -> torch.Tensor:
        self.sizes.append(layers.shape[1:])
        return self.encoder(torch.from_numpy(layers[None].astype(np.float32) / 127.0))[0]


def features(town: MapSource, encoder: MapEncoder, most: int = 4096) -> tuple[MapFeatures, Encoding]:
    encoding = Encoding(encoder)
    store = TileStore(town, Grid(8, 8, CELL_M))
    coarsest = 2 ** (LEVELS - 1)
    of_map = MapFeatures(store, encoding, stride=STRIDE, context=encoder.context_cells, coarsest=coarsest, most=most)
    return of_map, encoding


def test_no_cell_farther_off_than_the_context_makes_a_difference(encoder: MapEncoder):
    """Every cell of one block of the coarsest level is changed in turn: how far that can be seen."""
    size, reach = 96, encoder.context_cells
    torch.manual_seed(1)
    tile = torch.rand(1, len(LAYER_NAMES), size, size)
    with torch.inference_mode():
        before = encoder(tile)
        for offset in range(2 ** (LEVELS - 1)):
            row = col = size // 2 + offset
            changed = tile.clone()
            changed[..., row, col] += 3.0
            rows, cols = (encoder(changed) - before).abs().amax((0, 1)).nonzero().unbind(1)
            for seen, cell in ((rows, row), (cols, col)):
                assert seen.min() * STRIDE >= cell - reach - STRIDE + 1
                assert seen.max() * STRIDE <= cell + reach


def test_features_are_those_of_a_much_larger_tile(town: MapSource, encoder: MapEncoder):
    of_map, _ = features(town, encoder)
    large = Grid(512, 512, CELL_M)
    store = TileStore(town, large)
    with torch.inference_mode():
        layers = store.tile(SE2()).layers[None].astype(np.float32) / 127.0
        whole = encoder(torch.from_numpy(layers))[0]  # rows and columns -128 to 127
    for row, col, height, width in ((-40, -30, 50, 70), (-7, 11, 20, 5), (0, 0, 1, 1), (-60, -60, 100, 100)):
        expected = whole[:, row + 128 : row + 128 + height, col + 128 : col + 128 + width]
        torch.testing.assert_close(of_map.window(row, col, height, width), expected, rtol=1e-4, atol=1e-5)


def test_what_is_known_is_not_encoded_again(town: MapSource, encoder: MapEncoder):
    of_map, encoding = features(town, encoder)
    of_map.window(0, 0, 3 * BLOCK, 3 * BLOCK)
    of_map.window(5, 7, 2 * BLOCK, 2 * BLOCK)
    assert len(encoding.sizes) == 1
    of_map.window(0, BLOCK, 3 * BLOCK, 3 * BLOCK)  # one column of blocks more
    margin = 2 * (encoding.sizes[0][0] // STRIDE - 3 * BLOCK)
    assert encoding.sizes[1:] == [(STRIDE * 3 * BLOCK + margin, STRIDE * BLOCK + margin)]


def test_the_least_recently_used_is_forgotten_first(town: MapSource, encoder: MapEncoder):
    of_map, encoding = features(town, encoder, most=2)
    for row in (0, BLOCK, 0, 2 * BLOCK):  # the second of them goes
        of_map.window(row, 0, BLOCK, BLOCK)
    of_map.window(0, 0, BLOCK, BLOCK)
    assert len(encoding.sizes) == 3
    of_map.window(BLOCK, 0, BLOCK, BLOCK)
    assert len(encoding.sizes) == 4


def test_about_a_place(town: MapSource, encoder: MapEncoder):
    of_map, _ = features(town, encoder)
    found = of_map.about(SE2(6.0, -4.0), Grid(10, 12, of_map.cell_m))
    torch.testing.assert_close(found, of_map.window(-9, 0, 10, 12))


def test_blocks_must_hold_whole_coarsest_cells(town: MapSource, encoder: MapEncoder):
    with pytest.raises(ValueError, match="do not hold whole cells of 3"):
        MapFeatures(TileStore(town, Grid(8, 8, CELL_M)), Encoding(encoder), stride=1, context=8, coarsest=3)


def test_what_is_prepared_is_not_encoded_again(town: MapSource, encoder: MapEncoder):
    """A vehicle drives diagonally, in steps of 5 m, and is told of 10 m ahead: after the first step it never waits."""
    of_map, encoding = features(town, encoder)
    grid = Grid(3 * BLOCK, 3 * BLOCK, of_map.cell_m)
    places = [SE2(5.0 * step, 5.0 * step) for step in range(12)]
    driven = []
    for place in places:
        driven.append(of_map.about(place, grid))
        ahead = SE2(place.x_m + 10.0, place.y_m + 10.0)
        of_map.prepare([place, ahead], grid)
        wait(of_map._under_way)
        encoded = len(encoding.sizes)
        of_map.about(ahead, grid)
        assert len(encoding.sizes) == encoded
    alone, _ = features(town, encoder)
    for place, found in zip(places, driven, strict=True):
        torch.testing.assert_close(found, alone.about(place, grid), rtol=1e-4, atol=1e-5)


def test_preparing_returns_at_once_and_who_needs_it_waits(town: MapSource, encoder: MapEncoder):
    of_map, encoding = features(town, encoder)
    go_on = threading.Event()
    at_once = of_map._encode

    def held(layers: np.ndarray) -> torch.Tensor:
        assert go_on.wait(20.0)
        return at_once(layers)

    of_map._encode = held
    grid = Grid(BLOCK, BLOCK, of_map.cell_m)
    of_map.prepare([SE2()], grid)
    assert encoding.sizes == []
    threading.Timer(0.2, go_on.set).start()
    found = of_map.about(SE2(), grid)
    assert len(encoding.sizes) == 1
    alone, _ = features(town, encoder)
    torch.testing.assert_close(found, alone.about(SE2(), grid), rtol=0, atol=0)


def test_two_strips_that_meet_in_a_corner_are_not_encoded_as_a_square(town: MapSource, encoder: MapEncoder):
    of_map, encoding = features(town, encoder)
    of_map.window(0, 0, 12 * BLOCK, 12 * BLOCK)
    of_map.window(BLOCK, BLOCK, 12 * BLOCK, 12 * BLOCK)
    cells = [height * width for height, width in encoding.sizes]
    assert len(cells) == 3
    assert sum(cells[1:]) < 0.7 * cells[0]


def test_a_large_stretch_is_encoded_in_pieces(town: MapSource, encoder: MapEncoder):
    of_map, encoding = features(town, encoder)
    of_map.window(0, 0, 20 * BLOCK, BLOCK)
    assert len(encoding.sizes) == 2
    assert max(height for height, _ in encoding.sizes) < STRIDE * 20 * BLOCK

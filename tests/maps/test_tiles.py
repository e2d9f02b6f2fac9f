from pathlib import Path

import numpy as np
import pytest

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.osm import read_osm
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.source import MapSource, open_map
from bevfusion.maps.tiles import BLOCK_CELLS, TileStore
from bevfusion.structures import DataError
from tests.maps.osm_text import OsmText


class CountingSource:
    """A map that counts how often it is drawn."""

    def __init__(self, source: MapSource) -> None:
        self.source = source
        self.frame, self.name, self.bounds_m, self.covers = source.frame, source.name, source.bounds_m, source.covers
        self.summary = source.summary
        self.draws = 0

    def draw(self, grid: Grid, map_from_tile: SE2, mirrored: bool = False) -> np.ndarray:
        self.draws += 1
        return self.source.draw(grid, map_from_tile, mirrored)


@pytest.fixture(scope="module")
def town(shared_data: Path) -> OsmRenderer:
    return OsmRenderer(read_osm(shared_data / "maps" / "world" / "villeurbanne-gratteciel_fr.osm.pbf"))


@pytest.mark.parametrize("grid", [Grid(256, 256, 0.5), Grid(101, 60, 0.5), Grid(300, 520, 0.25)])
@pytest.mark.parametrize("place", [(0.0, 0.0), (-63.9, 64.1), (131.77, -200.3), (-700.0, 400.0)])
def test_tile_from_blocks_equals_one_drawn_at_once(town: OsmRenderer, grid: Grid, place: tuple[float, float]) -> None:
    tile = TileStore(town, grid).tile(SE2(*place, 0.8))
    np.testing.assert_array_equal(tile.layers, town.draw(grid, tile.map_from_tile))


def test_tile_is_centred_on_the_pose_to_half_a_cell(town: OsmRenderer) -> None:
    store = TileStore(town, Grid(64, 64, 0.5))
    rng = np.random.default_rng(0)
    for x_m, y_m in rng.uniform(-300, 300, (20, 2)):
        centre = store.tile(SE2(float(x_m), float(y_m), 1.0)).map_from_tile
        assert abs(centre.x_m - x_m) <= 0.25
        assert abs(centre.y_m - y_m) <= 0.25
        assert (centre.x_m / 0.5, centre.y_m / 0.5, centre.yaw_rad) == (
            round(centre.x_m / 0.5),
            round(centre.y_m / 0.5),
            0.0,
        )


def test_blocks_are_drawn_once_and_dropped_when_many(town: OsmRenderer) -> None:
    source = CountingSource(town)
    store = TileStore(source, Grid(64, 64, 0.5), max_blocks=4)
    side_m = BLOCK_CELLS * 0.5
    for _ in range(3):
        store.tile(SE2(0.3 * side_m, 0.3 * side_m))
    assert source.draws == 1
    for i in range(12):
        store.tile(SE2((i + 0.5) * side_m, 0.5 * side_m))
    assert source.draws == 12
    assert len(store._blocks) <= 4
    store.tile(SE2(0.5 * side_m, 0.5 * side_m))
    assert source.draws == 13


def test_tiles_cannot_spoil_the_cache(town: OsmRenderer) -> None:
    tile = TileStore(town, Grid(64, 64, 0.5)).tile(SE2())
    with pytest.raises(ValueError, match="read-only"):
        tile.layers[:] = 55


def test_tiles_of_a_drive_are_those_drawn_at_once_and_stay_so(town: OsmRenderer) -> None:
    """Along a course that crosses borders of blocks both ways, with jumps; earlier tiles are looked at last."""
    grid = Grid(96, 130, 0.5)
    store = TileStore(town, grid)
    rng = np.random.default_rng(0)
    along = np.arange(0.0, 360.0, 3.0)
    course = [(float(s) - 180.0, 60.0 * float(np.sin(s / 40.0)) + float(rng.normal(0, 8))) for s in along]
    tiles = [store.tile(SE2(x_m, y_m)) for x_m, y_m in course]
    for tile in tiles[::7]:
        np.testing.assert_array_equal(tile.layers, town.draw(grid, tile.map_from_tile))


def test_a_tile_within_the_same_blocks_copies_nothing(town: OsmRenderer) -> None:
    store = TileStore(town, Grid(64, 64, 0.5))
    first, second = (store.tile(SE2(x_m, 60.0)).layers for x_m in (40.0, 71.0))
    assert np.shares_memory(first, second)
    assert not np.shares_memory(first, store.tile(SE2(200.0, 60.0)).layers)


def test_turned_tile_is_the_exact_drawing(town: OsmRenderer) -> None:
    grid, pose = Grid(64, 64, 0.5), SE2(1.234, 5.678, 0.9)
    tile = TileStore(town, grid).turned_tile(pose, mirrored=True)
    assert tile.map_from_tile == pose
    np.testing.assert_array_equal(tile.layers, town.draw(grid, pose, mirrored=True))


def test_open_map_goes_by_the_suffix(osm_text: OsmText, tmp_path: Path) -> None:
    osm_text.line([(0, 0), (50, 0)], {"highway": "residential"})
    (tmp_path / "a.osm").write_text(str(osm_text), encoding="utf-8")
    assert open_map(tmp_path / "a.osm").name == "a"
    with pytest.raises(DataError, match=r"no map by its suffix; convert it: ogr2ogr -f GPKG a\.gpkg a\.dxf"):
        open_map(tmp_path / "a.dxf")
    with pytest.raises(DataError, match=r"\.osm\.pbf.*\.tif"):
        open_map(tmp_path / "a.odd")

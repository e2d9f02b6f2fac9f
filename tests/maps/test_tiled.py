"""Maps drawn to disk: equal to the extract where they must be, near it elsewhere, refused when damaged."""

import json
import math
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bevfusion.benchmark.bev import dense_scan
from bevfusion.classical.locator import ClassicalLocator
from bevfusion.cli import main
from bevfusion.filters.search import RoadArea
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.localizer import DEFAULT, open_localizer
from bevfusion.maps import tile_file
from bevfusion.maps.osm import read_osm
from bevfusion.maps.provenance import map_provenance
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.schema import LAYERS, layer_index
from bevfusion.maps.source import MapSource, open_map
from bevfusion.maps.tile_file import BLOCK_CELLS, TileFile, pack, unpack
from bevfusion.maps.tiled import MARGIN_M, TiledMap, tile_extract
from bevfusion.maps.tiles import TileStore
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError
from tests.maps.osm_text import OsmText

GRID = Grid(200, 230, 0.5)
Pair = tuple[MapSource, TiledMap]


def tiled(extract: Path, folder: Path) -> Pair:
    output = folder / f"{extract.name}.tiles"
    tile_extract(extract, output)
    made = open_map(output)
    assert isinstance(made, TiledMap)
    return open_map(extract), made


@pytest.fixture(scope="module", params=["invented", "real"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """An extract, and the same drawn to disk."""
    folder = tmp_path_factory.mktemp("tiles")
    if request.param == "invented":
        write_town(folder / "town.osm.gz", 5)
        return tiled(folder / "town.osm.gz", folder)
    shared_data = request.getfixturevalue("shared_data")
    return tiled(shared_data / "maps/world/villeurbanne-gratteciel_fr.osm.pbf", folder)


@pytest.fixture
def small(osm_text: OsmText, tmp_path: Path) -> Path:
    """A file of tiles with one road."""
    osm_text.line([(0, 0), (150, 40)], {"highway": "residential", "oneway": "yes"})
    (tmp_path / "small.osm").write_text(str(osm_text), encoding="utf-8")
    tile_extract(tmp_path / "small.osm", tmp_path / "small.tiles")
    return tmp_path / "small.tiles"


def places(bounds_m: tuple[float, float, float, float], margin_m: float, count: int) -> list[SE2]:
    """Anywhere on a map, and around its corners and the middles of its borders."""
    x0_m, y0_m, x1_m, y1_m = bounds_m
    rng = np.random.default_rng(0)
    inside = [SE2(*map(float, rng.uniform((x0_m, y0_m), (x1_m, y1_m)))) for _ in range(count)]
    xs, ys = (x0_m - margin_m, 0.0, x1_m + margin_m), (y0_m - margin_m, 0.0, y1_m + margin_m)
    return inside + [SE2(x_m, y_m) for x_m in xs for y_m in ys]


def test_tiles_equal_those_of_the_extract_also_beside_the_border(pair: Pair) -> None:
    extract, made = pair
    assert (made.frame, made.bounds_m, made.name) == (extract.frame, extract.bounds_m, extract.name)
    drawn, stored = TileStore(extract, GRID), TileStore(made, GRID)
    beyond_m = MARGIN_M - 0.5 * max(GRID.half_extent_m)
    shown = 0
    for place in places(extract.bounds_m, beyond_m - 0.5 * max(GRID.half_extent_m), 12):
        expected = drawn.tile(place)
        found = stored.tile(place)
        assert found.map_from_tile == expected.map_from_tile
        np.testing.assert_array_equal(found.layers, expected.layers)
        np.testing.assert_array_equal(made.draw(GRID, expected.map_from_tile), expected.layers)
        shown += bool(expected.layers.any())
    assert shown > 10


def test_what_is_sampled_on_whole_cells_is_what_is_copied(pair: Pair) -> None:
    made = pair[1]
    for pose in (SE2(0.0, 0.0), SE2(-60.0, 100.5)):
        copied = made.draw(GRID, pose)
        assert copied.any()
        np.testing.assert_array_equal(made._sampled(GRID, pose, False), copied)


def within(a: np.ndarray, b: np.ndarray, cells: int) -> float:
    """Share of the cells of a mask that lie so close to one of another."""
    wide = cv2.dilate(b.astype(np.uint8), np.ones((2 * cells + 1, 2 * cells + 1), np.uint8)) > 0
    return float((a & wide).sum() / a.sum())


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("yaw_rad", [0.0, 0.7, -2.5])
@pytest.mark.parametrize("grid", [GRID, Grid(200, 200, 0.25)])
def test_what_lies_elsewhere_is_near_what_the_extract_draws(
    pair: Pair, grid: Grid, yaw_rad: float, mirrored: bool
) -> None:
    """Turned, mirrored, shifted by less than a cell, in finer cells: no more than one of the file's cells away."""
    pose = SE2(30.13, -20.31, yaw_rad)
    expected, found = (source.draw(grid, pose, mirrored) for source in pair)
    for name in ("road", "building", "building_outline", "tree"):
        a, b = (layers[layer_index(name)] > 0 for layers in (expected, found))
        cells = round(0.5 / grid.cell_m)
        assert within(a, b, cells) > 0.995, name
        assert within(b, a, cells) > 0.995, name
    for name in ("road_cos2", "oneway_cos"):
        at = layer_index(name)
        a, b = (layers[at : at + 2].astype(float) for layers in (expected, found))
        known = (np.hypot(*a) > 60) & (np.hypot(*b) > 60)
        assert known.any()
        cos = (a * b).sum(axis=0)[known] / (np.hypot(*a) * np.hypot(*b))[known]
        # whole numbers to 127 are good to half a degree; at junctions the mean direction turns from cell to cell
        assert np.percentile(cos, 5) > math.cos(math.radians(1.0)), name
        assert cos.mean() > 0.99, name


def test_coarser_cells_show_the_same_roads(pair: Pair) -> None:
    """As the search of a whole map asks: where it looks."""
    extract, made = pair
    grid = Grid(400, 400, 1.0)
    a, b = (RoadArea(s.draw, s.bounds_m, layer_index("road")).near_road(grid, SE2(0.5, 0.5)) for s in pair)
    assert 0.05 < a.mean() < 0.95
    wider = [cv2.dilate(near.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for near in (a, b)]
    # each cell shows what the file shows at its middle: a border lies up to a cell off
    assert (a & ~wider[1]).mean() < 0.002
    assert (b & ~wider[0]).mean() < 0.002
    assert made.covers(0.0, 0.0)
    assert not made.covers(extract.bounds_m[2] + 1.0, 0.0)


def test_a_network_says_the_same_and_the_matcher_about_the_same(pair: Pair) -> None:
    scan, prior = dense_scan(0), SE2(11.3, -7.9, 0.3)
    answers = [open_localizer(DEFAULT, source).locate(scan, prior, 5.0, math.radians(10.0)) for source in pair]
    assert answers[0].map_from_ego == answers[1].map_from_ego
    np.testing.assert_array_equal(answers[0].covariance, answers[1].covariance)
    matched = [ClassicalLocator(source).locate(scan, prior, 5.0, math.radians(10.0)).belief for source in pair]
    assert matched[0] is not None
    assert matched[1] is not None
    a, b = (belief.log_prob.numpy().ravel() for belief in matched)
    assert np.corrcoef(a, b)[0, 1] > 0.9


@given(st.data())
@settings(max_examples=25)
def test_every_block_comes_back(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    layers = np.zeros((len(LAYERS), BLOCK_CELLS, BLOCK_CELLS), np.int8)
    for layer in data.draw(st.sets(st.integers(0, len(LAYERS) - 1), max_size=6)):
        values = data.draw(st.sampled_from([[127], [0, 127], [0, 1], [-128, -127, 0, 127], list(range(-128, 128))]))
        layers[layer] = rng.choice(np.array(values, np.int8), layers.shape[1:])
    packed = pack(layers)
    assert (packed == b"") == (not layers.any())
    if packed:
        np.testing.assert_array_equal(unpack(packed), layers)


def test_what_is_blank_takes_no_room(small: Path) -> None:
    file = TileFile(small)
    rows, columns = file.contents.blocks
    blank = sum(
        file.block(row, col) is None
        for row in range(file.contents.first_block[0], file.contents.first_block[0] + rows)
        for col in range(file.contents.first_block[1], file.contents.first_block[1] + columns)
    )
    assert rows * columns - 6 <= blank < rows * columns
    assert small.stat().st_size < 20_000
    assert file.block(10_000, 0) is None


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, -9, -8, -1])
def test_a_cut_file_is_refused(small: Path, keep: float) -> None:
    content = small.read_bytes()
    small.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else int(keep)])
    with pytest.raises(DataError, match=r"small\.tiles"):
        open_map(small)


def test_a_lengthened_file_is_refused(small: Path) -> None:
    small.write_bytes(small.read_bytes() + b"\0" * 8)
    with pytest.raises(DataError, match="cut off or damaged"):
        open_map(small)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("version", 1, "version 1"),
        ("layers", ["road"], "other layers"),
        ("block_cells", 128, "other layers"),
        ("blocks", [0, 3], "blocks"),
        ("blocks", [1 << 40, 1 << 40], "blocks"),
        ("cell_m", float("nan"), "number is nan"),
        ("cell_m", -0.5, "cells"),
        ("bounds_m", [0, 1, 2], "unpack"),
        ("origin_deg", [91, 0], "latitude"),
        ("name", None, None),
    ],
)
def test_other_first_lines_are_refused(small: Path, key: str, value: object, message: str | None) -> None:
    line, _, rest = small.read_bytes().partition(b"\n")
    words = json.loads(line)
    if message is None:
        del words[key]
    else:
        words[key] = value
    small.write_bytes(json.dumps(words).encode() + b"\n" + rest)
    with pytest.raises(DataError, match=message):
        open_map(small)


def test_a_first_line_that_was_changed_is_refused(small: Path) -> None:
    whole = small.read_bytes()
    line, _, rest = whole.partition(b"\n")
    for old, new in ((b'"cell_m": 0.5', b'"cell_m": 0.6'), (b'"name": "s', b'"name": "t')):
        assert old in line
        small.write_bytes(line.replace(old, new) + b"\n" + rest)
        with pytest.raises(DataError, match="damaged"):
            open_map(small)
    table = bytearray(whole)
    table[-12] ^= 1  # an offset, which the blocks would not tell
    small.write_bytes(table)
    with pytest.raises(DataError, match="damaged"):
        open_map(small)


def test_empty_land_is_not_drawn(osm_text: OsmText, write_osm, tmp_path: Path, monkeypatch) -> None:
    """Of 26 km by 26 km with two things on it, a few blocks are drawn, and they show what the extract does."""
    osm_text.line([(-13_000.0, -13_000.0), (-12_900.0, -12_950.0)], {"highway": "service"})
    osm_text.node(13_000.0, 13_000.0, {"natural": "tree"})
    osm_text.bounds = ""
    drawn = []
    draw = OsmRenderer.draw
    monkeypatch.setattr(OsmRenderer, "draw", lambda self, *args: drawn.append(args) or draw(self, *args))
    path = write_osm(osm_text)
    tile_extract(path, tmp_path / "land.tiles")
    assert 2 <= len(drawn) <= 18
    renderer, tiled = OsmRenderer(read_osm(path)), open_map(tmp_path / "land.tiles")
    grid = Grid(256, 256, 0.5)
    for x_m, y_m in ((-12_960.0, -12_960.0), (12_960.0, 12_960.0), (0.0, 0.0)):
        np.testing.assert_array_equal(tiled.draw(grid, SE2(x_m, y_m)), draw(renderer, grid, SE2(x_m, y_m)))


@pytest.mark.parametrize("content", [b"", b"{}\n", b"PNG\n", b'{"format": "bevfusion tiles"', b"\0" * 100_000])
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign.tiles").write_bytes(content)
    with pytest.raises(DataError, match=r"foreign\.tiles"):
        open_map(tmp_path / "foreign.tiles")
    with pytest.raises(DataError, match=r"absent\.tiles is not a file"):
        open_map(tmp_path / "absent.tiles")


def test_a_damaged_block_is_refused_when_it_is_drawn(small: Path) -> None:
    """Whichever byte it is, unless nothing comes of it (as of a repetition that is copied from elsewhere)."""
    whole = small.read_bytes()
    grid = Grid(700, 700, 0.5)
    expected = open_map(small).draw(grid, SE2())
    table = len(whole) - 8 * (math.prod(TileFile(small).contents.blocks) + 1)
    refused = []
    for back in range(1, 40, 4):
        content = bytearray(whole)
        content[table - back] ^= 0x10
        small.write_bytes(content)
        try:
            np.testing.assert_array_equal(open_map(small).draw(grid, SE2()), expected)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 3
    assert all("a block is damaged" in message for message in refused)


def test_blocks_that_unpack_to_something_else_are_refused() -> None:
    for content in (b"", b"\1" * 10, b"\1" * 24, b"\0" * 24 + b"more", b"\2" + b"\0" * 23 + b"\xff" * 8192 + b"7"):
        with pytest.raises(ValueError, match=r"end|more|buffer|reshape|out of bounds|shape"):
            unpack(zlib.compress(content))


def test_tiles_of_other_cells_are_refused_with_the_remedy(small: Path) -> None:
    with pytest.raises(DataError, match=r"cells of 0\.25 m are asked for; use the extract, or .*--cell-m 0\.25"):
        TileStore(open_map(small), Grid(64, 64, 0.25))


def test_cells_can_be_chosen(small: Path, tmp_path: Path) -> None:
    extract = small.with_suffix(".osm")
    tile_extract(extract, tmp_path / "fine.tiles", cell_m=0.25)
    grid = Grid(300, 300, 0.25)
    found, expected = (TileStore(open_map(path), grid).tile(SE2()) for path in (tmp_path / "fine.tiles", extract))
    np.testing.assert_array_equal(found.layers, expected.layers)
    with pytest.raises(DataError, match="larger cells"):
        tile_extract(extract, tmp_path / "finest.tiles", cell_m=0.001)


def test_nothing_is_left_half_written(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, files = small.read_bytes(), sorted(small.parent.iterdir())

    def stop(done: int, count: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tile_extract(small.with_suffix(".osm"), small, on_block=stop)
    assert small.read_bytes() == before
    with pytest.raises(DataError, match=r"in\.tiles cannot be written"):
        tile_extract(small.with_suffix(".osm"), small / "in.tiles")
    with pytest.raises(DataError, match=r"ends in \.tiles"):
        tile_extract(small.with_suffix(".osm"), small.with_suffix(".map"))
    assert sorted(small.parent.iterdir()) == files
    monkeypatch.setattr(tile_file, "MAX_BLOCKS", 3)
    with pytest.raises(DataError, match="cannot be tiled"):
        tile_extract(small.with_suffix(".osm"), small)


def test_reports_know_how_old_the_extract_was(small: Path) -> None:
    about = map_provenance(small)
    assert about["data_date"] == map_provenance(small.with_suffix(".osm"))["data_date"]
    assert about["file"] == str(small)


def test_the_command(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "town.tiles"
    assert main("tile", [str(small.with_suffix(".osm")), "--output", str(output)]) == 0
    assert output.read_bytes() == small.read_bytes()
    assert "tiles of 128 m" in capsys.readouterr().out
    assert main("tile", [str(small), "--output", str(output)]) == 2
    assert capsys.readouterr().err.count("\n") == 1

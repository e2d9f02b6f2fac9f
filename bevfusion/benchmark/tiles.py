"""Tiles of a map: drawn for the first time, read from disk, and cut from blocks in memory along a drive."""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from bevfusion.benchmark.measuring import MethodTiming, Task, Timing, compared, floor_ms
from bevfusion.config import Config
from bevfusion.datasets.simulated import map_file
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import LAYERS
from bevfusion.maps.source import MapSource, open_map
from bevfusion.maps.tiled import tile_extract
from bevfusion.maps.tiles import TileStore
from bevfusion.structures import MapTile

GRID = Grid(256, 256, 0.5)  # 128 m
TILE = Task("128 m at 0.5 m, all layers", len(LAYERS) * GRID.height * GRID.width, 0.0)
DRIVE_TILES, _DRIVES = 600, 5
_CPU = torch.device("cpu")


def tiles_rows(device: torch.device) -> list[MethodTiming]:
    """On the CPU whatever the device is: maps are drawn there."""
    extract = map_file("town:101", Path(Config().simulation.cache))
    source = open_map(extract)
    with TemporaryDirectory() as folder:
        return [*disk_rows(extract, Path(folder) / "town.tiles"), *drive_rows(TileStore(source, GRID))]


def disk_rows(extract: Path, output: Path) -> list[MethodTiming]:
    """An extract drawn to disk as a whole (tiles a second: those of the task's name over its time), and read again."""
    source = open_map(extract)
    tile_extract(extract, output)
    made = open_map(output)
    centres = shown_centres(source)
    store = TileStore(source, GRID)
    lattice = [store.tile(centre).map_from_tile for centre in centres]
    here, there = itertools.cycle(lattice), itertools.cycle(lattice)
    whole = Task(f"{extract.name}, {len(centres)} tiles", len(centres) * TILE.least_bytes, 0.0)
    return [
        *compared(
            whole,
            {
                "extract opened": lambda: open_map(extract),
                "opened, drawn, written": lambda: tile_extract(extract, output),
                "tiles opened": lambda: open_map(output),
            },
            _CPU,
        ),
        *compared(
            TILE,
            {"drawn": lambda: source.draw(GRID, next(here)), "from disk": lambda: made.draw(GRID, next(there))},
            _CPU,
        ),
    ]


def drive_rows(store: TileStore) -> list[MethodTiming]:
    """Tiles of a drive, a metre apart, from blocks that are all in memory; and the same as a network takes them.

    Most tiles are a view, and one that enters a new block copies megabytes: of each the quantiles over single tiles are
    given, and, since these hide the few, the mean over a drive.
    """
    uses: dict[str, Callable[[MapTile], object]] = {
        "cached": lambda tile: tile,
        "cached, made float32": lambda tile: tile.layers[None].astype(np.float32) / 127.0,
    }
    course = [SE2(0.8 * (i - 0.5 * DRIVE_TILES), 0.6 * (i - 0.5 * DRIVE_TILES)) for i in range(DRIVE_TILES)]
    rows = []
    for name, use in uses.items():
        _drive_ms(store, course, use)
        drives = [_drive_ms(store, course, use) for _ in range(_DRIVES)]
        means = Timing.of([(float(np.mean(clock)), float(np.mean(spent))) for clock, spent in drives])
        tiles = Timing.of([pair for clock, spent in drives for pair in zip(clock, spent, strict=True)])
        rows += [_row(f"{name}: each of a drive", tiles), _row(f"{name}: mean of a drive", means)]
    return rows


def _drive_ms(
    store: TileStore, course: Sequence[SE2], use: Callable[[MapTile], object]
) -> tuple[list[float], list[float]]:
    """Milliseconds of every tile of a drive, by the clock and of the processor."""
    clock, spent = [], []
    for pose in course:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        use(store.tile(pose))
        clock.append(1e3 * (time.perf_counter() - began_s))
        spent.append(1e3 * (time.process_time() - began_cpu_s))
    return clock, spent


def _row(method: str, timed: Timing) -> MethodTiming:
    return MethodTiming(TILE.name, method, timed, 0.0, floor_ms(TILE.least_bytes, TILE.least_operations, _CPU), 1.0)


def shown_centres(source: MapSource) -> list[SE2]:
    """Places, a tile apart, where the map shows anything: an empty tile takes next to no time, and would flatter."""
    x0_m, y0_m, x1_m, y1_m = source.bounds_m
    side_m = GRID.width * GRID.cell_m
    places = itertools.product(np.arange(x0_m, x1_m, side_m), np.arange(y0_m, y1_m, side_m))
    centres = [SE2(float(x_m) + 0.5 * side_m, float(y_m) + 0.5 * side_m) for x_m, y_m in places]
    return [centre for centre in centres if source.draw(GRID, centre).any()]

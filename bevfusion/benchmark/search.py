"""A scan sought all over an invented town: window by window, and at once."""

import math
from pathlib import Path

import torch

from bevfusion.benchmark.bev import dense_scan
from bevfusion.benchmark.comparison import MethodTiming, Task, compared
from bevfusion.config import Config
from bevfusion.datasets.simulated import map_file
from bevfusion.filters.search import RoadArea, lattice
from bevfusion.geometry.grid import Grid
from bevfusion.heads.city_search import CitySearch
from bevfusion.localizer import DEFAULT, NetworkLocator, open_localizer
from bevfusion.maps.schema import layer_index
from bevfusion.maps.source import open_map

WINDOW_M = 40.0


def search_rows(device: torch.device) -> list[MethodTiming]:
    """Of the weights that ship, on a town whose features are at hand in both ways."""
    source = open_map(map_file("town:101", Path(Config().simulation.cache)))
    opened = open_localizer(DEFAULT, source)
    locator = NetworkLocator(opened.model, opened.config, source, device=device.type)
    return compared_searches(locator, RoadArea(source.draw, source.bounds_m, layer_index("road")), device)


def compared_searches(locator: NetworkLocator, area: RoadArea, device: torch.device) -> list[MethodTiming]:
    """Every window with a road in it at every heading, against one search of the same roads.

    The windows touch, as few as there can be, and nothing is read out of them: what they take is the least that any
    search by windows takes.
    """
    look = Grid.square(WINDOW_M, 1.0)
    windows = [place for place in lattice(area.bounds_m, WINDOW_M) if area.near_road(look, place).any()]
    scan, search = dense_scan(0), CitySearch(locator, area)

    def by_windows() -> None:
        for place in windows:
            locator.locate(scan, place, WINDOW_M, math.pi)

    def at_once() -> None:
        search.candidates(scan)

    by_windows()  # both ways read the map here, before they are timed
    at_once()
    x0_m, y0_m, x1_m, y1_m = area.bounds_m
    km2 = 1e-6 * (x1_m - x0_m) * (y1_m - y0_m)
    # The least: what is kept of the map is read once.
    task = Task(f"{km2:.2f} km2, {len(windows)} windows of {2 * WINDOW_M:g} m, any heading", search.nbytes, 0.0)
    return compared(task, {"window by window": by_windows, "at once": at_once}, device)

"""The exhaustive matching against the method that everyone uses, and a scan sought all over an invented town.

Everyone rotates all templates, FFT-correlates and takes the softmax.
The problem: 8 channels, a raster of 64 x 129 cells before the sensor (in a square of 130, since the sensor is its
centre), a map of 256 x 256, 256 headings. A volume of all places of the map, or of +-22 m and +-10 degrees
(cells of 0.5 m).
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bevfusion.benchmark.bev import dense_scan
from bevfusion.benchmark.measuring import MethodTiming, Task, compared
from bevfusion.config import Config
from bevfusion.datasets.simulated import map_file
from bevfusion.filters.search import RoadArea, lattice
from bevfusion.geometry.grid import Grid
from bevfusion.heads.city_search import CitySearch
from bevfusion.heads.correlation import fast_length
from bevfusion.heads.matching import match
from bevfusion.heads.matching_reference import correlate_all, rotate_all
from bevfusion.localizer import DEFAULT, NetworkLocator, open_localizer
from bevfusion.maps.schema import layer_index
from bevfusion.maps.source import open_map
from bevfusion.progress import frame_progress

CHANNELS, BEV, MAP, HEADINGS = 8, (129, 64), 256, 256
GRID = Grid(130, 130, 0.5)
WINDOW_REACH, WINDOW_HEADINGS = 44, 15  # +-22 m; +-10 degrees in steps of 360 / 256
TRAINING_HEADINGS = 64
WINDOW_M = 40.0


def matching_rows(device: torch.device) -> list[MethodTiming]:
    """The whole volume, the part that a prior allows, and a training step through the whole volume."""
    jobs: list[Callable[[torch.device], list[MethodTiming]]] = [_window, _training, _full]
    rows = []
    with frame_progress(f"matching on {device.type}", len(jobs)) as show:
        for done, job in enumerate(jobs, start=1):
            rows.extend(job(device))
            show(done, len(jobs))
    return rows


def problem(batch: int, padding: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Template (B, C, 130, 130) and map (B, C, 256 + 2 padding, ...), random, 0 outside the raster and the map."""
    torch.manual_seed(0)
    template = torch.zeros(batch, CHANNELS, GRID.height, GRID.width, device=device)
    rows, columns = BEV
    template[:, :, :rows, GRID.width // 2 : GRID.width // 2 + columns] = torch.randn(batch, CHANNELS, *BEV)
    features = torch.randn(batch, CHANNELS, MAP, MAP).to(device)
    return template, F.pad(features, (padding,) * 4)


def baseline(template: Tensor, features: Tensor, yaw_rad: Tensor, reach: int) -> Tensor:
    """Rotate all templates, correlate them by FFT, softmax."""
    scores = correlate_all(rotate_all(template, yaw_rad, GRID), features, reach)
    return scores.flatten(1).log_softmax(1)


def ours(template: Tensor, features: Tensor, yaw_rad: Tensor, reach: int, *, circle: bool) -> Tensor:
    """As `PoseVolumeHead` does it."""
    return match(template, features, yaw_rad, GRID, reach, circle=circle).flatten(1).log_softmax(1)


def task(name: str, batch: int, headings: int, rotated: int, reach: int) -> Task:
    """The least: read template and map, write the volume; FFTs as in `heads/correlation.py`, forward only."""
    poses = batch * headings * (2 * reach + 1) ** 2
    cells = fast_length(GRID.height + 2 * reach) ** 2
    transforms = 0.5 * (rotated * CHANNELS + headings) * 5.0 * cells * math.log2(cells)
    products = 0.5 * headings * CHANNELS * 8.0 * cells
    least_bytes = 4 * (batch * CHANNELS * (BEV[0] * BEV[1] + MAP**2) + poses)
    return Task(name, least_bytes, batch * (transforms + products))


def circle_rad(batch: int, headings: int, device: torch.device) -> Tensor:
    """Headings all round, for each sample."""
    return (torch.arange(headings, device=device) * (2.0 * math.pi / headings)).expand(batch, -1)


def _full(device: torch.device) -> list[MethodTiming]:
    reach = MAP // 2
    template, features = problem(1, _padding(reach), device)
    yaw_rad = circle_rad(1, HEADINGS, device)
    with torch.inference_mode():
        return compared(
            task(f"all {HEADINGS} headings, {2 * reach + 1} x {2 * reach + 1}", 1, HEADINGS, HEADINGS // 4, reach),
            {
                "baseline": lambda: baseline(template, features, yaw_rad, reach),
                "ours": lambda: ours(template, features, yaw_rad, reach, circle=True),
            },
            device,
        )


def _window(device: torch.device) -> list[MethodTiming]:
    template, features = problem(1, 0, device)
    yaw_rad = circle_rad(1, HEADINGS, device)[:, :WINDOW_HEADINGS]
    side = 2 * WINDOW_REACH + 1
    with torch.inference_mode():
        return compared(
            task(f"{WINDOW_HEADINGS} headings, {side} x {side}", 1, WINDOW_HEADINGS, WINDOW_HEADINGS, WINDOW_REACH),
            {
                "baseline": lambda: baseline(template, features, yaw_rad, WINDOW_REACH),
                "ours": lambda: ours(template, features, yaw_rad, WINDOW_REACH, circle=False),
            },
            device,
        )


def _training(device: torch.device) -> list[MethodTiming]:
    batch = 1 if device.type == "cpu" else 4  # four are 8 GB on the baseline's way
    reach = MAP // 2
    template, features = problem(batch, _padding(reach), device)
    yaw_rad = circle_rad(batch, TRAINING_HEADINGS, device)
    truth = torch.zeros(batch, dtype=torch.int64, device=device)

    def step(method: Callable[[Tensor, Tensor], Tensor]) -> None:
        t, m = template.clone().requires_grad_(), features.clone().requires_grad_()
        F.nll_loss(method(t, m), truth).backward()  # type: ignore[no-untyped-call]

    return compared(
        task(f"training, batch {batch}, {TRAINING_HEADINGS} headings", batch, TRAINING_HEADINGS, 16, reach),
        {
            "baseline": lambda: step(lambda t, m: baseline(t, m, yaw_rad, reach)),
            "ours": lambda: step(lambda t, m: ours(t, m, yaw_rad, reach, circle=True)),
        },
        device,
    )


def _padding(reach: int) -> int:
    """So that every shift finds cells, and the baseline a length that FFTs like."""
    return (fast_length(GRID.height + 2 * reach) - MAP + 1) // 2


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

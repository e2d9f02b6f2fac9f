"""The whole step and its parts: from 120,000 points and a prior to a pose and its belief, by the weights that ship.

Each is measured as the network was first run (float32, channel by channel in memory), as it is run (channels-last), and
in bfloat16 where the processor has it: in turns, so that whatever else the machine does falls on all of them alike.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from bevfusion.benchmark.bev import POINTS, dense_scan
from bevfusion.benchmark.measuring import MethodTiming, Task, Timing, compared_in_turns, floor_ms
from bevfusion.build import search_window, tile_grid, voxel_grid
from bevfusion.config import Config
from bevfusion.datasets.simulated import map_file
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.correlation import fast_length
from bevfusion.heads.pose_volume import belief_of, best_pose
from bevfusion.lidar.voxelize import scan_input
from bevfusion.localizer import DEFAULT, NetworkLocator, estimate_of, open_network
from bevfusion.maps.source import MapSource, open_map
from bevfusion.maps.tiles import TileStore
from bevfusion.model import ScanFeatures
from bevfusion.precision import Precision, chosen_precision, computing_in
from bevfusion.sequence import sequence_localizer
from bevfusion.structures import Batch, Frame

OFFSET_M, OFFSET_RAD = 20.0, math.radians(10.0)
RATE_HZ, SPEED_M_S, AHEAD_S = 10.0, 10.0, 1.0
DRIVE_STEPS = 80
_SCANS = 4
_AS_FIRST = "float32, channels first"
_CHANNELS_LAST: dict[str, Precision] = {"float32": "float32", "bfloat16": "bfloat16"}


def step_rows(device: torch.device) -> list[MethodTiming]:
    """The parts of a step, `NetworkLocator.locate`, and steps of a drive through an invented town at a LiDAR's rate."""
    source = open_map(map_file("town:101", Path(Config().simulation.cache)))
    locators = {_AS_FIRST: _locator(source, device, "float32")}
    locators[_AS_FIRST].model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for name, precision in _CHANNELS_LAST.items():
        if precision == "float32" or chosen_precision("auto", device.type) == precision:
            locators[f"{name}, channels last"] = _locator(source, device, precision)
    measured = {name: _Step(locator) for name, locator in locators.items()}
    first = measured[_AS_FIRST]
    rows: list[MethodTiming] = []
    for task, method in first.parts().items():
        rows += compared_in_turns(task, {name: getattr(step, method) for name, step in measured.items()}, device)
    return [*rows, *_drive_rows(source, device)]


class _Step:
    """The parts of a step about one place, each on what those before it have made."""

    def __init__(self, locator: NetworkLocator) -> None:
        """Run all of it once."""
        config, model = locator.config, locator.model
        self.locator, self.window = locator, search_window(config, OFFSET_M, OFFSET_RAD)
        self._scans, self._calls = [dense_scan(i) for i in range(_SCANS)], 0
        self._grid = tile_grid(config, OFFSET_M)
        self._tiles = TileStore(locator.source, model.bev_grid)
        bev = self.raster()
        tile = torch.from_numpy(self._tiles.tile(SE2(), self._grid).layers.copy())
        self.batch = Batch(bev[None], tile[None], torch.zeros(1)).to(locator.device)
        self.features = self.map_encoder()
        self.scan = self.tower()
        self.scores = self.matching()
        self.poses, self.score = best_pose(self.scores, self.window)

    def parts(self) -> dict[Task, str]:
        """What is measured, with the least that it takes: points and weights in once, sums of products of convolutions.

        By the name of the method that does it.
        """
        grid, planes = self.locator.model.bev_grid, self.batch.bev.shape[1]
        products = _convolution_products(self.locator)
        raster = 16 * POINTS + 4 * planes * grid.height * grid.width
        matched = _matching_operations(
            self.window, self.locator.model.feature_grid, self.locator.config.model.heads.match_channels
        )
        return {
            Task(f"raster with ground, {POINTS:,} points", raster, 2.0 * POINTS * planes): "raster",
            Task("LiDAR tower", self.batch.bev.nbytes, products["lidar_encoder"]): "tower",
            Task("matching, +-20 m, +-10 degrees", 4 * self.scores.numel(), matched): "matching",
            Task("fusion and heads", self.scan.lidar.nbytes, products["fusion"] + products["pose_check"]): "heads",
            Task("map of a first window", self.batch.tile.nbytes, products["map_encoder"]): "map_encoder",
            Task("locate, map at hand", 16 * POINTS, sum(products.values()) - products["map_encoder"]): "locate",
        }

    @torch.inference_mode()
    def raster(self) -> torch.Tensor:
        """A scan as the tower takes it."""
        self._calls += 1
        config = self.locator.config
        scan = self._scans[self._calls % _SCANS]
        return scan_input(scan, self.locator.model.bev_grid, config.bev.slices_m, voxel_grid(config))[0]

    @torch.inference_mode()
    def map_encoder(self) -> torch.Tensor:
        """The tile of a window, encoded."""
        with self._computing():
            features: torch.Tensor = self.locator.model.map_encoder(self.batch.tile)
            return features

    @torch.inference_mode()
    def tower(self) -> ScanFeatures:
        """Features of the scan."""
        with self._computing():
            return self.locator.model.encode_scan(self.batch)

    @torch.inference_mode()
    def matching(self) -> torch.Tensor:
        """Scores, and the belief that comes of them."""
        head = self.locator.model.pose_volume
        with self._computing():
            scores: torch.Tensor = head(
                self.scan.lidar, self.scan.seen, self.features, self.batch.prior_yaw_rad, self.window
            )
            self.locator.model.blur(belief_of(scores, self.window))
        return scores

    @torch.inference_mode()
    def heads(self) -> None:
        """Scan and map at the best pose, and what is read out of all."""
        model = self.locator.model
        with self._computing():
            _, check = model.look(self.scan, self.batch, self.features, self.poses, self.score)
        estimate_of(belief_of(self.scores, self.window), check.log_odds, SE2())

    def locate(self) -> None:
        """All of them."""
        self._calls += 1
        self.locator.locate(self._scans[self._calls % _SCANS], SE2(), OFFSET_M, OFFSET_RAD)

    def _computing(self) -> AbstractContextManager[object]:
        return computing_in(self.locator.precision, self.locator.device)


def _drive_rows(source: MapSource, device: torch.device) -> list[MethodTiming]:
    """Steps of a drive through map that was never encoded, a cloud every tenth of a second, ten metres a second.

    What happens between clouds costs no step anything: where the vehicle is about to be is encoded then. Every step
    begins a sequence: these scans show no place of the map, and a step that is lost does next to nothing.
    """
    task = Task(f"step of a drive, {RATE_HZ:g} Hz, {SPEED_M_S:g} m/s", 16 * POINTS, 0.0)
    floor = floor_ms(task.least_bytes, task.least_operations, device)
    scans = [dense_scan(i) for i in range(_SCANS)]
    rows: list[MethodTiming] = []
    for name, precision in _CHANNELS_LAST.items():
        if precision == "bfloat16" and chosen_precision("auto", device.type) != precision:
            continue
        for told in (False, True):
            locator = _locator(source, device, precision)
            sequence, runs = sequence_localizer(locator, source), []
            for step in range(DRIVE_STEPS + 1):
                began, spent = time.perf_counter(), time.process_time()
                here, ahead = (_place(step / RATE_HZ + seconds) for seconds in (0.0, AHEAD_S))
                sequence.start(here, OFFSET_M, OFFSET_RAD)
                sequence.step(Frame(step, 0, scans[step % _SCANS]))
                runs.append((1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - spent)))
                if told:
                    locator.prepare([here, ahead], OFFSET_M)
                time.sleep(max(0.0, began + 1.0 / RATE_HZ - time.perf_counter()))
            timed = Timing.of(runs[1:])  # the first encodes a whole window: a vehicle that starts stands
            method = f"{name}, map encoded {'beside, in time' if told else 'where it is entered'}"
            faster = rows[0].timed.median_ms / timed.median_ms if rows else 1.0
            rows.append(MethodTiming(task.name, method, timed, 0.0, floor, faster))
    return rows


def _place(seconds: float) -> SE2:
    """Of the drive, which turns slowly."""
    heading_rad = 0.6 + 0.02 * seconds
    return SE2(SPEED_M_S * seconds * math.cos(0.6), SPEED_M_S * seconds * math.sin(0.6), heading_rad)


def _locator(source: MapSource, device: torch.device, precision: Precision) -> NetworkLocator:
    model, loaded = open_network(DEFAULT)
    return NetworkLocator(model, loaded.config, source, device=device.type, precision=precision)


def _convolution_products(locator: NetworkLocator) -> dict[str, float]:
    """Operations of the convolutions of each part of the network in one call; the map encoder's are of a whole tile."""
    total: dict[str, float] = {}

    def count(part: str) -> Callable[[torch.nn.Module, object, torch.Tensor], None]:
        def hook(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
            assert isinstance(module.weight, torch.Tensor)
            total[part] = total.get(part, 0.0) + 2.0 * output.numel() * module.weight[0].numel()

        return hook

    hooks = [
        module.register_forward_hook(count(name.split(".")[0]))
        for name, module in locator.model.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    locator.locate(dense_scan(0), SE2(), OFFSET_M, OFFSET_RAD)
    for hook in hooks:
        hook.remove()
    return total


def _matching_operations(window: PoseWindow, grid: Grid, channels: int) -> float:
    """As `heads/correlation.py` counts them."""
    headings, side, _ = window.shape
    cells = float(fast_length(grid.height + side - 1)) ** 2
    transforms = 0.5 * (headings * channels + headings) * 5.0 * cells * math.log2(cells)
    return transforms + 0.5 * headings * channels * 8.0 * cells

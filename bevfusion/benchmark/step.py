"""The whole step: from 120,000 points and a prior to a pose and its belief, by the weights that ship."""

import itertools
import math
from pathlib import Path

import torch

from bevfusion.benchmark.bev import POINTS, dense_scan
from bevfusion.benchmark.comparison import MethodTiming, Task, compared
from bevfusion.config import Config
from bevfusion.datasets.simulated import map_file
from bevfusion.geometry.se2 import SE2
from bevfusion.localizer import DEFAULT, NetworkLocator, open_localizer
from bevfusion.maps.source import open_map
from bevfusion.sequence import sequence_localizer
from bevfusion.structures import Frame

OFFSET_M, OFFSET_RAD = 20.0, math.radians(10.0)
_SCANS = 4


def step_rows(device: torch.device) -> list[MethodTiming]:
    """`NetworkLocator.locate` and `SequenceLocalizer.step` along a road of an invented town, a cell farther each."""
    source = open_map(map_file("town:101", Path(Config().simulation.cache)))
    opened = open_localizer(DEFAULT, source)
    localizer = NetworkLocator(opened.model, opened.config, source, device=device.type)
    sequence = sequence_localizer(localizer, source)
    frames = [Frame(i, 0, dense_scan(i)) for i in range(_SCANS)]
    calls = itertools.count()

    def locate() -> None:
        call = next(calls)
        localizer.locate(frames[call % _SCANS].scan, SE2(0.5 * call, 0.0, 0.1 * call), OFFSET_M, OFFSET_RAD)

    def step() -> None:
        # Every step begins a sequence: these scans show no place of the map, and a step that is lost does next to
        # nothing. What a step takes on top when the belief moves with odometry is not in this number. Sixteen steps and
        # more share an encoded map: the median is one of those, the slowest encodes it anew.
        call = next(calls)
        sequence.start(SE2(0.5 * call, 0.0, 0.0), OFFSET_M, OFFSET_RAD)
        sequence.step(Frame(call, 0, frames[call % _SCANS].scan))

    weights = sum(parameter.numel() for parameter in localizer.model.parameters())
    # The sums of products of the two encoders, by far the most of the work of `locate`; points in, weights and a tile
    # once. A step does without those of the map encoder most of the time.
    operations = 2.0 * _encoder_products(localizer)
    return compared(
        Task(f"{POINTS:,} points, +-20 m, +-10 degrees", 16 * POINTS + 4 * weights, operations),
        {"NetworkLocator.locate": locate, "SequenceLocalizer.step": step},
        device,
    )


def _encoder_products(localizer: NetworkLocator) -> float:
    """Counted on the way through the convolutions of one call (those of the heads are few)."""
    total = 0.0

    def count(module: torch.nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    convolutions = [module for module in localizer.model.modules() if isinstance(module, torch.nn.Conv2d)]
    hooks = [module.register_forward_hook(count) for module in convolutions]
    localizer.locate(dense_scan(0), SE2(), OFFSET_M, OFFSET_RAD)
    for hook in hooks:
        hook.remove()
    return total

"""A small network trained plain and compiled, as a script: the hooks that check shapes in tests cannot be compiled.

Prints what `test_compile.py` compares, as JSON.
"""

import json
import sys

import torch

from bevfusion.build import bev_grid, build_model, tile_grid
from bevfusion.config import Config, config_from_dict
from bevfusion.maps.schema import LAYERS
from bevfusion.structures import Batch
from bevfusion.training.module import TrainingModule
from bevfusion.training.run import _module

SMALL = {
    "bev": {"range_m": 6.0, "cell_m": 1.0},
    "search": {"offset_m": 2.0, "offset_deg": 4.0},
    "model": {
        "channels": 4,
        "stride": 1,
        "lidar": {"width": 4, "levels": 1},
        "map": {"width": 4, "levels": 1},
        "fusion": {"attention": "se"},
        "refine": {"attention": "none"},
    },
}


def module(compiled: bool) -> TrainingModule:
    torch.manual_seed(0)
    return _module(config_from_dict({**SMALL, "train": {"compile": compiled}}, "test")).train()


def drawn(config: Config) -> Batch:
    generator = torch.Generator().manual_seed(1)
    bev, tile = bev_grid(config), tile_grid(config, config.search.offset_m)
    planes = next(build_model(config).lidar_encoder.parameters()).shape[1]
    return Batch(
        torch.rand(2, planes, bev.height, bev.width, generator=generator),
        torch.rand(2, len(LAYERS), tile.height, tile.width, generator=generator),
        torch.tensor([0.3, -1.0]),
        torch.tensor([[1.0, -1.0, 0.05], [0.0, 1.0, -0.02]]),
    )


def main() -> None:
    batch = drawn(config_from_dict(SMALL, "test"))
    plain, compiled = module(False), module(True)
    found = {"keys_alike": plain.state_dict().keys() == compiled.state_dict().keys()}
    losses = [each.loss(batch)[0] for each in (plain, compiled)]
    for loss in losses:
        loss.backward()
    found["losses"] = [loss.item() for loss in losses]
    found["gradients"] = [
        [parameter.grad.norm().item() for parameter in each.parameters() if parameter.grad is not None]
        for each in (plain, compiled)
    ]
    found["gradient_error"] = max(
        (a.grad - b.grad).abs().max().item()
        for a, b in zip(plain.parameters(), compiled.parameters(), strict=True)
        if a.grad is not None
    )
    optimizer = torch.optim.AdamW(compiled.parameters(), 1e-2)
    for _ in range(20):
        optimizer.step()
        optimizer.zero_grad()
        loss = compiled.loss(batch)[0]
        loss.backward()
    found["trained"] = loss.item()
    plain.load_state_dict(compiled.state_dict())
    found["validation_alike"] = torch.equal(compiled.eval().loss(batch)[0], plain.eval().loss(batch)[0])
    sys.stdout.write(json.dumps(found))


main()

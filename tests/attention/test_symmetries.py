"""Which moves of the input move the output with it, and between which bounds the gates lie."""

import pytest
import torch
from torch import Tensor

from tests.attention.test_gates import randomized

CHANNELS, SIDE = 8, 12


def picture(seed: int = 5, height: int = SIDE, width: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, CHANNELS, height, width, generator=generator, dtype=torch.float64)


def shuffled(size: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(size))


MOVES = {
    "cells": lambda x: x.flatten(2)[:, :, shuffled(SIDE * SIDE)].unflatten(2, (SIDE, SIDE)),
    "rows and columns": lambda x: x[:, :, shuffled(SIDE)][..., shuffled(SIDE).flip(0)],
    "flip": lambda x: x.flip(3),
    "roll": lambda x: x.roll((3, 5), (2, 3)),
    "transpose": lambda x: x.transpose(2, 3),
    "channels": lambda x: x[:, shuffled(CHANNELS)],
}
EVERY_CELL_MOVE = {"cells", "rows and columns", "flip", "roll", "transpose"}
FOLLOWS: dict[str, set[str]] = {
    "se": EVERY_CELL_MOVE,
    "ghost_se": EVERY_CELL_MOVE,
    "cam": EVERY_CELL_MOVE,
    "eca": EVERY_CELL_MOVE,
    "gc": EVERY_CELL_MOVE,
    "sca": EVERY_CELL_MOVE,
    "simam": EVERY_CELL_MOVE | {"channels"},
    "coordinate": {"rows and columns", "flip", "roll"},
    "sam": {"channels"},
    "cbam": set(),
    "bam": set(),
    "sk": set(),
    "gam": set(),
    "triplet": set(),
    "strip": set(),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", FOLLOWS)
def test_moving_the_input_moves_the_output_where_it_should_and_nowhere_else(name: str, move: str) -> None:
    module, _ = randomized(name, CHANNELS, {})
    x = picture()
    difference = (module(MOVES[move](x)) - MOVES[move](module(x))).abs().max()
    assert (difference < 1e-10) if move in FOLLOWS[name] else (difference > 1e-3)


@pytest.mark.parametrize(
    "name", ["se", "ghost_se", "cam", "sam", "cbam", "eca", "gam", "triplet", "coordinate", "strip"]
)
def test_gates_lie_between_zero_and_one(name: str) -> None:
    gate = randomized(name, CHANNELS, {})[0].gate(picture())
    assert gate.min() >= 0
    assert gate.max() <= 1
    assert gate.std() > 1e-3


@pytest.mark.parametrize(("name", "least", "most"), [("bam", 1.0, 2.0), ("simam", 0.62, 1.0)])
def test_gates_with_another_range(name: str, least: float, most: float) -> None:
    gate = randomized(name, CHANNELS, {})[0].gate(picture())
    assert least < gate.min() < gate.max() < most

"""Cross-attention of LiDAR cells to the map around them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bevfusion.fusion.cross import CrossFusion


def picture(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomized(module: CrossFusion) -> CrossFusion:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def matcher(channels: int, window: int) -> CrossFusion:
    """Weights set by hand: queries and keys are the features, values pass through."""
    module = CrossFusion(channels, window=window, reduction=1).double()
    with torch.no_grad():
        for conv, gain in ((module.query, 20.0), (module.key, 1.0), (module.value, 1.0), (module.out, 1.0)):
            conv.weight.copy_(gain * torch.eye(channels)[:, :, None, None])
            conv.bias.zero_()
        module.gate.fill_(1.0)
    return module


def offsets(module: CrossFusion) -> Tensor:
    """(row, column) of each neighbour relative to the cell, in the order of `weights`."""
    reach = module.window // 2
    return torch.tensor([(i - reach, j - reach) for i, j in np.ndindex(module.window, module.window)])


def reference(module: CrossFusion, lidar: np.ndarray, other: np.ndarray) -> np.ndarray:
    p = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    _, height, width = lidar.shape
    reach = module.window // 2

    def project(vector: np.ndarray, name: str) -> np.ndarray:
        return p[f"{name}.weight"][:, :, 0, 0] @ vector + p[f"{name}.bias"]

    y = lidar.copy()
    for r, c in np.ndindex(height, width):
        logits, values = [], []
        query = project(lidar[:, r, c], "query")
        for place, (i, j) in enumerate(np.ndindex(module.window, module.window)):
            row, col = r + i - reach, c + j - reach
            if 0 <= row < height and 0 <= col < width:
                key = project(other[:, row, col], "key")
                logits.append(query @ key / math.sqrt(len(query)) + p["offset_bias"][place])
                values.append(project(other[:, row, col], "value"))
        weights = np.exp(logits) / np.exp(logits).sum()
        y[:, r, c] += p["gate"] * project(sum(w * v for w, v in zip(weights, values, strict=True)), "out")
    return y


def test_formula() -> None:
    module, lidar, other = randomized(CrossFusion(4, window=3)), picture(2, 4, 4, 6), picture(2, 4, 4, 6, seed=2)
    y = module(lidar, other)
    for i in range(2):
        expected = reference(module, lidar[i].numpy(), other[i].numpy())
        torch.testing.assert_close(y[i], torch.from_numpy(expected), rtol=0, atol=1e-10)


def test_a_closed_gate_is_the_lidar_to_the_bit_and_opens_by_learning() -> None:
    module, lidar, other = CrossFusion(8), torch.randn(2, 8, 6, 7), torch.randn(2, 8, 6, 7)
    y = module(lidar, other)
    assert torch.equal(y, lidar)
    y.square().sum().backward()
    assert module.gate.grad.abs() > 1e-5


def test_weights_sum_to_one_at_the_border_too() -> None:
    module = randomized(CrossFusion(4, window=5))
    weights = module.weights(picture(1, 4, 6, 7), picture(1, 4, 6, 7))
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 6, 7).double())
    above = offsets(module)[:, 0] < 0
    assert (weights[0, above, 0] == 0).all()
    assert (weights[0, above, 3, 2:-2] > 0).all()


@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-2, 2), (1, 0)], ids=str)
def test_the_arg_max_of_the_weights_is_the_shift_of_the_map(shift: tuple[int, int]) -> None:
    lidar = torch.nn.functional.normalize(picture(1, 16, 12, 14), dim=1)
    module, other = matcher(16, 5), lidar.roll(shift, (2, 3))
    best = module.weights(lidar, other).argmax(1)[0, 2:-2, 2:-2]
    assert (offsets(module)[best] == torch.tensor(shift)).all()
    # And so the map is mended: what is fetched is what lay at the cell before the shift.
    fetched = (module(lidar, other) - lidar)[..., 2:-2, 2:-2]
    torch.testing.assert_close(fetched, lidar[..., 2:-2, 2:-2], rtol=0, atol=0.2)


def test_brief_training_finds_the_shift_of_the_map() -> None:
    torch.manual_seed(0)
    module, shift = CrossFusion(6, window=5), (1, -2)
    torch.nn.init.ones_(module.gate)
    optimizer = torch.optim.Adam(module.parameters(), 0.03)
    for _ in range(120):
        world = torch.randn(2, 6, 12, 12)
        lidar = 0.1 * torch.randn(2, 6, 12, 12)
        optimizer.zero_grad()
        ((module(lidar, world.roll(shift, (2, 3))) - world)[..., 2:-2, 2:-2]).square().mean().backward()
        optimizer.step()
    weights = module.weights(lidar, world.roll(shift, (2, 3)))[..., 2:-2, 2:-2].mean((0, 2, 3))
    assert tuple(offsets(module)[weights.argmax()].tolist()) == shift
    assert weights.max() > 0.5


def test_a_cell_sees_its_window_and_no_further() -> None:
    module, other = randomized(CrossFusion(4, window=3)), picture(1, 4, 8, 9).requires_grad_()
    module(picture(1, 4, 8, 9), other)[0, :, 4, 5].sum().backward()
    seen = other.grad[0].abs().sum(0) > 0
    expected = torch.zeros(8, 9, dtype=torch.bool)
    expected[3:6, 4:7] = True
    assert torch.equal(seen, expected)

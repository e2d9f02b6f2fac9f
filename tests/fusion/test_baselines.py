"""Concatenation, dynamic and selective fusion against their equations; a missing map."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bevfusion.fusion.concat import ConcatFusion, DynamicFusion
from bevfusion.fusion.select import SelectFusion

CHANNELS = 4


def randomized(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def pair(height: int = 5, width: int = 6) -> tuple[Tensor, Tensor]:
    both = torch.randn(2, 2, CHANNELS, height, width, generator=torch.Generator().manual_seed(1)).double()
    return both[0], both[1]


def group_normed(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, groups: int) -> np.ndarray:
    parts = []
    for part in np.split(x, groups):
        parts.append((part - part.mean()) / np.sqrt(part.var() + 1e-5))
    y = np.concatenate(parts)
    return y * weight.reshape(-1, *[1] * (x.ndim - 1)) + bias.reshape(-1, *[1] * (x.ndim - 1))


def joined(module: nn.Module, lidar: np.ndarray, map_in_ego: np.ndarray, kernel: int) -> np.ndarray:
    """ReLU(norm(conv([lidar ; map]))) of one sample, one cell at a time."""
    p = {name: value.detach().numpy() for name, value in module.join.state_dict().items()}
    reach = kernel // 2
    both = np.pad(np.concatenate([lidar, map_in_ego]), ((0, 0), (reach, reach), (reach, reach)))
    y = np.zeros_like(lidar)
    for c, r, s in np.ndindex(lidar.shape):
        y[c, r, s] = (p["0.weight"][c] * both[:, r : r + kernel, s : s + kernel]).sum()
    return np.maximum(group_normed(y, p["1.weight"], p["1.bias"], module.join[1].num_groups), 0)


@pytest.mark.parametrize("kernel", [1, 3])
def test_concatenation_formula(kernel: int) -> None:
    module, (lidar, map_in_ego) = randomized(ConcatFusion(CHANNELS, kernel=kernel)), pair()
    y = module(lidar, map_in_ego)
    for i in range(2):
        expected = joined(module, lidar[i].numpy(), map_in_ego[i].numpy(), kernel)
        torch.testing.assert_close(y[i], torch.from_numpy(expected), rtol=0, atol=1e-10)


def test_dynamic_formula_and_full_matrix() -> None:
    module, (lidar, map_in_ego) = randomized(DynamicFusion(CHANNELS)), pair()
    assert module.excite.weight.shape == (CHANNELS, CHANNELS)
    y = module(lidar, map_in_ego)
    weight, bias = (value.detach().numpy() for value in module.excite.parameters())
    for i in range(2):
        f = joined(module, lidar[i].numpy(), map_in_ego[i].numpy(), 3)
        gate = 1 / (1 + np.exp(-(weight @ f.mean(axis=(1, 2)) + bias)))
        torch.testing.assert_close(y[i], torch.from_numpy(f * gate[:, None, None]), rtol=0, atol=1e-10)


def select_reference(module: SelectFusion, lidar: np.ndarray, other: np.ndarray, valid: np.ndarray) -> np.ndarray:
    p = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    squeeze, select = (p[name][:, :, 0, 0] for name in ("squeeze.0.weight", "select.weight"))
    groups = module.squeeze[1].num_groups

    def normed(t: np.ndarray) -> np.ndarray:
        return np.maximum(group_normed(t, p["squeeze.1.weight"], p["squeeze.1.bias"], groups), 0)

    if module.per == "channel":
        mean = np.array([channel[valid].mean() if valid.any() else 0.0 for channel in other])
        logits = select @ normed(squeeze @ (lidar.mean(axis=(1, 2)) + mean))
        logits = np.broadcast_to(logits.reshape(2, -1, 1, 1), (2, *lidar.shape))
    else:
        both = np.concatenate([lidar, other])
        logits = np.einsum("oc,chw->ohw", select, normed(np.einsum("oc,chw->ohw", squeeze, both)))[:, None]
    exponential = np.exp(logits)
    of_lidar = np.where(valid, exponential[0] / exponential.sum(axis=0), 1.0)
    return of_lidar * lidar + (1 - of_lidar) * other


@pytest.mark.parametrize("per", ["channel", "cell"])
@pytest.mark.parametrize("masked", [False, True])
def test_select_formula(per: str, masked: bool) -> None:
    module, (lidar, map_in_ego) = randomized(SelectFusion(CHANNELS, per=per)), pair()
    valid = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(2)) < (0.6 if masked else 2.0)
    map_in_ego = map_in_ego * valid  # as sampling outside of a tile leaves it
    y = module(lidar, map_in_ego)
    for i in range(2):
        expected = select_reference(module, lidar[i].numpy(), map_in_ego[i].numpy(), valid[i, 0].numpy())
        torch.testing.assert_close(y[i], torch.from_numpy(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("per", "channels"), [("channel", CHANNELS), ("cell", 1)])
def test_weights_sum_to_one_and_differ(per: str, channels: int) -> None:
    weights = randomized(SelectFusion(CHANNELS, per=per)).weights(*pair())
    assert weights.shape == (2, 2, channels, 5, 6)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, channels, 5, 6).double())
    assert weights.std() > 0.01


@pytest.mark.parametrize("per", ["channel", "cell"])
def test_a_missing_map_leaves_the_lidar(per: str) -> None:
    module, (lidar, _) = randomized(SelectFusion(CHANNELS, per=per)), pair()
    nothing = torch.zeros_like(lidar)
    of_lidar, of_map = module.weights(lidar, nothing).unbind(1)
    assert (of_lidar == 1).all()
    assert (of_map == 0).all()
    assert torch.equal(module(lidar, nothing), lidar)


@pytest.mark.parametrize("per", ["channel", "cell"])
def test_half_a_map_is_used_where_it_is(per: str) -> None:
    module, (lidar, map_in_ego) = randomized(SelectFusion(CHANNELS, per=per)), pair()
    map_in_ego[..., :3] = 0.0
    y = module(lidar, map_in_ego)
    assert torch.equal(y[..., :3], lidar[..., :3])
    assert (y[..., 3:] - lidar[..., 3:]).abs().min() > 1e-6


def test_equal_logits_give_the_mean_of_both() -> None:
    module, (lidar, map_in_ego) = randomized(SelectFusion(CHANNELS)), pair()
    torch.nn.init.zeros_(module.select.weight)
    torch.testing.assert_close(module(lidar, map_in_ego), 0.5 * (lidar + map_in_ego))

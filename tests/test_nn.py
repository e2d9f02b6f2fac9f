import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bevfusion.nn import GroupNorm, group_norm, lies_channels_last


def error(norm: nn.GroupNorm, x: torch.Tensor) -> float:
    """The largest departure from float64."""
    norm.requires_grad_(False)
    groups = norm.num_groups
    exact = F.group_norm(x.double(), groups, norm.weight.double(), norm.bias.double(), norm.eps)
    return float((norm(x).double() - exact).abs().max())


@pytest.mark.parametrize("mean", [0.0, 2.0, 300.0])
def test_channels_last_rounds_as_well_as_channel_by_channel(mean: float):
    torch.manual_seed(0)
    norm = GroupNorm(4, 24)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 24, 192, 160) * 3.0 + mean
    last = x.to(memory_format=torch.channels_last)
    assert lies_channels_last(last)
    assert not lies_channels_last(x)
    assert lies_channels_last(norm(last))
    assert error(norm, last) < 3.0 * error(norm, x) + 1e-6
    plain = nn.GroupNorm(4, 24)
    plain.load_state_dict(norm.state_dict())
    assert error(norm, last) < error(plain, last)


def test_gradients_are_the_same_in_either_order():
    torch.manual_seed(0)
    norm, x = group_norm(8), torch.randn(2, 8, 12, 10)
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        at = x.detach().clone(memory_format=memory_format).requires_grad_()
        norm.zero_grad()
        (norm(at) * torch.arange(10.0)).square().sum().backward()
        grads.append((at.grad, norm.weight.grad.clone(), norm.bias.grad.clone()))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)

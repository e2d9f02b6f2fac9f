"""What every fusion of two aligned maps promises; formulas and properties are in the other files."""

import inspect

import pytest
import torch
from torch import Tensor, nn

from bevfusion.fusion.concat import ConcatFusion, DynamicFusion
from bevfusion.fusion.cross import CrossFusion
from bevfusion.fusion.select import SelectFusion

CASES = {
    "concat": lambda channels: ConcatFusion(channels),
    "concat-1x1": lambda channels: ConcatFusion(channels, kernel=1),
    "dynamic": lambda channels: DynamicFusion(channels),
    "select-channel": lambda channels: SelectFusion(channels),
    "select-cell": lambda channels: SelectFusion(channels, per="cell"),
    "cross": lambda channels: CrossFusion(channels, window=3),
}
every_case = pytest.mark.parametrize("case", CASES)
CHANNELS = 8


def built(case: str, channels: int = CHANNELS, seed: int = 0) -> nn.Module:
    module = CASES[case](channels).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def pair(batch: int = 2, height: int = 7, width: int = 9, channels: int = CHANNELS) -> tuple[Tensor, Tensor]:
    both = torch.randn(2, batch, channels, height, width, generator=torch.Generator().manual_seed(1)).double()
    return both[0], both[1]


@pytest.mark.parametrize("mechanism", [ConcatFusion, DynamicFusion, SelectFusion, CrossFusion])
def test_constructors_take_channels_and_plain_keyword_options(mechanism: type) -> None:
    channels, *options = inspect.signature(mechanism).parameters.values()
    assert channels.name == "channels"
    assert all(option.kind is option.KEYWORD_ONLY for option in options)
    assert all(isinstance(option.default, int | float | str | bool) for option in options)


@every_case
@pytest.mark.parametrize("size", [(0, 6, 5), (1, 1, 1), (1, 1, 5), (1, 13, 4)], ids=str)
def test_any_size_in_training(case: str, size: tuple[int, int, int]) -> None:
    lidar, map_in_ego = pair(*size)
    y = built(case).train()(lidar, map_in_ego)
    assert y.shape == lidar.shape
    assert y.isfinite().all()


@every_case
@pytest.mark.parametrize("channels", [1, 3])
def test_few_channels(case: str, channels: int) -> None:
    y = built(case, channels)(*pair(channels=channels))
    assert y.shape == (2, channels, 7, 9)
    assert y.isfinite().all()


@every_case
def test_samples_do_not_see_each_other(case: str) -> None:
    module, (lidar, map_in_ego) = built(case).train(), pair(3)
    alone = torch.cat([module(lidar[i : i + 1], map_in_ego[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(module(lidar, map_in_ego), alone, rtol=1e-11, atol=1e-11)


@every_case
def test_everything_learns(case: str) -> None:
    module, (lidar, map_in_ego) = built(case), pair()
    y = module(lidar.requires_grad_(), map_in_ego.requires_grad_())
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).double()).sum().backward()
    for name, value in [*module.named_parameters(), ("lidar", lidar), ("map", map_in_ego)]:
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        # A bias of the keys adds the same to every logit of a query.
        assert bool(value.grad.abs().max() > 1e-9) == (name != "key.bias"), name


@every_case
def test_gradients_are_those_of_finite_differences(case: str) -> None:
    inputs = [value.requires_grad_() for value in pair(1, 3, 4)]
    assert torch.autograd.gradcheck(built(case), inputs, fast_mode=True)


@every_case
def test_memory_layout_does_not_matter(case: str) -> None:
    module, (lidar, map_in_ego) = built(case), pair()
    expected = module(lidar, map_in_ego)
    last = [value.contiguous(memory_format=torch.channels_last) for value in (lidar, map_in_ego)]
    cropped = [torch.nn.functional.pad(value, (1, 2, 3, 0))[:, :, 3:, 1:-2] for value in (lidar, map_in_ego)]
    for other in (last, cropped):
        torch.testing.assert_close(module(*other), expected, rtol=1e-11, atol=1e-11)


@every_case
def test_bfloat16_follows_float64(case: str) -> None:
    module, inputs = built(case), pair()
    exact = module(*inputs)
    rough = module.bfloat16()(*(value.bfloat16() for value in inputs))
    assert rough.dtype == torch.bfloat16
    assert (rough.double() - exact).abs().max() < 0.25 * exact.std()


@every_case
def test_nothing_is_kept_and_nothing_is_changed(case: str) -> None:
    module, inputs = built(case).train(), pair()
    before, copies = {k: v.clone() for k, v in module.state_dict().items()}, [value.clone() for value in inputs]
    assert torch.equal(module(*inputs), module(*inputs))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(torch.equal(value, copy) for value, copy in zip(inputs, copies, strict=True))
    for part in module.modules():
        assert not [name for name, value in vars(part).items() if isinstance(value, Tensor)]


@every_case
def test_export(case: str) -> None:
    module, inputs = built(case).eval(), pair()
    exported = torch.export.export(module, inputs).module()
    torch.testing.assert_close(exported(*inputs), module(*inputs), rtol=1e-12, atol=1e-12)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"per must be one of \['channel', 'cell'\], got 'pixel'"):
        SelectFusion(8, per="pixel")
    with pytest.raises(ValueError, match="window must be odd and positive, got 4"):
        CrossFusion(8, window=4)
    for mechanism in (ConcatFusion, DynamicFusion):
        with pytest.raises(ValueError, match="kernel must be odd and positive, got 2"):
            mechanism(8, kernel=2)


@every_case
def test_autocast_follows_float32_forward_and_backward(case: str) -> None:
    module, inputs = built(case).float(), [value.float().requires_grad_() for value in pair()]
    exact = module(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(*inputs)
    assert (rough.float() - exact).abs().max() < 0.25 * exact.std()
    rough.float().square().sum().backward()
    assert all(value.grad.isfinite().all() for value in inputs)

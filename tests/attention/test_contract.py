"""What every mechanism promises, one line of `CASES` each; formulas and properties are in the other files."""

import inspect
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from bevfusion.attention import ATTENTION, Option, attention_options, make_attention


@dataclass(frozen=True)
class Case:
    """A mechanism as the table tries it.

    `gateless`: it does not multiply, so it has no `gate`. `dead`: parameters whose gradient is zero by construction.
    `spread`: standard deviation of the random parameters.
    """

    name: str
    options: dict[str, Option] = field(default_factory=dict)
    channels: int = 8
    gateless: bool = False
    dead: tuple[str, ...] = ()
    spread: float = 0.5

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    @property
    def occupancy(self) -> bool:
        return bool(self.options.get("occupancy", False))

    def module(self, seed: int = 0) -> nn.Module:
        """The module with every parameter and statistic drawn at random, so that nothing is hidden by a zero gamma."""
        module = make_attention(self.name, self.channels, self.options).double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(self.spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            for name, buffer in module.named_buffers():
                if name.endswith("running_mean"):
                    buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
                elif name.endswith("running_var"):
                    buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
        return module

    def inputs(self, batch: int = 2, height: int = 7, width: int = 9, seed: int = 1) -> tuple[Tensor, ...]:
        """x, and the seen cells where the mechanism wants them."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(batch, self.channels, height, width, generator=generator, dtype=torch.float64)
        if not self.occupancy:
            return (x,)
        return x, torch.rand(batch, 1, height, width, generator=generator) < 0.7


TOP = ("top_conv.weight", "top_conv.bias", "top_linear.weight", "top_linear.bias")
POLICY = ("policy.0.weight", "policy.0.bias", "policy.2.weight", "policy.2.bias", "value.weight", "value.bias")

# One line a mechanism, more where an option changes the arithmetic.
CASES = [
    Case("none", gateless=True),
    Case("se", {"reduction": 2}),
    Case("se", {"reduction": 2, "occupancy": True}),
    Case("ghost_se"),
    Case("ghost_se", {"occupancy": True}),
    Case("cam", {"reduction": 2}),
    Case("cam", {"reduction": 2, "occupancy": True}),
    Case("sam"),
    Case("sam", {"norm": False, "padding": "replicate", "kernel_size": 3}),
    Case("sam", {"occupancy": True}),
    Case("cbam", {"reduction": 2}),
    Case("cbam", {"reduction": 2, "arrangement": "parallel", "occupancy": True}),
    Case("cbam", {"reduction": 2, "occupancy": True}),
    Case("bam", {"reduction": 2, "dilation": 2}),
    Case("bam", {"reduction": 2, "dilation": 2, "mode": "product"}),
    Case("bam", {"reduction": 2, "dilation": 2, "occupancy": True}),
    Case("bam", {"reduction": 2, "dilation": 2, "mode": "product", "occupancy": True}),
    Case("sk", gateless=True),
    Case("sk", {"branches": 3, "groups": 2, "occupancy": True}, gateless=True),
    Case("sca", {"hidden": 4}),
    Case("sca", {"hidden": 4, "order": "spatial_first", "rescale": False}),
    Case("sca", {"hidden": 4, "occupancy": True}),
    Case("eca"),
    Case("eca", {"kernel_size": 5, "occupancy": True}),
    Case("simam"),
    Case("gam", {"reduction": 2}),
    Case("gam", {"reduction": 2, "groups": 2, "kernel_size": 3, "sigmoid": False}),
    Case("triplet"),
    Case("triplet", {"spatial": False, "kernel_size": 3}),
    Case("coordinate"),
    Case("coordinate", {"occupancy": True}),
    Case("strip"),
    Case("strip", {"occupancy": True}),
    Case("strip", {"norm": True}),
    Case("strip", {"norm": True, "occupancy": True}),
    Case("gc", gateless=True),
    Case("gc", {"occupancy": True}, gateless=True),
    # A large theta looks past the map, at zeros.
    Case("stn", gateless=True, spread=0.1),
    Case("stn", {"motion": "rigid"}, gateless=True, spread=0.1),
    # Which cells are chosen is not differentiated, so what chooses has losses of its own.
    Case("dynamic_capacity", {"cells": 5, "hidden": 6}, gateless=True, dead=TOP),
    Case("hard", dead=POLICY),
    # A bias of the keys adds the same to every logit of a query.
    Case("self_attention", {"reduction": 2}, gateless=True, dead=("key_conv.bias",)),
    Case("self_attention", {"reduction": 2, "form": "official"}, gateless=True),
    Case("non_local", gateless=True, dead=("phi.bias",)),
    Case("non_local", {"pairwise": "gaussian", "subsample": True, "scaled": True}, gateless=True),
    Case("non_local", {"pairwise": "dot_product", "norm": True}, gateless=True, dead=("W.0.bias",)),
    Case("non_local", {"pairwise": "concatenation", "subsample": True}, gateless=True),
    Case("danet_pam", {"reduction": 2}, gateless=True, dead=("key_conv.bias",)),
    Case("danet_cam", {"energy_scale": "cells"}, gateless=True),
    Case("danet_cam", {"energy": "paper", "energy_scale": "cosine", "temperature": 0.5}, gateless=True),
    Case("danet", {"reduction": 2, "temperature": 20.0}, gateless=True, dead=("position.key_conv.bias",)),
    Case("criss_cross", {"reduction": 2}, gateless=True, dead=("key_conv.bias",)),
    Case("criss_cross", {"reduction": 2, "recurrence": 2}, gateless=True, dead=("key_conv.bias",)),
    Case("roadside", {"groups": 16, "min_lag": 2, "max_lag": 4, "sharpness": 5.0}),
]

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_mechanism_is_in_the_table() -> None:
    assert {case.name for case in CASES} == set(ATTENTION)


@pytest.mark.parametrize("name", sorted(set(ATTENTION) - {"none"}))
def test_constructors_take_channels_and_plain_keyword_options(name: str) -> None:
    channels, *options = inspect.signature(ATTENTION[name]).parameters.values()
    assert channels.name == "channels"
    assert all(option.kind is option.KEYWORD_ONLY for option in options), "no **kwargs, no positional options"
    assert all(isinstance(option.default, int | float | str | bool) for option in options), "a default for every option"
    assert attention_options(name) == tuple(option.name for option in options)


def test_unknown_names_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'ses'.*mean 'se'.*'none'"):
        make_attention("ses", 8)
    with pytest.raises(ValueError, match=r"'se'.*'reducton'.*mean 'reduction'.*'occupancy'"):
        make_attention("se", 8, {"reducton": 4})
    with pytest.raises(ValueError, match="'none' has no option 'reduction'"):
        make_attention("none", 8, {"reduction": 4})
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make_attention("se", 8, {"reduction": 0})


@every_case
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 1), (5, 8), (13, 4)], ids=str)
def test_any_size_and_a_batch_of_one_in_training(case: Case, size: tuple[int, int]) -> None:
    x, *seen = case.inputs(1, *size)
    y = case.module().train()(x, *seen)
    assert y.shape == x.shape
    assert y.isfinite().all()


@every_case
def test_an_empty_batch_stays_empty_and_leaves_no_trace(case: Case) -> None:
    module = case.module().train()
    assert module(*case.inputs(batch=0)).shape == (0, case.channels, 7, 9)
    assert all(value.isfinite().all() for value in module.state_dict().values())


@pytest.mark.parametrize("name", sorted(ATTENTION))
@pytest.mark.parametrize("channels", [1, 3])
def test_fewer_channels_than_the_reduction(name: str, channels: int) -> None:
    y = make_attention(name, channels)(torch.randn(2, channels, 6, 5))
    assert y.shape == (2, channels, 6, 5)
    assert y.isfinite().all()


@every_case
def test_the_result_is_the_input_times_the_gate(case: Case) -> None:
    module, (x, *seen) = case.module().eval(), case.inputs()
    assert hasattr(module, "gate") != case.gateless
    if case.gateless:
        return
    gate = module.gate(x, *seen)
    assert gate.shape in {(2, case.channels, 1, 1), (2, 1, 7, 9), (2, case.channels, 7, 9)}
    torch.testing.assert_close(module(x, *seen), x * gate, rtol=1e-12, atol=1e-12)


@every_case
def test_samples_do_not_see_each_other_in_evaluation(case: Case) -> None:
    module, inputs = case.module().eval(), case.inputs(batch=3)
    together = module(*inputs)
    alone = torch.cat([module(*(value[i : i + 1] for value in inputs)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-11, atol=1e-11)


@every_case
def test_every_parameter_learns(case: Case) -> None:
    module, (x, *seen) = case.module().train(), case.inputs(batch=3)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (module(x.requires_grad_(), *seen) * weights).sum().backward()
    for name, parameter in [*module.named_parameters(), ("x", x)]:
        if parameter.grad is None:
            assert name in case.dead, name
            continue
        assert parameter.grad.isfinite().all(), name
        assert bool(parameter.grad.abs().max() > 1e-9) == (name not in case.dead), name


@every_case
def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    module, (x, *seen) = case.module().eval(), case.inputs(1, 3, 4)
    parameters = list(module.parameters())
    names = [name for name, _ in module.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, *seen))

    # Fast mode compares one random projection: enough to see a wrong term, and a hundred times cheaper.
    assert torch.autograd.gradcheck(run, (x.requires_grad_(), *parameters), fast_mode=True)


@every_case
def test_bfloat16_follows_float64(case: Case) -> None:
    module, (x, *seen) = case.module().eval(), case.inputs()
    exact = module(x, *seen)
    rough = module.bfloat16()(x.bfloat16(), *seen)
    assert rough.dtype == torch.bfloat16
    # Eight bits of mantissa, a few roundings deep: a quarter of the spread of the output would be another function.
    assert (rough.double() - exact).abs().max() < 0.25 * exact.std()


@every_case
def test_memory_layout_does_not_matter(case: Case) -> None:
    module, (x, *seen) = case.module().eval(), case.inputs()
    expected = module(x, *seen)
    cropped = torch.nn.functional.pad(x, (1, 2, 3, 0))[:, :, 3:, 1:-2]
    transposed = x.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (x.contiguous(memory_format=torch.channels_last), cropped, transposed):
        torch.testing.assert_close(module(other, *seen), expected, rtol=1e-11, atol=1e-11)


@every_case
def test_nothing_is_kept_outside_the_state(case: Case) -> None:
    module, inputs = case.module().eval(), case.inputs()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    attributes = {name: sorted(vars(part)) for name, part in module.named_modules()}
    random_state = torch.get_rng_state()
    first, second = module(*inputs), module(*inputs)
    assert torch.equal(first, second)
    assert torch.equal(random_state, torch.get_rng_state())
    assert {name: sorted(vars(part)) for name, part in module.named_modules()} == attributes
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    for part in module.modules():
        assert not [name for name, value in vars(part).items() if isinstance(value, Tensor)]


@every_case
def test_the_input_is_left_alone(case: Case) -> None:
    module, inputs = case.module().train(), case.inputs()
    copies = [value.clone() for value in inputs]
    module(*inputs)
    assert all(torch.equal(value, copy) for value, copy in zip(inputs, copies, strict=True))


@every_case
def test_a_state_dict_carries_everything(case: Case) -> None:
    module, other, inputs = case.module(0).eval(), case.module(1).eval(), case.inputs()
    other.load_state_dict(module.state_dict())
    assert torch.equal(module(*inputs), other(*inputs))


@every_case
def test_export(case: Case) -> None:
    module, inputs = case.module().eval(), case.inputs()
    exported = torch.export.export(module, inputs).module()
    torch.testing.assert_close(exported(*inputs), module(*inputs), rtol=1e-12, atol=1e-12)

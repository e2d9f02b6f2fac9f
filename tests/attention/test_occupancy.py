"""What every mechanism with the option `occupancy` promises; the table is that of the contract."""

import pytest
import torch

from bevfusion.attention import ATTENTION, attention_options, make_attention
from tests.attention.test_contract import CASES, Case

occupancy_names = [name for name in sorted(ATTENTION) if "occupancy" in attention_options(name)]
every_case = pytest.mark.parametrize("case", [case for case in CASES if case.occupancy], ids=str)


@pytest.mark.parametrize("name", occupancy_names)
def test_seen_cells_and_occupancy_come_together(name: str) -> None:
    x, seen = torch.randn(2, 8, 4, 5), torch.ones(2, 1, 4, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="pass seen"):
        make_attention(name, 8, {"occupancy": True})(x)
    with pytest.raises(ValueError, match="occupancy=False"):
        make_attention(name, 8)(x, seen)


def test_the_table_tries_occupancy_wherever_it_is_an_option() -> None:
    assert {case.name for case in CASES if case.occupancy} == set(occupancy_names)


@every_case
def test_everything_seen_is_the_plain_mechanism(case: Case) -> None:
    module, (x, _) = case.module().eval(), case.inputs()
    plain = make_attention(case.name, case.channels, {**case.options, "occupancy": False}).double().eval()
    plain.load_state_dict(module.state_dict())
    expected = plain(x)
    torch.testing.assert_close(module(x, torch.ones(2, 1, 7, 9, dtype=torch.bool)), expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(module(x, torch.full((2, 1, 7, 9), 0.5)), expected, rtol=1e-11, atol=1e-11)


@every_case
def test_nothing_seen_gives_a_finite_result_and_gradient(case: Case) -> None:
    module, (x, seen) = case.module().train(), case.inputs()
    y = module(x.requires_grad_(), torch.zeros_like(seen))
    y.square().sum().backward()
    assert y.isfinite().all()
    for name, parameter in [*module.named_parameters(), ("x", x)]:
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@every_case
def test_cells_that_were_never_seen_change_nothing(case: Case) -> None:
    module, (x, seen) = case.module().eval(), case.inputs()
    assert seen.any()
    assert not seen.all()
    border, generator = (2, 3, 1, 4), torch.Generator().manual_seed(7)
    everywhere = torch.randn(2, case.channels, 12, 14, generator=generator, dtype=torch.float64)
    large_seen = torch.nn.functional.pad(seen, border)
    inside = torch.nn.functional.pad(torch.ones_like(seen), border)
    large = torch.where(inside, torch.nn.functional.pad(x, border), everywhere)
    y = module(large, large_seen)[:, :, 1:-4, 2:-3]
    torch.testing.assert_close(y, module(x, seen), rtol=1e-11, atol=1e-11)

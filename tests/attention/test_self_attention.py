"""SAGAN's attention against its equations, and what must hold of it."""

import pytest
import torch

from bevfusion.attention.self_attention import SelfAttention, attend, pooled_pairs
from tests.attention import reference_affinity as reference
from tests.attention.reference_affinity import params, randomized


@pytest.mark.parametrize(("form", "equations"), [("full", reference.position), ("official", reference.sagan_official)])
def test_formula(form: str, equations: object) -> None:
    module, x = randomized(SelfAttention(10, form=form, reduction=4)), torch.randn(2, 10, 5, 6).double()
    expected = torch.stack([torch.from_numpy(equations(sample.numpy(), params(module))) for sample in x])
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["full", "official"])
def test_identity_at_start_and_gamma_learns(form: str) -> None:
    module, x = SelfAttention(16, form=form), torch.randn(2, 16, 6, 6)
    assert torch.equal(module(x), x)
    module(x).square().sum().backward()
    assert module.gamma.grad.abs() > 1e-4


def test_cells_may_come_in_any_order_but_pooling_knows_neighbours() -> None:
    x, order = torch.randn(1, 8, 6, 6).double(), torch.randperm(36)

    def shuffled(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2)[:, :, order].reshape(x.shape)

    full, official = (randomized(SelfAttention(8, form=form, reduction=2)) for form in ("full", "official"))
    torch.testing.assert_close(full(shuffled(x)), shuffled(full(x)), rtol=1e-11, atol=1e-11)
    assert (official(shuffled(x)) - shuffled(official(x))).abs().max() > 1e-2


@pytest.mark.parametrize(("query_width", "value_width"), [(1, 8), (8, 5), (3, 3), (16, 64)])
def test_padding_changes_no_value_and_no_gradient(query_width: int, value_width: int) -> None:
    query, key = (torch.randn(2, n, query_width, dtype=torch.float64, requires_grad=True) for n in (7, 9))
    value = torch.randn(2, 9, value_width, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 7, value_width, dtype=torch.float64)
    plain = (0.3 * query @ key.transpose(1, 2)).softmax(2) @ value
    fused = attend(query, key, value, 0.3)
    torch.testing.assert_close(fused, plain, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        *(torch.autograd.grad((y * weights).sum(), (query, key, value)) for y in (fused, plain)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_no_matrix_of_all_pairs_is_stored(largest_tensor) -> None:
    module, x = SelfAttention(8), torch.randn(1, 8, 96, 96)
    with torch.no_grad():
        module.gamma.fill_(1.0)
        with largest_tensor() as largest:
            module(x)
    assert 0 < largest.numel <= 96 * 96 * 64 < (96 * 96) ** 2


def test_spectral_norm_bounds_each_matrix() -> None:
    module = SelfAttention(16, form="official", spectral_norm=True).train()
    parts = (module.query_conv, module.key_conv, module.value_conv, module.out_conv)
    with torch.no_grad():
        for part in parts:
            part.parametrizations.weight.original.mul_(50)
        for _ in range(40):
            module(torch.randn(1, 16, 4, 4))
    for part in parts:
        largest = torch.linalg.matrix_norm(part.weight.detach().flatten(1).double(), ord=2).item()
        assert largest == pytest.approx(1.0, abs=0.02)


def test_pooling_leaves_single_rows_alone() -> None:
    assert pooled_pairs(torch.randn(1, 2, 1, 7)).shape == (1, 2, 1, 3)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"form must be one of \['full', 'official'\], got 'half'"):
        SelfAttention(8, form="half")


def test_there_is_no_second_derivative() -> None:
    module = SelfAttention(8).double()
    torch.nn.init.ones_(module.gamma)
    x = torch.randn(1, 8, 4, 5, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="derivative"):
        first.square().sum().backward()

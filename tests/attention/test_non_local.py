"""The four pairwise functions over one, two and three axes against their equations, and their cheap forms."""

import itertools

import pytest
import torch

from bevfusion.attention.non_local import NonLocal
from tests.attention import reference_affinity as reference
from tests.attention.reference_affinity import params, randomized

PAIRWISE = ["gaussian", "embedded_gaussian", "dot_product", "concatenation"]
SHAPES = {1: (11,), 2: (5, 6), 3: (3, 4, 5)}


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize(
    ("pairwise", "dimensions", "subsample"), list(itertools.product(PAIRWISE, SHAPES, [False, True]))
)
def test_formula(pairwise: str, dimensions: int, subsample: bool) -> None:
    module = randomized(NonLocal(6, pairwise=pairwise, dimensions=dimensions, subsample=subsample))
    x = picture(2, 6, *SHAPES[dimensions])
    expected = [reference.non_local(sample.numpy(), params(module), pairwise, subsample, False) for sample in x]
    torch.testing.assert_close(module(x), torch.stack([torch.from_numpy(y) for y in expected]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pairwise", ["gaussian", "embedded_gaussian", "dot_product"])
def test_scaled_formula(pairwise: str) -> None:
    module, x = randomized(NonLocal(6, pairwise=pairwise, scaled=True)), picture(1, 6, 4, 5)
    expected = torch.from_numpy(reference.non_local(x[0].numpy(), params(module), pairwise, False, True))
    torch.testing.assert_close(module(x)[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("pairwise", "norm"), list(itertools.product(PAIRWISE, [False, True])))
def test_identity_at_start_to_the_bit_in_training(pairwise: str, norm: bool) -> None:
    module, x = NonLocal(8, pairwise=pairwise, norm=norm).train(), torch.randn(2, 8, 6, 7)
    y = module(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert module.W[-1].weight.grad.abs().max() > 1e-6


@pytest.mark.parametrize("pairwise", PAIRWISE)
def test_cells_may_come_in_any_order(pairwise: str) -> None:
    module, x, order = randomized(NonLocal(6, pairwise=pairwise)), picture(1, 6, 4, 5), torch.randperm(20)
    moved = module(x.flatten(2)[..., order].reshape(x.shape))
    torch.testing.assert_close(moved, module(x).flatten(2)[..., order].reshape(x.shape), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("pairwise", PAIRWISE)
def test_subsampling_follows_even_shifts_only(pairwise: str) -> None:
    module, x = randomized(NonLocal(6, pairwise=pairwise, subsample=True)), picture(1, 6, 6, 8)
    torch.testing.assert_close(module(x.roll(2, 3)), module(x).roll(2, 3), rtol=1e-11, atol=1e-11)
    assert (module(x.roll(1, 3)) - module(x).roll(1, 3)).abs().max() > 1e-3


@pytest.mark.parametrize("pairwise", PAIRWISE)
def test_a_constant_map_stays_constant(pairwise: str) -> None:
    y = randomized(NonLocal(6, pairwise=pairwise))(picture(1, 6, 1, 1).expand(1, 6, 5, 7).contiguous())
    torch.testing.assert_close(y, y[:, :, :1, :1].expand_as(y))


def test_concatenation_in_float32_is_as_exact_as_its_sum() -> None:
    module, x = randomized(NonLocal(8, pairwise="concatenation")), picture(1, 8, 40, 40)
    exact = module(x)
    torch.testing.assert_close(module.float()(x.float()).double(), exact, rtol=1e-5, atol=2e-6)


def test_concatenation_of_negative_sums_is_zero() -> None:
    module, x = randomized(NonLocal(4, pairwise="concatenation")), picture(1, 4, 3, 3)
    with torch.no_grad():
        module.theta.weight.zero_()
        module.theta.bias.fill_(-100.0)
        module.concat_project.weight.fill_(1.0)
    torch.testing.assert_close(module(x) - x, module.W[0].bias[None, :, None, None].expand_as(x))


@pytest.mark.parametrize(
    ("pairwise", "size"), [("embedded_gaussian", 96), ("dot_product", 256), ("concatenation", 256)]
)
def test_no_matrix_of_all_pairs_is_stored(pairwise: str, size: int, largest_tensor) -> None:
    module, x = NonLocal(8, pairwise=pairwise), torch.randn(1, 8, size, size)
    with torch.no_grad(), largest_tensor() as largest:
        module(x)
    assert 0 < largest.numel <= 64 * size * size


def test_wrong_options_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pairwise must be one of \['gaussian'.*got 'gauss'"):
        NonLocal(8, pairwise="gauss")
    with pytest.raises(ValueError, match=r"dimensions must be one of \[1, 2, 3\], got 4"):
        NonLocal(8, dimensions=4)
    with pytest.raises(ValueError, match=r"expected \(B, C\) and 3 axes, got \(1, 8, 4, 4\)"):
        NonLocal(8, dimensions=3)(torch.zeros(1, 8, 4, 4))

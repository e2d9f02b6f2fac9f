"""Criss-cross attention against its equation, and what it sees."""

import pytest
import torch

from bevfusion.attention.criss_cross import CrissCross
from tests.attention import reference_affinity as reference
from tests.attention.reference_affinity import params, randomized


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize("recurrence", [1, 2])
def test_formula(recurrence: int) -> None:
    module, x = randomized(CrissCross(8, reduction=2, recurrence=recurrence)), picture(2, 8, 4, 6)
    expected = []
    for sample in x:
        y = sample.numpy()
        for _ in range(recurrence):
            y = reference.criss_cross(y, params(module))
        expected.append(torch.from_numpy(y))
    torch.testing.assert_close(module(x), torch.stack(expected), rtol=1e-10, atol=1e-10)


def test_identity_at_start() -> None:
    x = torch.randn(2, 16, 5, 7)
    assert torch.equal(CrissCross(16, recurrence=2)(x), x)


def test_weights_sum_to_one_and_count_the_cell_once() -> None:
    row, column = randomized(CrissCross(8, reduction=2)).weights(picture(2, 8, 4, 6))
    torch.testing.assert_close(row.sum(3) + column.sum(3), torch.ones(2, 4, 6).double())
    assert (row > 0).all()
    assert (column.diagonal(dim1=1, dim2=3) == 0).all()
    assert ((column > 0).sum(3) == 3).all()


def test_rows_and_columns_may_come_in_any_order() -> None:
    module, x = randomized(CrissCross(8, reduction=2)), picture(1, 8, 5, 6)
    rows, columns = torch.randperm(5), torch.randperm(6)
    torch.testing.assert_close(module(x[:, :, rows][..., columns]), module(x)[:, :, rows][..., columns])
    torch.testing.assert_close(module(x.transpose(2, 3)), module(x).transpose(2, 3))


@pytest.mark.parametrize(("recurrence", "reached"), [(1, 5 + 7 - 1), (2, 5 * 7)])
def test_one_pass_sees_the_cross_and_two_see_everything(recurrence: int, reached: int) -> None:
    module, x = randomized(CrissCross(8, reduction=2, recurrence=recurrence)), picture(1, 8, 5, 7).requires_grad_()
    module(x)[0, :, 2, 3].sum().backward()
    assert int((x.grad[0].abs().sum(0) > 0).sum()) == reached


def test_memory_is_that_of_the_crosses(largest_tensor) -> None:
    with torch.no_grad(), largest_tensor() as largest:
        CrissCross(8)(torch.randn(1, 8, 96, 96))
    assert 0 < largest.numel <= 96 * 96 * 192


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="recurrence must be at least 1, got 0"):
        CrissCross(8, recurrence=0)

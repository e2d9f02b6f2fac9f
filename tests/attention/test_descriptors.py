"""Pooling over seen cells, ties of the maximum, and normalization of a single descriptor."""

import pytest
import torch
from torch import nn

from bevfusion.attention.contract import SEEN
from bevfusion.attention.descriptors import BatchNorm, max_over, mean_over, seen_mask


def test_the_gradient_of_a_maximum_is_shared_evenly_among_ties() -> None:
    x = torch.tensor([[1.0, 3.0, 3.0], [3.0, 0.0, 3.0]]).reshape(1, 1, 2, 3).requires_grad_()
    max_over(x, (2, 3)).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 0.25, 0.25, 0.25, 0, 0.25]


def test_ties_outside_of_the_seen_cells_get_nothing() -> None:
    x = torch.tensor([[1.0, 3.0, 3.0], [9.0, 0.0, 3.0]]).reshape(1, 1, 2, 3).requires_grad_()
    seen = torch.tensor([[True, True, False], [False, True, True]]).reshape(1, 1, 2, 3)
    peak = max_over(x, (2, 3), seen)
    assert peak.item() == 3
    peak.sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 0.5, 0, 0, 0, 0.5]


def test_pooling_by_hand() -> None:
    x = torch.tensor([[-1.0, 3.0, 8.0], [9.0, -5.0, -7.0]]).reshape(1, 1, 2, 3)
    seen = torch.tensor([[True, True, False], [False, False, False]]).reshape(1, 1, 2, 3)
    assert mean_over(x, (2, 3), seen).item() == 1
    assert mean_over(x, (3,), seen).flatten().tolist() == [1, 0]
    assert mean_over(x, (2,), seen).flatten().tolist() == [-1, 3, 0]
    assert max_over(-x, (2, 3), seen).item() == 1
    assert max_over(-x, (3,), seen).tolist() == [[[1, 0]]]
    assert mean_over(x, (2, 3), keepdim=True).shape == (1, 1, 1, 1)


def test_unseen_cells_may_hold_anything() -> None:
    x = torch.ones(1, 1, 2, 2)
    x[..., 1, 1] = torch.nan
    seen = torch.tensor([[True, True], [True, False]]).reshape(1, 1, 2, 2)
    assert mean_over(x, (2, 3), seen).item() == 1
    assert max_over(x, (2, 3), seen).item() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_means_of_large_maps_neither_overflow_nor_drift(dtype: torch.dtype) -> None:
    x = torch.full((1, 2, 300, 300), 3.0, dtype=dtype)
    mean = mean_over(x, (2, 3), torch.ones(1, 1, 300, 300, dtype=torch.bool))
    assert mean.dtype == dtype
    assert mean.tolist() == [[3.0, 3.0]]


def test_a_seen_map_of_another_size_is_refused() -> None:
    x = torch.zeros(2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 5\), got \(2, 1, 5, 4\)"):
        seen_mask(x, torch.ones(2, 1, 5, 4), SEEN)
    mask = seen_mask(x, torch.tensor([-1.0, 0.0, 0.2, 1.0, 2.0]).expand(2, 1, 4, 5), SEEN)
    assert mask is not None
    assert mask[0, 0, 0].tolist() == [False, False, True, True, True]


def test_normalization_is_that_of_torch_where_torch_can() -> None:
    ours, theirs = BatchNorm(3).double(), nn.BatchNorm1d(3).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x[:1]), theirs.eval()(x[:1]))


def test_normalization_of_one_descriptor_uses_the_running_statistics_and_leaves_them() -> None:
    ours = BatchNorm(3).double().train()
    ours.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.randn(1, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(3).double()(x)
    y = ours(x)
    torch.testing.assert_close(y, ours.eval()(x))
    assert ours.running_mean.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="expected"):
        ours(torch.zeros(2, 4, dtype=torch.float64))

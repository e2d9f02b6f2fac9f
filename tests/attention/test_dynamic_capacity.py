"""Dynamic capacity: the saliency against its definition, the choice, the refined map and the hint."""

import numpy as np
import pytest
import torch

from bevfusion.attention.dynamic_capacity import DynamicCapacity
from tests.attention import reference_affinity as reference
from tests.attention.reference_affinity import params, randomized


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def capacity(**options: int) -> DynamicCapacity:
    return randomized(DynamicCapacity(4, **{"cells": 5, "hidden": 6, "classes": 3, **options}), spread=0.3)


def test_saliency_is_the_gradient_of_the_entropy() -> None:
    module, coarse = capacity(), picture(1, 4, 5, 6)
    weights, features, step = params(module), coarse[0].numpy(), 1e-6
    gradient = np.zeros_like(features)
    for index in np.ndindex(features.shape):
        for sign in (1, -1):
            moved = features.copy()
            moved[index] += sign * step
            gradient[index] += sign * reference.entropy(moved, weights) / (2 * step)
    expected = torch.from_numpy(np.sqrt((gradient**2).sum(axis=0)))
    torch.testing.assert_close(module.saliency(coarse)[0], expected, rtol=0, atol=1e-8)


def test_saliency_is_that_of_autograd_for_each_sample_of_a_batch() -> None:
    module, coarse = capacity(hidden=12), picture(3, 4, 9, 11).requires_grad_()
    log_p = module.logits(coarse).log_softmax(1)
    gradient = torch.autograd.grad(-(log_p.exp() * log_p).sum(), coarse)[0]
    torch.testing.assert_close(module.saliency(coarse), gradient.norm(dim=1), rtol=1e-10, atol=1e-12)


def test_cells_that_share_the_maximum_share_its_gradient() -> None:
    module, coarse = capacity(hidden=12), picture(1, 4, 5, 1).repeat(1, 1, 1, 8).requires_grad_()
    log_p = module.logits(coarse).log_softmax(1)
    gradient = torch.autograd.grad(-(log_p.exp() * log_p).sum(), coarse)[0]
    torch.testing.assert_close(module.saliency(coarse), gradient.norm(dim=1), rtol=1e-10, atol=1e-12)


def test_saliency_differs_from_cell_to_cell() -> None:
    saliency = capacity(hidden=12).saliency(picture(2, 4, 9, 11))
    assert (saliency.std((1, 2)) / saliency.mean((1, 2)) > 0.5).all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_choice_is_the_same_without_autograd(mode: type) -> None:
    module, x = capacity(), picture(2, 4, 7, 8)
    expected = module.refine(x)
    with mode():
        refined = module.refine(x)
    assert torch.equal(refined.cells, expected.cells)
    torch.testing.assert_close(refined.features, expected.features)


def test_the_most_salient_cells_are_chosen_and_ties_go_to_the_first() -> None:
    module, x = capacity(), picture(2, 4, 7, 8)
    refined = module.refine(x)
    saliency = module.saliency(refined.coarse).flatten(1)
    torch.testing.assert_close(saliency.gather(1, refined.cells), saliency.topk(5).values)
    with torch.no_grad():
        module.top_linear.weight.zero_()  # no cell matters
    assert module.choose(x).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_fine_at_chosen_cells_and_coarse_elsewhere() -> None:
    module, x = capacity(), picture(2, 4, 7, 8)
    refined = module.refine(x)
    chosen = torch.zeros(2, 56, dtype=torch.bool).scatter(1, refined.cells, True).reshape(2, 7, 8)
    assert chosen.sum() == 10
    weights = params(module)
    for sample, coarse, features, where in zip(x, refined.coarse, refined.features, chosen, strict=True):
        expected = sample.numpy() + reference.pointwise(sample.numpy(), weights, "coarse")
        np.testing.assert_allclose(coarse.detach().numpy(), expected, atol=1e-10)
        assert torch.equal(features[:, ~where], coarse[:, ~where])
        padded = np.pad(sample.numpy(), ((0, 0), (2, 2), (2, 2)))
        middle = np.maximum(reference.convolved(padded, weights, "fine.0", 0), 0)
        fine = sample.numpy() + reference.convolved(middle, weights, "fine.2", 0)
        np.testing.assert_allclose(features[:, where].detach().numpy(), fine[:, where.numpy()], atol=1e-10)


def test_no_cells_is_the_coarse_map_and_too_many_are_all() -> None:
    x = picture(2, 4, 3, 4)
    none, everything = capacity(cells=0), capacity(cells=1000)
    assert torch.equal(none(x), none.refine(x).coarse)
    assert none.hint_loss(none.refine(x)) == 0
    refined = everything.refine(x)
    assert sorted(refined.cells[0].tolist()) == list(range(12))
    assert (refined.features - refined.coarse).abs().min() > 1e-9


def test_identity_at_start() -> None:
    module, x = DynamicCapacity(6, cells=9), torch.randn(2, 6, 8, 9)
    assert torch.equal(module(x), x)
    assert module.hint_loss(module.refine(x)) == 0


def test_the_hint_teaches_the_coarse_network_alone() -> None:
    module, x = capacity(), picture(2, 4, 7, 8)
    refined = module.refine(x)
    loss = module.hint_loss(refined)
    coarse = refined.coarse.flatten(2).gather(2, refined.cells[:, None].expand(-1, 4, -1))
    torch.testing.assert_close(loss, (coarse - refined.fine).square().sum() / 2)
    loss.backward()
    with_gradient = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert with_gradient == {"coarse.weight", "coarse.bias"}


def test_the_choice_moves_with_the_picture() -> None:
    module = capacity()
    x = torch.zeros(1, 4, 16, 16).double()
    x[:, :, 5:9, 4:9] = picture(1, 4, 4, 5) * 3
    moved = module.choose(x.roll((3, 2), (2, 3)))
    saliency = module.saliency(x).flatten()
    count = int((saliency[module.choose(x)[0]] > 1e-9).sum())
    assert count > 1
    assert moved[0, :count].tolist() == (module.choose(x)[0, :count] + 3 * 16 + 2).tolist()


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="cells must be at least 0, got -1"):
        DynamicCapacity(4, cells=-1)
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        DynamicCapacity(4, classes=1)

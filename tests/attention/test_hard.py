"""Stochastic hard attention: the draws, and whether REINFORCE follows the true gradient."""

import itertools

import pytest
import torch
from torch import Tensor

from bevfusion.attention.hard import Action, HardAttention
from tests.attention.reference_affinity import randomized

# Four cells: sixteen actions, few enough to sum over.
ACTIONS = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
WORTH = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


def reward_of(mask: Tensor) -> Tensor:
    """Not a sum over cells: the second and fourth are worth more together."""
    cells = mask.flatten(1)
    return cells @ WORTH + 4 * cells[:, 1] * cells[:, 3] + 5


def true_gradient(module: HardAttention, x: Tensor) -> Tensor:
    """Of the expected reward in the policy's last layer, by summing over all actions."""
    p = module.policy(x).sigmoid().flatten()
    probability = torch.where(ACTIONS > 0, p, 1 - p).prod(1)
    return torch.autograd.grad((probability * reward_of(ACTIONS)).sum(), module.policy[2].weight)[0].flatten()


def estimates(module: HardAttention, x: Tensor, baseline: float, count: int) -> Tensor:
    """The gradient that each of many single draws gives, downhill as a loss has it."""
    torch.manual_seed(0)
    with torch.no_grad():
        features = module.policy[1](module.policy[0](x))[0].flatten(1)
        action = module.train().sample(x.expand(count, -1, -1, -1))[1]
    p = module.policy(x).sigmoid().detach().flatten()
    # d log P / d weight of one draw, written out so that the variance over draws can be taken at all.
    score = (action.mask.flatten(1) - p) @ features.T
    return (reward_of(action.mask) - baseline)[:, None] * score


def small() -> tuple[HardAttention, Tensor]:
    x = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return randomized(HardAttention(3, hidden=5), seed=2), x


def test_the_mean_gradient_of_the_loss_is_that_of_the_expected_reward() -> None:
    module, x = small()
    module.train()
    torch.manual_seed(1)
    count = 20000
    _, action = module.sample(x.expand(count, -1, -1, -1))
    loss = module.policy_loss(action, reward_of(action.mask))
    found = -torch.autograd.grad(loss, module.policy[2].weight)[0].flatten()
    expected = true_gradient(module, x)
    spread = estimates(module, x, action.baseline[0].item(), count).std(0) / count**0.5
    assert ((found - expected).abs() <= 4 * spread).all()
    assert (spread < 0.1 * expected.abs().max()).all()


def test_a_baseline_moves_no_mean_and_lowers_the_variance() -> None:
    module, x = small()
    p = module.policy(x).sigmoid().detach().flatten()
    mean_reward = float((torch.where(ACTIONS > 0, p, 1 - p).prod(1) * reward_of(ACTIONS)).sum())
    without, with_baseline = (estimates(module, x, baseline, 40000) for baseline in (0.0, mean_reward))
    expected = true_gradient(module, x)
    for draws in (without, with_baseline):
        assert ((draws.mean(0) - expected).abs() <= 4 * draws.std(0) / 200).all()
    assert with_baseline.var(0).sum() < 0.5 * without.var(0).sum()


def test_the_loss_is_what_it_says() -> None:
    module, x = small()
    _, action = module.train().sample(x.expand(3, -1, -1, -1))
    reward = torch.tensor([1.0, 4.0, -2.0]).double()
    expected = -((reward - action.baseline) * action.log_prob.sum((1, 2, 3))).mean()
    fit = (reward - action.baseline).square().mean()
    torch.testing.assert_close(module.policy_loss(action, reward), expected + fit)


def test_rewards_of_cells_credit_their_own_cell_only() -> None:
    module, x = small()
    _, action = module.train().sample(x)
    reward = torch.zeros(1, 1, 2, 2).double()
    reward[0, 0, 1, 0] = 1.0
    action = action._replace(baseline=torch.zeros(1).double())
    error_of_baseline = 0.25  # one of four cells is off by one
    torch.testing.assert_close(module.policy_loss(action, reward), error_of_baseline - action.log_prob[0, 0, 1, 0])


def test_baseline_and_policy_do_not_teach_each_other() -> None:
    module, x = small()
    x = x.expand(2, -1, -1, -1).clone().requires_grad_()
    _, action = module.train().sample(x)
    fit = module.policy_loss(action._replace(log_prob=action.log_prob.detach()), torch.ones(2).double())
    fit.backward(retain_graph=True)
    assert module.policy[2].weight.grad is None
    assert x.grad is None, "the baseline must not shape the features"
    assert module.value.weight.grad.abs().max() > 0
    module.zero_grad()
    module.policy_loss(action._replace(baseline=action.baseline.detach()), torch.ones(2).double()).backward()
    assert module.value.weight.grad is None
    assert module.policy[2].weight.grad.abs().max() > 0


def test_log_probability_is_that_of_the_coin() -> None:
    module, x = small()
    _, action = module.train().sample(x)
    p = module.policy(x).sigmoid()
    torch.testing.assert_close(action.log_prob.exp(), torch.where(action.mask > 0, p, 1 - p))


def test_cells_pass_as_often_as_they_should_in_training() -> None:
    torch.manual_seed(0)
    module = HardAttention(4, pass_at_start=0.9).train()
    x = torch.randn(8, 4, 40, 40)
    gate = module.gate(x)
    assert set(gate.unique().tolist()) == {0.0, 1.0}
    assert gate.mean().item() == pytest.approx(0.9, abs=0.01)
    assert not torch.equal(gate, module.gate(x))


def test_the_same_draw_makes_the_same_output() -> None:
    module, x = HardAttention(4, pass_at_start=0.5).train(), torch.randn(2, 4, 6, 6)
    y, action = module.sample(x)
    assert torch.equal(y, x * action.mask)
    torch.manual_seed(5)
    first = module(x)
    torch.manual_seed(5)
    assert torch.equal(module.sample(x)[0], first)


def test_evaluation_lets_the_likelier_half_pass_and_is_deterministic() -> None:
    module, x = randomized(HardAttention(4)), torch.randn(2, 4, 8, 8).double()
    gate = module.gate(x)
    assert torch.equal(gate, (module.policy(x).sigmoid() > 0.5).double())
    assert 0 < gate.mean() < 1
    assert torch.equal(module(x), module(x))


def test_it_learns_to_block_what_hurts() -> None:
    torch.manual_seed(0)
    module = HardAttention(2, hidden=4, pass_at_start=0.5).train()
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(60):
        good = (torch.rand(8, 1, 6, 6) < 0.5).float()
        x = torch.cat([good, 1 - good], dim=1)
        _, action = module.sample(x)
        loss = module.policy_loss(action, action.mask * (2 * good - 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (module.eval().gate(x) == good).float().mean() > 0.95


def test_actions_are_values() -> None:
    assert Action._fields == ("mask", "log_prob", "baseline")


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pass_at_start must lie between 0 and 1, got 1.0"):
        HardAttention(4, pass_at_start=1.0)

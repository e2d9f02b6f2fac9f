"""Stochastic hard attention, trained by REINFORCE with a baseline.

After Recurrent Models of Visual Attention, https://arxiv.org/abs/1406.6247, and the "hard" attention of Show, Attend
and Tell, https://arxiv.org/abs/1502.03044, with the estimator of Williams (1992). Each cell passes or is blocked:

    p = sigmoid(pi(x)) per cell,   m ~ Bernoulli(p),   y = x m                    (training)
                                   m = [p > 1/2],      y = x m                    (evaluation: deterministic)

m has no derivative in p, so pi learns from a reward r alone (say, the log-probability of the true pose):

    grad E[r] = E[(r - b) grad log P(m)],   log P(m) = sum m log p + (1 - m) log(1 - p)

for any baseline b that does not depend on m; here b is a linear function of mean features, fitted to r. The reward may
be one number a sample or one a cell; the latter credits each cell with its own and has far less variance.

    y, action = hard.sample(x)
    loss = task_loss(y) + hard.policy_loss(action, reward)

In the network the reward is minus the loss of each sample (`with_auxiliary_loss`).

Differences: the papers sample one location out of all (a softmax); here cells are independent, so any number may pass.
"""

from functools import partial
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import AuxiliaryLoss, Need, Needs, check_at_least


class Action(NamedTuple):
    """What was decided, and what its loss needs."""

    mask: Float[Tensor, "b 1 h w"]  # 1 where the cell passes
    log_prob: Float[Tensor, "b 1 h w"]  # of each cell's decision
    baseline: Float[Tensor, " b"]  # the reward that was to be expected


class HardAttention(nn.Module):
    """Lets a cell pass or not.

    Args:
        channels: Channels of input and output.
        hidden: Channels inside the policy.
        pass_at_start: Probability of passing before training, in every cell.

    Raises:
        ValueError: if a size is not positive or `pass_at_start` is not between 0 and 1.
    """

    needs: ClassVar[Needs] = frozenset({Need.LOSS})

    def __init__(self, channels: int, *, hidden: int = 16, pass_at_start: float = 0.9) -> None:
        super().__init__()
        check_at_least("channels", channels, 1)
        check_at_least("hidden", hidden, 1)
        if not 0.0 < pass_at_start < 1.0:
            raise ValueError(f"pass_at_start must lie between 0 and 1, got {pass_at_start}")
        self.policy = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, 1, 1))
        self.value = nn.Linear(channels, 1)
        last = self.policy[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, torch.logit(torch.tensor(pass_at_start)).item())

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Blocks cells: at random in training mode, the less likely ones in evaluation; `B C H W -> B C H W`."""
        return x * self.gate(x)

    def gate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """Zeros and ones; drawn anew at every call in training mode."""
        return self._drawn(self.policy(x))

    def sample(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Action]:
        """The output with the action that made it, for `policy_loss`; draws like `forward`."""
        logit = self.policy(x)
        mask = self._drawn(logit)
        log_pass, log_block = F.logsigmoid(logit), F.logsigmoid(-logit)
        log_prob = torch.where(mask > 0, log_pass, log_block)
        baseline = self.value(x.detach().mean((2, 3)))[:, 0]
        return x * mask, Action(mask, log_prob, baseline)

    def with_auxiliary_loss(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], AuxiliaryLoss]:
        """The output of `sample`, and the policy's loss for a reward of minus the loss of each sample."""
        y, action = self.sample(x)
        return y, partial(self._loss_of_policy, action)

    def _loss_of_policy(self, action: Action, loss: Float[Tensor, " b"], truth: Float[Tensor, "b 3"]) -> Tensor:
        # A sum over thousands of cells with one reward: without the mean over cells it would drown every other loss.
        return self.policy_loss(action, -loss) / action.mask[0].numel()

    def policy_loss(
        self,
        action: Action,
        reward: Float[Tensor, " b"] | Float[Tensor, "b 1 h w"],
    ) -> Float[Tensor, ""]:
        """The loss whose gradient raises the expected reward, and fits the baseline to it.

        Mean over samples; summed over cells, but for the squared error of the baseline, which is their mean.

        Args:
            action: from `sample`.
            reward: the larger the better, one a sample or one a cell; no gradient flows into it.
        """
        reward = reward.detach()
        reward = reward.reshape(-1, 1, 1, 1) if reward.dim() == 1 else reward
        baseline = action.baseline[:, None, None, None]
        gain = (reward - baseline.detach()).expand_as(action.log_prob)
        samples = max(1, len(action.mask))
        policy = -(gain * action.log_prob).sum() / samples
        fit = (reward - baseline).square().flatten(1).mean(1).sum() / samples
        return policy + fit

    def _drawn(self, logit: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        with torch.no_grad():
            if self.training:
                return torch.bernoulli(logit.sigmoid())
            return (logit > 0).to(logit.dtype)

import math

import pytest
import torch

from bevfusion.geometry.grid import PoseWindow
from bevfusion.heads.direction import DirectionHead, direction_loss, heading_marginal, mean_direction
from bevfusion.structures import DirectionBelief, PoseBelief

WINDOW = PoseWindow(4.0, math.radians(10.0), 1.0, math.radians(2.0))
CIRCLE = PoseWindow(2.0, math.pi, 1.0, math.radians(10.0))


def volume(window: PoseWindow, batch: int = 2) -> PoseBelief:
    logits = torch.randn(batch, *window.shape, generator=torch.Generator().manual_seed(1))
    return PoseBelief(logits.flatten(1).log_softmax(1).view_as(logits), window)


@pytest.mark.parametrize("window", [WINDOW, CIRCLE])
def test_untrained_head_says_what_the_volume_says(window: PoseWindow):
    belief = DirectionHead(6, 4)(torch.randn(2, 6, 12, 12), volume(window))
    torch.testing.assert_close(belief.log_prob.exp(), volume(window).log_prob.exp().sum((2, 3)))


def test_evidence_of_the_joint_tensor_moves_the_belief_and_stays_a_distribution():
    head = DirectionHead(6, 4)
    torch.nn.init.normal_(head.coefficients.weight)
    belief = head(torch.randn(2, 6, 12, 12), volume(CIRCLE))
    torch.testing.assert_close(belief.log_prob.exp().sum(1), torch.ones(2))
    assert (belief.log_prob - heading_marginal(volume(CIRCLE))).abs().max() > 0.01


def test_loss_is_cross_entropy_with_the_truth_between_its_neighbours():
    belief = DirectionBelief(torch.randn(1, 11).log_softmax(1), torch.from_numpy(WINDOW.yaw_offsets_rad()).float())
    loss = direction_loss(belief, torch.tensor([math.radians(4.5)]))
    expected = -(0.75 * belief.log_prob[0, 7] + 0.25 * belief.log_prob[0, 8])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_loss_goes_the_short_way_round():
    offsets = torch.from_numpy(CIRCLE.yaw_offsets_rad()).float()
    belief = DirectionBelief(torch.randn(1, 36).log_softmax(1), offsets)
    loss = direction_loss(belief, torch.tensor([math.pi - math.radians(5.0)]))
    expected = -0.5 * (belief.log_prob[0, 0] + belief.log_prob[0, -1])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)


def test_loss_outside_the_window_is_that_of_the_nearest_heading():
    belief = DirectionBelief(torch.randn(1, 11).log_softmax(1), torch.from_numpy(WINDOW.yaw_offsets_rad()).float())
    loss = direction_loss(belief, torch.tensor([math.radians(25.0)]))
    assert loss.item() == pytest.approx(-belief.log_prob[0, -1].item(), abs=1e-5)


def test_mean_and_spread_of_a_wrapped_gaussian_across_the_seam():
    offsets = torch.linspace(-math.pi, math.pi, 361)[:-1]
    away = torch.remainder(offsets - 3.1 + math.pi, 2 * math.pi) - math.pi
    belief = DirectionBelief((-0.5 * (away / 0.2) ** 2).log_softmax(0)[None], offsets)
    mean, spread = mean_direction(belief)
    assert mean.item() == pytest.approx(3.1, abs=1e-3)
    assert spread.item() == pytest.approx(0.2, abs=1e-3)

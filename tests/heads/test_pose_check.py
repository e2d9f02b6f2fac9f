import math

import numpy as np
import pytest
import torch

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.pose_check import PRIOR_STD, PoseCheckHead, is_right, residual_loss, rigid_residual
from bevfusion.structures import PoseCheck

GRID = Grid(6, 8, 2.0)


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Displacements, and precisions that are symmetric and positive."""
    generator = torch.Generator().manual_seed(seed)
    displacement = torch.randn(2, 2, GRID.height, GRID.width, generator=generator)
    a, b, c = torch.rand(3, 2, GRID.height, GRID.width, generator=generator)
    return displacement, torch.stack([a * a, a * b, b * b + c * c], dim=1)


def normal_equations(displacement: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One sample, cell by cell, in float64."""
    a, b = np.diag(1.0 / np.array(PRIOR_STD) ** 2), np.zeros(3)
    for row, col in np.ndindex(GRID.height, GRID.width):
        x_m, y_m = GRID.metres_from_cells(np.array([row, col], dtype=np.float64))
        jacobian = np.array([[1.0, 0.0, -y_m], [0.0, 1.0, x_m]])
        xx, xy, yy = precision[:, row, col]
        weight = np.array([[xx, xy], [xy, yy]])
        a += jacobian.T @ weight @ jacobian
        b += jacobian.T @ weight @ displacement[:, row, col]
    return np.linalg.solve(a, b), np.linalg.inv(a)


def test_the_residual_solves_the_normal_equations():
    displacement, precision = drawn()
    residual, covariance = rigid_residual(displacement, precision, GRID)
    for sample in range(2):
        x, spread = normal_equations(displacement[sample].double().numpy(), precision[sample].double().numpy())
        np.testing.assert_allclose(residual[sample].numpy(), x, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(covariance[sample].numpy(), spread, rtol=1e-3, atol=1e-8)


def test_cells_that_all_move_as_one_vehicle_tell_how_it_moved():
    """A small turn, for displacements are linear in it."""
    turn_rad, shift = 0.01, np.array([0.4, -0.7])
    points = GRID.centres_m().reshape(-1, 2)
    moved = (SE2(*shift, turn_rad).apply(points) - points).reshape(GRID.height, GRID.width, 2)
    displacement = torch.from_numpy(moved).float().permute(2, 0, 1)[None]
    precision = torch.tensor([1e4, 0.0, 1e4])[None, :, None, None].expand(1, 3, GRID.height, GRID.width)
    residual, _ = rigid_residual(displacement, precision, GRID)
    assert residual[0].tolist() == pytest.approx([*shift, turn_rad], abs=2e-3)


def test_where_nothing_is_known_the_prior_is_left():
    residual, covariance = rigid_residual(torch.ones(1, 2, 6, 8), torch.zeros(1, 3, 6, 8), GRID)
    assert residual[0].tolist() == [0.0, 0.0, 0.0]
    assert covariance[0].diagonal().sqrt().tolist() == pytest.approx(PRIOR_STD)


def test_a_facade_along_the_road_tells_nothing_along_it():
    displacement = torch.full((1, 2, 6, 8), 0.5)
    precision = torch.tensor([0.0, 0.0, 5.0])[None, :, None, None].expand(1, 3, 6, 8)
    residual, covariance = rigid_residual(displacement, precision, GRID)
    assert residual[0, 0] == pytest.approx(0.0, abs=1e-5)
    assert residual[0, 1] == pytest.approx(0.5, abs=0.01)
    assert covariance[0, 0, 0].sqrt() == pytest.approx(PRIOR_STD[0])
    assert covariance[0, 1, 1].sqrt() < 0.1


def test_the_loss_is_that_of_a_gaussian():
    residual, covariance = torch.randn(3, 3), torch.randn(3, 3, 3)
    covariance = covariance @ covariance.mT + 0.1 * torch.eye(3)
    truth = torch.randn(3, 3)
    expected = -torch.distributions.MultivariateNormal(residual, covariance).log_prob(truth)
    unit = torch.distributions.MultivariateNormal(torch.zeros(3), torch.diag(torch.tensor(PRIOR_STD).square()))
    loss = residual_loss(PoseCheck(residual, covariance, torch.zeros(3)), truth)
    torch.testing.assert_close(loss, expected + unit.log_prob(torch.zeros(3)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("away", "right"),
    [
        ((1.4, 1.4, 0.0), True),
        ((1.5, 1.4, 0.0), False),
        ((0.0, 0.0, math.radians(3.9)), True),
        ((0.0, 0.0, math.radians(4.1)), False),
        ((0.0, 0.0, 2.0 * math.pi - 0.01), True),
    ],
)
def test_what_counts_as_the_place(away: tuple[float, float, float], right: bool):
    assert is_right(torch.tensor([away])).tolist() == [right]


def test_cells_that_were_not_seen_say_nothing():
    torch.manual_seed(0)
    head = PoseCheckHead(4, GRID).eval()
    torch.nn.init.normal_(head.displacement.weight)
    joint, score = torch.randn(2, 4, 6, 8), torch.zeros(2)
    blind = head(joint, torch.zeros(2, 1, 6, 8), score)
    assert blind.residual.abs().max() == 0.0
    sighted = head(joint, torch.ones(2, 1, 6, 8), score)
    assert sighted.residual.abs().min() > 0.0
    assert torch.linalg.eigvalsh(sighted.covariance).min() > 0.0


def test_the_verdict_hears_how_well_scan_and_map_match():
    torch.manual_seed(0)
    head = PoseCheckHead(4, GRID).eval()
    joint, seen = torch.randn(1, 4, 6, 8), torch.ones(1, 1, 6, 8)
    assert head(joint, seen, torch.zeros(1)).log_odds != head(joint, seen, torch.ones(1)).log_odds


def test_half_precision_around_it_keeps_the_sums_exact():
    torch.manual_seed(0)
    head = PoseCheckHead(4, GRID).eval()
    joint, seen, score = torch.randn(2, 4, 6, 8), torch.ones(2, 1, 6, 8), torch.zeros(2)
    with torch.autocast("cpu", torch.bfloat16):
        check = head(joint, seen, score)
    assert {value.dtype for value in (check.residual, check.covariance, check.log_odds)} == {torch.float32}

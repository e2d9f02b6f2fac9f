import math

import pytest
import torch

from bevfusion.geometry.grid import PoseWindow
from bevfusion.heads.pose_volume import best_pose
from bevfusion.heads.verdict import AWAY_M, lead_over_elsewhere, log_odds_here

WINDOW = PoseWindow(8.0, math.radians(4.0), 1.0, math.radians(2.0))


def volume(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, *WINDOW.shape, generator=torch.Generator().manual_seed(seed))


def slow_lead(scores: torch.Tensor, window: PoseWindow) -> float:
    """The best of all, less the best of those that lie farther off, one by one."""
    best = max((float(scores[r, y, x]), r, y, x) for r, y, x in torch.cartesian_prod(*map(torch.arange, scores.shape)))
    x_m, y_m = window.shifts_m()[best[3]], window.shifts_m()[best[2]]
    others = [
        float(scores[r, y, x])
        for r, y, x in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist()
        if math.hypot(window.shifts_m()[x] - x_m, window.shifts_m()[y] - y_m) > AWAY_M
    ]
    return best[0] - max(others)


def test_the_lead_is_over_all_places_farther_off():
    scores = volume()
    poses, _ = best_pose(scores, WINDOW)
    lead = lead_over_elsewhere(scores, poses, WINDOW)
    for one, found in zip(scores, lead.tolist(), strict=True):
        assert found == pytest.approx(slow_lead(one, WINDOW), abs=1e-5)


def test_a_rival_beside_the_best_pose_is_none():
    scores = torch.zeros(1, *WINDOW.shape)
    reach = WINDOW.reach
    scores[0, 2, reach, reach], scores[0, 2, reach, reach + 4] = 9.0, 8.0
    poses, _ = best_pose(scores, WINDOW)
    assert float(lead_over_elsewhere(scores, poses, WINDOW)) == pytest.approx(9.0)
    scores[0, 2, reach, reach + 6] = 8.0
    assert float(lead_over_elsewhere(scores, poses, WINDOW)) == pytest.approx(1.0)


def test_more_lead_and_more_ground_explained_make_it_likelier():
    scores = volume()
    poses, _ = best_pose(scores, WINDOW)
    little, much = torch.full((3,), 0.05), torch.full((3,), 0.5)
    plain = log_odds_here(scores, poses, little, WINDOW)
    assert bool((log_odds_here(scores, poses, much, WINDOW) > plain).all())
    assert bool((log_odds_here(5.0 * scores, poses, little, WINDOW) > plain).all())
    assert bool((plain < 0.0).all())  # noise that explains nothing is no place


def test_what_all_scores_have_in_common_does_not_count():
    scores = volume()
    poses, _ = best_pose(scores, WINDOW)
    ground = torch.full((3,), 0.2)
    torch.testing.assert_close(
        log_odds_here(scores + 7.0, poses, ground, WINDOW),
        log_odds_here(scores, poses, ground, WINDOW),
        atol=1e-4,
        rtol=0,
    )


def test_a_window_too_small_to_compare_says_nothing():
    small = PoseWindow(2.0, math.radians(4.0), 1.0, math.radians(2.0))
    scores = torch.zeros(1, *small.shape)
    poses, _ = best_pose(scores, small)
    assert bool(log_odds_here(scores, poses, torch.zeros(1), small).isnan().all())

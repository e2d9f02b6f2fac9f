import math

import numpy as np
import pytest
import torch

from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.map_error import with_map_error
from bevfusion.structures import PoseBelief, PoseEstimate

WINDOW = PoseWindow(12.0, math.radians(4.0), 1.0, math.radians(2.0))


def estimate(volume: torch.Tensor) -> PoseEstimate:
    belief = PoseBelief(volume.clamp(min=1e-30).log()[None], WINDOW)
    covariance = np.diag([0.04, 0.09, 1e-4])
    return PoseEstimate(SE2(1.0, 2.0, 0.3), covariance, 0.01, 0.9, SE2(), belief)


def certain() -> torch.Tensor:
    volume = torch.zeros(WINDOW.shape)
    volume[2, 12, 12] = 1.0
    return volume


def variances_m2(belief: PoseBelief) -> tuple[float, float]:
    """Along y and x."""
    prob = belief.log_prob[0].double().exp().numpy()
    shifts = WINDOW.shifts_m()
    return tuple(float(prob.sum((0, other)) @ shifts**2) for other in (2, 1))


@pytest.mark.parametrize("sigma_m", [0.3, 1.0, 2.0])
def test_a_certain_belief_gets_the_variance_of_the_map(sigma_m: float):
    widened = with_map_error(estimate(certain()), sigma_m)
    assert widened.belief is not None
    assert variances_m2(widened.belief) == pytest.approx((sigma_m**2, sigma_m**2), rel=1e-3)
    np.testing.assert_allclose(np.diag(widened.covariance), [0.04 + sigma_m**2, 0.09 + sigma_m**2, 1e-4])


def test_pose_heading_and_confidence_stay():
    before = estimate(certain())
    after = with_map_error(before, 1.0)
    assert (after.map_from_ego, after.heading_std_rad, after.confidence) == (
        before.map_from_ego,
        before.heading_std_rad,
        before.confidence,
    )
    assert after.belief is not None
    np.testing.assert_allclose(after.belief.log_prob[0, 2].exp().sum(), 1.0, rtol=1e-5)  # not a heading more


def test_what_the_belief_counts_already_is_not_counted_again():
    before = estimate(certain())
    assert with_map_error(before, 1.0, counted_m=1.0) is before
    widened = with_map_error(before, 1.0, counted_m=0.8)
    assert widened.belief is not None
    assert variances_m2(widened.belief)[0] == pytest.approx(0.36, rel=1e-3)


def test_it_agrees_with_a_convolution_written_out():
    rng = np.random.default_rng(0)
    volume = torch.from_numpy(rng.random(WINDOW.shape))
    volume /= volume.sum()
    widened = with_map_error(estimate(volume), 1.5)
    side = WINDOW.shape[1]
    weight = np.array([_bessel_weight(lag, 1.5**2) for lag in range(side)])
    expected = np.zeros(WINDOW.shape)
    for y in range(side):
        for x in range(side):
            spread = weight[np.abs(np.arange(side) - y)][:, None] * weight[np.abs(np.arange(side) - x)]
            expected += volume[:, y, x].numpy()[:, None, None] * spread
    assert widened.belief is not None
    np.testing.assert_allclose(widened.belief.log_prob[0].exp(), expected / expected.sum(), rtol=1e-6)


def _bessel_weight(lag: int, variance: float) -> float:
    """exp(-v) I_n(v) by its power series."""
    terms = [(0.5 * variance) ** (2 * k + lag) / (math.factorial(k) * math.factorial(k + lag)) for k in range(60)]
    return math.exp(-variance) * math.fsum(terms)


def test_an_estimate_without_a_belief_has_its_covariance_widened():
    bare = PoseEstimate(SE2(), np.eye(3), 0.1, 0.5, SE2())
    widened = with_map_error(bare, 2.0)
    assert widened.belief is None
    np.testing.assert_allclose(np.diag(widened.covariance), [5.0, 5.0, 1.0])


@pytest.mark.parametrize("sigma_m", [-1.0, math.nan, 21.0])
def test_an_error_that_makes_no_sense_is_refused(sigma_m: float):
    with pytest.raises(ValueError, match="standard deviation from 0 to 20 m"):
        with_map_error(estimate(certain()), sigma_m)

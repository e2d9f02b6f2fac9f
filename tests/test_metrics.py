"""Metrics against numbers worked by hand and slow, obvious references."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bevfusion import metrics
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import PoseBelief
from tests.chance import chance_recalls


def poses(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


def test_heading_error_goes_the_short_way_round() -> None:
    estimate = poses((0, 0, math.radians(179)), (0, 0, math.radians(-179)), (0, 0, math.radians(10)), (0, 0, math.pi))
    truth = poses((0, 0, math.radians(-179)), (0, 0, math.radians(179)), (0, 0, math.radians(370 - 25)), (0, 0, 0))
    assert metrics.heading_error_deg(estimate, truth) == pytest.approx([-2, 2, 25, -180])


def test_position_errors_lie_along_the_true_heading() -> None:
    # facing north: 3 m north is 3 m ahead, 2 m west is 2 m to the left; the estimate's own heading plays no part
    estimate = poses((8, 23, 1.0), (10, 20, 0))
    truth = poses((10, 20, math.pi / 2), (13, 16, math.pi))
    np.testing.assert_allclose(metrics.position_errors_m(estimate, truth), [[3, 2], [3, -4]], atol=1e-12)


@given(st.lists(st.tuples(*[st.floats(-50, 50)] * 2, st.floats(-10, 10)), min_size=1, max_size=5))
def test_position_errors_against_the_pose_algebra(rows: list[tuple[float, float, float]]) -> None:
    truth = poses(*rows)
    estimate = truth[:, [1, 0, 2]] + 0.5
    for error, e, t in zip(metrics.position_errors_m(estimate, truth), estimate, truth, strict=True):
        ego_from_estimate = SE2(*t).inverse() @ SE2(*e)
        np.testing.assert_allclose(error, [ego_from_estimate.x_m, ego_from_estimate.y_m], atol=1e-9)


def test_recalls_are_strict_and_ignore_the_sign() -> None:
    errors = np.array([0.0, -0.99, 1.0, -3.0, 2.9, 4.0, 5.0, 100.0])
    assert metrics.recalls(errors) == {"1": 25.0, "3": 50.0, "5": 75.0}
    assert metrics.recalls(errors, (2.5,)) == {"2.5": 37.5}


def test_summary_of_errors() -> None:
    errors = np.array([-1.0, 2.0, -3.0, 4.0, -5.0])
    # the 95th percentile lies at 3.8 of the four steps: 4 + 0.8
    assert metrics.summary(errors) == {"recall": {"1": 0.0, "3": 40.0, "5": 80.0}, "median": 3.0, "p95": 4.8}
    empty = metrics.summary(np.zeros(0))
    assert math.isnan(empty["median"])


def test_flips_are_headings_wrong_by_more_than_a_right_angle() -> None:
    assert metrics.flips_180(np.array([0.0, 90.0, -90.1, 179.0, -180.0])) == 60.0


def test_constant_offset_is_the_median_in_map_axes() -> None:
    truth = poses((0, 0, 0), (10, 0, 2), (20, 5, -1))
    estimate = truth + poses((1, -2, 0), (1.5, -2.5, 0), (90, 40, 0))
    assert metrics.constant_offset_m(estimate, truth) == pytest.approx((1.5, -2.0))


def test_chance_recalls_by_hand() -> None:
    # facing east in a window of 20 m: every coordinate uniform in +-20 m
    chance = chance_recalls(20.0, 10.0, np.array([0.0]))
    assert chance["lateral_m"] == pytest.approx({"1": 5.0, "3": 15.0, "5": 25.0}, abs=1e-3)
    assert chance["longitudinal_m"] == pytest.approx({"1": 5.0, "3": 15.0, "5": 25.0}, abs=1e-3)
    assert chance["position_m"]["5"] == pytest.approx(100 * math.pi * 25 / 1600)
    assert chance["heading_deg"] == pytest.approx({"1": 10.0, "3": 30.0, "5": 50.0})
    # facing north-east: a triangle of half width 20 sqrt 2
    half_m = 20 * math.sqrt(2)
    diagonal = chance_recalls(20.0, 3.0, np.array([math.pi / 4]))
    assert diagonal["lateral_m"]["5"] == pytest.approx(100 * (1 - (1 - 5 / half_m) ** 2))
    assert diagonal["heading_deg"]["5"] == 100.0


@pytest.mark.parametrize("offset_m", [2.0, 4.5, 20.0])
def test_chance_recalls_against_drawing_lots(offset_m: float) -> None:
    rng = np.random.default_rng(0)
    yaws_rad = np.array([0.3, -2.0, 1.2])
    draws = rng.uniform(-1, 1, (3, 200_000, 3)) * [offset_m, offset_m, math.radians(10)]
    truth = np.zeros((3, 200_000, 3))
    truth[..., 2] = yaws_rad[:, None]
    truth, prior = truth.reshape(-1, 3), (truth + draws).reshape(-1, 3)
    along, across = metrics.position_errors_m(prior, truth).T
    chance = chance_recalls(offset_m, 10.0, yaws_rad)
    measured = {
        "lateral_m": metrics.recalls(across),
        "longitudinal_m": metrics.recalls(along),
        "position_m": metrics.recalls(np.hypot(along, across)),
        "heading_deg": metrics.recalls(metrics.heading_error_deg(prior, truth)),
    }
    for name, expected in chance.items():
        assert measured[name] == pytest.approx(expected, abs=0.3), name


def belief_of(window: PoseWindow, seed: int = 0) -> PoseBelief:
    scores = torch.randn(window.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    return PoseBelief((scores - scores.logsumexp((0, 1, 2)))[None].float(), window)


@pytest.mark.parametrize("offset_rad", [math.radians(6), math.pi])
def test_credibility_against_a_loop(offset_rad: float) -> None:
    window = PoseWindow(2.0, offset_rad, 0.5, math.radians(2))
    belief = belief_of(window)
    prior = SE2(100.0, -50.0, 3.0)
    yaws_rad = window.yaw_offsets_rad()
    bins = [(r, y, x) for r in (0, 1, len(yaws_rad) - 1) for y in (0, 5) for x in (3, 8)]
    for r, y, x in bins:
        shift = window.offset_from_bins(r + 0.2, y - 0.3, x + 0.3)  # within half a bin of the centre
        truth = SE2(prior.x_m + shift.x_m, prior.y_m + shift.y_m, prior.yaw_rad + shift.yaw_rad)
        mass, nll = metrics.credibility(belief, prior, truth)
        own = belief.log_prob[0, r, y, x].item()
        expected = sum(math.exp(v) for v in belief.log_prob.flatten().tolist() if v > own)
        expected += 0.6**3 * math.exp(own)  # the part of its own bin that is nearer to the centre
        assert mass == pytest.approx(expected, abs=1e-6)
        step_rad = 2 * math.pi / len(yaws_rad) if window.full_circle else math.radians(2)
        assert nll == pytest.approx(-math.log(math.exp(own) / (0.5 * 0.5 * step_rad)), abs=1e-6)


def test_uniform_belief_has_the_density_of_its_window() -> None:
    window = PoseWindow(1.0, math.pi, 1.0, math.pi / 2)
    log_prob = torch.full((1, *window.shape), -math.log(math.prod(window.shape)))
    mass, nll = metrics.credibility(PoseBelief(log_prob, window), SE2(), SE2(0.2, 0.2, 3.1))
    assert 0.0 < mass < 1.0 / log_prob.numel()  # nothing is more probable, but a part of its own bin
    assert nll == pytest.approx(math.log(3.0 * 3.0 * 2 * math.pi))  # three cells of a metre a side, the full circle


def test_a_truth_outside_the_window_is_not_covered() -> None:
    window = PoseWindow(2.0, math.radians(6), 0.5, math.radians(2))
    for truth in (SE2(3.0), SE2(0.0, -3.0), SE2(yaw_rad=math.radians(10))):
        assert metrics.credibility(belief_of(window), SE2(), truth) == (1.0, math.inf)


def test_a_truth_just_past_the_border_belongs_to_the_border() -> None:
    window = PoseWindow(2.0, math.radians(6), 0.5, math.radians(2))
    belief = belief_of(window)
    (mass, nll), (centre_mass, centre_nll) = (metrics.credibility(belief, SE2(), SE2(x_m)) for x_m in (2.3, 2.0))
    assert nll == centre_nll
    assert mass == pytest.approx(centre_mass + math.exp(belief.log_prob[0, 3, 4, 8].item()))


@pytest.mark.parametrize("peaked", [1.0, 10.0])
def test_coverage_of_an_honest_belief(peaked: float) -> None:
    """Truths drawn from the belief itself fall into its credible regions as often as those say, coarse bins or not."""
    window = PoseWindow(4.0, math.radians(10), 0.5, math.radians(2))
    scores = belief_of(window).log_prob.double() * peaked
    belief = PoseBelief(scores - scores.logsumexp((1, 2, 3)), window)
    probabilities = belief.log_prob.flatten().exp().numpy()
    assert (probabilities.max() > 0.4) == (peaked == 10.0)
    rng = np.random.default_rng(1)
    chosen = rng.choice(len(probabilities), size=2000, p=probabilities / probabilities.sum())
    masses = []
    for r, y, x in zip(*np.unravel_index(chosen, window.shape), strict=True):
        dr, dy, dx = rng.uniform(-0.5, 0.5, 3)  # anywhere in the bin
        masses.append(metrics.credibility(belief, SE2(), window.offset_from_bins(r + dr, y + dy, x + dx))[0])
    for level in (0.25, 0.68, 0.95):
        assert metrics.coverage(np.array(masses), level) == pytest.approx(100.0 * level, abs=3.0), level

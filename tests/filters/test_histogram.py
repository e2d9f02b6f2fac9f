"""The Bayes recursion against slow references."""

import math

import numpy as np
import pytest
import torch

from bevfusion.filters.histogram import LEAST_VARIANCE, OUTLIER_SHARE, HistogramFilter
from bevfusion.filters.motion import Motion
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.heads.read_out import read_out
from bevfusion.structures import PoseBelief

NARROW = PoseWindow(12.0, math.radians(20.0), 1.0, math.radians(4.0))
CIRCLE = PoseWindow(12.0, math.pi, 1.0, math.radians(6.0))
STILL = Motion(SE2(), 0.0, 0.0, 0.0)


def hill(window: PoseWindow, x_m: float, y_m: float, yaw_rad: float, std_m: float, std_rad: float) -> torch.Tensor:
    """Log of a hill about an offset from the window's centre."""
    shifts_m = window.shifts_m()
    turn = (window.yaw_offsets_rad() - yaw_rad + math.pi) % (2.0 * math.pi) - math.pi
    xy = ((shifts_m[None, :] - x_m) ** 2 + (shifts_m[:, None] - y_m) ** 2) / std_m**2
    return torch.from_numpy(-0.5 * (xy[None] + (turn[:, None, None] / std_rad) ** 2)).float()


def volume(logits: torch.Tensor, window: PoseWindow) -> PoseBelief:
    return PoseBelief(logits.flatten().log_softmax(0).view(1, *window.shape), window)


def filter_of(window: PoseWindow, centre: SE2, *args: float) -> HistogramFilter:
    return HistogramFilter(window, centre, hill(window, *args).exp())


def moments(found: HistogramFilter) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variances of (x, y) in the map frame and yaw about the filter's mean heading."""
    x_m, y_m = found.mean_xy_m
    heading, _ = found.heading()
    prob, shifts_m = found.prob.double().numpy(), found.window.shifts_m()
    yaws = (found.centre.yaw_rad + found.window.yaw_offsets_rad() - heading + math.pi) % (2 * math.pi) - math.pi
    variances = [
        prob.sum((0, 1)) @ (found.centre.x_m + shifts_m - x_m) ** 2,
        prob.sum((0, 2)) @ (found.centre.y_m + shifts_m - y_m) ** 2,
        prob.sum((1, 2)) @ yaws**2,
    ]
    return np.array([x_m, y_m, heading]), np.array(variances)


def peak_of(found: HistogramFilter) -> list[float]:
    """The best pose (x, y, yaw), map frame."""
    offset = read_out(found.belief().log_prob[0].numpy(), found.window).offset
    centre = found.centre
    return [centre.x_m + offset.x_m, centre.y_m + offset.y_m, centre.yaw_rad + offset.yaw_rad]


def drawn(found: HistogramFilter, count: int, rng: np.random.Generator) -> np.ndarray:
    """Poses (x, y, yaw) of the map frame drawn from a belief's bins."""
    flat = rng.choice(found.prob.numel(), count, p=(p := found.prob.double().flatten().numpy()) / p.sum())
    r, y, x = np.unravel_index(flat, found.window.shape)
    shifts_m, yaws_rad = found.window.shifts_m(), found.window.yaw_offsets_rad()
    c = found.centre
    return np.stack([c.x_m + shifts_m[x], c.y_m + shifts_m[y], c.yaw_rad + yaws_rad[r]], axis=1)


@pytest.mark.parametrize("window", [NARROW, CIRCLE], ids=["narrow", "circle"])
@pytest.mark.parametrize(
    "motion",
    [
        Motion(SE2(1.37, 0.21, 0.11), 0.6, 0.6, 0.05),
        Motion(SE2(2.4, -0.3, -0.2), 1.9, 0.5, 0.06),
        Motion(SE2(-0.8, 0.1, 0.0), 0.5, 1.5, 0.04),
    ],
    ids=["round", "along", "across"],
)
def test_prediction_equals_particles(window: PoseWindow, motion: Motion) -> None:
    rng = np.random.default_rng(0)
    found = filter_of(window, SE2(103.2, -40.7, 2.9), 1.3, -0.6, 0.05, 1.5, math.radians(5.0))
    particles = drawn(found, 200_000, rng)
    found.predict(motion)
    noise = rng.normal(0.0, 1.0, (len(particles), 3)) * (motion.std_along_m, motion.std_across_m, motion.std_yaw_rad)
    step = np.array([motion.before_from_after.x_m, motion.before_from_after.y_m]) + noise[:, :2]
    cos, sin = np.cos(particles[:, 2]), np.sin(particles[:, 2])
    moved = particles.copy()
    moved[:, 0] += cos * step[:, 0] - sin * step[:, 1]
    moved[:, 1] += sin * step[:, 0] + cos * step[:, 1]
    moved[:, 2] += motion.before_from_after.yaw_rad + noise[:, 2]
    mean, variances = moments(found)
    assert mean[:2] == pytest.approx(moved[:, :2].mean(0), abs=0.03)
    assert abs(wrap_angle(mean[2] - moved[:, 2].mean())) < 0.003
    # the mass that may be anywhere adds a little to the variances
    assert variances == pytest.approx(moved.var(0), rel=0.05)
    correlation = np.corrcoef(moved[:, 0], moved[:, 1])[0, 1]
    prob, shifts_m = found.prob.double().sum(0).numpy(), window.shifts_m()
    dx, dy = found.centre.x_m + shifts_m - mean[0], found.centre.y_m + shifts_m - mean[1]
    assert dy @ prob @ dx / math.sqrt(variances[0] * variances[1]) == pytest.approx(correlation, abs=0.03)


def test_a_turn_on_the_circle_wraps_round() -> None:
    found = filter_of(CIRCLE, SE2(0.0, 0.0, 3.0), 0.0, 0.0, 0.1, 1.5, 0.2)
    for _ in range(40):
        found.predict(Motion(SE2(0.0, 0.0, 0.5), 0.0, 0.0, 0.05))
        found.recentre()
    assert abs(wrap_angle(found.heading()[0] - (3.1 + 20.0))) < 0.01
    assert -math.pi <= found.centre.yaw_rad < math.pi


@pytest.mark.parametrize("window", [NARROW, CIRCLE], ids=["narrow", "circle"])
def test_mass_is_conserved(window: PoseWindow) -> None:
    found = filter_of(window, SE2(5.0, 5.0, 0.3), 0.0, 0.0, 0.0, 1.0, 0.1)
    rng = np.random.default_rng(1)
    for _ in range(30):
        step = SE2(rng.uniform(0.0, 1.5), 0.0, rng.uniform(-0.1, 0.1))
        escaped = found.predict(Motion(step, 0.05, 0.05, 0.01))
        found.recentre()
        assert escaped < 1e-2
        assert float(found.prob.sum(dtype=torch.float64)) == pytest.approx(1.0, abs=1e-5)
        assert float(found.prob.min()) >= 0.0


def test_what_leaves_the_window_is_reported() -> None:
    found = filter_of(CIRCLE, SE2(), 0.0, 0.0, 0.0, 1.0, 0.1)
    # half the belief faces backwards: the two halves part, with the centre between them
    found.prob = 0.5 * (found.prob + torch.roll(found.prob, CIRCLE.shape[0] // 2, 0))
    lost = [found.predict(Motion(SE2(2.0, 0.0, 0.0), 0.05, 0.05, 0.01)) for _ in range(8)]
    assert max(lost[:4]) < 1e-3
    assert max(lost) > 0.3
    assert found.predict(Motion(SE2(100.0, 0.0, 0.0), 0.1, 0.1, 0.01)) > 0.99


def test_recentring_keeps_the_belief() -> None:
    found = filter_of(CIRCLE, SE2(10.0, 20.0, 0.5), 3.4, -4.2, 1.0, 1.0, 0.15)
    before, spread_before = moments(found)
    found.recentre()
    after, spread_after = moments(found)
    assert after == pytest.approx(before, abs=1e-2)
    assert spread_after == pytest.approx(spread_before, rel=0.02)
    assert abs(found.centre.x_m - before[0]) <= 0.5 + 1e-2
    assert abs(found.centre.y_m - before[1]) <= 0.5 + 1e-2
    assert abs(wrap_angle(found.centre.yaw_rad - before[2])) <= 0.5 * found.yaw_step_rad + 1e-3


def test_recentring_does_not_cut_off_a_second_place() -> None:
    found = HistogramFilter(
        CIRCLE,
        SE2(),
        0.8 * hill(CIRCLE, 11.0, 0.0, 0.0, 0.5, 0.1).exp() + 0.2 * hill(CIRCLE, -11.0, 0.0, 0.0, 0.5, 0.1).exp(),
    )
    before = [float(found.prob[:, :, :5].sum()), float(found.prob[:, :, -5:].sum())]
    found.recentre()
    assert [float(found.prob[:, :, :5].sum()), float(found.prob[:, :, -5:].sum())] == pytest.approx(before, abs=1e-3)


def test_a_volume_between_the_cells_is_put_where_it_belongs() -> None:
    found = HistogramFilter.uniform(CIRCLE, SE2(100.3, 50.4, 0.7))
    # the network's tile is snapped elsewhere, and the hill is at (102.1, 48.8), yaw 0.8, on the map
    prior = SE2(100.0, 50.5, 0.7)
    logits = 4.0 * hill(CIRCLE, 2.1, -1.7, 0.1, 1.5, 0.15)
    found.update(volume(logits, CIRCLE), prior)
    assert peak_of(found) == pytest.approx([102.1, 48.8, 0.8], abs=0.05)


def test_update_is_a_product_with_the_tempered_volume() -> None:
    found = filter_of(NARROW, SE2(), 2.0, 0.0, 0.0, 2.0, 0.1)
    measured = volume(hill(NARROW, -2.0, 1.0, 0.0, 2.0, 0.1), NARROW)
    expected = found.prob * (0.6 * 0.5 * measured.log_prob[0]).exp().clamp(min=0.0)
    expected = expected / expected.sum()
    found.update(measured, SE2(), weight=0.6)
    assert float((found.prob - expected).abs().sum()) < 0.01  # but for the bound


def test_no_volume_counts_without_bound() -> None:
    found = HistogramFilter.uniform(NARROW, SE2())
    found.update(volume(1000.0 * hill(NARROW, 0.0, 0.0, 0.0, 1.0, 0.1), NARROW), SE2())
    assert float(found.prob.max() / found.prob.min()) == pytest.approx(math.exp(8.0), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, -math.inf, math.nan])
def test_flat_and_empty_volumes_keep_the_prediction(value: float) -> None:
    found = filter_of(NARROW, SE2(), 2.0, 0.0, 0.0, 2.0, 0.1)
    before = found.prob.clone()
    agreement = found.update(PoseBelief(torch.full((1, *NARROW.shape), value), NARROW), SE2())
    assert torch.allclose(found.prob, before, rtol=1e-4)
    assert agreement.nats == pytest.approx(0.0, abs=1e-4)
    assert agreement.support > 0.9


def test_agreement() -> None:
    here, there = hill(NARROW, 5.0, 5.0, 0.0, 1.0, 0.1), hill(NARROW, -5.0, -5.0, 0.0, 1.0, 0.1)
    agreeing = filter_of(NARROW, SE2(), 5.0, 5.0, 0.0, 1.0, 0.1).update(volume(here, NARROW), SE2())
    contradicting = filter_of(NARROW, SE2(), 5.0, 5.0, 0.0, 1.0, 0.1).update(volume(there, NARROW), SE2())
    assert agreeing.nats > 3.0
    assert agreeing.support > 0.99
    assert contradicting.nats == pytest.approx(math.log(OUTLIER_SHARE), abs=0.05)
    torn = HistogramFilter(NARROW, SE2(), here.exp() + 0.05 * there.exp()).update(volume(there, NARROW), SE2(), 0.2)
    assert torn.nats > 0.0  # the volume points to a place that the belief held possible ...
    assert torn.support < 0.1  # ... but not its best


def test_a_peak_between_bins_stays_there() -> None:
    # a volume off by 0.4 bins in each direction, again and again: the belief must not snap to a bin's middle
    found = HistogramFilter.uniform(CIRCLE, SE2())
    logits = 20.0 * hill(CIRCLE, 0.4, -0.4, 0.4 * math.radians(6.0), 2.0, 0.15)
    for _ in range(50):
        found.predict(STILL)
        found.update(volume(logits, CIRCLE), SE2(), 0.4)
    _, variances = moments(found)
    assert peak_of(found) == pytest.approx([0.4, -0.4, 0.4 * math.radians(6.0)], abs=0.1)
    assert variances[0] > 0.3 * LEAST_VARIANCE


def test_belief_can_be_mixed_with_doubt() -> None:
    found = filter_of(NARROW, SE2(), 0.0, 0.0, 0.0, 1.0, 0.1)
    prob = found.belief(trust=0.25).log_prob.exp()
    assert float(prob.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(prob.min()) == pytest.approx(0.75 / prob.numel(), rel=1e-3)


def test_wrong_shapes_are_refused() -> None:
    found = HistogramFilter.uniform(NARROW, SE2())
    with pytest.raises(ValueError, match="expected a volume of shape"):
        found.update(volume(torch.zeros(CIRCLE.shape), CIRCLE), SE2())
    with pytest.raises(ValueError, match="expected probabilities"):
        HistogramFilter(NARROW, SE2(), torch.zeros(NARROW.shape))

"""Beliefs get wider over places, by exactly the variance asked for."""

import math

import numpy as np
import pytest
import torch

from bevfusion.geometry.grid import PoseWindow
from bevfusion.heads.blur import REACH, BeliefBlur, gaussian_taps
from bevfusion.structures import PoseBelief

WINDOW = PoseWindow(15.0, math.radians(4.0), 1.0, math.radians(2.0))


def belief(logits: torch.Tensor) -> PoseBelief:
    return PoseBelief(logits.flatten(1).log_softmax(1).view_as(logits), WINDOW)


def moments(prob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance along (r, y, x), in bins."""
    places = [np.arange(size) for size in prob.shape]
    marginals = [prob.sum(tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    mean = np.array([m @ p for m, p in zip(marginals, places, strict=True)])
    return mean, np.array([m @ p**2 for m, p in zip(marginals, places, strict=True)]) - mean**2


@pytest.mark.parametrize("variance", [0.0, 0.05, 0.17, 1.0, 2.0])
def test_the_taps_are_a_gaussian_of_that_variance(variance: float) -> None:
    taps, lags = gaussian_taps(variance).double().numpy(), np.arange(-REACH, REACH + 1)
    assert taps.sum() == pytest.approx(1.0, abs=1e-6)
    assert taps @ lags == pytest.approx(0.0, abs=1e-6)
    assert taps @ lags**2 == pytest.approx(variance, rel=2e-3, abs=1e-9)
    assert (np.diff(taps[REACH:]) <= 0.0).all()


def test_blurring_twice_is_blurring_once_by_both_variances() -> None:
    twice = np.convolve(gaussian_taps(0.3).double(), gaussian_taps(0.4).double())[REACH:-REACH]
    np.testing.assert_allclose(twice, gaussian_taps(0.7).double(), atol=1e-5)


@pytest.mark.parametrize("variance", [-0.1, 2.3])
def test_what_the_reach_cannot_hold_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variance of 0 to"):
        gaussian_taps(variance)


def test_at_first_nothing_changes() -> None:
    before = belief(torch.randn(2, *WINDOW.shape, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(BeliefBlur()(before).log_prob, before.log_prob)


def test_places_spread_and_headings_stay() -> None:
    logits = torch.full((1, *WINDOW.shape), -50.0)
    logits[0, 1, 14, 17], logits[0, 3, 16, 12] = 0.0, 1.0
    before, blur = belief(logits), BeliefBlur()
    blur.set_variance(0.6)
    after = blur(before)
    (mean, variance), (mean_after, variance_after) = (
        moments(b.log_prob[0].double().exp().numpy()) for b in (before, after)
    )
    np.testing.assert_allclose(mean_after, mean, atol=1e-3)
    np.testing.assert_allclose(variance_after - variance, [0.0, 0.6, 0.6], atol=2e-3)
    torch.testing.assert_close(after.log_prob.exp().sum((2, 3)), before.log_prob.exp().sum((2, 3)))


def test_it_agrees_with_adding_up_shifted_copies() -> None:
    before, blur = belief(torch.randn(1, *WINDOW.shape, generator=torch.Generator().manual_seed(1))), BeliefBlur()
    blur.set_variance(1.2)
    taps = gaussian_taps(1.2).double().numpy()
    padded = np.pad(before.log_prob[0].double().exp().numpy(), ((0, 0), (REACH, REACH), (REACH, REACH)))
    _, height, width = WINDOW.shape
    copies = [
        taps[i] * taps[j] * padded[:, i : i + height, j : j + width]
        for i in range(2 * REACH + 1)
        for j in range(2 * REACH + 1)
    ]
    expected = np.sum(copies, axis=0)
    np.testing.assert_allclose(blur(before).log_prob[0].exp(), expected / expected.sum(), rtol=1e-4, atol=1e-9)


def test_what_would_leave_the_window_stays_in_it() -> None:
    logits = torch.full((1, *WINDOW.shape), -80.0)
    logits[0, 0, 0, 0] = 0.0
    blur = BeliefBlur()
    blur.set_variance(2.0)
    after = blur(belief(logits)).log_prob
    assert after.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    assert after.isfinite().all()
    assert int(after.argmax()) == 0

"""Poses in hindsight, against every path of a small window, and on vehicles."""

import itertools
import math

import numpy as np
import pytest
import torch

from bevfusion.filters.histogram import BOUND_NATS, TEMPER, HistogramFilter
from bevfusion.filters.motion import Motion
from bevfusion.filters.search import GlobalSearch
from bevfusion.filters.sequence import SequenceLocalizer
from bevfusion.filters.smoother import Hindsight, Smoother, smoothed
from bevfusion.filters.transition import Change, Narrowing, Snapshot, Transition, WindowMove
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.read_out import read_out
from bevfusion.structures import DataError, Frame, PoseBelief, PoseEstimate, Scan
from tests.filters.test_sequence import NARROW, START, near, streets
from tests.filters.vehicles import InformedLocator, drive, heading_error_deg, position_error_m, winding

FULL = PoseWindow(2.0, math.pi, 1.0, math.radians(60.0))  # 6 headings, 5 by 5 places
PART = PoseWindow(2.0, math.radians(60.0), 1.0, math.radians(60.0))


def transition(window: PoseWindow, axis_variance: float = 0.8) -> Transition:
    rng = np.random.default_rng(3)
    count = window.shape[0]
    yaws = rng.uniform(-3, 3, count)
    return Transition(
        rng.uniform(-1.5, 1.5, (count, 2)),
        (0.6, 0.5),
        np.stack([np.cos(yaws), np.sin(yaws)], 1),
        axis_variance,
        0.7,
        window.full_circle,
    )


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (transition(FULL), FULL, FULL),
        (transition(PART), PART, PART),
        (transition(PART, 0.0), PART, PART),
        (WindowMove(0, 2, True), FULL, FULL),
        (WindowMove(0, 1, False), PART, PART),
        (WindowMove(1, -3, False), FULL, FULL),
        (WindowMove(2, 9, False), FULL, FULL),
        (Narrowing.between(FULL, PART), FULL, PART),
    ],
    ids=str,
)
def test_what_goes_back_is_the_adjoint_of_what_goes_on(change: Change, before: PoseWindow, after: PoseWindow) -> None:
    # <A p, q> = <p, A' q> for all p and q is what makes A' the adjoint
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.rand(window.shape, generator=generator) for window in (before, after))
    assert tuple(change.forward(p).shape) == after.shape
    assert float((change.forward(p) * q).sum()) == pytest.approx(float((p * change.backward(q)).sum()), rel=1e-5)


def test_fewer_headings_are_the_old_ones_where_they_meet() -> None:
    prob = torch.rand(FULL.shape)
    assert torch.equal(Narrowing.between(FULL, PART).forward(prob), prob[2:5])
    halves = PoseWindow(2.0, math.radians(30.0), 1.0, math.radians(30.0))
    between = Narrowing.between(FULL, halves).forward(prob)
    torch.testing.assert_close(between[0], 0.5 * (prob[2] + prob[3]))
    with pytest.raises(ValueError, match="inside"):
        Narrowing.between(PART, FULL)


def recorded(frames: int, seed: int) -> tuple[list[Snapshot], list[torch.Tensor]]:
    """A filter over random volumes, and its likelihoods over the windows as they were."""
    rng = np.random.default_rng(seed)
    belief = HistogramFilter.uniform(FULL, SE2())
    history, likelihoods = [], []
    for number in range(frames):
        if number:
            step = SE2(*(float(v) for v in rng.normal(0.0, (0.5, 0.5, 0.4))))
            belief.predict(Motion(step, 0.9, 0.4, 0.5))
        if number == 2:
            belief.narrow(PART)
        belief.recentre()
        predicted = belief.prob
        logits = torch.from_numpy(rng.normal(0.0, 2.0, belief.window.shape)).float()
        measured = PoseBelief(logits.flatten().log_softmax(0).view(1, *belief.window.shape), belief.window)
        belief.update(measured, belief.centre, 0.8)
        likelihoods.append(((TEMPER * (logits - logits.max())).clamp(min=-BOUND_NATS) * 0.8).exp().double())
        changes = tuple(belief.changes)
        history.append(Snapshot(number, predicted, belief.prob, changes, belief.window, belief.centre, 1.0))
        belief.changes.clear()
    return history, likelihoods


def matrix(changes: tuple[Change, ...], before: PoseWindow) -> torch.Tensor:
    """[b, a] by sending every single pose through."""
    columns = []
    for index in range(math.prod(before.shape)):
        single = torch.zeros(math.prod(before.shape))
        single[index] = 1.0
        prob = single.view(before.shape)
        for change in changes:
            prob = change.forward(prob)
        columns.append(prob.flatten().double())
    return torch.stack(columns, 1)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_sum_over_all_paths(seed: int) -> None:
    history, likelihoods = recorded(5, seed)
    steps = [matrix(after.changes, now.window) for now, after in itertools.pairwise(history)]
    forward = [likelihoods[0].flatten()]
    for step, likelihood in zip(steps, likelihoods[1:], strict=True):
        forward.append((step @ forward[-1]) * likelihood.flatten())
    backward = [torch.ones_like(forward[-1])]
    for step, likelihood in zip(reversed(steps), reversed(likelihoods[1:]), strict=True):
        backward.insert(0, step.T @ (likelihood.flatten() * backward[0]))
    for found, alpha, beta in zip(smoothed(history), forward, backward, strict=True):
        expected = alpha * beta / (alpha * beta).sum()
        torch.testing.assert_close(found.flatten().double(), expected, atol=2e-6, rtol=1e-3)


def hindsight(
    locator: InformedLocator, frames: list[Frame], prior: SE2, offset_rad: float, lag_frames: int | None = 15
) -> list[PoseEstimate | None]:
    tracker = SequenceLocalizer(locator, read_out, record=True)
    tracker.start(prior, 20.0, offset_rad)
    return gathered(Smoother(tracker, read_out, lag_frames), frames, tracker, lag_frames)


def gathered(
    smoother: Smoother, frames: list[Frame], tracker: SequenceLocalizer, lag_frames: int | None
) -> list[PoseEstimate | None]:
    answers: list[Hindsight] = []
    for count, frame in enumerate(frames, start=1):
        answers += smoother.step(frame)
        if lag_frames is not None:
            assert len(answers) >= count - 2 * lag_frames
            assert all(len(track.history) <= 2 * lag_frames for track in tracker.alternatives)
            assert tracker.track is None or len(tracker.track.history) < 2 * lag_frames
    answers += smoother.finish()
    assert [answer.number for answer in answers] == list(range(len(frames)))
    return [answer.estimate for answer in answers]


def test_the_start_is_known_in_hindsight() -> None:
    # a second peak, facing the other way: the first frames cannot tell, the later ones can
    locator = InformedLocator(ghosts=(SE2(0.0, 3.0, math.pi),))
    frames, truths = drive(START, winding(40))
    answers = hindsight(locator, frames, near(START, 2.0), math.pi)
    assert all(e is not None and position_error_m(e, t) < 1.0 for e, t in zip(answers, truths, strict=True))
    assert all(e is not None and heading_error_deg(e, t) < 3.0 for e, t in zip(answers, truths, strict=True))
    assert min(e.confidence for e in answers if e is not None) > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_it_is_better_than_the_filter(seed: int) -> None:
    frames, truths = drive(START, winding(60), seed=seed)
    tracker = SequenceLocalizer(InformedLocator(error_m=1.0, seed=seed), read_out)
    tracker.start(near(START), 20.0, NARROW)
    causal = [tracker.step(frame) for frame in frames]
    later = hindsight(InformedLocator(error_m=1.0, seed=seed), frames, near(START), NARROW)

    # where the filter was lost in between, as it may be with so wild a locator, hindsight has nothing to add
    both = [(a, b, t) for a, b, t in zip(causal, later, truths, strict=True) if a is not None and b is not None]
    assert len(both) >= 30
    errors_m = np.array([[position_error_m(a, t), position_error_m(b, t)] for a, b, t in both])
    assert errors_m[:, 1].mean() < 0.8 * errors_m[:, 0].mean()


def test_a_lag_is_as_good_as_the_whole_drive() -> None:
    frames, _ = drive(START, winding(60))
    whole = hindsight(InformedLocator(), frames, near(START), NARROW, lag_frames=None)
    blocks = hindsight(InformedLocator(), frames, near(START), NARROW, lag_frames=15)
    for a, b in zip(whole, blocks, strict=True):
        assert a is not None
        assert b is not None
        assert math.hypot(a.map_from_ego.x_m - b.map_from_ego.x_m, a.map_from_ego.y_m - b.map_from_ego.y_m) < 0.05


def test_after_a_kidnapping_nothing_wrong_is_said() -> None:
    frames, truths = drive(START, winding(60), jump=(25, SE2(200.0, 0.0, 0.0)))
    answers = hindsight(InformedLocator(), frames, near(START), NARROW)
    assert all(e is not None and position_error_m(e, t) < 1.5 for e, t in zip(answers[:24], truths, strict=False))
    assert all(answer is None for answer in answers[30:])


def test_what_was_found_late_counts_from_its_first_frame() -> None:
    locator = InformedLocator()
    frames, truths = drive(SE2(-120.0, 100.0, 0.0), [SE2(1.0, 0.0, 0.0)] * 45)
    bounds_m = (-150.0, -150.0, 150.0, 150.0)
    trackers = [
        SequenceLocalizer(locator, read_out, lambda: GlobalSearch(locator, streets, bounds_m, 0), record=record)
        for record in (False, True)
    ]
    for tracker in trackers:
        tracker.start_anywhere()
    causal = [trackers[0].step(frame) for frame in frames]
    later = gathered(Smoother(trackers[1], read_out, 20), frames, trackers[1], 20)
    assert causal[0] is None
    assert all(e is not None and position_error_m(e, t) < 1.5 for e, t in zip(later, truths, strict=True))


def test_a_scan_that_cannot_be_used_has_a_pose_all_the_same() -> None:
    class Blinking(InformedLocator):
        def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
            estimate = super().locate(scan, prior, offset_m, offset_rad)
            if len(self.asked) % 4 == 3:
                raise DataError("none of the scan's points is near")
            return estimate

    frames, truths = drive(START, winding(30))
    answers = hindsight(Blinking(), frames, near(START), NARROW)
    assert all(e is not None and position_error_m(e, t) < 1.5 for e, t in zip(answers, truths, strict=True))


def test_a_lag_is_at_least_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        Smoother(SequenceLocalizer(InformedLocator(), read_out, record=True), read_out, 0)

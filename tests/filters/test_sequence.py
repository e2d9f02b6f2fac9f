"""Vehicles that are followed, lost and found."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bevfusion.filters.search import GlobalSearch
from bevfusion.filters.sequence import SequenceLocalizer
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.heads.read_out import read_out
from bevfusion.structures import DataError, Frame, PoseEstimate, Scan
from tests.filters.vehicles import (
    InformedLocator,
    drive,
    heading_error_deg,
    position_error_m,
    scan_at,
    winding,
)

START = SE2(100.0, 50.0, 3.0)
NARROW = math.radians(16.0)


def near(pose: SE2, turn_rad: float = 0.1) -> SE2:
    return SE2(pose.x_m + 9.0, pose.y_m - 13.0, wrap_angle(pose.yaw_rad + turn_rad))


def followed(
    tracker: SequenceLocalizer, frames: list[Frame], prior: SE2, offset_rad: float
) -> list[PoseEstimate | None]:
    tracker.start(prior, 20.0, offset_rad)
    return [tracker.step(frame) for frame in frames]


def streets(grid: Grid, pose: SE2) -> np.ndarray:
    """One plane: streets 8 m wide, 100 m apart, both ways."""
    xy_m = pose.apply(grid.centres_m())
    return (127 * (np.abs((xy_m + 50.0) % 100.0 - 50.0) < 4.0).any(axis=-1)).astype(np.int8)[None]


def searching_tracker(locator: InformedLocator, half_m: float = 150.0) -> SequenceLocalizer:
    bounds_m = (-half_m, -half_m, half_m, half_m)
    return SequenceLocalizer(locator, read_out, lambda: GlobalSearch(locator, streets, bounds_m, 0))


@pytest.mark.parametrize(("offset_rad", "turn_rad"), [(NARROW, 0.1), (math.pi, 2.0)], ids=["narrow", "any heading"])
@pytest.mark.parametrize("odometry", [True, False], ids=["odometry", "none"])
def test_follows(offset_rad: float, turn_rad: float, odometry: bool) -> None:
    frames, truths = drive(START, winding(40), odometry=odometry)
    answers = followed(SequenceLocalizer(InformedLocator(), read_out), frames, near(START, turn_rad), offset_rad)
    pairs = [(e, t) for e, t in zip(answers, truths, strict=True) if e is not None]
    assert len(pairs) == len(frames)
    assert max(position_error_m(*pair) for pair in pairs) < 1.5
    assert max(heading_error_deg(*pair) for pair in pairs[5:]) < 3.0
    settled = pairs[10:]
    assert np.mean([position_error_m(*pair) for pair in settled]) < 0.6
    assert min(e.confidence for e, _ in settled) > 0.8
    for estimate, _ in settled:
        assert np.linalg.eigvalsh(estimate.covariance).min() > 0.0


def test_odometry_averages_the_noise_of_single_volumes() -> None:
    frames, truths = drive(START, winding(60))
    answers = followed(SequenceLocalizer(InformedLocator(error_m=1.0), read_out), frames, near(START), NARROW)
    errors = [position_error_m(e, t) for e, t in zip(answers, truths, strict=True) if e is not None]
    assert np.mean(errors[10:]) < 0.6  # single volumes are off by 1.25 m on average


def test_two_peaks_are_told_apart_by_motion() -> None:
    # a second peak beside the vehicle, facing the other way: one volume cannot tell, the odometry can
    locator = InformedLocator(ghosts=(SE2(0.0, 3.0, math.pi),))
    frames, truths = drive(START, winding(15))
    tracker = SequenceLocalizer(locator, read_out)
    answers = followed(tracker, frames, near(START, 2.0), math.pi)

    def turned_mass(estimate: PoseEstimate | None, truth: SE2) -> float:
        assert estimate is not None
        assert estimate.belief is not None
        belief = estimate.belief
        yaws_rad = belief.window.yaw_offsets_rad() + estimate.prior.yaw_rad - truth.yaw_rad
        prob = belief.log_prob[0].exp().sum((1, 2)).numpy()
        backwards, forwards = (float(prob[sign * np.cos(yaws_rad) > 0.9].sum()) for sign in (-1, 1))
        return backwards / (backwards + forwards)

    assert turned_mass(answers[0], truths[0]) > 0.35
    assert turned_mass(answers[-1], truths[-1]) < 0.02
    assert answers[-1] is not None
    assert position_error_m(answers[-1], truths[-1]) < 1.0
    assert heading_error_deg(answers[-1], truths[-1]) < 3.0


@pytest.mark.parametrize("offset_rad", [NARROW, math.pi], ids=["narrow", "any heading"])
@pytest.mark.parametrize("seed", range(3))
def test_a_kidnapped_vehicle_is_lost_within_ten_frames(offset_rad: float, seed: int) -> None:
    frames, truths = drive(START, winding(60), jump=(25, SE2(200.0, 0.0, 0.0)), seed=seed)
    tracker = SequenceLocalizer(InformedLocator(seed=seed), read_out)
    answers = followed(tracker, frames, near(START), offset_rad)
    assert all(answer is not None and answer.confidence > 0.9 for answer in answers[10:25])
    assert all(answer is None for answer in answers[35:])
    assert tracker.state == "lost"
    wrong = [e.confidence for e, t in zip(answers[25:], truths[25:], strict=True) if e and position_error_m(e, t) > 5.0]
    # one stray peak may fall on the belief by chance, and nothing can tell from that frame alone
    assert sum(confidence >= 0.5 for confidence in wrong) <= 1


def test_outliers_do_not_throw_it_off() -> None:
    frames, truths = drive(START, winding(80))
    answers = followed(SequenceLocalizer(InformedLocator(outliers=0.3), read_out), frames, near(START), NARROW)
    pairs = [(e, t) for e, t in zip(answers, truths, strict=True) if e is not None]
    assert len(pairs) > 70
    assert all(position_error_m(e, t) < 2.0 for e, t in pairs if e.confidence > 0.3)


def test_after_a_stretch_of_wrong_volumes_it_is_found_where_odometry_has_it() -> None:
    locator = InformedLocator()
    frames, truths = drive(START, winding(70))
    tracker = SequenceLocalizer(locator, read_out)
    answers = followed(tracker, frames[:25], near(START), NARROW)
    locator.outliers = 1.0
    answers += [tracker.step(frame) for frame in frames[25:45]]
    assert tracker.state == "lost"
    locator.outliers = 0.0
    answers += [tracker.step(frame) for frame in frames[45:]]
    pairs = list(zip(answers, truths, strict=True))
    assert all(e is not None and position_error_m(e, t) < 1.5 for e, t in pairs[55:])
    assert all(position_error_m(e, t) < 3.0 for e, t in pairs if e is not None)


@pytest.mark.parametrize("shift_m", [12.0, 200.0])
def test_after_a_jump_the_neighbourhood_is_no_answer(shift_m: float) -> None:
    # what stands 12 m on looks like where it was: a filter that settles there is wrong if it was carried elsewhere
    frames, truths = drive(START, winding(70), jump=(25, SE2(shift_m, 5.0, 0.0)))
    ghost = SE2(-truths[25].x_m + truths[24].x_m + 12.0, 3.0, 0.0) if shift_m > 100.0 else SE2()
    answers = followed(SequenceLocalizer(InformedLocator(ghosts=(ghost,)), read_out), frames, near(START), NARROW)
    assert all(answer is None for answer in answers[35:])


def test_a_start_that_fails_is_tried_anew() -> None:
    frames, truths = drive(START, winding(60), jump=(4, SE2(12.0, 5.0, 0.0)))
    answers = followed(SequenceLocalizer(InformedLocator(), read_out), frames, near(START), math.pi)
    pairs = list(zip(answers, truths, strict=True))
    assert all(e is not None and position_error_m(e, t) < 1.5 for e, t in pairs[35:])
    assert all(e.confidence < 0.3 for e, t in pairs if e is not None and position_error_m(e, t) > 5.0)


def test_starts_anywhere_and_is_found_again_after_a_kidnapping() -> None:
    locator = InformedLocator()
    jump = (20, SE2(0.0, -100.0, math.pi))
    frames, truths = drive(SE2(-120.0, 100.0, 0.0), [SE2(1.0, 0.0, 0.0)] * 45, jump=jump)
    tracker = searching_tracker(locator)
    shown: list[tuple[int, int]] = []
    tracker.start_anywhere(lambda done, count: shown.append((done, count)))
    answers = [tracker.step(frame) for frame in frames]
    pairs = list(zip(answers, truths, strict=True))
    assert all(e is not None and position_error_m(e, t) < 1.5 and heading_error_deg(e, t) < 3 for e, t in pairs[8:20])
    assert any(e is None for e, _ in pairs[20:30])
    assert all(e is not None and position_error_m(e, t) < 1.5 and heading_error_deg(e, t) < 3 for e, t in pairs[40:])
    # a stray peak may fall on the belief in the frame after the jump, and nothing can tell from that frame alone
    wrong = [e.confidence for e, t in pairs if e is not None and position_error_m(e, t) > 5.0]
    assert sum(confidence >= 0.3 for confidence in wrong) <= 1
    assert shown[0][0] == 1
    assert shown[0][1] == shown[-1][0] == shown[-1][1]


def test_where_no_candidate_is_left_they_are_sought_again_soon() -> None:
    # odometry that is wrong for some frames after the jump, as scan matching is, leads every candidate astray
    frames, truths = drive(SE2(-120.0, 100.0, 0.0), [SE2(1.0, 0.0, 0.0)] * 45, jump=(20, SE2(0.0, -100.0, math.pi)))
    odometry, misled = SE2(), []
    for before, frame in pairwise([frames[0], *frames]):
        assert before.odom_from_ego is not None
        assert frame.odom_from_ego is not None
        step = before.odom_from_ego.inverse() @ frame.odom_from_ego
        odometry = odometry @ (SE2(-4.0, 2.0, 1.0) if 20 <= frame.index < 28 else step)
        misled.append(replace(frame, odom_from_ego=odometry))
    tracker = searching_tracker(InformedLocator())
    tracker.start_anywhere()
    answers = [tracker.step(frame) for frame in misled]
    found = [e is not None and position_error_m(e, t) < 1.5 for e, t in zip(answers, truths, strict=True)]
    assert all(found[8:20])
    assert not any(found[20:28])
    assert all(found[38:])


def test_places_that_look_alike_stay_undecided() -> None:
    # the street 100 m to the left looks the same: no answer is better than one that is wrong half of the time
    locator = InformedLocator(ghosts=(SE2(0.0, 100.0, 0.0),))
    frames, _ = drive(SE2(-100.0, 0.0, 0.0), [SE2(1.0, 0.0, 0.0)] * 10)
    tracker = searching_tracker(locator)
    tracker.start_anywhere()
    assert all(tracker.step(frame) is None for frame in frames)
    assert tracker.state == "lost"


def test_flat_volumes_keep_the_prediction() -> None:
    locator = InformedLocator()
    frames, truths = drive(START, winding(20))
    tracker = SequenceLocalizer(locator, read_out)
    answers = followed(tracker, frames[:10], near(START), NARROW)
    locator.flat = True
    answers += [tracker.step(frame) for frame in frames[10:]]
    pairs = list(zip(answers, truths, strict=True))
    assert all(e is not None and position_error_m(e, t) < 1.5 for e, t in pairs)
    assert pairs[-1][0] is not None
    assert pairs[9][0] is not None
    assert pairs[-1][0].covariance[0, 0] >= pairs[9][0].covariance[0, 0]


def test_a_belief_that_never_forms_is_lost() -> None:
    frames, _ = drive(START, winding(15))
    tracker = SequenceLocalizer(InformedLocator(flat=True), read_out)
    assert followed(tracker, frames, near(START), NARROW) == [None] * len(frames)
    assert tracker.state == "lost"


def test_scans_that_cannot_be_used_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Blinking(InformedLocator):
        def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
            if len(self.asked) % 4 == 3:
                self.asked.append((prior, offset_m, offset_rad))
                raise DataError("none of the scan's points is near")
            return super().locate(scan, prior, offset_m, offset_rad)

    frames, truths = drive(START, winding(20))
    answers = followed(SequenceLocalizer(Blinking(), read_out), frames, near(START), NARROW)
    assert all(e is not None and position_error_m(e, t) < 1.5 for e, t in zip(answers, truths, strict=True))
    assert "none of the scan's points is near" in caplog.text


def test_says_nothing_before_it_is_started() -> None:
    tracker = SequenceLocalizer(InformedLocator(), read_out)
    assert tracker.state == "idle"
    assert tracker.step(Frame(0, 0, scan_at(START))) is None
    with pytest.raises(ValueError, match="needs a map to search"):
        tracker.start_anywhere()


def test_a_start_forgets_what_was_before() -> None:
    tracker = SequenceLocalizer(InformedLocator(), read_out)
    frames, _ = drive(START, winding(10))
    first = followed(tracker, frames, near(START), NARROW)
    other, there = drive(SE2(-300.0, 20.0, -1.0), winding(10))
    answers = followed(tracker, other, near(there[0]), NARROW)
    assert all(e is not None and position_error_m(e, t) < 1.5 for e, t in zip(answers, there, strict=True))
    again = followed(SequenceLocalizer(InformedLocator(), read_out), frames, near(START), NARROW)
    assert [e and e.map_from_ego for e in again] == [e and e.map_from_ego for e in first]


def test_a_locator_without_belief_is_refused() -> None:
    class Terse(InformedLocator):
        def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
            return PoseEstimate(prior, np.eye(3), 0.1, 0.5, prior)

    tracker = SequenceLocalizer(Terse(), read_out)
    tracker.start(START, 20.0, NARROW)
    with pytest.raises(ValueError, match="needs a locator whose estimates carry the whole belief"):
        tracker.step(Frame(0, 0, scan_at(START)))

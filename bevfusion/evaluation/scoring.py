"""One drive, scored: asked frame by frame, compared with the truth, and what is asked beside.

Beside are the training-free matcher, which a network must beat, and other traffic, which should not sway it.
"""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

from bevfusion import metrics
from bevfusion.classical.locator import ClassicalLocator
from bevfusion.datasets.drive import BadFrames, Drive
from bevfusion.evaluation.protocol import AuxiliaryChecks, Protocol, displaced, evenly_spaced
from bevfusion.evaluation.results import DriveResult, ScoredEstimate, TrafficShift
from bevfusion.evaluation.traffic import HIDING, vehicle_shifts
from bevfusion.evaluation.viewer import Recorder
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.map_error import with_map_error
from bevfusion.introspection import AttentionHook
from bevfusion.maps.source import MapSource, first_covering
from bevfusion.progress import frame_progress
from bevfusion.sequence import ESTIMATORS, DriveEstimator, FrameEstimate
from bevfusion.structures import DataError, Frame, Locator

log = logging.getLogger(__name__)

MakeLocator = Callable[[MapSource], Locator]
AnyLocator = TypeVar("AnyLocator", bound=Locator)
OnFrame = Callable[[int, int], None]


def one_locator_per_map(make_locator: Callable[[MapSource], AnyLocator]) -> Callable[[MapSource], AnyLocator]:
    """The same, but a second call with a map gives what the first one opened."""
    opened: dict[
        int, tuple[MapSource, AnyLocator]
    ] = {}  # by identity, with the map, so that no other comes to share it

    def locator_on(source: MapSource) -> AnyLocator:
        if id(source) not in opened:
            opened[id(source)] = (source, make_locator(source))
        return opened[id(source)][1]

    return locator_on


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked for a frame that can be scored."""

    frame: int
    stamp_ns: int
    truth: SE2
    map_index: int


class DriveScorer:
    """Goes through one drive, once a draw for sequences."""

    def __init__(
        self,
        make_locator: MakeLocator,
        drive: Drive,
        maps: Sequence[MapSource],
        protocol: Protocol,
        *,
        name: str | None = None,
        drive_index: int = 0,
        map_names: Sequence[str] = (),
        recorder: Recorder | None = None,
        frame_indices: Sequence[int] | None = None,
        begun: DriveResult | None = None,
        own_map: int | None = None,
    ) -> None:
        """A drive to be scored.

        Args:
            make_locator: what is scored, opened once for each map that is used.
            drive: with truth.
            maps: each frame takes the first that covers its true place.
            protocol: how to ask.
            name: of the drive in the report; that of the drive itself by default.
            drive_index: the drive's place among all.
            map_names: of the maps in the report.
            recorder: is shown every answer of the first draw.
            frame_indices: of the frames to ask for, ascending; all by default.
            begun: the result of an earlier run of mode single that was broken off: its frames are not asked again.
            own_map: the only one of the maps that counts for this drive; None: all do.
        """
        self.result = begun or DriveResult(name or drive.name, drive.odometry)
        self.locator_on = one_locator_per_map(make_locator)
        self.drive, self.maps, self.protocol = drive, maps, protocol
        self._drive_index, self._own_map = drive_index, own_map
        self._map_names = map_names or [source.name for source in maps]
        self._recorder = recorder
        self._frame_indices = range(len(drive)) if frame_indices is None else frame_indices
        self._hooks: dict[int, AttentionHook] = {}
        self._bad_frames = BadFrames(drive)
        self._before = self._counts()  # at the start of the frame in hand

    def run(self, on_frame: OnFrame | None = None) -> DriveResult:
        """Ask for every frame.

        Args:
            on_frame: called with (frames done, frames in all), every draw of a sequence counted.

        Raises:
            DataError: if more than one in ten scans are broken, or the locator cannot use one.
        """
        try:
            self._run(on_frame)
        except KeyboardInterrupt:
            self._drop_half_a_frame()
            raise
        finally:
            for hook in self._hooks.values():
                hook.close()
        return self.result

    def another(self, make_locator: MakeLocator, frame_indices: Sequence[int]) -> "DriveScorer":
        """One that asks another locator for some of the frames, from the same priors."""
        return DriveScorer(
            make_locator,
            self.drive,
            self.maps,
            self.protocol,
            name=self.result.drive,
            drive_index=self._drive_index,
            map_names=self._map_names,
            frame_indices=frame_indices,
            own_map=self._own_map,
        )

    @property
    def asked_maps(self) -> Sequence[MapSource]:
        """The maps that count for this drive."""
        return self.maps if self._own_map is None else [self.maps[self._own_map]]

    def _covering(self, place: GeoPose) -> tuple[int, SE2] | None:
        """Which map counts at a place, and the pose in its frame."""
        if self._own_map is None:
            return first_covering(self.maps, place)
        found = first_covering([self.maps[self._own_map]], place)
        return None if found is None else (self._own_map, found[1])

    def _run(self, on_frame: OnFrame | None) -> None:
        draws, count, done = self.protocol.draws, len(self._frame_indices), self.result.done
        together = [range(draws)] if self.protocol.mode == "single" else [range(d, d + 1) for d in range(draws)]
        left = self._frame_indices[done:]  # of a sequence that was broken off none: it begins anew
        for some in together:
            estimators = {draw: self._new_estimator() for draw in some}
            questions: dict[int, _Question] = {}
            for frame_index in left:
                self._before = self._counts()
                self._ask(frame_index, estimators, questions)
                done += 1
                self.result.done = done
                if on_frame is not None:
                    on_frame(done, count * len(together))
            for draw, estimator in estimators.items():
                self._take(estimator.finish(), draw, questions)

    def _counts(self) -> tuple[int, int, int, int, int, int]:
        result = self.result
        counts = result.done, result.lost, result.not_covered, result.without_truth, result.unreadable
        return len(result.estimates), *counts

    def _drop_half_a_frame(self) -> None:
        """Back to where the frame in hand began: it is asked again when the run goes on."""
        count, *numbers = self._before
        del self.result.estimates[count:]
        result = self.result
        result.done, result.lost, result.not_covered, result.without_truth, result.unreadable = numbers

    def _new_estimator(self) -> DriveEstimator:
        asked = self.protocol
        return ESTIMATORS[asked.mode](asked.offset_m, math.radians(asked.offset_deg), asked.filter)

    def _ask(self, frame_index: int, estimators: dict[int, DriveEstimator], questions: dict[int, _Question]) -> None:
        """One frame, once a draw, if it has a truth and a map."""
        result = self.result
        try:
            frame = self.drive[frame_index]
        except DataError as error:
            known = len(self._bad_frames)
            self._bad_frames.skip(frame_index, error)
            result.unreadable += len(self._bad_frames) - known  # a frame counts once
            return
        found = None if frame.truth is None else self._covering(frame.truth)
        if frame.truth is not None:
            result.widen_box(frame.truth)
        if found is None:
            if 0 in estimators:  # a frame counts once
                result.without_truth += frame.truth is None
                result.not_covered += frame.truth is not None
            for draw, estimator in estimators.items():
                self._take(estimator.skip(frame, frame_index), draw, questions)
            return
        map_index, truth = found
        locator, source = self.locator_on(self.maps[map_index]), self.maps[map_index]
        if map_index not in self._hooks:
            self._hooks[map_index] = AttentionHook(locator)
        questions[frame_index] = _Question(frame.index, frame.stamp_ns, truth, map_index)
        for draw, estimator in estimators.items():
            prior = displaced(truth, self.protocol, result.drive, frame.index, draw)
            try:
                ready = estimator.estimate(locator, source, frame, prior, frame_index)
            except DataError as error:  # a scan that nothing can be told by costs itself
                known = len(self._bad_frames)
                self._bad_frames.skip(frame_index, DataError(f"{result.drive}, frame {frame.index}: {error}"))
                result.unreadable += len(self._bad_frames) - known
                questions.pop(frame_index, None)
                ready = estimator.skip(frame, frame_index)
            self._take(ready, draw, questions, frame)

    def _take(
        self, ready: Sequence[FrameEstimate], draw: int, questions: dict[int, _Question], asked: Frame | None = None
    ) -> None:
        """Score what is ready; the network still remembers only the frame that was asked for just now."""
        for answer in ready:
            if answer.frame_index in questions:
                self._score(answer, questions[answer.frame_index], draw, asked)

    def _score(self, answer: FrameEstimate, question: _Question, draw: int, asked: Frame | None) -> None:
        if answer.estimate is None:
            self.result.lost += 1
            return
        # a sequence multiplies beliefs: what each of them counts of the map's error is lost in the product
        locator = self.locator_on(self.maps[question.map_index])
        counted_m = locator.map_error_m if self.protocol.mode == "single" else 0.0
        estimate = with_map_error(answer.estimate, self.protocol.map_error_m, counted_m)
        mass, nll = None, None
        if estimate.belief is not None:
            mass, nll = metrics.credibility(estimate.belief, estimate.prior, question.truth)
        scored = ScoredEstimate(
            drive_index=self._drive_index,
            frame_index=answer.frame_index,
            drive=self.result.drive,
            frame=question.frame,
            stamp_ns=question.stamp_ns,
            draw=draw,
            map_index=question.map_index,
            map_name=self._map_names[question.map_index],
            prior=answer.prior,
            truth=question.truth,
            estimate=estimate.map_from_ego,
            covariance=estimate.covariance,
            confidence=estimate.confidence,
            runtime_ms=answer.runtime_ms,
            credible_mass=mass,
            nll=nll,
        )
        self.result.estimates.append(scored)
        fresh = asked is not None and asked.stamp_ns == question.stamp_ns
        hook = self._hooks[question.map_index] if fresh else None
        if estimate.belief is not None:
            self.result.worst.offer(scored, estimate.belief, estimate.prior, hook)
        if self._recorder is not None and draw == 0:
            scan = (asked if asked is not None and fresh else self.drive[answer.frame_index]).scan
            self._recorder.add(scan, scored, estimate, self.maps[question.map_index], hook)


def score_drive(scorer: DriveScorer, checks: AuxiliaryChecks, *, quiet: bool = False) -> DriveResult:
    """The estimates of a drive, and what is asked beside.

    Args:
        scorer: of the drive.
        checks: what is asked beside.
        quiet: show no progress.

    Raises:
        DataError: if a scan is broken or the locator cannot use one.
    """
    with nullcontext() if quiet else frame_progress(f"evaluate {scorer.result.drive}", len(scorer.drive)) as show:
        result = scorer.run(show)
    result.classical = classical_estimates(scorer, checks.classical, quiet=quiet)
    result.traffic = traffic_shifts(scorer, checks.traffic, quiet=quiet)
    return result


def classical_estimates(scorer: DriveScorer, frames: int, *, quiet: bool = False) -> list[ScoredEstimate]:
    """What it says of so many frames, evenly spread, from the priors that the network was given.

    Nothing for sequences, which need every frame, and nothing of a drive with a scan that it cannot use.

    Args:
        scorer: of the network.
        frames: how many.
        quiet: show no progress.
    """
    if frames == 0 or scorer.protocol.mode != "single":
        return []
    again = scorer.another(ClassicalLocator, evenly_spaced(len(scorer.drive), frames))
    try:
        with nullcontext() if quiet else frame_progress(f"classical {scorer.result.drive}", frames) as show:
            return again.run(show).estimates
    except DataError as error:
        log.warning("no classical row: %s", error)
        return []


def traffic_shifts(scorer: DriveScorer, frames: int, *, quiet: bool = False) -> list[TrafficShift]:
    """How far so many frames' answers move as vehicles come and go; arguments as of `classical_estimates`.

    Nothing for sequences, and nothing of a drive with a scan that is left without a point to locate by.
    """
    drive, protocol = scorer.drive, scorer.protocol
    if frames == 0 or protocol.mode != "single":
        return []
    count = min(frames, len(drive))
    try:
        with nullcontext() if quiet else frame_progress(f"traffic in {drive.name}", count) as show:
            return vehicle_shifts(
                scorer.locator_on,
                drive,
                scorer.asked_maps,
                hiding=HIDING,
                frames=count,
                protocol=protocol,
                on_frame=show,
            )
    except DataError as error:
        log.warning("no other traffic in %s: %s", drive.name, error)
        return []

"""Asking a locator for the frames of one drive, and comparing its answers with the truth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bevfusion import metrics
from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.marginals import WorstMarginals
from bevfusion.evaluation.opened import MakeLocator, once_a_map
from bevfusion.evaluation.predictions import Prediction
from bevfusion.evaluation.protocol import Protocol, displaced
from bevfusion.evaluation.traffic import Shift
from bevfusion.evaluation.viewer import Recorder
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.introspection import AttentionHook
from bevfusion.maps.source import MapSource, first_covering
from bevfusion.sequence import ESTIMATORS, DriveEstimator, FrameEstimate
from bevfusion.structures import DataError, Frame, MapCache

WORST_FRAMES = 10

OnFrame = Callable[[int, int], None]


@dataclass
class Answers:
    """What came of one drive."""

    drive: str
    odometry: str
    predictions: list[Prediction] = field(default_factory=list)
    classical: list[Prediction] = field(default_factory=list)  # the training-free matcher's, of some of the frames
    traffic: list[Shift] = field(default_factory=list)  # of some of the frames
    worst: WorstMarginals = field(default_factory=lambda: WorstMarginals(WORST_FRAMES))
    not_covered: int = 0  # frames that no map covers
    without_truth: int = 0
    lost: int = 0  # answers that were none
    box_deg: tuple[float, float, float, float] | None = None  # of the truth: south, west, north, east
    failed: str | None = None  # why the drive could not be evaluated

    def saw(self, place: GeoPose) -> None:
        """Widen the box."""
        south, west, north, east = self.box_deg or (place.lat_deg, place.lon_deg, place.lat_deg, place.lon_deg)
        self.box_deg = (
            min(south, place.lat_deg),
            min(west, place.lon_deg),
            max(north, place.lat_deg),
            max(east, place.lon_deg),
        )


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked for a frame that can be scored."""

    frame: int
    stamp_ns: int
    truth: SE2
    map_index: int


class Scorer:
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
        positions: Sequence[int] | None = None,
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
            positions: of the frames to ask for, ascending; all by default.
        """
        self.answers = Answers(name or drive.name, drive.odometry)
        self.locator_on = once_a_map(make_locator)
        self.drive, self.maps, self.protocol = drive, maps, protocol
        self._drive_index = drive_index
        self._map_names = map_names or [source.name for source in maps]
        self._recorder = recorder
        self._positions = range(len(drive)) if positions is None else positions
        self._watches: dict[int, AttentionHook] = {}
        self._map_cache: MapCache = {}  # draws share what is encoded

    def run(self, on_frame: OnFrame | None = None) -> Answers:
        """Ask for every frame.

        Args:
            on_frame: called with (frames done, frames in all), every draw of a sequence counted.

        Raises:
            DataError: if a scan is broken or the locator cannot use one.
        """
        try:
            self._run(on_frame)
        finally:
            for watch in self._watches.values():
                watch.close()
        return self.answers

    def another(self, make_locator: MakeLocator, positions: Sequence[int]) -> "Scorer":
        """One that asks another locator for some of the frames, from the same priors."""
        return Scorer(
            make_locator,
            self.drive,
            self.maps,
            self.protocol,
            name=self.answers.drive,
            drive_index=self._drive_index,
            map_names=self._map_names,
            positions=positions,
        )

    def _run(self, on_frame: OnFrame | None) -> None:
        draws, count, done = self.protocol.draws, len(self._positions), 0
        together = [range(draws)] if self.protocol.mode == "single" else [range(d, d + 1) for d in range(draws)]
        for some in together:
            estimators = {draw: self._new_estimator() for draw in some}
            questions: dict[int, _Question] = {}
            for position in self._positions:
                self._ask(position, estimators, questions)
                done += 1
                if on_frame is not None:
                    on_frame(done, count * len(together))
            for draw, estimator in estimators.items():
                self._take(estimator.finish(), draw, questions)

    def _new_estimator(self) -> DriveEstimator:
        asked = self.protocol
        return ESTIMATORS[asked.mode](asked.offset_m, math.radians(asked.offset_deg), asked.filter, self._map_cache)

    def _ask(self, position: int, estimators: dict[int, DriveEstimator], questions: dict[int, _Question]) -> None:
        """One frame, once a draw, if it has a truth and a map."""
        answers = self.answers
        frame = self.drive[position]
        found = None if frame.truth is None else first_covering(self.maps, frame.truth)
        if frame.truth is not None:
            answers.saw(frame.truth)
        if found is None:
            if 0 in estimators:  # a frame counts once
                answers.without_truth += frame.truth is None
                answers.not_covered += frame.truth is not None
            for draw, estimator in estimators.items():
                self._take(estimator.skip(frame, position), draw, questions)
            return
        map_index, truth = found
        locator, source = self.locator_on(self.maps[map_index]), self.maps[map_index]
        if map_index not in self._watches:
            self._watches[map_index] = AttentionHook(locator)
        questions[position] = _Question(frame.index, frame.stamp_ns, truth, map_index)
        for draw, estimator in estimators.items():
            prior = displaced(truth, self.protocol, answers.drive, frame.index, draw)
            try:
                ready = estimator.estimate(locator, source, frame, prior, position)
            except DataError as error:
                raise DataError(f"{answers.drive}, frame {frame.index}: {error}") from error
            self._take(ready, draw, questions, frame)

    def _take(
        self, ready: Sequence[FrameEstimate], draw: int, questions: dict[int, _Question], asked: Frame | None = None
    ) -> None:
        """Score what is ready; the network still remembers only the frame that was asked for just now."""
        for answer in ready:
            if answer.frame_index in questions:
                self._score(answer, questions[answer.frame_index], draw, asked)

    def _score(self, answer: FrameEstimate, question: _Question, draw: int, asked: Frame | None) -> None:
        estimate = answer.estimate
        if estimate is None:
            self.answers.lost += 1
            return
        mass, nll = None, None
        if estimate.belief is not None:
            mass, nll = metrics.credibility(estimate.belief, estimate.prior, question.truth)
        prediction = Prediction(
            drive_index=self._drive_index,
            position=answer.frame_index,
            drive=self.answers.drive,
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
        self.answers.predictions.append(prediction)
        fresh = asked is not None and asked.stamp_ns == question.stamp_ns
        watch = self._watches[question.map_index] if fresh else None
        if estimate.belief is not None:
            self.answers.worst.offer(prediction, estimate.belief, estimate.prior, watch)
        if self._recorder is not None and draw == 0:
            scan = (asked if asked is not None and fresh else self.drive[answer.frame_index]).scan
            self._recorder.add(scan, prediction, estimate, self.maps[question.map_index], watch)

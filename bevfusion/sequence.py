"""Asking a locator frame by frame: each on its own, as a sequence, or as a sequence in hindsight."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from bevfusion.filters.motion import odometry_step
from bevfusion.filters.smoother import Hindsight, Smoother
from bevfusion.filters.tracker import SequenceLocator, Tracker
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.read_out import read_out
from bevfusion.localizer import Localizer, map_search
from bevfusion.maps.source import MapSource
from bevfusion.structures import Frame, Locator, PoseEstimate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one frame."""

    position: int  # of the frame in its drive
    prior: SE2  # what was known without the scan, map frame
    estimate: PoseEstimate | None  # None: lost
    runtime_ms: float


@runtime_checkable
class Asker(Protocol):
    """Asks for the frames of one drive, in order; answers come at once, or some frames later."""

    def ask(self, locator: Locator, source: MapSource, frame: Frame, prior: SE2, position: int) -> Sequence[Answer]:
        """Ask for a frame on a map; the prior, drawn about the truth, may be used or not. What is answered by now."""

    def pass_by(self, frame: Frame, position: int) -> Sequence[Answer]:
        """Go past a frame that cannot be scored."""

    def finish(self) -> Sequence[Answer]:
        """What is left, once there are no more frames."""


class SingleAsker:
    """Each frame on its own, from its own prior."""

    def __init__(self, offset_m: float, offset_rad: float) -> None:
        self._offset_m, self._offset_rad = offset_m, offset_rad

    def ask(self, locator: Locator, source: MapSource, frame: Frame, prior: SE2, position: int) -> Sequence[Answer]:
        """One call of the locator."""
        started = time.perf_counter()
        estimate = locator.locate(frame.scan, prior, self._offset_m, self._offset_rad)
        return [Answer(position, prior, estimate, 1e3 * (time.perf_counter() - started))]

    def pass_by(self, frame: Frame, position: int) -> Sequence[Answer]:
        """Nothing: frames know nothing of each other."""
        return ()

    def finish(self) -> Sequence[Answer]:
        """Nothing."""
        return ()


class SequenceAsker:
    """Frame after frame through `step`; the prior of the first starts the sequence, or none does."""

    def __init__(self, offset_m: float, offset_rad: float, anywhere: bool) -> None:
        """A sequence that has not begun.

        Args:
            offset_m: how far the first prior may be off.
            offset_rad: the same for its heading.
            anywhere: use no prior at all; search the whole map, also when lost.
        """
        self._offset_m, self._offset_rad, self._anywhere = offset_m, offset_rad, anywhere
        self._follower: SequenceLocator | None = None
        self._source: MapSource | None = None
        self._reckoning = _Reckoning(moves=not anywhere)

    def ask(self, locator: Locator, source: MapSource, frame: Frame, prior: SE2, position: int) -> Sequence[Answer]:
        """One step; a frame on another map than the one before starts anew there.

        The answer's prior is what odometry alone makes of the first one, or the middle of the map where there is none.
        """
        if self._follower is None or source is not self._source:
            self._follower, self._source = follower(locator, source), source
            self._reckoning.begin(prior, source)
            if self._anywhere:
                self._follower.start_anywhere(_log_progress)
            else:
                self._follower.start(prior, self._offset_m, self._offset_rad)
        carried = self._reckoning.carry(frame)
        started = time.perf_counter()
        estimate = self._follower.step(frame)
        return [Answer(position, carried, estimate, 1e3 * (time.perf_counter() - started))]

    def pass_by(self, frame: Frame, position: int) -> Sequence[Answer]:
        """The vehicle moves on, seen or not."""
        if self._follower is not None:
            self._reckoning.carry(frame)
            self._follower.step(frame)
        return ()

    def finish(self) -> Sequence[Answer]:
        """Nothing: all was said at once."""
        return ()


class SmoothAsker:
    """Frame after frame through a smoother: answers in hindsight, from a start as in `SequenceAsker`."""

    def __init__(self, offset_m: float, offset_rad: float) -> None:
        """A sequence that has not begun, from a prior that may be off by so much."""
        self._offset_m, self._offset_rad = offset_m, offset_rad
        self._smoother: Smoother | None = None
        self._source: MapSource | None = None
        self._reckoning = _Reckoning(moves=True)
        self._asked: deque[tuple[int, SE2, float]] = deque()  # position, prior and time of frames without an answer

    def ask(self, locator: Locator, source: MapSource, frame: Frame, prior: SE2, position: int) -> Sequence[Answer]:
        """One step; what has become final with it. Another map ends the sequence and begins one there."""
        ready: list[Answer] = []
        if self._smoother is None or source is not self._source:
            ready += self.finish()
            tracker = new_tracker(locator, source, record=True)
            self._smoother, self._source = Smoother(tracker, read_out), source
            self._reckoning.begin(prior, source)
            tracker.start(prior, self._offset_m, self._offset_rad)
        return [*ready, *self._step(self._smoother, frame, position)]

    def pass_by(self, frame: Frame, position: int) -> Sequence[Answer]:
        """The vehicle moves on, seen or not."""
        return () if self._smoother is None else self._step(self._smoother, frame, position)

    def finish(self) -> Sequence[Answer]:
        """The last frames."""
        return () if self._smoother is None else self._answers(self._smoother.finish())

    def _step(self, smoother: Smoother, frame: Frame, position: int) -> list[Answer]:
        carried = self._reckoning.carry(frame)
        started = time.perf_counter()
        final = smoother.step(frame)
        self._asked.append((position, carried, 1e3 * (time.perf_counter() - started)))
        return self._answers(final)

    def _answers(self, final: Sequence[Hindsight]) -> list[Answer]:
        """Frames become final in the order in which they were asked for."""
        answers = []
        for known in final:
            position, prior, runtime_ms = self._asked.popleft()
            answers.append(Answer(position, prior, known.estimate, runtime_ms))
        return answers


class _Reckoning:
    """The first prior, moved by odometry alone; what a sequence has without looking at any scan."""

    def __init__(self, moves: bool) -> None:
        """With `moves` unset, the middle of the map all the time."""
        self._moves = moves
        self._carried = SE2()
        self._before: Frame | None = None

    def begin(self, prior: SE2, source: MapSource) -> None:
        """A new sequence on a map."""
        x_min_m, y_min_m, x_max_m, y_max_m = source.bounds_m
        middle = SE2(0.5 * (x_min_m + x_max_m), 0.5 * (y_min_m + y_max_m))
        self._carried, self._before = prior if self._moves else middle, None

    def carry(self, frame: Frame) -> SE2:
        """The pose at the next frame."""
        step = None if self._before is None else odometry_step(self._before, frame)
        if step is not None and self._moves:
            self._carried = self._carried @ step
        self._before = frame
        return self._carried


ASKERS: dict[str, Callable[[float, float], Asker]] = {
    "single": SingleAsker,
    "filter": lambda offset_m, offset_rad: SequenceAsker(offset_m, offset_rad, anywhere=False),
    "global": lambda offset_m, offset_rad: SequenceAsker(offset_m, offset_rad, anywhere=True),
    "smooth": SmoothAsker,
}
"""The modes of an evaluation: who asks for the frames, given the reach of the priors in metres and radians."""


def follower(locator: Locator, source: MapSource) -> SequenceLocator:
    """The locator itself where it follows sequences, else a tracker around it."""
    return locator if isinstance(locator, SequenceLocator) else new_tracker(locator, source)


def new_tracker(locator: Locator, source: MapSource, *, record: bool = False) -> Tracker:
    """A tracker around a locator, which may search the whole map; with `record`, one for a smoother."""
    asked = locator.following if isinstance(locator, Localizer) else locator
    return Tracker(asked, read_out, partial(map_search, locator, source), record=record)


def _log_progress(done: int, count: int) -> None:
    """A line every tenth of a search."""
    if 10 * done // count > 10 * (done - 1) // count:
        log.info("search: %d of %d tiles", done, count)

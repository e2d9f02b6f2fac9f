"""The poses of a drive, frame by frame: each scan on its own, as a sequence, or as a sequence in hindsight."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from bevfusion.filters.motion import odometry_step
from bevfusion.filters.search import GlobalSearch
from bevfusion.filters.sequence import SequenceLocalizer
from bevfusion.filters.settings import FilterConfig
from bevfusion.filters.smoother import Hindsight, Smoother
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.read_out import read_out
from bevfusion.maps.schema import layer_index
from bevfusion.maps.source import MapSource
from bevfusion.structures import Frame, Locator, PoseEstimate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrameEstimate:
    """What came of one frame."""

    frame_index: int  # of the frame in its drive, from 0
    prior: SE2  # what was known without the scan, map frame
    estimate: PoseEstimate | None  # None: lost
    runtime_ms: float


@runtime_checkable
class DriveEstimator(Protocol):
    """Estimates the frames of one drive, in order; estimates come at once, or some frames later."""

    def estimate(
        self, locator: Locator, source: MapSource, frame: Frame, prior: SE2, frame_index: int
    ) -> Sequence[FrameEstimate]:
        """Take a frame on a map; the prior, drawn about the truth, may be used or not. What is known by now."""

    def skip(self, frame: Frame, frame_index: int) -> Sequence[FrameEstimate]:
        """Go past a frame that cannot be scored; what is known by now."""

    def finish(self) -> Sequence[FrameEstimate]:
        """What is left, once there are no more frames."""


class SingleScanEstimator:
    """Each frame on its own, from its own prior."""

    def __init__(self, offset_m: float, offset_rad: float) -> None:
        self._offset_m, self._offset_rad = offset_m, offset_rad

    def estimate(
        self, locator: Locator, source: MapSource, frame: Frame, prior: SE2, frame_index: int
    ) -> Sequence[FrameEstimate]:
        """One call of the locator."""
        started = time.perf_counter()
        estimate = locator.locate(frame.scan, prior, self._offset_m, self._offset_rad)
        return [FrameEstimate(frame_index, prior, estimate, 1e3 * (time.perf_counter() - started))]

    def skip(self, frame: Frame, frame_index: int) -> Sequence[FrameEstimate]:
        """Nothing is known: frames know nothing of each other."""
        return ()

    def finish(self) -> Sequence[FrameEstimate]:
        """Nothing is left: every frame was answered at once."""
        return ()


class FilterEstimator:
    """Frame after frame through `step`; the prior of the first starts the sequence, or none does."""

    def __init__(self, offset_m: float, offset_rad: float, config: FilterConfig, *, anywhere: bool) -> None:
        """A sequence that has not begun.

        Args:
            offset_m: how far the first prior may be off.
            offset_rad: the same for its heading.
            config: of the filter.
            anywhere: use no prior at all; search the whole map, also when lost.
        """
        self._offset_m, self._offset_rad, self._anywhere = offset_m, offset_rad, anywhere
        self._config = config
        self._localizer: SequenceLocalizer | None = None
        self._source: MapSource | None = None
        self._reckoning = _DeadReckoning(moves=not anywhere)

    def estimate(
        self, locator: Locator, source: MapSource, frame: Frame, prior: SE2, frame_index: int
    ) -> Sequence[FrameEstimate]:
        """One step; a frame on another map than the one before starts anew there.

        The answer's prior is what odometry alone makes of the first one, or the middle of the map where there is none.
        """
        if self._localizer is None or source is not self._source:
            self._localizer = sequence_localizer(locator, source, self._config)
            self._source = source
            self._reckoning.begin(prior, source)
            if self._anywhere:
                self._localizer.start_anywhere(log_search_progress)
            else:
                self._localizer.start(prior, self._offset_m, self._offset_rad)
        carried = self._reckoning.carry(frame)
        started = time.perf_counter()
        estimate = self._localizer.step(frame)
        return [FrameEstimate(frame_index, carried, estimate, 1e3 * (time.perf_counter() - started))]

    def skip(self, frame: Frame, frame_index: int) -> Sequence[FrameEstimate]:
        """The vehicle moves on, seen or not."""
        if self._localizer is not None:
            self._reckoning.carry(frame)
            self._localizer.step(frame)
        return ()

    def finish(self) -> Sequence[FrameEstimate]:
        """Nothing is left: every frame was answered at once."""
        return ()


class SmootherEstimator:
    """Frame after frame through a smoother: answers in hindsight, from a start as in `FilterEstimator`."""

    def __init__(self, offset_m: float, offset_rad: float, config: FilterConfig) -> None:
        """A sequence that has not begun, from a prior that may be off by so much; arguments as of `FilterEstimator`."""
        self._offset_m, self._offset_rad = offset_m, offset_rad
        self._config = config
        self._smoother: Smoother | None = None
        self._source: MapSource | None = None
        self._reckoning = _DeadReckoning(moves=True)
        self._asked: deque[tuple[int, SE2, float]] = deque()  # frame_index, prior and time of frames without an answer

    def estimate(
        self, locator: Locator, source: MapSource, frame: Frame, prior: SE2, frame_index: int
    ) -> Sequence[FrameEstimate]:
        """One step; what has become final with it. Another map ends the sequence and begins one there."""
        ready: list[FrameEstimate] = []
        if self._smoother is None or source is not self._source:
            ready += self.finish()
            localizer = sequence_localizer(locator, source, self._config, record=True)
            self._smoother, self._source = Smoother(localizer, read_out), source
            self._reckoning.begin(prior, source)
            localizer.start(prior, self._offset_m, self._offset_rad)
        return [*ready, *self._step(self._smoother, frame, frame_index)]

    def skip(self, frame: Frame, frame_index: int) -> Sequence[FrameEstimate]:
        """The vehicle moves on, seen or not."""
        return () if self._smoother is None else self._step(self._smoother, frame, frame_index)

    def finish(self) -> Sequence[FrameEstimate]:
        """The last frames, which no later ones can tell more about."""
        return () if self._smoother is None else self._answers(self._smoother.finish())

    def _step(self, smoother: Smoother, frame: Frame, frame_index: int) -> list[FrameEstimate]:
        carried = self._reckoning.carry(frame)
        started = time.perf_counter()
        final = smoother.step(frame)
        self._asked.append((frame_index, carried, 1e3 * (time.perf_counter() - started)))
        return self._answers(final)

    def _answers(self, final: Sequence[Hindsight]) -> list[FrameEstimate]:
        """Frames become final in the order in which they were asked for."""
        answers = []
        for known in final:
            frame_index, prior, runtime_ms = self._asked.popleft()
            answers.append(FrameEstimate(frame_index, prior, known.estimate, runtime_ms))
        return answers


class _DeadReckoning:
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


Mode = Callable[[float, float, FilterConfig], DriveEstimator]
"""Makes an estimator: how far the priors may be off in metres and in radians, how to filter."""

ESTIMATORS: dict[str, Mode] = {
    "single": lambda offset_m, offset_rad, config: SingleScanEstimator(offset_m, offset_rad),
    "filter": partial(FilterEstimator, anywhere=False),
    "global": partial(FilterEstimator, anywhere=True),
    "smooth": SmootherEstimator,
}
"""The modes of an evaluation."""


def sequence_localizer(
    locator: Locator,
    source: MapSource,
    config: FilterConfig | None = None,
    *,
    record: bool = False,
) -> SequenceLocalizer:
    """What follows a vehicle on a map: a locator of single scans, and the filter about it.

    Args:
        locator: finds single scans on the map.
        source: the map, all of which may be searched.
        config: of the filter; the defaults if None.
        record: for a smoother.
    """
    search = partial(GlobalSearch, locator, source.draw, source.bounds_m, layer_index("road"))
    return SequenceLocalizer(locator, read_out, search, config, record=record)


def log_search_progress(done: int, count: int) -> None:
    """A line every tenth of a search."""
    if 10 * done // count > 10 * (done - 1) // count:
        log.info("search: %d of %d steps", done, count)

"""Follow a log on a map, frame by frame: a pose for each, or the reason why there is none.

The log needs no truth, and any that it has is not looked at. It begins where somebody says, at its first GNSS fix that
lies on the map, or anywhere on the map.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bevfusion.datasets.drive import Drive
from bevfusion.filters.settings import FilterConfig
from bevfusion.filters.smoother import Hindsight, Smoother
from bevfusion.filters.start import UNSTATED_M, fix_window_m
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.map_error import MAP_ERROR_M, with_map_error
from bevfusion.heads.read_out import read_out
from bevfusion.maps.source import MapSource
from bevfusion.sequence import sequence_localizer
from bevfusion.structures import DataError, Frame, Locator, PoseEstimate

log = logging.getLogger(__name__)

State = Literal["following", "waiting", "lost", "doubtful", "unreadable"]
_NEAR_DEG = 20.0  # how far a heading that somebody says may be off
_MOST_UNREADABLE = 0.1  # share of the frames: beyond, something is wrong with the log or its reader
_WAITING = "no GNSS fix on the map yet: give --near LAT,LON, or --anywhere"
_LOST = "the scans contradict the place that was followed"
_DOUBTFUL = "scan and map agree too little to say"
_HINDSIGHT = "not even in hindsight do scan and map agree on a place"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a log begins; without a place, anywhere on the map."""

    map_from_ego: SE2 | None
    offset_m: float = UNSTATED_M  # half the window, along east and north
    offset_rad: float = math.pi
    told: str = ""  # where it comes from and how wide the window is, in words


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """What came of one frame."""

    index: int  # of the frame in its log
    stamp_ns: int
    state: State
    reason: str  # why there is no pose; empty where there is one
    estimate: PoseEstimate | None  # without its belief: a log may have ten thousand frames
    gnss: GeoPose | None  # what the receiver said

    @property
    def answered(self) -> bool:
        """Whether there is a pose."""
        return self.estimate is not None


def track_drive(
    drive: Drive,
    locator: Locator,
    source: MapSource,
    *,
    start: Start | None = None,
    fix_offset_m: float | None = None,
    indices: Sequence[int] | None = None,
    smooth: bool = False,
    config: FilterConfig | None = None,
    map_error_m: float = MAP_ERROR_M,
    on_frame: Callable[[int, int], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_start: Callable[[Start], None] | None = None,
) -> Iterator[TrackedFrame]:
    """Follow a log; frames come in order, with `smooth` some frames late.

    Args:
        drive: the log.
        locator: finds single scans on the map.
        source: the map.
        start: where it begins; None: at the first GNSS fix that lies on the map, with any heading.
        fix_offset_m: half the window about that fix; None: as the fix's covariance says (`filters/start.py`).
        indices: of the frames to take, ascending; all if None.
        smooth: look back from the end of the log.
        config: of the filter; the defaults if None.
        map_error_m: how far the map may be off as a whole, see `heads/map_error.py`.
        on_frame: called with (frames done, frames in all).
        on_step: called with (steps done, steps in all) while the whole map is searched.
        on_start: called with where it begins, once that is known.

    Raises:
        DataError: if more than one frame in ten cannot be read.
    """
    localizer = sequence_localizer(locator, source, config, record=smooth)
    smoother = Smoother(localizer, read_out) if smooth else None
    asked: list[Frame] = []  # frames that a smoother has not answered yet, without their scans
    taken = range(len(drive)) if indices is None else indices
    begun, unreadable = False, 0
    for done, index in enumerate(taken, start=1):
        try:
            frame = drive[index]
        except DataError as error:
            unreadable += 1
            yield TrackedFrame(index, 0, "unreadable", str(error), None, None)
            if unreadable > max(1, _MOST_UNREADABLE * len(taken)):
                raise DataError(f"{unreadable} of {done} frames cannot be read; the last: {error}") from error
            continue
        if not begun:
            found = start if start is not None else start_of_fix(frame, source, fix_offset_m)
            if found is None:
                yield TrackedFrame(index, frame.stamp_ns, "waiting", _WAITING, None, frame.gnss)
                continue
            begun = True
            if on_start is not None:
                on_start(found)
            if found.map_from_ego is None:
                localizer.start_anywhere(on_step)
            else:
                localizer.start(found.map_from_ego, found.offset_m, found.offset_rad)
        if smoother is None:
            estimate = localizer.step(frame)
            reason = _LOST if localizer.state == "lost" else _DOUBTFUL
            yield _tracked(
                frame, index, estimate, "lost" if localizer.state == "lost" else "doubtful", reason, map_error_m
            )
        else:
            asked.append(replace(frame, index=index, scan=frame.scan.select(np.zeros(0, int))))
            yield from _final(smoother.step(frame), asked, map_error_m)
        if on_frame is not None:
            on_frame(done, len(taken))
    if smoother is not None:
        yield from _final(smoother.finish(), asked, map_error_m)


def start_near(place: SE2, heading_deg: float | None, offset_m: float | None = None) -> Start:
    """A start where somebody says.

    Args:
        place: in the map frame.
        heading_deg: as it was given, counter-clockwise from east; None: any.
        offset_m: half the window; None: 20 m.
    """
    window_m = UNSTATED_M if offset_m is None else offset_m
    heading = "any heading" if heading_deg is None else f"{heading_deg:g} degrees within {_NEAR_DEG:.0f}"
    offset_rad = math.pi if heading_deg is None else math.radians(_NEAR_DEG)
    return Start(place, window_m, offset_rad, f"--near, sought within {window_m:.0f} m east and north, {heading}")


def start_of_fix(frame: Frame, source: MapSource, offset_m: float | None = None) -> Start | None:
    """A start at the frame's GNSS fix, with any heading; None without a fix on the map.

    Args:
        frame: of a log.
        source: the map.
        offset_m: half the window; None: as the fix's covariance says.
    """
    if frame.gnss is None:
        return None
    place = source.frame.map_from_ego(frame.gnss)
    if not source.covers(place.x_m, place.y_m):
        return None
    window_m = fix_window_m(frame.gnss_std_m) if offset_m is None else offset_m
    if offset_m is not None:
        why = "as --offset-m says"
    elif frame.gnss_std_m is None:
        why = "for it does not say how far it may be off"
    else:
        why = f"for its standard deviation is {frame.gnss_std_m:.2g} m"
    told = f"the GNSS fix of frame {frame.index}, sought within {window_m:.0f} m east and north ({why}), any heading"
    return Start(place, window_m, math.pi, told)


def _final(hindsight: Sequence[Hindsight], asked: list[Frame], map_error_m: float) -> Iterator[TrackedFrame]:
    """Frames become final in the order in which they were asked for."""
    for known in hindsight:
        frame = asked.pop(0)
        yield _tracked(frame, frame.index, known.estimate, "lost", _HINDSIGHT, map_error_m)


def _tracked(
    frame: Frame, index: int, estimate: PoseEstimate | None, state: State, reason: str, map_error_m: float
) -> TrackedFrame:
    if estimate is None:
        return TrackedFrame(index, frame.stamp_ns, state, reason, None, frame.gnss)
    # of the belief only the covariance goes on: widening that needs no volume
    bare = with_map_error(replace(estimate, belief=None), map_error_m)
    return TrackedFrame(index, frame.stamp_ns, "following", "", bare, frame.gnss)

"""From frames to poses, with a memory: follow, notice when that fails, find the vehicle again.

A vehicle that is lost after it was followed for a while is found again where odometry has it, once the volumes agree
with that again, or by a search over the whole map. It is not sought near by: streets look alike, and what fits best
in the neighbourhood of a wrong place is another wrong place. Only a start that never settled is tried anew.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bevfusion.filters.motion import Motion, Velocity, interval_s, motion_between
from bevfusion.filters.search import GlobalSearch, is_near
from bevfusion.filters.settings import FilterConfig, TrackLimits
from bevfusion.filters.track import ReadVolume, Track
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import Frame, Locator, PoseEstimate, Scan

log = logging.getLogger(__name__)

_STEADY = 0.2  # relative spread of a belief whose mean tells the speed
_AHEAD_S = 1.0  # so long before it comes there, the locator is told
_NEWEST_SHARE = 0.2  # of a running mean of velocities

State = Literal["idle", "following", "lost"]


@dataclass(slots=True)
class _Memory:
    """What is known of the sequence that is under way."""

    offset_m: float  # of the window about the last known place, when it is lost
    offset_rad: float
    anywhere: bool = False  # the whole map is searched
    on_step: Callable[[int, int], None] | None = None
    track: Track | None = None  # that is followed
    settled: int = 0  # frames that it was found to be right
    old: Track | None = None  # that was followed, and settled, before the vehicle was lost
    candidates: list[Track] = field(default_factory=list)  # while lost
    waited: int = 0  # frames since they were found
    vague: int = 0  # frames in a row that the belief has known nothing
    ever_settled: bool = False
    last_known: SE2 = field(default_factory=SE2)  # by dead reckoning since it was known
    gone_m: float = 0.0  # distance since
    likely_m: float = 0.0  # distance that the old track has been right for
    number: int = 0  # of the frame, from 0
    before: Frame | None = None
    velocity: Velocity | None = None
    last_mean: SE2 | None = None


class SequenceLocalizer:
    """Any locator of single scans, made into one that follows a vehicle from frame to frame."""

    def __init__(
        self,
        locator: Locator,
        read: ReadVolume,
        search: Callable[[], GlobalSearch] | None = None,
        config: FilterConfig | None = None,
        *,
        record: bool = False,
    ) -> None:
        """One that has not started; `bevfusion.sequence.sequence_localizer` puts it together on a map.

        Args:
            locator: finds single scans; its estimates must carry their belief.
            read: reads a pose out of a volume.
            search: makes the search over the whole map when it is first needed; None where there is no map to search.
            config: noise of the odometry, how the odds of tracks change, and when to speak; the defaults if None.
            record: tracks keep their history, for a `Smoother`, which bounds it.
        """
        self._locator, self._read, self._make_search = locator, read, search
        self._config = config or FilterConfig()
        self._limits = self._config.limits
        self._record = record
        self._search: GlobalSearch | None = None
        self._memory: _Memory | None = None

    @property
    def state(self) -> State:
        """What it is doing."""
        if self._memory is None:
            return "idle"
        return "lost" if self._memory.track is None else "following"

    @property
    def track(self) -> Track | None:
        """The hypothesis that is followed; None while idle or lost."""
        return None if self._memory is None else self._memory.track

    @property
    def alternatives(self) -> list[Track]:
        """Tracks that are kept in mind while lost."""
        memory = self._memory
        return [] if memory is None else [*memory.candidates, *([] if memory.old is None else [memory.old])]

    @property
    def limits(self) -> TrackLimits:
        """When it speaks and when it is silent."""
        return self._limits

    def start(self, prior: SE2, offset_m: float, offset_rad: float) -> None:
        """Forget all; the vehicle is within +-offset_m (map axes) and +-offset_rad of a pose of the map frame."""
        track = self._track(prior, offset_m, offset_rad, self._limits.found)
        self._memory = _Memory(offset_m, offset_rad, track=track)

    def start_anywhere(self, on_step: Callable[[int, int], None] | None = None) -> None:
        """Forget all; the vehicle is somewhere on the map, and is sought all over it also when it gets lost.

        Args:
            on_step: called with (steps done, steps in all) during a search.

        Raises:
            ValueError: if there is no map to search.
        """
        if self._make_search is None:
            raise ValueError("a start anywhere needs a map to search: give a GlobalSearch")
        if self._search is None:
            self._search = self._make_search()
        log.info("the whole map is searched")
        limits = self._limits
        self._memory = _Memory(limits.candidate_m, math.radians(limits.candidate_deg), anywhere=True, on_step=on_step)
        self._memory.waited = limits.patience_frames  # at once

    def step(self, frame: Frame) -> PoseEstimate | None:
        """The pose at the next frame, or None: not started, lost, or too doubtful to say."""
        memory = self._memory
        if memory is None:
            return None
        motion = None
        if memory.before is not None:
            motion = motion_between(memory.before, frame, self._config.noise, memory.velocity)
        if memory.track is not None:
            self._follow(memory, memory.track, frame.scan, motion)
        else:
            self._seek(memory, frame.scan, motion)
        _learn_velocity(memory, frame)
        self._look_ahead(memory)
        memory.before = frame
        memory.number += 1
        if memory.track is None or memory.track.probability < self._limits.speak:
            return None
        estimate = memory.track.estimate(self._read)
        return estimate if estimate is not None and estimate.confidence >= self._limits.least_confidence else None

    def _look_ahead(self, memory: _Memory) -> None:
        """Tell the locator where the vehicle is about to be."""
        if memory.track is None or memory.velocity is None:
            return
        here, velocity = memory.track.mean, memory.velocity
        ahead = here @ SE2(velocity.along_m_s * _AHEAD_S, velocity.across_m_s * _AHEAD_S, 0.0)
        self._locator.prepare([memory.track.centre, here, ahead], memory.track.offset_m)

    def _follow(self, memory: _Memory, track: Track, scan: Scan, motion: Motion | None) -> None:
        """One step of the track; it ends where the evidence is against it, or where it has known nothing for long."""
        self._advance(track, scan, motion, memory.number)
        memory.vague = memory.vague + 1 if track.relative_spread > self._limits.vague else 0
        sure = track.probability >= self._limits.found and track.relative_spread < _STEADY
        memory.settled += sure
        memory.ever_settled |= memory.settled >= self._limits.settled_frames
        if not memory.ever_settled or (sure and memory.settled >= self._limits.settled_frames):
            memory.last_known, memory.gone_m = track.mean, 0.0
        else:
            _reckon(memory, motion)
        if track.probability >= self._limits.lost and memory.vague < self._limits.vague_frames:
            return
        log.info("lost at x %.1f m, y %.1f m", track.centre.x_m, track.centre.y_m)
        memory.old = track if memory.ever_settled else None
        track.waiting = True
        memory.track, memory.candidates, memory.vague, memory.settled, memory.likely_m = None, [], 0, 0, 0.0
        memory.waited = self._limits.patience_frames  # candidates are sought at the next frame

    def _seek(self, memory: _Memory, scan: Scan, motion: Motion | None) -> None:
        """One step of the old track and every candidate; the one that proves itself is followed."""
        _reckon(memory, motion)
        if memory.old is not None:
            self._advance(memory.old, scan, motion, memory.number)
            right = memory.old.probability >= self._limits.found
            memory.likely_m = memory.likely_m + (0.0 if motion is None else motion.distance_m) if right else 0.0
        patience = self._limits.patience_frames if memory.candidates else self._limits.retry_frames
        if memory.waited >= patience and (memory.anywhere or memory.old is None):
            memory.candidates, memory.waited = self._new_candidates(memory, scan), 0
            motion = None  # they are where the vehicle is now
        memory.waited += 1
        for candidate in memory.candidates:
            self._advance(candidate, scan, motion, memory.number)
        memory.candidates = self._pruned(memory.candidates)
        if memory.old is not None and self._regained(memory, memory.old):
            memory.track = memory.old
        elif memory.candidates and self._proven(memory.candidates):
            memory.track = memory.candidates[0]
        if memory.track is not None:
            memory.track.waiting = False
            memory.old, memory.candidates = None, []
            log.info("found at x %.1f m, y %.1f m", memory.track.centre.x_m, memory.track.centre.y_m)

    def _track(self, place: SE2, offset_m: float, offset_rad: float, probability: float) -> Track:
        return Track(place, offset_m, offset_rad, _log_odds(probability), self._config.evidence, record=self._record)

    def _advance(self, track: Track, scan: Scan, motion: Motion | None, number: int) -> None:
        if motion is not None:
            track.predict(motion)
        track.observe(self._locator, scan, 0.0 if motion is None else motion.distance_m, number)

    def _new_candidates(self, memory: _Memory, scan: Scan) -> list[Track]:
        """Tracks all over the map where that is allowed, else one about the last known place."""
        places = [memory.last_known]
        if memory.anywhere and self._search is not None:
            places = [found.pose for found in self._search.candidates(scan, self._limits.keep, memory.on_step)]
        return [self._track(place, memory.offset_m, memory.offset_rad, self._limits.lost) for place in places]

    def _pruned(self, candidates: list[Track]) -> list[Track]:
        """Best first, without those that are far behind, near a better one, or contradicted."""
        kept: list[Track] = []
        for track in sorted(candidates, key=lambda candidate: -candidate.score):
            behind = bool(kept) and track.score < kept[0].score - self._limits.behind_nats
            contradicted = track.probability < self._limits.hopeless
            if not (behind or contradicted or any(is_near(track.mean, other.mean) for other in kept)):
                kept.append(track)
        return kept

    def _regained(self, memory: _Memory, old: Track) -> bool:
        """Whether the old track is right again, and still where dead reckoning has it: it may have crept elsewhere."""
        mean, reckoned, limits = old.mean, memory.last_known, self._limits
        crept_m = math.hypot(mean.x_m - reckoned.x_m, mean.y_m - reckoned.y_m)
        turned_rad = abs(wrap_angle(mean.yaw_rad - reckoned.yaw_rad))
        there = crept_m <= limits.reckoning_m + limits.reckoning_share * memory.gone_m
        there &= (
            turned_rad <= math.radians(limits.reckoning_deg) + math.radians(limits.reckoning_deg_per_m) * memory.gone_m
        )
        return there and memory.likely_m >= limits.regain_m

    def _proven(self, candidates: list[Track]) -> bool:
        """Whether the best is likely, and ahead of the rest."""
        lead = candidates[0].score - candidates[1].score if len(candidates) > 1 else math.inf
        return candidates[0].probability >= self._limits.found and lead >= self._limits.margin_nats


def _reckon(memory: _Memory, motion: Motion | None) -> None:
    """Where the last known place has moved to by odometry alone."""
    if motion is not None:
        memory.last_known = memory.last_known @ motion.before_from_after
        memory.gone_m += motion.distance_m


def _learn_velocity(memory: _Memory, frame: Frame) -> None:
    """From the poses of the track itself, for frames without odometry."""
    if memory.track is None:
        memory.last_mean = None  # the last velocity is the best guess still
        return
    if memory.track.relative_spread > _STEADY:  # the mean wanders from peak to peak
        memory.last_mean = None
        return
    mean = memory.track.mean
    if memory.last_mean is not None and memory.before is not None:
        newest = Velocity.of_step(memory.last_mean.inverse() @ mean, interval_s(memory.before, frame))
        memory.velocity = newest if memory.velocity is None else memory.velocity.blended(newest, _NEWEST_SHARE)
    memory.last_mean = mean


def _log_odds(probability: float) -> float:
    return math.log(probability / (1.0 - probability))

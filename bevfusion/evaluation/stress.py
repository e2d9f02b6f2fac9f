"""How answers worsen as the street gets harder: one factor at a time and a few together, a curve for each.

A `Condition` says what is done to scan, map, prior and odometry; a `Factor` is a row of conditions of growing strength,
its level. Position, heading, direction of the road and the verdict are scored apart:

* *right* is an answer within 2 m and 4 degrees, and the verdict is the probability of that which the answer claims;
* *direction* is that of the path 16 m ahead along the road that was driven, against the path that was driven, by the
  map alone at the pose that was found.
"""

import logging
import math
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bevfusion import metrics
from bevfusion.datasets.drive import BadFrames, Drive
from bevfusion.datasets.odometry import TruthOdometry
from bevfusion.direction.matching import Stretch, matched
from bevfusion.direction.path import NEAR_POINTS, path_along
from bevfusion.direction.road_graph import road_graph_of
from bevfusion.evaluation.direction import driven_track
from bevfusion.evaluation.protocol import Protocol, displaced, evenly_spaced
from bevfusion.filters.settings import FilterConfig
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.heads.map_error import with_map_error
from bevfusion.maps.features import OsmMap
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.source import MapSource
from bevfusion.sequence import FilterEstimator
from bevfusion.structures import DataError, Frame, Locator, PoseEstimate, Scan

log = logging.getLogger(__name__)

RIGHT_M, RIGHT_DEG = 2.0, 4.0
SURE = 0.9
"""A verdict from here on that is wrong counts as falsely sure."""

ChangeScan = Callable[[Scan, np.random.Generator], Scan]
ChangeMap = Callable[[OsmMap, np.random.Generator], OsmMap]
ChangeOdometry = Callable[[Sequence[SE2 | None], np.random.Generator], list[SE2 | None]]
MakeLocator = Callable[[MapSource], Locator]


@dataclass(frozen=True)
class Condition:
    """What is done to a question; by default nothing."""

    scan: ChangeScan | None = None
    map: ChangeMap | None = None
    other_map: Path | None = None  # takes the place of the map
    prior_off_m: float = 0.0  # the prior jumps so far, beyond what it is off anyway
    odometry: ChangeOdometry | None = None  # asked as a sequence; None: each scan on its own
    sequence: bool = False


@dataclass(frozen=True)
class Factor:
    """One thing that gets worse."""

    name: str
    title: str
    unit: str
    levels: tuple[float, ...]
    conditions: tuple[Condition, ...]  # one a level


@dataclass(frozen=True)
class Answer:
    """What came of one question."""

    position_m: float
    heading_deg: float
    direction_deg: float | None  # None: no path is known that was driven, or the map has no road there
    confidence: float
    probability_here: float | None  # None: the locator does not say

    @property
    def is_right(self) -> bool:
        """Within 2 m and 4 degrees."""
        return self.position_m <= RIGHT_M and self.heading_deg <= RIGHT_DEG

    @property
    def verdict(self) -> float:
        """The claim that it is right: by how well scan and map fit, else by the belief alone."""
        return self.confidence if self.probability_here is None else self.probability_here


@dataclass
class Point:
    """One level of a curve."""

    level: float
    answers: list[Answer] = field(default_factory=list)
    silent: int = 0  # questions without an answer
    refused: int = 0  # scans of which nothing was left to ask with

    def numbers(self) -> dict[str, float | int | None]:
        """For JSON; None where nothing can be counted."""
        answers = self.answers
        position_m = np.array([answer.position_m for answer in answers])
        heading_deg = np.array([answer.heading_deg for answer in answers])
        direction_deg = np.array([a.direction_deg for a in answers if a.direction_deg is not None])
        right, verdict = np.array([a.is_right for a in answers]), np.array([a.verdict for a in answers])
        said_here = [a.probability_here for a in answers if a.probability_here is not None]
        return {
            "level": self.level,
            "answers": len(answers),
            "silent": self.silent,
            "refused": self.refused,
            "position_m_median": _median(position_m),
            "position_m_p95": float(np.percentile(position_m, 95)) if answers else None,
            "heading_deg_median": _median(heading_deg),
            "heading_deg_p95": float(np.percentile(heading_deg, 95)) if answers else None,
            "direction_deg_median": _median(direction_deg),
            "with_direction": len(direction_deg),
            "right_percent": 100.0 * float(right.mean()) if answers else None,
            "verdict_mean": float(verdict.mean()) if answers else None,
            "confidence_mean": float(np.mean([a.confidence for a in answers])) if answers else None,
            "probability_here_mean": float(np.mean(said_here)) if said_here else None,
            "falsely_sure_percent": 100.0 * float((~right & (verdict >= SURE)).mean()) if answers else None,
        }


@dataclass
class Curve:
    """What came of a factor."""

    factor: Factor
    points: list[Point]


class StressTest:
    """Asks a locator about a drive under one condition after the other."""

    def __init__(
        self,
        make_locator: MakeLocator,
        drive: Drive,
        source: MapSource,
        protocol: Protocol,
        config: FilterConfig,
        *,
        frames: int,
        sequence: int,
        open_map: Callable[[Path], MapSource],
    ) -> None:
        """A test.

        Args:
            make_locator: what is tried, opened once a map.
            drive: with truth.
            source: the map.
            protocol: how far priors are off, the seed, the error of the map.
            config: of the filter, for sequences.
            frames: scans a level, evenly spread over the drive.
            sequence: frames of a sequence, from the first on.
            open_map: opens the maps that conditions name.

        Raises:
            DataError: if no frame has a truth on the map.
        """
        self._make_locator, self._protocol, self._config = make_locator, protocol, config
        self._source, self._open_map = source, open_map
        self._drive, self._sequence = drive, sequence
        self._frames = self._usable(drive, frames)
        if not self._frames:
            raise DataError(f"no frame of {drive.name} has a true pose on the map {source.name}")
        self._opened: dict[Path, MapSource] = {}
        self._locators: dict[int, tuple[MapSource, Locator]] = {}
        self._roads: dict[Path | None, _Roads] = {}
        self._undisturbed: dict[bool, Point] = {}  # by whether it is a sequence

    @property
    def scans(self) -> int:
        """How many are asked a level."""
        return len(self._frames)

    def questions(self, factors: Sequence[Factor]) -> int:
        """How many answers all levels take together."""
        return sum(self._asked_for(one) for each in factors for one in each.conditions)

    def _asked_for(self, condition: Condition) -> int:
        return min(self._sequence, len(self._drive)) if condition.sequence else len(self._frames)

    def curve(self, factor: Factor, on_answer: Callable[[int], None] | None = None) -> Curve:
        """All levels of a factor.

        Args:
            factor: what gets worse.
            on_answer: called with how many more questions are done.
        """
        tell = on_answer or (lambda count: None)
        points = []
        for level, condition in zip(factor.levels, factor.conditions, strict=True):
            plain = replace(condition, sequence=False) == Condition()
            if plain and condition.sequence in self._undisturbed:
                points.append(replace(self._undisturbed[condition.sequence], level=level))
                tell(self._asked_for(condition))
                continue
            rng_seed = [self._protocol.seed, zlib.crc32(factor.name.encode())]
            source = self._changed(condition, rng_seed)
            point = Point(level)
            if condition.sequence:
                self._follow(point, condition, source, rng_seed, tell)
            else:
                self._ask(point, condition, source, rng_seed, tell)
            if plain:
                self._undisturbed[condition.sequence] = point
            points.append(point)
        return Curve(factor, points)

    def _usable(self, drive: Drive, frames: int) -> list[Frame]:
        bad = BadFrames(drive)
        found = []
        for position in evenly_spaced(len(drive), frames):
            try:
                frame = drive[position]
            except DataError as error:
                bad.skip(position, error)
                continue
            if frame.truth is not None and self._covers(self._source, frame):
                found.append(frame)
        return found

    @staticmethod
    def _covers(source: MapSource, frame: Frame) -> bool:
        if frame.truth is None:
            return False
        place = source.frame.map_from_ego(frame.truth)
        return source.covers(place.x_m, place.y_m)

    def _changed(self, condition: Condition, rng_seed: Sequence[int]) -> MapSource:
        source = self._source
        if condition.other_map is not None:
            if condition.other_map not in self._opened:
                self._opened[condition.other_map] = self._open_map(condition.other_map)
            source = self._opened[condition.other_map]
        if condition.map is None:
            return source
        if not isinstance(source, OsmRenderer):
            raise DataError(f"the map {source.name} is no OpenStreetMap extract: its things cannot be changed")
        return OsmRenderer(condition.map(source.osm_map, np.random.default_rng(list(rng_seed))))

    def _locator(self, source: MapSource) -> Locator:
        if id(source) not in self._locators:
            if source is not self._source:  # changed maps are asked once: their features need not be kept
                return self._make_locator(source)
            self._locators[id(source)] = (source, self._make_locator(source))
        return self._locators[id(source)][1]

    def _roads_of(self, condition: Condition, source: MapSource) -> "_Roads":
        """Those of a map whose things were changed are those of the map itself."""
        if condition.other_map not in self._roads:
            self._roads[condition.other_map] = _Roads(self._drive, source)
        return self._roads[condition.other_map]

    def _prior(self, frame: Frame, source: MapSource, condition: Condition) -> tuple[SE2, SE2]:
        """True pose and prior."""
        assert frame.truth is not None
        truth = source.frame.map_from_ego(frame.truth)
        prior = displaced(truth, self._protocol, self._drive.name, frame.index, 0)
        angle = np.random.default_rng([self._protocol.seed, frame.index]).uniform(-math.pi, math.pi)
        jump_m = condition.prior_off_m
        return truth, SE2(prior.x_m + jump_m * math.cos(angle), prior.y_m + jump_m * math.sin(angle), prior.yaw_rad)

    def _ask(
        self, point: Point, condition: Condition, source: MapSource, seed: Sequence[int], tell: Callable[[int], None]
    ) -> None:
        """Each scan on its own."""
        locator, roads = self._locator(source), self._roads_of(condition, source)
        offset_m, offset_rad = self._protocol.offset_m, math.radians(self._protocol.offset_deg)
        for frame in self._frames:
            truth, prior = self._prior(frame, source, condition)
            scan = _changed_scan(frame, condition, seed)
            try:
                found = locator.locate(scan, prior, offset_m, offset_rad)
            except DataError:  # nothing is left in range
                point.refused += 1
            else:
                estimate = with_map_error(found, self._protocol.map_error_m, locator.map_error_m)
                point.answers.append(_answer(estimate, truth, roads, frame.index))
            tell(1)

    def _follow(
        self, point: Point, condition: Condition, source: MapSource, seed: Sequence[int], tell: Callable[[int], None]
    ) -> None:
        """The first frames of the drive as a sequence."""
        locator, roads = self._locator(source), self._roads_of(condition, source)
        drive = self._drive if self._drive.odometry != "none" else TruthOdometry(self._drive, self._protocol.seed)
        frames = [drive[position] for position in range(min(self._sequence, len(drive)))]
        odometry = [frame.odom_from_ego for frame in frames]
        if condition.odometry is not None:
            odometry = condition.odometry(odometry, np.random.default_rng(list(seed)))
        asked = self._protocol
        estimator = FilterEstimator(asked.offset_m, math.radians(asked.offset_deg), self._config, anywhere=False)
        for position, (frame, odom_from_ego) in enumerate(zip(frames, odometry, strict=True)):
            tell(1)
            if not self._covers(source, frame):
                continue
            truth, prior = self._prior(frame, source, condition)
            scan = _changed_scan(frame, condition, seed)
            changed = replace(frame, scan=scan, odom_from_ego=odom_from_ego)
            try:
                (told,) = estimator.estimate(locator, source, changed, prior, position)
            except DataError:
                point.refused += 1
                continue
            if told.estimate is None:
                point.silent += 1
                continue
            point.answers.append(_answer(with_map_error(told.estimate, asked.map_error_m), truth, roads, frame.index))


def _changed_scan(frame: Frame, condition: Condition, seed: Sequence[int]) -> Scan:
    if condition.scan is None:
        return frame.scan
    return condition.scan(frame.scan, np.random.default_rng([*seed, frame.index]))


class _Roads:
    """The road of a map that a drive took, and what was driven from each frame on."""

    def __init__(self, drive: Drive, source: MapSource) -> None:
        self._track, self._index_of = driven_track(drive, source.frame)
        self._stretches: list[Stretch] = []
        with suppress(DataError):  # a picture has no roads
            self._stretches = matched(road_graph_of(source), self._track.poses)

    def direction_deg(self, estimate: PoseEstimate, truth: SE2, frame: int) -> float | None:
        """How far the direction 16 m ahead is off that of the path driven; None where either is not known."""
        index = self._index_of.get(frame)
        driven = None if index is None else self._track.path_from(truth, index)
        stretch = next((s for s in self._stretches if index is not None and s.first <= index <= s.last), None)
        if index is None or driven is None or stretch is None:
            return None
        path = path_along(stretch.route, estimate.map_from_ego, estimate.covariance)
        if len(path.yaw_rad) < NEAR_POINTS:
            return None
        # directions on the map: a heading that is wrong must not count twice
        on_map_rad = estimate.map_from_ego.yaw_rad + float(path.yaw_rad[NEAR_POINTS - 1])
        driven_rad = truth.yaw_rad + float(driven.yaw_rad[NEAR_POINTS - 1])
        return abs(math.degrees(wrap_angle(on_map_rad - driven_rad)))


def _answer(estimate: PoseEstimate, truth: SE2, roads: _Roads, frame: int) -> Answer:
    found = estimate.map_from_ego
    rows = [np.array([[pose.x_m, pose.y_m, pose.yaw_rad]]) for pose in (found, truth)]
    return Answer(
        math.hypot(found.x_m - truth.x_m, found.y_m - truth.y_m),
        abs(float(metrics.heading_error_deg(*rows)[0])),
        roads.direction_deg(estimate, truth, frame),
        estimate.confidence,
        estimate.probability_here,
    )


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None

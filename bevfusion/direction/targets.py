"""What a network that knows the direction should say of a scan, and what it is asked with.

The truth is the way that is driven from the true pose on. What is asked with is the map's road, or a route, from a pose
that is off as poses are: moved to the vehicle, as `path_along` does without any learning.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int8

from bevfusion.direction.matching import Stretch, matched
from bevfusion.direction.path import NEAR_POINTS, POINTS, SPACING_M, PathAhead, path_along, straight_on
from bevfusion.direction.road_graph import RoadGraph
from bevfusion.direction.route import Route
from bevfusion.direction.way_field import WayField, from_vehicle, way_field
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.lines import blurred_along, yaws_along
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.maps.features import Road

STEP_M = 0.5
"""Between the vertices of a driven way."""

_BEHIND_M, _AHEAD_M = 12.0, POINTS * SPACING_M + 6.0
_MATCHED_EVERY_M = 2.0
_RADIAN_M = 10.0  # a heading that is off by a radian counts as so many metres
_WIDEST_M = 20.0  # half of a carriageway
_LOOK_BACK_M = 30.0  # along a route: a pose may lie so far behind the true place
_VERTEX_M, _BENDS_M = 7.0, 12.0  # of a road drawn wrong: between vertices, and how far a shaky hand stays off


@dataclass(frozen=True)
class DrivenWay:
    """A whole drive as a line, and the roads that it was driven on, as they are in the world."""

    xy_m: Float[np.ndarray, "n 2"]  # map frame, a vertex every half metre
    yaw_rad: Float[np.ndarray, " n"]  # direction of driving, continuous
    roads: tuple[Road, ...] | None = None  # those that cars drive on; None: not known

    @classmethod
    def through(cls, poses: Sequence[SE2]) -> "DrivenWay":
        """The line through the poses of a drive in order: cubic Hermite, from heading to heading.

        Poses nearer than half a metre to the one before are left out.
        """
        kept: list[SE2] = []
        for pose in poses:
            if not kept or math.hypot(pose.x_m - kept[-1].x_m, pose.y_m - kept[-1].y_m) >= STEP_M:
                kept.append(pose)
        pieces = [np.array([[pose.x_m, pose.y_m] for pose in kept[:1]])]
        for a, b in itertools.pairwise(kept):
            pieces.append(_hermite(a, b))
        line = np.concatenate(pieces)
        ticks_m = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        even_m = np.arange(0.0, ticks_m[-1], STEP_M)
        xy_m = np.stack([np.interp(even_m, ticks_m, line[:, axis]) for axis in (0, 1)], axis=1)
        return cls(xy_m, yaws_along(xy_m) if len(xy_m) > 1 else np.zeros(len(xy_m)))

    def index_of(self, pose: SE2) -> int:
        """The vertex nearest to a pose of the drive; where the drive crosses itself, the heading tells."""
        away_m = np.hypot(*(self.xy_m - [pose.x_m, pose.y_m]).T)
        turn_rad = np.abs((self.yaw_rad - pose.yaw_rad + math.pi) % (2.0 * math.pi) - math.pi)
        return int((away_m + _RADIAN_M * turn_rad).argmin())

    def seen_from(self, map_from_ego: SE2, index: int) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Vertices and directions about a vertex, in the ego frame of a pose there."""
        part = slice(max(index - int(_BEHIND_M / STEP_M), 0), index + int(_AHEAD_M / STEP_M) + 1)
        return map_from_ego.inverse().apply(self.xy_m[part]), self.yaw_rad[part] - map_from_ego.yaw_rad


def _hermite(a: SE2, b: SE2) -> Float[np.ndarray, "n 2"]:
    """The line between two poses, without its first point."""
    away_m = math.hypot(b.x_m - a.x_m, b.y_m - a.y_m)
    t = np.linspace(0.0, 1.0, max(2, math.ceil(away_m / 0.25)) + 1)[1:, None]
    start, end = np.array([a.x_m, a.y_m]), np.array([b.x_m, b.y_m])
    # an arc is longer than its chord, and tangents of its length make the cubic one
    turn = abs(wrap_angle(b.yaw_rad - a.yaw_rad))
    size = away_m * (0.5 * turn / math.sin(0.5 * turn) if 1e-6 < turn < 2.5 else 1.0)
    leave, arrive = (size * np.array([math.cos(p.yaw_rad), math.sin(p.yaw_rad)]) for p in (a, b))
    line: np.ndarray = (
        (2.0 * t**3 - 3.0 * t**2 + 1.0) * start
        + (t**3 - 2.0 * t**2 + t) * leave
        + (3.0 * t**2 - 2.0 * t**3) * end
        + (t**3 - t**2) * arrive
    )
    return line


@dataclass(frozen=True)
class WayTarget:
    """The truth about one scan, cells of a grid in the ego frame."""

    drivable: Int8[np.ndarray, "h w"]  # 1 yes, 0 no, -1 not known
    field: WayField  # of the way that was driven
    path_m: Float[np.ndarray, "n 2"]  # the same as a path, up to 20 points 2 m apart

    @property
    def scored(self) -> bool:
        """Whether 16 m of the way are known."""
        return len(self.path_m) >= NEAR_POINTS


def target_of(way: DrivenWay, map_from_ego: SE2, index: int, grid: Grid) -> WayTarget:
    """The truth for a scan that was taken at a pose of a drive.

    Args:
        way: that was driven.
        map_from_ego: the true pose.
        index: the vertex of the way that is there.
        grid: of the cells.
    """
    line_m, yaw_rad = way.seen_from(map_from_ego, index)
    centres_m = grid.centres_m()
    drivable = np.full(centres_m.shape[:2], -1, np.int8)
    if way.roads is not None:
        drivable = on_roads(way.roads, map_from_ego.apply(centres_m)).astype(np.int8)
    return WayTarget(drivable, way_field(line_m, yaw_rad, centres_m), path_from(line_m))


def path_from(line_m: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """Points 2 m apart along a line of the ego frame that passes the vehicle, the first 2 m ahead of it."""
    nearest = int(np.hypot(*line_m.T).argmin())
    ahead = np.concatenate([np.zeros((1, 2)), line_m[nearest:][np.hypot(*line_m[nearest:].T) > STEP_M]])
    ticks_m = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ahead, axis=0).T))])
    wanted_m = SPACING_M * np.arange(1, min(POINTS, int((ticks_m[-1] + 1e-6) / SPACING_M)) + 1)
    return np.stack([np.interp(wanted_m, ticks_m, ahead[:, axis]) for axis in (0, 1)], axis=1)


def on_roads(roads: Sequence[Road], places_m: Float[np.ndarray, "*places 2"]) -> Bool[np.ndarray, " *places"]:
    """Which places lie on the carriageway of a road that cars drive on: within half its width of its centre line."""
    places = places_m.reshape(-1, 2)
    low, high = places.min(0) - _WIDEST_M, places.max(0) + _WIDEST_M
    margin_m = np.full(len(places), math.inf)
    for road in roads:
        start, end = road.xy_m[:-1], road.xy_m[1:]
        near = (np.maximum(start, end) >= low).all(1) & (np.minimum(start, end) <= high).all(1)
        if not road.drivable or not near.any():
            continue
        start, step = start[near], (end - start)[near]
        size2 = np.maximum((step**2).sum(1), 1e-12)
        share = np.clip((places @ step.T - (start * step).sum(1)) / size2, 0.0, 1.0)
        away_m = np.hypot(*(places[:, None] - start - share[..., None] * step).transpose(2, 0, 1)).min(1)
        margin_m = np.minimum(margin_m, away_m - 0.5 * road.width_m)
    inside: np.ndarray = (margin_m <= 0.0).reshape(places_m.shape[:-1])
    return inside


# -- what is asked with


@dataclass(frozen=True, slots=True)
class Question:
    """A pose that is off, and the way that the map or a route has from there."""

    ego_from_asked: SE2  # the pose that is thought, seen from the true one
    path: PathAhead  # moved to the vehicle; straight on where nothing is known
    known: bool  # whether there is a road or a route
    position_std_m: float  # along each axis, as it is told
    heading_std_rad: float


@dataclass(frozen=True, slots=True)
class PoseNoise:
    """How far poses are off: normal, along each axis."""

    position_m: float
    heading_rad: float


AS_MATCHED = PoseNoise(0.5, math.radians(1.0))
AS_GNSS = PoseNoise(5.0, math.radians(5.0))


@dataclass(frozen=True, slots=True)
class Asking:
    """How questions are drawn: shares of samples, the rest is as it should be."""

    gnss: float = 0.25  # poses are off as GNSS alone is, else as matching is
    missing: float = 0.08  # the map has no road there
    wrong: float = 0.3  # the road that is asked with is drawn up to `wrong_m` off
    wrong_m: float = 2.0


class Ways:
    """The roads of the map that a drive was on, and what may be asked along it."""

    def __init__(self, way: DrivenWay, graph: RoadGraph) -> None:
        """Match the drive onto the roads."""
        self.way = way
        self._stride = int(_MATCHED_EVERY_M / STEP_M)
        poses = [
            SE2(x_m, y_m, wrap_angle(yaw_rad))
            for (x_m, y_m), yaw_rad in zip(
                way.xy_m[:: self._stride].tolist(), way.yaw_rad[:: self._stride].tolist(), strict=True
            )
        ]
        self._stretches = matched(graph, poses)

    def route(self, index: int) -> tuple[Route, float] | None:
        """The road that is driven at a vertex of the way, as a route, and how far along it; None off the roads."""
        number = index // self._stride
        stretch: Stretch | None = next((s for s in self._stretches if s.first <= number <= s.last), None)
        if stretch is None:
            return None
        return stretch.route, float(stretch.along_m[number - stretch.first])

    def draw(self, map_from_ego: SE2, index: int, asking: Asking, rng: np.random.Generator) -> Question:
        """A question at a pose of the drive, whose vertex is `index`, drawn at random."""
        noise = AS_GNSS if rng.random() < asking.gnss else AS_MATCHED
        missing = bool(rng.random() < asking.missing)
        wrong_m = float(rng.uniform(0.15, 1.0)) * asking.wrong_m if rng.random() < asking.wrong else 0.0
        return self.ask(map_from_ego, index, noise, rng, missing=missing, wrong_m=wrong_m)

    def ask(
        self,
        map_from_ego: SE2,
        index: int,
        noise: PoseNoise,
        rng: np.random.Generator,
        *,
        missing: bool = False,
        wrong_m: float = 0.0,
    ) -> Question:
        """A question at a pose of the drive.

        Args:
            map_from_ego: the true pose.
            index: the vertex of the way that is there.
            noise: of the pose that is asked from.
            rng: draws it.
            missing: the map has no road there.
            wrong_m: standard deviation of the road from where the map has it, across it.
        """
        off = SE2(*(rng.normal(size=3) * [noise.position_m, noise.position_m, noise.heading_rad]).tolist())
        found = self.route(index)
        if missing or found is None:
            return Question(off, straight_on(), False, noise.position_m, noise.heading_rad)
        route, true_m = found
        if wrong_m > 0.0:
            route = drawn_wrong(route, wrong_m, rng)
        asked = map_from_ego @ off
        covariance = np.diag([noise.position_m**2, noise.position_m**2, noise.heading_rad**2])
        at_m = route.place_of(asked, max(true_m - _LOOK_BACK_M, 0.0))[0]
        return Question(
            off, path_along(route, asked, covariance, along_m=at_m), True, noise.position_m, noise.heading_rad
        )


def drawn_wrong(route: Route, wrong_m: float, rng: np.random.Generator) -> Route:
    """A route drawn by a shaky hand: so far beside its place, smoothly."""
    counts = np.maximum(np.diff(route.ticks_m) / _VERTEX_M, 1.0).astype(int)
    ticks_m = np.concatenate(
        [
            np.linspace(a, b, count, endpoint=False)
            for a, b, count in zip(route.ticks_m[:-1], route.ticks_m[1:], counts, strict=True)
        ]
        + [route.ticks_m[-1:]]
    )
    xy_m, lane_m = route.at(ticks_m)
    even_m = np.arange(0.0, ticks_m[-1] + 1.0, 1.0)
    shake = blurred_along(rng.normal(size=len(even_m)), _BENDS_M, 1.0)
    shake *= wrong_m * math.sqrt(2.0 * math.sqrt(math.pi) * _BENDS_M)  # what blurring has taken of the deviation
    yaw_rad = yaws_along(xy_m)
    left = np.stack([-np.sin(yaw_rad), np.cos(yaw_rad)], axis=1)
    return Route.through(xy_m + np.interp(ticks_m, even_m, shake)[:, None] * left, lane_m)


def base_field(path: PathAhead, grid: Grid) -> WayField:
    """What the path of a question says at the cells of a grid in the ego frame."""
    line_m, yaw_rad = from_vehicle(path.xy_m, path.yaw_rad)
    return way_field(line_m, yaw_rad, grid.centres_m())


def mirrored_question(question: Question) -> Question:
    """The same in a mirror along the vehicle."""
    path = question.path
    turned = replace(path, xy_m=path.xy_m * [1.0, -1.0], yaw_rad=-path.yaw_rad, beside_m=-path.beside_m)
    return replace(question, ego_from_asked=question.ego_from_asked.mirrored(), path=turned)


def mirrored_target(target: WayTarget) -> WayTarget:
    """The same in a mirror along the vehicle: rows turned round, left is right."""
    field = target.field
    turned = WayField(-field.yaw_rad[::-1], -field.left_m[::-1], field.along_m[::-1])
    return WayTarget(target.drivable[::-1], turned, target.path_m * [1.0, -1.0])

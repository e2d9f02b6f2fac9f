"""The natural lie of the land, hills and dips as a sum of plane waves, and how high the roads on it run.

Grades as measured from altitude and pitch of the GPS/IMU of eight KITTI raw drives in Karlsruhe, 9.4 km
(`tools/grades.py` prints the table):

| | root mean square | above 2 % | above 5 % | above 8 % | steepest |
|---|---|---|---|---|---|
| seven drives on the plain, 7.7 km | 0.7 % | 1.2 % of the way | 0 | 0 | 4 % |
| 2011_09_30_drive_0033, 1.7 km | 6.6 % | 82 % | 43 % | 34 % | 11 % (a moment's pitch: 15 %) |

The grade changes by 2 to 3 % over 10 to 36 m at crossings of the plain (15 times a km), and by 5 to 12 % over 15 to
72 m (median 30 m) on the hill; no crest or dip is sharper than a radius of 100 m.

Roads run smooth along their course, have one height where they meet, and are never too steep.

Heights are those of the land where it is smooth already. Elsewhere they minimise

    sum_i h_i (z_i - land_i)^2 + L^4 sum_i h_i (z''_i)^2 + M^2 sum_i h_i (z'_i - grade_i)^2

over points i that lie h_i apart along all roads; points where roads meet are shared. L = 8 m rounds what is shorter
than 50 m; the last sum is over roads whose grade the map gives. Roads that cross or touch without a common point (on
bridges, or beside each other) are tied, too: they are raised or lowered alike, for the land has one height. Conjugate
gradients (Hestenes and Stiefel, 1952) need no matrix for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float, Int

from bevfusion.maps.features import Road

STEEPEST = 0.15
"""No road rises more than this per metre of its course."""
_LONG_M = (150.0, 900.0, 5)  # shortest and longest wave, and how many: sides of valleys
_MIDDLE_M = (45.0, 130.0, 4)  # crests and dips
_MIDDLE_SHARE = 0.45  # of their slope, beside that of long waves
_SHORT_M = (15.0, 40.0, 4)  # unevenness of centimetres
_KNOT_M = 4.0  # distance of the heights that are solved for
_STEP_M = 0.5  # distance of the points handed out
_SMOOTH_M = 8.0
_GRADE_M = 250.0  # so far from the land a road follows the grade that the map gives
_TIE = 3.0
_ROUNDS = 300


@dataclass(frozen=True, slots=True)
class Relief:
    """Height above the datum as a sum of plane waves: smooth, endless, and cheap anywhere."""

    wave_per_m: Float[np.ndarray, "k 2"]  # angular wave numbers
    phase_rad: Float[np.ndarray, " k"]
    amplitude_m: Float[np.ndarray, " k"]
    hills: float  # root mean square of the slope in any one direction

    @classmethod
    def random(cls, rng: np.random.Generator, hills: float) -> "Relief":
        """Land whose slope in any one direction has the root mean square `hills`; with 0 it is level."""
        if hills == 0.0:
            return cls.flat()
        bands = (_LONG_M, _MIDDLE_M, _SHORT_M)
        length_m = np.concatenate([rng.uniform(low, high, count) for low, high, count in bands])
        heading = rng.uniform(-math.pi, math.pi, len(length_m))
        number = 2.0 * np.pi / length_m
        share = np.repeat([1.0, _MIDDLE_SHARE], [_LONG_M[2], _MIDDLE_M[2]])
        slope = share * rng.uniform(0.4, 1.0, len(share))
        # a wave of slope s has the mean square s^2 / 4 over all places and directions
        slope *= 2.0 * hills / math.sqrt(float(slope @ slope))
        bumps_m = min(1.0, hills / 0.005) * rng.uniform(0.004, 0.015, _SHORT_M[2])
        return cls(
            number[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1),
            rng.uniform(0.0, 2.0 * math.pi, len(number)),
            np.concatenate([slope / number[: len(slope)], bumps_m]),
            hills,
        )

    @classmethod
    def flat(cls) -> "Relief":
        """Land without slopes, at height zero everywhere."""
        return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0), 0.0)

    def height_m(self, xy_m: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
        """Height of the untouched land at points of the map frame."""
        waves = np.sin(xy_m.astype(float) @ self.wave_per_m.T + self.phase_rad) @ self.amplitude_m
        return np.asarray(waves, float)


@dataclass(frozen=True, slots=True)
class RoadPoints:
    """Points of centre lines, half a metre apart, road after road."""

    xy_m: Float[np.ndarray, "n 2"]
    z_m: Float[np.ndarray, " n"]
    along: Float[np.ndarray, "n 2"]  # unit vector along the road's vertices
    road: Int[np.ndarray, " n"]  # index of the road
    travelled_m: Float[np.ndarray, " n"]  # from the road's first vertex
    to_end_m: Float[np.ndarray, " n"]  # to the nearer of the road's ends

    @classmethod
    def empty(cls) -> "RoadPoints":
        """No point at all."""
        return cls(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)), np.zeros(0, int), np.zeros(0), np.zeros(0))


def sidewalk_m(road: Road) -> float:
    """Breadth of the pavement on each side of a road that has one."""
    return {
        "residential": 2.1, "tertiary": 2.8, "secondary": 3.2, "primary": 3.4, "unclassified": 2.0, "living_street": 1.6
    }.get(road.kind, 0.0)  # fmt: skip


def road_profiles(roads: Sequence[Road], relief: Relief, rng: np.random.Generator) -> RoadPoints:
    """Heights of all centre lines.

    Args:
        roads: those that are driven on, with at least two vertices each.
        relief: the land as it was.
        rng: chooses what is raised or lowered where the map does not say.
    """
    if not roads:
        return RoadPoints.empty()
    number: dict[int, int] = {}
    places, targets_m, chains, ticks = [], [], [], []
    count = 0
    for road in roads:
        tick, is_vertex = _knots(road.xy_m)
        vertex_m = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(road.xy_m, axis=0).T))])
        xy = np.stack([np.interp(tick, vertex_m, road.xy_m[:, axis]) for axis in (0, 1)], axis=1)
        ids = np.full(len(tick), -1)
        ids[is_vertex] = road.node_ids
        chain = np.zeros(len(tick), int)
        for i, node in enumerate(ids):
            if node >= 0 and int(node) in number:
                chain[i] = number[int(node)]
                continue
            chain[i] = count
            if node >= 0:
                number[int(node)] = count
            count += 1
        places.append(xy)
        targets_m.append(relief.height_m(xy) + _earthwork_m(road, tick, relief, rng))
        chains.append(chain)
        ticks.append(tick)
    rows = _Rows(count)
    for road, chain, tick, target_m in zip(roads, chains, ticks, targets_m, strict=True):
        rows.add_course(chain, tick, target_m, road.grade)
    xy, owner = np.concatenate(places), np.repeat(np.arange(len(roads)), [len(chain) for chain in chains])
    half_m = np.array([0.5 * road.width_m for road in roads])[owner]
    rows.add_ties(np.concatenate(chains), xy, owner, half_m, relief)
    z_m = np.zeros(count)
    for chain, target_m in zip(chains, targets_m, strict=True):
        z_m[chain] = target_m
    z_m = rows.solve(z_m)
    _limit_grades(z_m, chains, ticks)
    return _handed_out(roads, ticks, places, [z_m[chain] for chain in chains])


def _knots(xy_m: Float[np.ndarray, "n 2"]) -> tuple[Float[np.ndarray, " k"], np.ndarray]:
    """(distances from the first vertex, whether each is a vertex) of all vertices and of points between them."""
    sizes = np.hypot(*np.diff(xy_m, axis=0).T)
    ticks, vertex = [np.zeros(1)], [True]
    start = 0.0
    for size in sizes:
        pieces = max(1, math.ceil(size / _KNOT_M))
        ticks.append(start + size * np.arange(1, pieces + 1) / pieces)
        vertex += [False] * (pieces - 1) + [True]
        start += float(size)
    return np.concatenate(ticks), np.array(vertex)


def _earthwork_m(
    road: Road, tick: Float[np.ndarray, " k"], relief: Relief, rng: np.random.Generator
) -> Float[np.ndarray, " k"]:
    """How far a road is raised above the land, or sunk into it: where the map says so, and on ramps by chance."""
    length_m = float(tick[-1])
    chance, size_m, at, sign = rng.random(), rng.uniform(1.5, 4.5), rng.uniform(0.3, 0.7), rng.choice([-1.0, 1.0])
    if road.earthwork:
        height_m = (0.4 + 0.4 * size_m) * (1.0 if road.earthwork == "embankment" else -1.0)
        ends = np.minimum(tick, length_m - tick)
        raised: np.ndarray = height_m * np.clip(ends / (20.0 * abs(height_m)), 0.0, 1.0)
        return raised
    if length_m < 80.0 or chance > 0.15 * min(1.0, relief.hills / 0.01):
        return np.zeros(len(tick))
    half_m = min(0.5 * length_m, size_m * math.pi / (2.0 * rng.uniform(0.05, 0.1)))
    height_m = sign * min(size_m, half_m * 2.0 * 0.1 / math.pi)
    away = np.abs(tick - np.clip(at * length_m, half_m, length_m - half_m))
    ramp: np.ndarray = height_m * (0.5 + 0.5 * np.cos(np.pi * np.minimum(away / half_m, 1.0)))
    return ramp


class _Rows:
    """The least squares of this file's head; every row is a weighted sum of up to three heights."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._index: list[np.ndarray] = []
        self._weight: list[np.ndarray] = []
        self._wanted: list[np.ndarray] = []

    def _add(self, index: list[np.ndarray], weight: np.ndarray, wanted: np.ndarray) -> None:
        self._index.append(np.stack(index, axis=1))
        self._weight.append(weight)
        self._wanted.append(wanted)

    def add_course(
        self,
        chain: Int[np.ndarray, " k"],
        tick: Float[np.ndarray, " k"],
        target_m: Float[np.ndarray, " k"],
        grade: float | None,
    ) -> None:
        """What one road wants of its heights."""
        step = np.maximum(np.diff(tick), 0.1)
        own = np.sqrt(np.convolve(step, [0.5, 0.5]))
        self._add([chain] * 3, own[:, None] * np.array([1.0, 0.0, 0.0]), own * target_m)
        if len(tick) > 2:
            before, behind = 1.0 / step[:-1], 1.0 / step[1:]
            scale = _SMOOTH_M**2 / np.sqrt(0.5 * (step[:-1] + step[1:]))
            bend = scale[:, None] * np.stack([before, -before - behind, behind], axis=1)
            self._add([chain[:-2], chain[1:-1], chain[2:]], bend, np.zeros(len(scale)))
        if grade is not None:
            scale = _GRADE_M / np.sqrt(step)
            rise = scale[:, None] * np.array([-1.0, 1.0, 0.0])
            self._add([chain[:-1], chain[1:], chain[1:]], rise, scale * step * grade)

    def add_ties(
        self,
        chain: Int[np.ndarray, " n"],
        xy_m: Float[np.ndarray, "n 2"],
        owner: Int[np.ndarray, " n"],
        half_m: Float[np.ndarray, " n"],
        relief: Relief,
    ) -> None:
        """That carriageways which overlap are raised alike."""
        places = shapely.points(xy_m)
        a, b = shapely.STRtree(places).query(places, predicate="dwithin", distance=half_m + half_m.max())
        gap_m = np.hypot(*(xy_m[a] - xy_m[b]).T)
        near = (owner[a] < owner[b]) & (chain[a] != chain[b]) & (gap_m < half_m[a] + half_m[b])
        a, b = a[near], b[near]
        rise_m = relief.height_m(xy_m[b]) - relief.height_m(xy_m[a])
        weight = np.broadcast_to(_TIE * np.array([-1.0, 1.0, 0.0]), (len(a), 3))
        self._add([chain[a], chain[b], chain[b]], weight, _TIE * rise_m)

    def solve(self, start_m: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The heights, by conjugate gradients."""
        index, weight, wanted = (np.concatenate(rows) for rows in (self._index, self._weight, self._wanted))

        def transposed(rows: Float[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
            summed: np.ndarray = np.bincount(index.ravel(), (weight * rows[:, None]).ravel(), self._count)
            return summed

        z_m = start_m
        rest = transposed(wanted - (weight * z_m[index]).sum(axis=1))
        direction, size = rest, float(rest @ rest)
        for _ in range(_ROUNDS):
            if size < 1e-9 * self._count:
                break
            curved = transposed((weight * direction[index]).sum(axis=1))
            reach = size / float(direction @ curved)
            z_m = z_m + reach * direction
            rest = rest - reach * curved
            direction, size = rest + direction * (float(rest @ rest) / size), float(rest @ rest)
        return z_m


def _limit_grades(
    z_m: Float[np.ndarray, " n"], chains: list[Int[np.ndarray, " _"]], ticks: list[Float[np.ndarray, " _"]]
) -> None:
    """Where a road is too steep, its upper end comes down and its lower end up, in place, until none is."""
    low = np.concatenate([chain[:-1] for chain in chains])
    high = np.concatenate([chain[1:] for chain in chains])
    most_m = 0.98 * STEEPEST * np.concatenate([np.diff(tick) for tick in ticks])
    shares = np.maximum(np.bincount(np.concatenate([low, high]), minlength=len(z_m)), 1)
    for _ in range(20 * _ROUNDS):
        rise = z_m[high] - z_m[low]
        excess = rise - np.clip(rise, -most_m, most_m)
        if np.abs(excess).max(initial=0.0) < 5e-3:
            break
        move = np.bincount(low, excess, len(z_m)) - np.bincount(high, excess, len(z_m))
        z_m += 0.9 * move / shares


def _handed_out(
    roads: Sequence[Road],
    ticks: list[Float[np.ndarray, " _"]],
    places: list[Float[np.ndarray, "_ 2"]],
    heights_m: list[Float[np.ndarray, " _"]],
) -> RoadPoints:
    """Points half a metre apart."""
    columns: list[tuple[np.ndarray, ...]] = []
    for index, (tick, xy, z) in enumerate(zip(ticks, places, heights_m, strict=True)):
        even = np.linspace(0.0, tick[-1], max(2, math.ceil(tick[-1] / _STEP_M) + 1))
        line = np.stack([np.interp(even, tick, xy[:, axis]) for axis in (0, 1)], axis=1)
        along = np.diff(line, axis=0)
        along = np.concatenate([along, along[-1:]])
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
        ends = np.minimum(even, tick[-1] - even)
        columns.append((line, np.interp(even, tick, z), along, np.full(len(even), index), even, ends))
    return RoadPoints(*(np.concatenate(column) for column in zip(*columns, strict=True)))

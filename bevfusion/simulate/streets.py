"""The streets of an invented town: a warped, thinned and partly broken net."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from jaxtyping import Float

from bevfusion.simulate.osm_xml import Tags

_NAMES = ("Mill", "Church", "Station", "Garden", "River", "Market", "School", "Linden", "Oak", "Castle", "Hill")
_ENDS = ("Street", "Lane", "Road", "Way", "Row")
_VERTICES = 5  # of a street between two crossings


@dataclass(frozen=True, slots=True)
class Street:
    """The piece of a street between two crossings."""

    xy_m: Float[np.ndarray, "n 2"]
    tags: Tags
    width_m: float
    district: int  # an index that neighbouring streets share
    dead_end: bool = False

    @property
    def line(self) -> shapely.LineString:
        """The centre line, in metres of the town's frame."""
        return shapely.LineString(self.xy_m)


class _Warp:
    """A smooth bending of the plane, so that streets curve and cross at odd angles."""

    def __init__(self, size_m: float, rng: np.random.Generator) -> None:
        length_m = rng.uniform(0.35, 1.1, (2, 3)) * size_m
        heading = rng.uniform(-math.pi, math.pi, (2, 3))
        self._wave = 2.0 * np.pi / length_m[..., None] * np.stack([np.cos(heading), np.sin(heading)], axis=2)
        self._phase = rng.uniform(0.0, 2.0 * math.pi, (2, 3))
        self._amplitude = rng.uniform(0.03, 0.11, (2, 3)) * length_m / 2.0
        turn, shear = rng.uniform(-math.pi, math.pi), rng.uniform(-0.3, 0.3)
        cos, sin = math.cos(turn), math.sin(turn)
        self._linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, shear], [0.0, 1.0]])

    def __call__(self, xy_m: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        shift = [np.sin(xy_m @ self._wave[axis].T + self._phase[axis]) @ self._amplitude[axis] for axis in (0, 1)]
        bent: np.ndarray = (xy_m + np.stack(shift, axis=-1)) @ self._linear.T
        return bent


def plan_streets(size_m: float, rng: np.random.Generator) -> list[Street]:
    """The streets within a square about the origin (those that cross its border end outside).

    Args:
        size_m: side of the square.
        rng: makes the town.
    """
    warp = _Warp(size_m, rng)
    reach = 0.95 * size_m  # the turned and sheared net covers the square
    ticks_x, ticks_y = (_ticks(reach, rng) for _ in range(2))
    class_x, class_y = (_classes(len(ticks), rng) for ticks in (ticks_x, ticks_y))
    half = 0.5 * size_m + 80.0
    streets: list[Street] = []
    for across, (own, other, classes) in enumerate(((ticks_x, ticks_y, class_x), (ticks_y, ticks_x, class_y))):
        for i, fixed in enumerate(own):
            minor = classes[i]["highway"] in ("residential", "living_street")
            for j, (low, high) in enumerate(pairwise(other)):
                # gaps in minor streets make crossings into T-junctions and blocks of many sizes
                if minor and rng.random() < 0.22:
                    continue
                run = np.linspace(low, high, _VERTICES)
                plane = np.stack([np.full(_VERTICES, fixed), run], axis=1)
                xy = warp(plane[:, ::-1] if across else plane)
                if np.abs(xy).max(axis=1).min() > half:
                    continue
                streets.append(Street(xy, classes[i], _width_m(classes[i]), (i // 3) * 31 + j // 3 + 7 * across))
    return [*streets, *_dead_ends(streets, rng)]


def _ticks(reach_m: float, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """Uneven distances of parallel streets."""
    steps = rng.choice([60.0, 80.0, 105.0, 140.0], 200) * rng.uniform(0.85, 1.15, 200)
    ticks = np.cumsum(steps) - reach_m
    return ticks[ticks < reach_m]


def _classes(count: int, rng: np.random.Generator) -> list[Tags]:
    """Tags of each long street: a main one now and then, mostly residential ones."""
    found = []
    main = int(rng.integers(4))
    for i in range(count):
        name = f"{rng.choice(_NAMES)} {rng.choice(_ENDS)}"
        if i % 5 == main:
            kind = str(rng.choice(["tertiary", "secondary", "tertiary"]))
            lanes = str(int(rng.choice([2, 2, 3])))
            found.append({"highway": kind, "name": name, "lanes": lanes, "maxspeed": "50", "surface": "asphalt"})
            continue
        kind = str(rng.choice(["residential", "unclassified", "living_street"], p=[0.75, 0.15, 0.1]))
        tags = {"highway": kind, "name": name, "maxspeed": "30"}
        if rng.random() < 0.18:
            tags["oneway"] = str(rng.choice(["yes", "-1"]))
        if rng.random() < 0.3:
            tags["width"] = f"{rng.uniform(4.5, 7.5):.1f}"
        found.append(tags)
    return found


def _width_m(tags: Tags) -> float:
    """Width of the carriageway that the tags mean."""
    if "width" in tags:
        return float(tags["width"])
    if "lanes" in tags:
        return 3.25 * int(tags["lanes"])
    return {"residential": 5.5, "unclassified": 5.5, "living_street": 4.5, "service": 3.5}[tags["highway"]]


def _dead_ends(streets: list[Street], rng: np.random.Generator) -> list[Street]:
    """Short spurs into the blocks."""
    tree = shapely.STRtree([street.line for street in streets])
    spurs: list[Street] = []
    for street in streets:
        if rng.random() > 0.18:
            continue
        at = street.xy_m[2]
        along = street.xy_m[3] - street.xy_m[1]
        yaw = math.atan2(along[1], along[0]) + rng.choice([-1.0, 1.0]) * rng.uniform(1.2, 1.9)
        length, bend = rng.uniform(28.0, 70.0), rng.uniform(-0.5, 0.5)
        middle = at + 0.5 * length * np.array([math.cos(yaw), math.sin(yaw)])
        end = middle + 0.5 * length * np.array([math.cos(yaw + bend), math.sin(yaw + bend)])
        beyond = shapely.LineString([at + 0.3 * (middle - at), middle, end])
        others = [*tree.query(beyond, predicate="dwithin", distance=12.0)]
        if others and any(streets[int(k)] is not street for k in others):
            continue
        if any(spur.line.distance(beyond) < 15.0 for spur in spurs):
            continue
        kind = str(rng.choice(["residential", "service"]))
        tags = {"highway": kind, "noexit": "yes"} if kind == "residential" else {"highway": kind}
        spurs.append(Street(np.stack([at, middle, end]), tags, _width_m(tags), street.district, dead_end=True))
    return spurs

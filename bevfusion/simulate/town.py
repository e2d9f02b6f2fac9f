"""An invented town as an OpenStreetMap file: houses, gardens, trees and lamps along a warped, thinned street net."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Float

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.simulate.osm_xml import OsmFile, Tags
from bevfusion.structures import DataError

_NAMES = ("Mill", "Church", "Station", "Garden", "River", "Market", "School", "Linden", "Oak", "Castle", "Hill")
_ENDS = ("Street", "Lane", "Road", "Way", "Row")
_VERTICES = 5  # of a street between two crossings
_PARK_SHARE = 0.08  # of the blocks


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


@dataclass(frozen=True, slots=True)
class _HouseStyle:
    """How houses stand in a street; lengths in metres as (least, most)."""

    kind: str
    front: tuple[float, float]
    depth: tuple[float, float]
    gap: tuple[float, float]
    setback: tuple[float, float]
    levels: tuple[int, int]


_HOUSE_STYLES = (
    _HouseStyle("detached", (8.0, 14.0), (8.0, 12.0), (4.0, 11.0), (3.0, 8.0), (1, 3)),
    _HouseStyle("detached", (8.0, 12.0), (9.0, 13.0), (3.0, 6.0), (2.0, 4.0), (2, 3)),
    _HouseStyle("terrace", (5.5, 8.5), (9.0, 12.0), (0.0, 0.0), (0.5, 4.0), (2, 3)),
    _HouseStyle("apartments", (12.0, 22.0), (11.0, 14.0), (0.0, 0.0), (0.0, 1.0), (3, 6)),
    _HouseStyle("apartments", (28.0, 60.0), (11.0, 13.0), (10.0, 28.0), (4.0, 12.0), (3, 7)),
    _HouseStyle("commercial", (18.0, 45.0), (15.0, 30.0), (6.0, 25.0), (4.0, 14.0), (1, 3)),
    _HouseStyle("house", (8.0, 13.0), (8.0, 12.0), (15.0, 50.0), (4.0, 12.0), (1, 2)),
)
_STYLE_SHARES = (0.22, 0.18, 0.2, 0.15, 0.1, 0.06, 0.09)


@dataclass
class _Plan:
    """What has been placed so far."""

    file: OsmFile
    half_m: float
    streets: list[Street]
    rng: np.random.Generator
    carriageways: shapely.STRtree = field(init=False)
    parks: shapely.STRtree = field(init=False)
    houses: list[shapely.Polygon] = field(default_factory=list)
    _tree: shapely.STRtree = field(default_factory=lambda: shapely.STRtree([]))

    def __post_init__(self) -> None:
        zones = [street.line.buffer(0.5 * street.width_m + 1.5) for street in self.streets]
        self.carriageways = shapely.STRtree(zones)
        self.parks = shapely.STRtree([])

    def inside(self, xy_m: Float[np.ndarray, "n 2"]) -> bool:
        """Whether the town's square holds all of it."""
        return bool(np.abs(xy_m).max() <= self.half_m)

    def settle(self) -> None:
        """Let `place` see what was placed."""
        self._tree = shapely.STRtree(self.houses)

    def place(self, shape: shapely.Polygon, gap_m: float) -> bool:
        """Take the ground for a house if it is free; `settle` must have been called for houses of other streets."""
        if not self.inside(np.asarray(shape.exterior.coords)):
            return False
        for tree, distance in ((self.carriageways, 0.0), (self.parks, 0.0), (self._tree, gap_m)):
            if len(tree.query(shape, predicate="dwithin", distance=distance)):
                return False
        self.houses.append(shape)
        return True


def write_town(path: Path, seed: int, size_m: float = 1200.0) -> None:
    """Invent a town and write it as OpenStreetMap XML, compressed if the name ends in .gz.

    Args:
        path: the file to write; replaced if it exists.
        seed: the same seed gives the same bytes.
        size_m: side of the square that the town fills.

    Raises:
        DataError: if the seed is negative or the size is outside 300 m to 20 km.
    """
    if seed < 0 or not 300.0 <= size_m <= 20_000.0:
        raise DataError(f"a town needs a seed from 0 and a size within 300 and 20000 m, got {seed} and {size_m}")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 20_240_501]))
    frame = LocalFrame(round(float(rng.uniform(44.0, 56.0)), 4), round(float(rng.uniform(-1.0, 24.0)), 4))
    streets = plan_streets(size_m, rng)
    plan = _Plan(OsmFile(frame), 0.5 * size_m, streets, rng)
    for street in streets:
        plan.file.way(street.xy_m, street.tags)
    _parks(plan)
    styles: dict[int, int] = {}
    for street in streets:
        usual = styles.setdefault(street.district, int(rng.choice(len(_HOUSE_STYLES), p=_STYLE_SHARES)))
        for side in (-1.0, 1.0):
            stray = rng.random() < 0.25
            style = _HOUSE_STYLES[int(rng.choice(len(_HOUSE_STYLES), p=_STYLE_SHARES)) if stray else usual]
            _houses(plan, street, side, style)
            _furniture(plan, street, side)
    half = 0.5 * size_m
    plan.file.write(Path(path), (-half, -half, half, half))


def _parks(plan: _Plan) -> None:
    """Some blocks are parks, others have a car park or a lawn in the middle."""
    rng, taken = plan.rng, []
    for block in shapely.get_parts(shapely.polygonize([street.line for street in plan.streets])):
        inner = block.buffer(-9.0)
        if inner.is_empty or inner.geom_type != "Polygon" or inner.area < 600.0:
            continue
        ring = np.asarray(inner.simplify(0.5).exterior.coords)
        chance = rng.random()
        if chance > _PARK_SHARE * 2.0 or not plan.inside(ring):
            continue
        if chance < _PARK_SHARE:
            plan.file.way(ring, {"leisure": "park", "name": "Park"})
            taken.append(inner)
            low, high = np.array(inner.bounds[:2]), np.array(inner.bounds[2:])
            for place in rng.uniform(low, high, (int(inner.area / 250.0), 2)):
                if shapely.contains_xy(inner, *place):
                    plan.file.node(place, {"natural": "tree", "leaf_type": "broadleaved"})
            ends = ring[[0, len(ring) // 2]]
            plan.file.way(ends, {"highway": "footway", "surface": "gravel"})
        else:
            core = block.buffer(-28.0)
            if core.is_empty or core.geom_type != "Polygon" or core.area < 200.0:
                continue
            kind: Tags = {"amenity": "parking"} if rng.random() < 0.5 else {"landuse": "grass"}
            plan.file.way(np.asarray(core.simplify(0.5).exterior.coords), kind)
            taken.append(core)
    plan.parks = shapely.STRtree(taken)


def _course(street: Street, side: float, travelled_m: float, away_m: float) -> tuple[Float[np.ndarray, " 2"], float]:
    """(place beside the street, direction of the street there)."""
    line = street.line
    a, b = (np.asarray(line.interpolate(travelled_m + d).coords[0]) for d in (-1.0, 1.0))
    yaw = math.atan2(b[1] - a[1], b[0] - a[0])
    return 0.5 * (a + b) + side * away_m * np.array([-math.sin(yaw), math.cos(yaw)]), yaw


def _houses(plan: _Plan, street: Street, side: float, style: _HouseStyle) -> None:
    """A row of houses along one side of a street."""
    rng, length_m = plan.rng, street.line.length
    plan.settle()
    pavement_m = 2.0 if street.tags["highway"] != "service" else 0.5
    setback = rng.uniform(*style.setback)
    depth = rng.uniform(*style.depth)
    levels = int(rng.integers(style.levels[0], style.levels[1] + 1))
    attached = style.gap[1] == 0.0
    at = rng.uniform(2.0, 10.0)
    while True:
        front = rng.uniform(*style.front)
        if at + front > length_m - 2.0:
            break
        if not attached:
            setback += 0.3 * (rng.uniform(*style.setback) - setback)
            depth = rng.uniform(*style.depth)
            levels = int(rng.integers(style.levels[0], style.levels[1] + 1))
        # a terrace has steps and gaps now and then
        elif rng.random() < 0.12:
            at += rng.uniform(0.0, 5.0)
            setback = max(0.0, setback + rng.uniform(-0.6, 0.6))
        away = 0.5 * street.width_m + pavement_m + setback
        place, yaw = _course(street, side, at + 0.5 * front, away)
        turn = 0.0 if attached else rng.normal(0.0, 0.03)
        pose = SE2(float(place[0]), float(place[1]), yaw + turn + (0.0 if side > 0 else math.pi))
        ring = pose.apply(_footprint(front, depth, attached, rng))
        if plan.place(shapely.Polygon(ring), 0.05 if attached else 2.0):
            _write_house(plan, ring, style, levels)
            if style.kind in ("detached", "terrace", "house"):
                _garden(plan, pose, front, depth, setback)
        at += front + (0.02 if attached else rng.uniform(*style.gap))


def _footprint(front_m: float, depth_m: float, attached: bool, rng: np.random.Generator) -> Float[np.ndarray, "n 2"]:
    """A ring with its front on the x axis and the house at y > 0: a rectangle, or with a wing, bay or step."""
    x, y = 0.5 * front_m, depth_m
    shape = rng.random()
    if shape < 0.5 or (attached and shape < 0.7):
        corners = [(-x, 0.0), (x, 0.0), (x, y), (-x, y)]
    elif shape < 0.75:  # an L
        cut, inset = rng.uniform(0.3, 0.7) * front_m - x, rng.uniform(0.25, 0.6) * y
        corners = [(-x, 0.0), (cut, 0.0), (cut, inset), (x, inset), (x, y), (-x, y)]
        if rng.random() < 0.5:
            corners = [(-a, b) for a, b in corners[::-1]]
    else:  # a bay towards the street
        a = rng.uniform(-0.8, 0.2) * x
        b = a + rng.uniform(0.2, 0.5) * front_m
        out = -rng.uniform(0.5, 1.6)
        corners = [(-x, 0.0), (a, 0.0), (a, out), (b, out), (b, 0.0), (x, 0.0), (x, y), (-x, y)]
    return np.array([*corners, corners[0]])


def _write_house(plan: _Plan, ring_m: Float[np.ndarray, "n 2"], style: _HouseStyle, levels: int) -> None:
    rng = plan.rng
    tags: Tags = {"building": style.kind if rng.random() < 0.6 else "yes"}
    known = rng.random()
    if known < 0.4:
        tags["building:levels"] = str(levels)
    elif known < 0.6:
        tags["height"] = f"{3.0 * levels + rng.uniform(0.5, 2.0):.1f}"
    if rng.random() < 0.4:
        tags["addr:housenumber"] = str(int(rng.integers(1, 120)))
    shape = shapely.Polygon(ring_m)
    court = shape.buffer(-8.0, join_style="mitre")
    if shape.area > 500.0 and not court.is_empty and court.geom_type == "Polygon" and rng.random() < 0.5:
        plan.file.multipolygon(ring_m, np.asarray(court.exterior.coords), tags)
    else:
        plan.file.way(ring_m, tags)


def _garden(plan: _Plan, pose: SE2, front_m: float, depth_m: float, setback_m: float) -> None:
    """Sheds and garages behind or beside, and the borders that somebody mapped."""
    rng = plan.rng
    if rng.random() < 0.3:
        width, length = rng.uniform(2.8, 3.6), rng.uniform(4.0, 7.0)
        corner = np.array([0.5 * front_m + rng.uniform(0.3, 2.0), rng.uniform(0.0, depth_m + 8.0)])
        box = np.array([[0.0, 0.0], [width, 0.0], [width, length], [0.0, length], [0.0, 0.0]])
        ring = pose.apply(corner + box)
        if plan.place(shapely.Polygon(ring), 0.2):
            plan.file.way(ring, {"building": "garage" if corner[1] < depth_m else "shed"})
    if setback_m > 2.0 and rng.random() < 0.2:
        x, y = 0.5 * front_m + 2.0, -setback_m + 0.4
        line = pose.apply(np.array([[-x, y + 6.0], [-x, y], [x - 3.0, y]]))
        shape = shapely.LineString(line)
        if plan.inside(line) and not len(plan.carriageways.query(shape, predicate="intersects")):
            plan.file.way(line, {"barrier": str(rng.choice(["hedge", "fence", "wall"]))})


def _furniture(plan: _Plan, street: Street, side: float) -> None:
    """Mapped trees, lamps, signals and signs along one side; most streets have only some of them mapped."""
    rng, length_m = plan.rng, street.line.length
    rows = []
    if rng.random() < 0.2:
        rows.append((rng.uniform(8.0, 12.0), 0.5 * street.width_m + 0.9, {"natural": "tree"}))
    if side > 0 and rng.random() < 0.35:
        rows.append((rng.uniform(25.0, 40.0), 0.5 * street.width_m + 0.5, {"highway": "street_lamp"}))
    for spacing, away, tags in rows:
        for at in np.arange(rng.uniform(5.0, spacing), length_m - 5.0, spacing):
            place, _ = _course(street, side, float(at), away)
            blocked = len(plan.carriageways.query(shapely.Point(place), predicate="dwithin", distance=0.0)) > 1
            if plan.inside(place[None]) and not blocked:
                plan.file.node(place, tags)
    if side > 0 and street.tags["highway"] == "secondary" and rng.random() < 0.3 and plan.inside(street.xy_m[:1]):
        plan.file.node(street.xy_m[0], {"highway": "traffic_signals"})

"""The land as it lies after roads were built: level platforms, camber, banks, ditches, terraces, retaining walls.

Roads are as high as `road_profiles.py` says. Across, a carriageway falls by 1.5 to 4 % to its edges, or as a whole to
one side (roll of the eight KITTI drives that `relief.py` names, on straight roads: 2.2 % towards the right kerb on the
mean, 2.4 % about that); pavements rise by 2 %. Beyond, piece by piece, a ditch, a bank, a retaining wall or a gentle
slope leads to the height of the gardens, which blends into the untouched land within 36 m.

Heights are kept on a square metre's net, computed tile by tile where they are asked for: `height_m` is exactly the
surface that rays meet (but for the kerb, which `ground.py` adds).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
import shapely
from jaxtyping import Bool, Float, Float32, Int

from bevfusion.maps.features import Road
from bevfusion.simulate.relief import Relief, RoadPoints, road_profiles, sidewalk_m

_TILE = 192  # cells of a metre a side
_BLEND_M = 36.0
_MARGIN = 76  # blending, and what beside roads reaches into a tile
_REACH_M = 40.0  # of what is built beside a road, from its centre line
_SPREADS_M = (1.5, 4.0, 12.0)
_PAVEMENT_SLOPE = 0.02
_LANE_WEIGHT, _PAVEMENT_WEIGHT = 1e4, 1e2  # beside that of banks, 1
_WALL_RUN_M = 0.3
_WALL_SETBACK_M = 0.9  # the land steps behind its wall, as a net of a metre cannot step within it
_LEAST_WALL_M = 0.3
_MEET_M = 14.0  # from so far a road leans towards one that it meets


@dataclass(frozen=True, slots=True)
class Sides:
    """What lies beyond the pavement at every point of the roads, left and right; lengths in metres."""

    rise_m: Float[np.ndarray, "n 2"]  # of the gardens above the pavement's edge
    run_m: Float[np.ndarray, "n 2"]  # over which it rises or falls
    ditch_m: Float[np.ndarray, "n 2"]  # depth
    width_m: Float[np.ndarray, "n 2"]  # of the ditch, or of the strip before a wall's slope
    shelf_m: Float[np.ndarray, "n 2"]  # breadth of the gardens at that height; 0 where the land simply goes on
    wall: Bool[np.ndarray, "n 2"]

    def select(self, rows: Int[np.ndarray, " m"]) -> "Sides":
        """Those at the indices."""
        return Sides(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Terrain:
    """The land, roads included.

    Build it by `Terrain.shape`; `Terrain.flat` is level without any road.
    """

    relief: Relief
    points: RoadPoints
    half_m: Float[np.ndarray, " n"]  # of the carriageway, a point
    pavement_m: Float[np.ndarray, " n"]
    fall: Float[np.ndarray, "n 2"]  # of the carriageway per metre towards its left and right edge
    tilt: Float[np.ndarray, " n"]  # rise per metre to the left, where another road comes in on a slope
    sides: Sides
    _tiles: dict[tuple[int, int], Float32[np.ndarray, "t t"]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def flat(cls) -> "Terrain":
        """Land without roads and slopes, at height zero everywhere."""
        return cls.shape((), Relief.flat(), np.random.default_rng(0))

    @classmethod
    def shape(cls, roads: Sequence[Road], relief: Relief, rng: np.random.Generator) -> "Terrain":
        """Cut roads into the land.

        Args:
            roads: all; those that are driven on shape the land.
            relief: the land as it was.
            rng: chooses crossfalls, banks, walls, ditches and ramps.
        """
        driven = [
            road for road in roads if road.drivable and len(road.xy_m) > 1 and np.ptp(road.xy_m, axis=0).max() > 0
        ]
        points = road_profiles(driven, relief, rng)
        half = np.array([0.5 * road.width_m for road in driven])[points.road]
        pavement = np.array([sidewalk_m(road) for road in driven])[points.road]
        crown = rng.uniform(0.015, 0.04, len(driven))
        lean = np.where(rng.random(len(driven)) < 0.3, rng.choice([-1.0, 1.0], len(driven)), 0.0)
        fall = crown[:, None] * np.where(lean[:, None] == 0.0, 1.0, lean[:, None] * np.array([1.0, -1.0]))
        fall = fall[points.road] * np.clip(points.to_end_m / 10.0, 0.0, 1.0)[:, None]
        tilt = _tilts(points)
        sides = _sides(driven, points, half, pavement, fall, relief, rng)
        return cls(relief, points, half, pavement, fall, tilt, sides)

    def height_m(self, xy_m: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
        """Height of the land at points of the map frame; beside carriageways without the height of the kerb."""
        if len(self.points.z_m) == 0 and self.relief.hills == 0.0:
            return np.zeros(xy_m.shape[:-1])
        flat = xy_m.reshape(-1, 2).astype(float)
        cell = np.floor(flat).astype(np.int64)
        tile = cell // _TILE
        heights = np.empty(len(flat))
        keys, owner = np.unique(tile, axis=0, return_inverse=True)
        for number, (column, row) in enumerate(keys):
            mine = np.flatnonzero(owner.ravel() == number)
            net = self._tile(int(column), int(row))
            at = cell[mine] - (column * _TILE, row * _TILE)
            u, v = (flat[mine] - cell[mine]).T
            low, high = net[at[:, 1], at[:, 0]], net[at[:, 1] + 1, at[:, 0] + 1]
            # the two triangles of a quad, as `mesh` hands it out
            beside = np.where(u >= v, net[at[:, 1], at[:, 0] + 1], net[at[:, 1] + 1, at[:, 0]])
            more, less = np.maximum(u, v), np.minimum(u, v)
            heights[mine] = low + more * (beside - low) + less * (high - beside)
        return heights.reshape(xy_m.shape[:-1])

    def gradient(self, xy_m: Float[np.ndarray, "*batch 2"], base_m: float = 1.0) -> Float[np.ndarray, "*batch 2"]:
        """(dz/dx, dz/dy) at points of the map frame, over so many metres each way."""
        slopes = [self.height_m(xy_m + base_m * axis) - self.height_m(xy_m - base_m * axis) for axis in np.eye(2)]
        return np.stack(slopes, axis=-1) / (2.0 * base_m)

    def mesh(
        self, centre_m: Float[np.ndarray, " 2"], half_m: float, fine_m: float = 70.0
    ) -> Float[np.ndarray, "n 4 3"]:
        """The land around a place as upward quads: of a metre within `fine_m`, of three beyond."""
        inner = np.arange(-round(min(fine_m, half_m)), round(min(fine_m, half_m)) + 1.0)
        outer = np.arange(inner[-1] + 3.0, half_m + 3.0, 3.0)
        ticks = np.concatenate([-outer[::-1], inner, outer])
        x, y = np.meshgrid(*(np.round(centre_m)[:, None] + ticks), indexing="ij")
        xyz = np.stack([x, y, self.height_m(np.stack([x, y], axis=2))], axis=2)
        return np.stack([xyz[:-1, :-1], xyz[1:, :-1], xyz[1:, 1:], xyz[:-1, 1:]], axis=2).reshape(-1, 4, 3)

    def _tile(self, column: int, row: int) -> Float32[np.ndarray, "t t"]:
        """Heights at the corners of a tile's cells; row 0 is the lowest y."""
        if (column, row) not in self._tiles:
            self._tiles[(column, row)] = self._computed(np.array([column, row]) * _TILE)
        return self._tiles[(column, row)]

    def _computed(self, corner_m: Int[np.ndarray, " 2"]) -> Float32[np.ndarray, "t t"]:
        first = corner_m - _MARGIN
        size = _TILE + 2 * _MARGIN + 1
        ticks = np.arange(size)
        x, y = np.meshgrid(first[0] + ticks, first[1] + ticks)
        land = self.relief.height_m(np.stack([x, y], axis=2).astype(float))
        inner = slice(_MARGIN, _MARGIN + _TILE + 1)
        xy, values = self._samples(first, size)
        if len(xy):
            total, sums, lean = _splat(xy - first, values, size)
            built = total > 1e-3
            change = np.where(built, sums / np.maximum(total, 1e-9) - land, 0.0).astype(np.float32)
            change = _eased(change, built, np.where(built, lean / np.maximum(total, 1e-9), 0.0).astype(np.float32))
            land = land + _blended(change, built)
        return land[inner, inner].astype(np.float32)

    def _samples(
        self, first_m: Int[np.ndarray, " 2"], size: int
    ) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, "m 3"]]:
        """(places, columns: weight, weighted height, weighted tilt) of what was built in a square."""
        points = self.points
        inside = (points.xy_m > first_m - _REACH_M) & (points.xy_m < first_m + size + _REACH_M)
        rows = np.flatnonzero(inside.all(axis=1))
        if len(rows) == 0:
            return np.zeros((0, 2)), np.zeros((0, 3))
        parts = []
        sides = self.sides.select(rows)
        half, pavement, z, tilt = self.half_m[rows], self.pavement_m[rows], points.z_m[rows], self.tilt[rows]
        left = np.stack([-points.along[rows, 1], points.along[rows, 0]], axis=1)
        edge_m = half + pavement
        end_m = edge_m + sides.shelf_m.max(axis=1) + (sides.width_m + sides.run_m).max(axis=1)
        steps = np.arange(0.0, float(end_m.max()) + 0.5, 0.5)
        for side, sign in enumerate((1.0, -1.0)):
            reach = edge_m + np.where(
                sides.shelf_m[:, side] > 0, sides.width_m[:, side] + sides.run_m[:, side] + sides.shelf_m[:, side], 0.0
            )
            which, step = np.nonzero(steps[None] <= reach[:, None] + 0.25)
            away = steps[step]
            height = z[which] + _across(away, half[which], pavement[which], self.fall[rows, side][which])
            height += sign * tilt[which] * away + _beyond(away - edge_m[which], sides, which, side)
            weight = np.where(
                away <= half[which],
                _LANE_WEIGHT * (1.0 - 0.7 * (away / half[which]) ** 2),
                np.where(away <= edge_m[which] + 0.01, _PAVEMENT_WEIGHT, 1.0 - 0.9 * away / (reach[which] + 0.5)),
            )
            values = weight[:, None] * np.stack([np.ones(len(away)), height, np.abs(tilt[which])], axis=1)
            parts.append((points.xy_m[rows][which] + sign * away[:, None] * left[which], values))
        xy, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        return xy, values

    def retaining_walls(self) -> tuple[Float[np.ndarray, "n 2 2"], Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
        """(ends, foot, top) of upright pieces that hold the land where it steps; heights at both ends.

        A wall stands at the outer edge of the pavement, as high as the upper ground.
        """
        points, found = self.points, []
        rows = np.flatnonzero((points.road[:-1] == points.road[1:]) & (np.arange(len(points.road) - 1) % 4 == 0))
        ahead = np.minimum(rows + 4, len(points.road) - 1)
        same = points.road[rows] == points.road[ahead]
        rows, ahead = rows[same], ahead[same]
        for side, sign in enumerate((1.0, -1.0)):
            holds = self.sides.wall[:, side] & (np.abs(self.sides.rise_m[:, side]) > _LEAST_WALL_M)
            chosen = holds[rows] & holds[ahead]
            ends = np.stack([rows[chosen], ahead[chosen]], axis=1)
            left = np.stack([-points.along[ends][..., 1], points.along[ends][..., 0]], axis=2)
            edge = self.half_m[ends] + self.pavement_m[ends]
            z = points.z_m[ends] + _across(edge, self.half_m[ends], self.pavement_m[ends], self.fall[ends, side])
            z = z + sign * self.tilt[ends] * edge
            rise = self.sides.rise_m[ends, side]
            xy = points.xy_m[ends] + sign * (edge + 0.1)[..., None] * left
            found.append((xy, z + np.minimum(rise, 0.0), z + np.maximum(rise, 0.0)))
        xy, foot, top = (np.concatenate(column) for column in zip(*found, strict=True))
        return xy, foot, top


def _across(
    away_m: Float[np.ndarray, "*n"],
    half_m: Float[np.ndarray, "*n"],
    pavement_m: Float[np.ndarray, "*n"],
    fall: Float[np.ndarray, "*n"],
) -> Float[np.ndarray, "*n"]:
    """Height above the centre line, on carriageway and pavement; beyond, that of the pavement's outer edge."""
    lane = np.minimum(away_m, half_m)
    beyond = np.clip(away_m - half_m, 0.0, pavement_m)
    height: np.ndarray = -fall * lane + _PAVEMENT_SLOPE * beyond
    return height


def _beyond(
    over_m: Float[np.ndarray, " m"], sides: Sides, rows: Int[np.ndarray, " m"], side: int
) -> Float[np.ndarray, " m"]:
    """Height above the pavement's outer edge, so far beyond it."""
    width, run = sides.width_m[rows, side], sides.run_m[rows, side]
    ditch = sides.ditch_m[rows, side] * np.clip(1.0 - np.abs(2.0 * over_m / np.maximum(width, 0.1) - 1.0), 0.0, 1.0)
    risen = np.clip((over_m - width) / np.maximum(run, 0.1), 0.0, 1.0)
    height: np.ndarray = sides.rise_m[rows, side] * risen - ditch
    return height


def _sides(
    roads: Sequence[Road],
    points: RoadPoints,
    half_m: Float[np.ndarray, " n"],
    pavement_m: Float[np.ndarray, " n"],
    fall: Float[np.ndarray, "n 2"],
    relief: Relief,
    rng: np.random.Generator,
) -> Sides:
    """Choose what lies beside the roads, in pieces of 15 to 60 m."""
    count = len(points.z_m)
    rise, run, ditch, width, shelf = (np.zeros((count, 2)) for _ in range(5))
    wall = np.zeros((count, 2), bool)
    edge = half_m + pavement_m
    left = np.stack([-points.along[:, 1], points.along[:, 0]], axis=1)
    hilly = min(1.0, relief.hills / 0.01)
    rural = np.array([sidewalk_m(road) == 0.0 and road.kind != "service" for road in roads], bool)
    built = np.array([bool(road.earthwork) for road in roads], bool)
    bounds = np.flatnonzero(np.diff(points.road, prepend=-1, append=-1))
    clear = np.stack([_clearance(points, half_m, edge, sign * left) for sign in (1.0, -1.0)], axis=1)
    for start, stop in pairwise(bounds):
        road = int(points.road[start])
        for side, sign in enumerate((1.0, -1.0)):
            at = start
            while at < stop:
                until = min(stop, at + int(rng.uniform(30, 120)))
                piece = slice(at, until)
                at = until
                steepness, kind, terrace, kept = (
                    rng.uniform(1.2, 3.0),
                    rng.random(),
                    rng.normal(),
                    rng.uniform(5.0, 12.0),
                )
                outer = points.xy_m[piece] + sign * (edge[piece] + 6.0)[:, None] * left[piece]
                level = points.z_m[piece] + _across(edge[piece], half_m[piece], pavement_m[piece], fall[piece, side])
                natural = relief.height_m(outer) - level
                wish = float(natural.mean()) + hilly * (0.2 + 4.0 * relief.hills) * terrace
                height = natural if built[road] else np.full(until - piece.start, np.clip(wish, -3.5, 3.5))
                ditched = rural[road] and kind < 0.4
                if ditched:
                    ditch[piece, side], width[piece, side] = hilly * rng.uniform(0.3, 0.9), rng.uniform(1.2, 2.5)
                elif np.abs(height).max() < 0.25 or kind > 0.8:
                    continue  # the land goes on as it likes
                held = not ditched and kind < 0.45
                ramp = np.clip(
                    np.minimum(np.arange(until - piece.start), np.arange(until - piece.start)[::-1]) / 8, 0, 1
                )
                taper = ramp * np.clip(clear[piece, side] / 6.0, 0.0, 1.0)
                rise[piece, side] = height * taper
                ditch[piece, side] *= taper
                wall[piece, side] = held
                run[piece, side] = _WALL_RUN_M if held else np.maximum(np.abs(rise[piece, side]) * steepness, 0.3)
                width[piece, side] = _WALL_SETBACK_M if held else width[piece, side]
                shelf[piece, side] = kept
    return Sides(rise, run, ditch, width, shelf, wall)


def _clearance(
    points: RoadPoints,
    half_m: Float[np.ndarray, " n"],
    edge_m: Float[np.ndarray, " n"],
    outwards: Float[np.ndarray, "n 2"],
) -> Float[np.ndarray, " n"]:
    """How far the ground 3 m beyond the pavement is from other carriageways, in metres; 12 at most."""
    places_m = points.xy_m + (edge_m + 3.0)[:, None] * outwards
    every = np.arange(0, len(places_m), 2)  # a point a metre is enough of the others
    tree = shapely.STRtree(shapely.points(points.xy_m[every]))
    reach_m = 12.0 + half_m.max(initial=0.0)
    here, there = tree.query(shapely.points(places_m), predicate="dwithin", distance=reach_m)
    there = every[there]
    other = points.road[here] != points.road[there]
    here, there = here[other], there[other]
    clear = np.full(len(places_m), 12.0)
    np.minimum.at(clear, here, np.hypot(*(places_m[here] - points.xy_m[there]).T) - half_m[there])
    return np.asarray(np.maximum(clear, 0.0))


def _tilts(points: RoadPoints) -> Float[np.ndarray, " n"]:
    """How a carriageway leans across where others meet it: as these rise, lest a step remain at their edge.

    Least squares over the points of other roads within reach, of what rises beside the own course.
    """
    tilt = np.zeros(len(points.z_m))
    if len(tilt) == 0:
        return tilt
    places = shapely.points(points.xy_m)
    here, there = shapely.STRtree(places).query(places, predicate="dwithin", distance=_MEET_M)
    other = points.road[here] != points.road[there]
    here, there = here[other], there[other]
    away = points.xy_m[there] - points.xy_m[here]
    ahead = (away * points.along[here]).sum(axis=1)
    left = points.along[here, 0] * away[:, 1] - points.along[here, 1] * away[:, 0]
    grade = np.diff(points.z_m, append=points.z_m[-1:]) / np.maximum(
        np.hypot(*np.diff(points.xy_m, axis=0, append=points.xy_m[-1:]).T), 0.1
    )
    grade[np.flatnonzero(np.diff(points.road, append=-1))] = 0.0
    grade[1:] = np.where(grade[1:] == 0.0, grade[:-1], grade[1:])
    rise = points.z_m[there] - points.z_m[here] - grade[here] * ahead
    near = np.clip(1.0 - np.hypot(*away.T) / _MEET_M, 0.0, 1.0) ** 2
    across, along = (np.bincount(here, near * left * other_, len(tilt)) for other_ in (left, rise))
    # a road that lies beside, and rises alike, says little; the ridge also lets a tilt fade along the road
    return np.clip(along / (across + 6.0), -0.15, 0.15)


def _splat(cell_m: Float[np.ndarray, "m 2"], values: Float[np.ndarray, "m k"], size: int) -> Float[np.ndarray, "k s s"]:
    """Sums of values at the four net points about each place, by nearness."""
    base = np.floor(cell_m).astype(np.int64)
    share = cell_m - base
    sums = np.zeros((values.shape[1], size * size))
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = base[:, 0] + dx, base[:, 1] + dy
            near = np.abs(1 - dx - share[:, 0]) * np.abs(1 - dy - share[:, 1])
            ok = (x >= 0) & (y >= 0) & (x < size) & (y < size)
            index = (y * size + x)[ok]
            for own, column in zip(sums, values.T, strict=True):
                own += np.bincount(index, (near * column)[ok], size * size)
    squares: np.ndarray = sums.reshape(-1, size, size)
    return squares


def _eased(
    change_m: Float32[np.ndarray, "s s"], built: Bool[np.ndarray, "s s"], tilt: Float32[np.ndarray, "s s"]
) -> Float32[np.ndarray, "s s"]:
    """The change of height, smoothed where roads that meet lean: crossings on a slope have no edges."""
    known = built.astype(np.float32)
    size = (13, 13)
    mixed = cv2.GaussianBlur(change_m, size, 2.0) / np.maximum(cv2.GaussianBlur(known, size, 2.0), 1e-6)
    share = np.clip(20.0 * cv2.GaussianBlur(tilt, size, 2.0), 0.0, 1.0)
    return np.where(built, change_m + share * (mixed - change_m), 0.0).astype(np.float32)


def _blended(change_m: Float32[np.ndarray, "s s"], built: Bool[np.ndarray, "s s"]) -> Float32[np.ndarray, "s s"]:
    """The change of height, led on beyond where it is known, until it has faded."""
    known = built.astype(np.float32)
    sums, total = np.zeros_like(change_m), np.zeros_like(change_m)
    for number, spread_m in enumerate(_SPREADS_M):
        side = 2 * int(3.0 * spread_m) + 1
        scale = 1e-2**number
        for plane, into in ((change_m, sums), (known, total)):
            into += scale * cv2.GaussianBlur(plane, (side, side), spread_m, borderType=cv2.BORDER_CONSTANT)
    away = cv2.distanceTransform((~built).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    left = np.clip(1.0 - away / _BLEND_M, 0.0, 1.0)
    fade = left * left * (3.0 - 2.0 * left)
    led = np.where(total > 1e-12, sums / np.maximum(total, 1e-12), 0.0)
    return np.where(built, change_m, fade * led).astype(np.float32)

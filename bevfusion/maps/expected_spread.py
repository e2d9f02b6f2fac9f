"""How well a scan can be placed on a map, predicted from the map alone: along the street, across it, and in heading.

A scan that is taken at a place shows what lies around it and is not hidden. Laid over the map beside its place it fits
the worse, the more the map there differs from the map here:

    D(d) = sum_x v(x) sum_k w_k (f_k(x + d) - f_k(x))^2

with planes f_k of the map (what stands, carriageway, greenery, paths), blurred by as much as scans and maps are off; v
the share of rays from the place that pass a cell before a building stops them, which falls with range as the points of
a scan do; and d every shift of a search window. The belief exp(-D(d) / 2) over that window has the spread that is
predicted; that of the heading comes from turns about the place in the same way. This is the map's own
autocorrelation: a crossing is narrow both ways, a row of houses along a straight street is long, fences or trees that
repeat give it side lobes, and a map that shows nothing leaves the window itself, +-20 m and +-10 degrees: 11.7 m and
5.8 degrees.

Near d = 0, D is the quadratic form of the structure tensor (Foerstner and Guelch, 1987), the Fisher information of a
shift; taking the whole window counts what repeats, too.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, Int8

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import OsmMap
from bevfusion.maps.schema import layer_index
from bevfusion.maps.source import MapSource
from bevfusion.maps.tiles import TileStore

CELL_M = 0.5
RANGE_M = 40.0  # of the scans
WINDOW_M, WINDOW_DEG = 20.0, 10.0  # of the search, each way
_RAYS = 360
_NEAREST_M = 2.0
_BLUR_M = 0.8
_SEEN_THROUGH = 2  # cells of a building that are still seen: its outline, and the wall behind it
_TURNS_DEG = np.array([-10.0, -7.0, -5.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0])
_TURN_SHARES = np.convolve(np.diff(_TURNS_DEG), [0.5, 0.5])  # of the window that each stands for: the trapezoidal rule

_STANDING = ("building_outline", "wall", "fence", "hedge", "tree_row", "tree", "pole", "lamp", "sign", "signal")
# (layers of a plane, its weight): chosen, not fitted. What stands is seen best; a wall along the street leaves about a
# metre across it. They set the scale of all spreads, and hardly their order.
_PLANES: tuple[tuple[tuple[str, ...], float], ...] = (
    (_STANDING, 0.020),
    (("road", "parking"), 0.006),
    (("vegetation",), 0.002),
    (("path",), 0.002),
)


@dataclass(frozen=True, slots=True)
class ExpectedSpread:
    """Standard deviations that a scan in the window leaves."""

    along_m: float
    across_m: float
    heading_deg: float


@dataclass(frozen=True, slots=True)
class StreetPiece:
    """A stretch of a street."""

    name: str  # of the street; empty where the map has none
    kind: str  # value of OSM's highway tag
    xy_m: Float[np.ndarray, "n 2"]  # its course in the map frame
    middle: SE2  # its middle, and its direction there


class SpreadPredictor:
    """Predicts for one map."""

    def __init__(self, source: MapSource) -> None:
        """Nothing is drawn yet; places near each other share what is drawn.

        Raises:
            DataError: if the map was drawn to disk in cells of another size.
        """
        half = math.ceil((RANGE_M + WINDOW_M) / CELL_M)
        self._grid = Grid(2 * half, 2 * half, CELL_M)
        self._store = TileStore(source, self._grid)

    def at(self, place: SE2) -> ExpectedSpread:
        """For scans at a place of the map frame; its heading is the direction of the street."""
        layers = self._store.tile(place).layers
        planes = _planes(layers)
        seen = _seen(layers[layer_index("building")] > 0)
        misfit = _misfit_of_shifts(planes, seen)
        reach = len(misfit) // 2
        belief = np.exp(-0.5 * misfit)
        offset_m = np.arange(-reach, reach + 1) * CELL_M
        y_m, x_m = offset_m[:, None], offset_m[None, :]
        cos, sin = math.cos(place.yaw_rad), math.sin(place.yaw_rad)
        total = float(belief.sum())
        along_m2 = float((belief * (cos * x_m + sin * y_m) ** 2).sum()) / total
        across_m2 = float((belief * (cos * y_m - sin * x_m) ** 2).sum()) / total
        turned = np.exp(-0.5 * _misfit_of_turns(planes, seen))
        turn_deg2 = float((_TURN_SHARES * turned * _TURNS_DEG**2).sum() / (_TURN_SHARES * turned).sum())
        return ExpectedSpread(math.sqrt(along_m2), math.sqrt(across_m2), math.sqrt(turn_deg2))


def street_pieces(osm_map: OsmMap, length_m: float) -> Iterator[StreetPiece]:
    """The streets of a map that are driven on, cut into pieces of about that length; what lies off its box is left."""
    x0_m, y0_m, x1_m, y1_m = osm_map.bounds_m
    for road in osm_map.roads:
        if not road.drivable:
            continue
        for xy_m, middle in _cut(np.asarray(road.xy_m, dtype=float), length_m):
            if x0_m <= middle.x_m <= x1_m and y0_m <= middle.y_m <= y1_m:
                yield StreetPiece(road.name, road.kind, xy_m, middle)


def street_length_m(osm_map: OsmMap) -> float:
    """Of all streets that are driven on."""
    return math.fsum(float(np.hypot(*np.diff(road.xy_m, axis=0).T).sum()) for road in osm_map.roads if road.drivable)


def _cut(xy_m: Float[np.ndarray, "n 2"], length_m: float) -> Iterator[tuple[Float[np.ndarray, "m 2"], SE2]]:
    steps_m = np.hypot(*np.diff(xy_m, axis=0).T)
    xy_m = xy_m[np.concatenate([[True], steps_m > 0.0])]
    if len(xy_m) < 2:
        return
    way_m = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy_m, axis=0).T))])

    def at(distance_m: float) -> Float[np.ndarray, " 2"]:
        return np.array([np.interp(distance_m, way_m, xy_m[:, axis]) for axis in (0, 1)])

    borders_m = np.linspace(0.0, way_m[-1], max(1, round(float(way_m[-1]) / length_m)) + 1)
    for begin_m, end_m in itertools.pairwise(borders_m):
        middle_m = 0.5 * (begin_m + end_m)
        between = xy_m[(way_m > begin_m) & (way_m < end_m)]
        segment = min(int(np.searchsorted(way_m, middle_m, side="right")) - 1, len(xy_m) - 2)
        dx, dy = xy_m[segment + 1] - xy_m[segment]
        x_m, y_m = at(middle_m)
        yield np.vstack([at(begin_m), between, at(end_m)]), SE2(float(x_m), float(y_m), math.atan2(dy, dx))


def _planes(layers: Int8[np.ndarray, "l h w"]) -> list[Float32[np.ndarray, "h w"]]:
    """The planes f_k, each times the root of its weight."""
    sigma = _BLUR_M / CELL_M
    line_peak = 1.0 / (math.sqrt(2.0 * math.pi) * sigma)  # of a line of one cell, blurred
    planes = []
    for names, weight in _PLANES:
        drawn = (layers[[layer_index(name) for name in names]] > 0).any(axis=0)
        there = np.asarray(drawn, np.float32)
        blurred: np.ndarray = np.asarray(cv2.GaussianBlur(there, (0, 0), sigma))
        if names is _STANDING:
            blurred = np.asarray(np.minimum(blurred / line_peak, 1.0))
        planes.append(np.asarray(blurred * math.sqrt(weight), np.float32))
    return planes


@lru_cache(maxsize=2)
def _rays(side: int) -> Int[np.ndarray, "rays steps"]:
    """Flat indices of the cells along rays from the centre of a square of cells."""
    azimuth = np.arange(_RAYS) * (2.0 * math.pi / _RAYS)
    range_m = np.arange(_NEAREST_M, RANGE_M, CELL_M)
    column = np.floor(0.5 * side + np.outer(np.cos(azimuth), range_m) / CELL_M).astype(np.int64)
    row = np.floor(0.5 * side + np.outer(np.sin(azimuth), range_m) / CELL_M).astype(np.int64)
    return row * side + column


def _seen(building: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """How many rays from the centre pass each cell."""
    rays = _rays(len(building))
    behind = np.cumsum(building.ravel()[rays], axis=1) > _SEEN_THROUGH
    counted = np.bincount(rays[~behind], minlength=building.size)
    return np.asarray(counted.reshape(building.shape), np.float32)


def _misfit_of_shifts(
    planes: Sequence[Float32[np.ndarray, "h w"]], seen: Float32[np.ndarray, "h w"]
) -> Float[np.ndarray, "s s"]:
    """D of every shift of the window, row by row from its lowest y."""
    squares = np.sum([plane**2 for plane in planes], axis=0)
    # sum v f(x)^2 - 2 sum v f(x) f(x + d) + sum v f(x + d)^2; nothing wraps: what is seen ends a window from the border
    spectrum = np.conj(np.fft.rfft2(seen)) * np.fft.rfft2(squares)
    for plane in planes:
        spectrum = spectrum - 2.0 * np.conj(np.fft.rfft2(seen * plane)) * np.fft.rfft2(plane)
    misfit = np.fft.irfft2(spectrum, s=seen.shape) + float((seen * squares).sum(dtype=np.float64))
    reach = round(WINDOW_M / CELL_M)
    around: np.ndarray = np.roll(misfit, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    misfits: np.ndarray = np.maximum(around, 0.0)
    return misfits


def _misfit_of_turns(
    planes: Sequence[Float32[np.ndarray, "h w"]], seen: Float32[np.ndarray, "h w"]
) -> Float[np.ndarray, " t"]:
    """D of every turn about the place."""
    side = len(seen)
    cut = round(WINDOW_M / CELL_M)
    inner = slice(cut, side - cut)
    stacked = np.ascontiguousarray(np.stack([plane[inner, inner] for plane in planes], axis=2))
    size, weight = stacked.shape[0], seen[inner, inner, None]
    centre = 0.5 * size - 0.5
    misfit = []
    for turn_deg in _TURNS_DEG:
        matrix = cv2.getRotationMatrix2D((centre, centre), float(turn_deg), 1.0)
        turned = cv2.warpAffine(stacked, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        misfit.append(float((weight * (turned - stacked) ** 2).sum(dtype=np.float64)))
    return np.array(misfit)

"""Roads, pavements, kerbs and gardens around the vehicle, drawn into a raster that downward rays read."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from bevfusion.maps.features import Area, Road
from bevfusion.simulate.relief import sidewalk_m
from bevfusion.simulate.surfaces import MARKING, PARKING, ROAD, SIDEWALK, TERRAIN
from bevfusion.simulate.terrain import Terrain

KERB_M = 0.12  # everything but carriageways and car parks lies this much higher
_CELL_M = 0.2
_CORNER_M = 2.6  # radius of the kerb where streets meet
_SHIFT = 4  # fractional bits of the pixel coordinates given to OpenCV

# codes of the raster: label, mean reflectance, whether above the kerb
_GARDEN, _ROAD, _SIDEWALK, _PARKING, _MARKING, _YARD, _OUTSIDE = range(7)
_LABEL = np.array([TERRAIN, ROAD, SIDEWALK, PARKING, MARKING, SIDEWALK, TERRAIN])
_REFLECTANCE = np.array([0.36, 0.265, 0.31, 0.31, 0.42, 0.33, 0.36], np.float32)
_SPREAD = np.array([0.03, 0.015, 0.015, 0.02, 0.08, 0.02, 0.03], np.float32)
_RAISED = np.array([True, False, True, False, False, True, True])
_LATTICE = np.random.default_rng(7).standard_normal((251, 251))
_TEXTURES = ((0.7, 0.16), (2.3, 0.16), (9.1, 0.13))  # widths in metres, and how strong they are
_ROUGH_M = np.array([0.025, 0.0, 0.004, 0.004, 0.0, 0.008, 0.025], np.float32)


@dataclass(frozen=True, slots=True)
class GroundPatch:
    """The ground's classes in a square about a place."""

    codes: UInt8[np.ndarray, "h w"]  # row 0 is the lowest y
    corner_m: Float[np.ndarray, " 2"]  # map position of the raster's lower left corner
    terrain: Terrain
    tone: float = 1.0  # of the asphalt here

    def codes_at(self, xy_m: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
        """Code of the ground at points of the map frame."""
        cells = np.floor((xy_m - self.corner_m) / _CELL_M).astype(int)
        height, width = self.codes.shape
        inside = (cells >= 0).all(axis=1) & (cells[:, 0] < width) & (cells[:, 1] < height)
        cells = np.where(inside[:, None], cells, 0)
        return np.where(inside, self.codes[cells[:, 1], cells[:, 0]], _OUTSIDE).astype(np.int64)

    def height_m(self, xy_m: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
        """True height of the ground under points of the map frame that lie in the square, kerbs included."""
        raised: np.ndarray = self.terrain.height_m(xy_m) + KERB_M * _RAISED[self.codes_at(xy_m)]
        return raised

    def resolve(
        self, rays: Float32[np.ndarray, "n 6"], range_m: Float32[np.ndarray, " n"], rng: np.random.Generator
    ) -> tuple[Float32[np.ndarray, " n"], Int[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """(range, class, reflectance) of rays that reach the height of the road at `range_m`.

        A ray first comes through the height of the kerb's top: if the ground is raised there it ends there; if the
        ground is raised only where the ray reaches the road's height, it ended in between, on the kerb's face.
        """
        origin, direction = rays[:, :2], rays[:, 3:5]
        slope = self.terrain.gradient(origin + range_m[:, None] * direction)
        drop = np.maximum((slope * direction).sum(axis=1) - rays[:, 5], 0.005).astype(np.float32)  # towards the land
        # a flatter ray than that has left the land that the slope here tells of
        before = np.maximum(range_m - np.minimum(KERB_M / drop, 5.0), 0.3 * range_m)
        at_top = self.codes_at(origin + before[:, None] * direction)
        at_base = self.codes_at(origin + range_m[:, None] * direction)
        raised = _RAISED[at_top]
        code = np.where(raised, at_top, at_base)
        result = np.where(raised, before, range_m)
        face = np.flatnonzero(~raised & _RAISED[at_base])
        low, high = before[face], range_m[face]
        for _ in range(6):  # bisection for the kerb's edge
            middle = 0.5 * (low + high)
            up = _RAISED[self.codes_at(origin[face] + middle[:, None] * direction[face])]
            low, high = np.where(up, low, middle), np.where(up, middle, high)
        result[face] = high
        bump = np.abs(rng.normal(0.0, 1.0, len(rays)).astype(np.float32)) * _ROUGH_M[code]
        result = np.maximum(result - bump / np.maximum(drop, 0.04), 0.5)
        shade = rng.normal(0.0, 1.0, len(rays)).astype(np.float32) * _SPREAD[code]
        patchy = 1.0 + _texture(origin + result[:, None] * direction)
        reflectance = _REFLECTANCE[code] * (np.float32(self.tone) * patchy).astype(np.float32) + shade
        return result.astype(np.float32), _LABEL[code], np.clip(reflectance, 0.02, 0.9)


def _texture(xy_m: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    """Relative brightness of the ground: wheel tracks, drains, patches and repairs, 0.7 to 9 m wide.

    Asphalt of real scans: means of half-metre cells differ by a fifth when the differences of lasers are taken out.
    """
    total = np.zeros(len(xy_m))
    for scale_m, size in _TEXTURES:
        place = xy_m / scale_m
        cell = np.floor(place).astype(np.int64)
        u, v = (place - cell).T
        x, y = cell.T % len(_LATTICE)
        x1, y1 = (x + 1) % len(_LATTICE), (y + 1) % len(_LATTICE)
        low = (1.0 - u) * _LATTICE[y, x] + u * _LATTICE[y, x1]
        high = (1.0 - u) * _LATTICE[y1, x] + u * _LATTICE[y1, x1]
        total += size * ((1.0 - v) * low + v * high)
    return np.clip(total, -0.6, 0.8)


def draw_ground(
    centre_m: Float[np.ndarray, " 2"],
    half_m: float,
    roads: Iterable[Road],
    areas: Iterable[Area],
    yards: Iterable[Float[np.ndarray, "_ 2"]],
    terrain: Terrain,
    tone: float = 1.0,
) -> GroundPatch:
    """Draw what lies near a place.

    Args:
        centre_m: middle of the square, map frame.
        half_m: half of its side.
        roads: all that may reach into it.
        areas: those of kind parking and water are used.
        yards: rings of paved ground around buildings.
        terrain: the land below.
        tone: brightness of asphalt and stone here, about 1.
    """
    cells = math.ceil(2.0 * half_m / _CELL_M)
    corner_m = np.asarray(centre_m, float) - 0.5 * cells * _CELL_M
    codes = np.zeros((cells, cells), np.uint8)

    def pixels(xy_m: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, "n 2"]:
        scaled = ((xy_m - corner_m) / _CELL_M - 0.5) * (1 << _SHIFT)
        return np.clip(np.round(scaled), -(2**24), 2**24).astype(np.int32)

    def stroke(xy_m: Float[np.ndarray, "n 2"], width_m: float, code: int) -> None:
        thickness = max(1, round(width_m / _CELL_M))
        cv2.polylines(codes, [pixels(xy_m)], False, code, thickness, cv2.LINE_8, _SHIFT)

    for i, ring in enumerate(yards):  # every third is for cars
        cv2.fillPoly(codes, [pixels(ring)], _YARD if i % 3 else _PARKING, cv2.LINE_8, _SHIFT)
    for area in areas:
        if area.kind == "parking":
            cv2.fillPoly(codes, [pixels(area.outer_m)], _PARKING, cv2.LINE_8, _SHIFT)
    near = list(roads)
    for road in near:
        if sidewalk_m(road) > 0:
            stroke(road.xy_m, road.width_m + 2.0 * sidewalk_m(road), _SIDEWALK)
        elif not road.drivable:
            stroke(road.xy_m, max(1.5, road.width_m), _SIDEWALK)
    for road in near:
        if road.drivable:
            stroke(road.xy_m, road.width_m, _ROAD)
    _round_corners(codes)
    for road in near:
        if road.kind in ("tertiary", "secondary", "primary") and road.oneway == 0:
            for dash in _dashes(road.xy_m):
                stroke(dash, 0.15, _MARKING)
    return GroundPatch(codes, corner_m, terrain, tone)


def _round_corners(codes: UInt8[np.ndarray, "h w"]) -> None:
    """Give the kerbs at crossings a radius, in place."""
    size = 2 * int(_CORNER_M / _CELL_M) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    closed = cv2.morphologyEx((codes == _ROAD).astype(np.uint8), cv2.MORPH_CLOSE, disc)
    codes[(closed > 0) & (codes != _PARKING)] = _ROAD


def _dashes(xy_m: Float[np.ndarray, "n 2"], dash_m: float = 3.0, gap_m: float = 6.0) -> list[np.ndarray]:
    """The painted pieces of a dashed line."""
    steps = np.hypot(*np.diff(xy_m, axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    starts = np.arange(gap_m, travelled[-1] - dash_m, dash_m + gap_m)
    ends = np.stack([starts, starts + dash_m], axis=1)
    x, y = (np.interp(ends, travelled, xy_m[:, axis]) for axis in (0, 1))
    return list(np.stack([x, y], axis=2))

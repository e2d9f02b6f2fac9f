"""Where on the whole map could this scan be? Tile by tile, every heading; the best places of all tiles are kept.

A volume sums to one over its own tile, so scores of two tiles differ by an unknown constant each. Tiles overlap, and at
the poses that two tiles share the network says about the same up to those constants. Their differences there, and that
tiles are much alike on average, put together by least squares over all tiles, give the constants.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.nn import functional as F

from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import DataError, Locator, Scan

DrawMap = Callable[[Grid, SE2], np.ndarray]
"""`MapSource.draw`."""

NEAR_M, NEAR_RAD = 5.0, math.radians(20.0)
"""Poses as close as this are one place."""

_ROAD_MARGIN_M = 4.0  # roads are drawn as wide as the map says, and stand a little off
_PEAKS_A_TILE = 8
EVENNESS = 3.0
"""Weight of "all tiles score alike on average" against one of each overlap. A network that attends to map and scan
together says of one pose what the rest of the tile makes it say: overlaps tell the constants, but no better than this
(with 0.03 the shipped weights placed one scan of seven 36th instead of first, in towns they had never seen)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that a scan may have been taken at."""

    pose: SE2  # map frame
    score: float  # log, comparable between candidates of one search


@dataclass(frozen=True, slots=True)
class _Tile:
    """What is kept of a volume."""

    column: int
    row: int
    level: float  # mean log-probability
    borders: dict[tuple[int, int], float]  # the same over the strip towards each neighbour (column step, row step)
    peaks: list[Candidate]


class GlobalSearch:
    """Looks for scans on all roads of a map."""

    def __init__(
        self,
        locator: Locator,
        draw: DrawMap,
        bounds_m: tuple[float, float, float, float],
        road_layer: int,
        offset_m: float = 40.0,
        overlap_m: float = 4.0,
        evenness: float = EVENNESS,
    ) -> None:
        """Find the tiles with roads.

        Args:
            locator: is asked about each tile at every heading.
            draw: draws layers of the map.
            bounds_m: x_min, y_min, x_max, y_max of what is searched, map frame.
            road_layer: index of the road plane in what `draw` returns.
            offset_m: half the side of a tile's window; larger ones are fewer, and take more memory.
            overlap_m: of neighbouring windows.
            evenness: as of `EVENNESS`; 0.01 suits a locator whose scores depend on the pose alone.

        Raises:
            ValueError: if tiles would not overlap, or would be nothing but overlap.
        """
        if not 0.0 < overlap_m < offset_m:
            raise ValueError(f"expected an overlap between 0 and {offset_m} m, got {overlap_m}")
        self._locator = locator
        self._draw = draw
        self._road_layer = road_layer
        self._offset_m = offset_m
        self._overlap_m = overlap_m
        self._evenness = evenness
        step_m = 2.0 * offset_m - overlap_m
        x_min, y_min, x_max, y_max = bounds_m
        columns, rows = (max(1, math.ceil((high - low) / step_m)) for low, high in ((x_min, x_max), (y_min, y_max)))
        x0_m, y0_m = math.floor(x_min) + 0.5 * step_m, math.floor(y_min) + 0.5 * step_m
        lattice = [(c, r, SE2(x0_m + c * step_m, y0_m + r * step_m)) for r in range(rows) for c in range(columns)]
        side = Grid.square(offset_m, 1.0)
        with_roads = [place for place in lattice if self._roads(side, place[2]).any()]
        self._any_place = not with_roads  # a map that shows no roads at all is searched everywhere
        self._places = with_roads or lattice

    def __len__(self) -> int:
        """Number of tiles that a search asks for."""
        return len(self._places)

    def candidates(self, scan: Scan, keep: int, on_tile: Callable[[int, int], None] | None = None) -> list[Candidate]:
        """The best places on roads for a scan, best first, no two of them near each other.

        Args:
            scan: what was seen.
            keep: at most so many.
            on_tile: called with (tiles done, tiles in all).

        Raises:
            ValueError: if the locator does not show its belief.
        """
        tiles = []
        for done, (column, row, centre) in enumerate(self._places, start=1):
            try:
                tiles.append(self._tile(scan, column, row, centre))
            except DataError:  # no point in range: the scan says nothing, here or elsewhere
                return []
            if on_tile is not None:
                on_tile(done, len(self._places))
        constants = _log_constants(tiles, self._evenness)
        found = [
            Candidate(peak.pose, peak.score + constant)
            for tile, constant in zip(tiles, constants, strict=True)
            for peak in tile.peaks
        ]
        return distinct(sorted(found, key=lambda peak: -peak.score))[:keep]

    def _tile(self, scan: Scan, column: int, row: int, centre: SE2) -> _Tile:
        answer = self._locator.locate(scan, centre, self._offset_m, math.pi)
        if answer.belief is None:
            raise ValueError("a search needs a locator whose estimates carry the whole belief, this one has none")
        window = answer.belief.window
        volume = answer.belief.log_prob[0].float().numpy()
        side = window.shape[2]
        on_road = (
            self._roads(Grid(side, side, window.cell_m), SE2(answer.prior.x_m, answer.prior.y_m)) | self._any_place
        )
        beyond_m = 2.0 * (window.reach * window.cell_m - self._offset_m)  # windows may reach farther than asked for
        width = max(1, round((self._overlap_m + beyond_m) / window.cell_m))
        strips = {(1, 0): volume[:, :, -width:], (-1, 0): volume[:, :, :width]}
        strips |= {(0, 1): volume[:, -width:], (0, -1): volume[:, :width]}
        return _Tile(
            column,
            row,
            float(volume.mean()),
            {step: float(strip.mean()) for step, strip in strips.items()},
            _peaks(volume, window, answer.prior, on_road | self._any_place),
        )

    def _roads(self, grid: Grid, centre: SE2) -> Bool[np.ndarray, "h w"]:
        """Cells on a road or beside it."""
        road = torch.from_numpy(self._draw(grid, centre)[self._road_layer] > 0).float()
        reach = max(1, round(_ROAD_MARGIN_M / grid.cell_m))
        near: np.ndarray = F.max_pool2d(road[None, None], 2 * reach + 1, 1, reach)[0, 0].numpy() > 0
        return near


def is_near(a: SE2, b: SE2) -> bool:
    """Whether two poses are one place."""
    close = math.hypot(a.x_m - b.x_m, a.y_m - b.y_m) < NEAR_M
    return close and abs(wrap_angle(a.yaw_rad - b.yaw_rad)) < NEAR_RAD


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without those that are near an earlier one."""
    kept: list[Candidate] = []
    for candidate in candidates:
        if not any(is_near(candidate.pose, other.pose) for other in kept):
            kept.append(candidate)
    return kept


def _peaks(
    volume: Float[np.ndarray, "r y x"], window: PoseWindow, prior: SE2, on_road: Bool[np.ndarray, "y x"]
) -> list[Candidate]:
    """The highest places of a volume on roads, by taking the best and what is near it away, again and again."""
    left = np.where(on_road, volume, -np.inf)
    shifts_m = window.shifts_m()
    peaks: list[Candidate] = []
    while len(peaks) < _PEAKS_A_TILE:
        r, y, x = (int(i) for i in np.unravel_index(int(np.argmax(left)), left.shape))
        if not math.isfinite(left[r, y, x]):
            break
        offset = window.offset_from_bins(float(r), float(y), float(x))
        yaw_rad = wrap_angle(prior.yaw_rad + offset.yaw_rad)
        pose = SE2(prior.x_m + offset.x_m, prior.y_m + offset.y_m, yaw_rad)
        peaks.append(Candidate(pose, float(left[r, y, x])))
        turn_rad = (window.yaw_offsets_rad() - offset.yaw_rad + math.pi) % (2.0 * math.pi) - math.pi
        far = np.hypot(shifts_m[None, :] - offset.x_m, shifts_m[:, None] - offset.y_m) >= NEAR_M
        headings = np.abs(turn_rad) < NEAR_RAD
        left[headings] = np.where(far, left[headings], -np.inf)
    return peaks


def _log_constants(tiles: Sequence[_Tile], evenness: float) -> Float[np.ndarray, " n"]:
    """What to add to the log-probabilities of each tile so that they compare.

    Least squares on z_a - z_b = border_b - border_a for neighbours, and on z_a = -level_a with the weight `evenness`.
    """
    places = {(tile.column, tile.row): i for i, tile in enumerate(tiles)}
    normal = evenness * np.eye(len(tiles))
    right = -evenness * np.array([tile.level for tile in tiles], dtype=np.float64)
    for a, tile in enumerate(tiles):
        for step in ((1, 0), (0, 1)):
            b = places.get((tile.column + step[0], tile.row + step[1]))
            if b is None:
                continue
            difference = tiles[b].borders[-step[0], -step[1]] - tile.borders[step]
            normal[[a, b], [a, b]] += 1.0
            normal[[a, b], [b, a]] -= 1.0
            right[a] += difference
            right[b] -= difference
    constants: np.ndarray = np.linalg.solve(normal, right) if len(tiles) else right
    return constants

"""Where on the whole map could this scan be? On all roads, at every heading; places apart from each other are kept.

The locator says how: at once, where scan and map are matched by templates (`heads/city_search.py`), or window by window
(`WindowSearch`). Either way a score depends on scan, map and pose alone, so those of the whole map compare.
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
from bevfusion.structures import Candidate, DataError, Locator, OnStep, Scan, SearchArea

DrawMap = Callable[[Grid, SE2], np.ndarray]
"""`MapSource.draw`."""

NEAR_M, NEAR_RAD = 5.0, math.radians(20.0)
"""Poses as close as this are one place."""

_ROAD_MARGIN_M = 4.0  # roads are drawn as wide as the map says, and stand a little off
_LOOK = Grid(256, 256, 1.0)  # what is drawn at once to see whether there are roads
_WINDOW_M = 40.0  # half the side of a window: larger ones are fewer, and take more memory
_PEAKS_A_WINDOW = 8


class GlobalSearch:
    """Looks for scans on all roads of a map."""

    def __init__(
        self, locator: Locator, draw: DrawMap, bounds_m: tuple[float, float, float, float], road_layer: int
    ) -> None:
        """Nothing is worked out of the map yet but where it has roads.

        Args:
            locator: says how it searches.
            draw: draws layers of the map.
            bounds_m: x_min, y_min, x_max, y_max of what is searched, map frame.
            road_layer: index of the road plane in what `draw` returns.

        Raises:
            DataError: if the locator cannot search a map.
        """
        search = locator.map_search(RoadArea(draw, bounds_m, road_layer))
        if search is None:
            raise DataError("this locator cannot search a whole map: give a place to start from, or a checkpoint")
        self._search = search

    def candidates(self, scan: Scan, keep: int, on_step: OnStep | None = None) -> list[Candidate]:
        """The best places on roads for a scan, best first, no two of them near each other.

        Args:
            scan: what was seen; one without a point in range has no candidates.
            keep: at most so many.
            on_step: called with (steps done, steps in all).

        Raises:
            DataError: if the map is too large to be searched.
        """
        found = self._search.candidates(scan, on_step)
        return distinct(sorted(found, key=lambda candidate: -candidate.score))[:keep]


class RoadArea:
    """The roads of a part of a map (a `SearchArea`); all of it where it shows no road at all."""

    def __init__(self, draw: DrawMap, bounds_m: tuple[float, float, float, float], road_layer: int) -> None:
        """Look until there is a road; arguments as of `GlobalSearch`."""
        self.bounds_m = bounds_m
        self._draw, self._road_layer = draw, road_layer
        self._anywhere = not any(
            self._road(_LOOK, centre).any() for centre in lattice(bounds_m, _LOOK.half_extent_m[0])
        )

    def near_road(self, grid: Grid, centre: SE2) -> Bool[np.ndarray, "h w"]:
        """Which cells of a grid about a pose are searched: those on a road or beside it."""
        if self._anywhere:
            return np.ones((grid.height, grid.width), dtype=np.bool_)
        reach = max(1, round(_ROAD_MARGIN_M / grid.cell_m))
        wider = Grid(grid.height + 2 * reach, grid.width + 2 * reach, grid.cell_m)
        road = torch.from_numpy(self._road(wider, centre)).float()
        near: np.ndarray = F.max_pool2d(road[None], 2 * reach + 1, 1)[0].numpy() > 0
        return near

    def _road(self, grid: Grid, centre: SE2) -> Bool[np.ndarray, "h w"]:
        road: np.ndarray = self._draw(grid, centre)[self._road_layer] > 0
        return road


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """Log scores of every pose about a centre, on a scale that all windows of a map share."""

    centre: SE2
    window: PoseWindow
    scores: Float[np.ndarray, "r y x"]


ScoreWindow = Callable[[Scan, SE2, float], ScoredWindow]
"""Scores the poses within so many metres of a place, at any heading."""


class WindowSearch:
    """A search by a locator that asks for a window of the map each time (a `MapSearch`)."""

    def __init__(self, area: SearchArea, score: ScoreWindow) -> None:
        """Find the windows with roads.

        Args:
            area: what is searched.
            score: raises DataError where a scan says nothing.
        """
        self._area, self._score = area, score
        look = Grid.square(_WINDOW_M, 1.0)
        places = lattice(area.bounds_m, _WINDOW_M)
        self._places = [place for place in places if area.near_road(look, place).any()]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._places)

    def candidates(self, scan: Scan, on_step: OnStep | None = None) -> list[Candidate]:
        """The best places of every window, in no order."""
        found: list[Candidate] = []
        for done, place in enumerate(self._places, start=1):
            try:
                scored = self._score(scan, place, _WINDOW_M)
            except DataError:  # no point in range: the scan says nothing, here or elsewhere
                return []
            side = scored.window.shape[2]
            grid = Grid(side, side, scored.window.cell_m)
            found += _peaks(scored, self._area.near_road(grid, SE2(scored.centre.x_m, scored.centre.y_m)))
            if on_step is not None:
                on_step(done, len(self._places))
        return found


def lattice(bounds_m: tuple[float, float, float, float], half_m: float) -> list[SE2]:
    """Middles of squares of 2 `half_m` that cover a box, row by row."""
    x_min_m, y_min_m, x_max_m, y_max_m = bounds_m
    columns = max(1, math.ceil((x_max_m - x_min_m) / (2.0 * half_m)))
    rows = max(1, math.ceil((y_max_m - y_min_m) / (2.0 * half_m)))
    x0_m, y0_m = x_min_m + half_m, y_min_m + half_m
    return [SE2(x0_m + 2.0 * half_m * c, y0_m + 2.0 * half_m * r) for r in range(rows) for c in range(columns)]


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


def _peaks(scored: ScoredWindow, on_road: Bool[np.ndarray, "y x"]) -> list[Candidate]:
    """The highest places of a window on roads, by taking the best and what is near it away, again and again."""
    window, centre = scored.window, scored.centre
    left = np.where(on_road, scored.scores, -np.inf)
    shifts_m = window.shifts_m()
    peaks: list[Candidate] = []
    while len(peaks) < _PEAKS_A_WINDOW:
        r, y, x = (int(i) for i in np.unravel_index(int(np.argmax(left)), left.shape))
        if not math.isfinite(left[r, y, x]):
            break
        offset = window.offset_from_bins(float(r), float(y), float(x))
        yaw_rad = wrap_angle(centre.yaw_rad + offset.yaw_rad)
        pose = SE2(centre.x_m + offset.x_m, centre.y_m + offset.y_m, yaw_rad)
        peaks.append(Candidate(pose, float(left[r, y, x])))
        turn_rad = (window.yaw_offsets_rad() - offset.yaw_rad + math.pi) % (2.0 * math.pi) - math.pi
        far = np.hypot(shifts_m[None, :] - offset.x_m, shifts_m[:, None] - offset.y_m) >= NEAR_M
        headings = np.abs(turn_rad) < NEAR_RAD
        left[headings] = np.where(far, left[headings], -np.inf)
    return peaks

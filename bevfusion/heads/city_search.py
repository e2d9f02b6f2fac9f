"""One scan against a whole city: the best places anywhere on its roads, at any heading, without a tile or a prior.

The score of a pose depends on scan, map and pose alone (`PoseVolumeHead`), so poses all over a map compare, and what
the search needs of the map is worked out once: features of the cells about its roads, and spectra of the same in cells
twice as large, in blocks that overlap by a template (overlap-save).

A scan is then found in two steps:
1. coarse: templates of every third degree, in the larger cells, against all blocks by FFT. Kept are the places that
   score higher than the eight about them at any heading of a sector, and of all sectors the best;
2. exact: about each of these, every shift and heading that the coarse step did not tell apart, in the cells and steps
   of the matching itself.

Blocks are small: an FFT whose data stay in the processor's cache is several times as fast as a large one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor
from torch.nn import functional as F

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.heads.correlation import correlation, fast_length
from bevfusion.heads.matching import rotate_templates
from bevfusion.heads.road_contrast import GroundSums
from bevfusion.structures import Candidate, DataError, OnStep, Scan, SearchArea

FACTOR = 2
"""Cells of the matching along a side of a cell of the coarse step."""

COARSE_STEP_RAD = math.radians(3.0)
"""Between headings of the coarse step: at 48 m this moves a template by a coarse cell or so."""

KEPT = 128
"""Places that the exact step looks at: of 90 scans in five cities, none that came first then was behind the tenth."""

REACH = FACTOR + 1
"""Cells about a coarse place that the exact step tries: half a coarse cell, and one more that it may have outdone."""

_SECTOR = 3  # coarse headings of which one place keeps the best
_WINDOWS_AT_ONCE = 32  # of the exact step
_DRAWN_AT_ONCE = 512  # cells, along a side
MAX_CELLS = 100_000_000
"""Cells of a city: 10 x 10 km at 1 m, whose features take 1.6 GB."""


@dataclass(frozen=True, slots=True)
class ScanTemplate:
    """What is laid on the map of one scan."""

    cells: Float[Tensor, "c h w"]  # ego frame, as loud as the network trusts them, 0 where nothing was seen
    count: float  # cells that count
    log_scale: float  # a score is exp(log_scale) / count times the correlation
    ground: Float[Tensor, "3 h w"] | None = None  # its contrast, which the exact step adds; None: it does not count
    ground_weight: float = 0.0


@runtime_checkable  # the type checks of the tests ask for it
class TemplateMatcher(Protocol):
    """What a search needs of a network on a map: both sides of its matching, each on its own."""

    @property
    def template_grid(self) -> Grid:
        """Raster of the templates, of even sides; map features have its cells."""

    @property
    def headings(self) -> int:
        """So many equal steps round the circle are told apart."""

    def scan_template(self, scan: Scan) -> ScanTemplate:
        """What is laid on the map of a scan.

        Raises:
            DataError: if the scan has no point inside the range.
        """

    def map_features(self, row0: int, col0: int, height: int, width: int) -> Float[Tensor, "c h w"]:
        """What it is laid on: the cells from (row0, col0) on; cell k covers [k, k + 1) cells from the map's origin."""

    def map_road(self, row0: int, col0: int, height: int, width: int) -> Float[Tensor, "h w"]:
        """What its ground is laid on: the road (`RoadContrastHead.road_of`) of the same cells."""


class ScoredPose(NamedTuple):
    """A pose on the corners of the lattice."""

    row: int  # y is row * cell_m
    col: int  # x is col * cell_m
    yaw_rad: float
    score: float


class _Block(NamedTuple):
    """A part of the coarse map."""

    row: int  # of its first place, among the coarse places
    col: int
    spectrum: Tensor  # (C, N, N // 2 + 1)


class AllRound:
    """A template at every heading, from 0 on in equal steps: three quarters of them are turns by a right angle.

    Those are made when they are asked for: all of them would be a hundred megabytes, twice.
    """

    def __init__(self, template: Float[Tensor, "c h w"], headings: int, grid: Grid) -> None:
        """Turn it through a quarter of the circle, or all round where that does not divide."""
        self._quarter = headings if headings % 4 or grid.height != grid.width else headings // 4
        yaw_rad = (torch.arange(self._quarter) * (2.0 * math.pi / headings))[None]
        self._turned = rotate_templates(template[None], yaw_rad, grid)[0]

    def __getitem__(self, headings: Sequence[int]) -> Float[Tensor, "r c h w"]:
        """The template at some headings, by their numbers."""
        # counter-clockwise with y up is clockwise in memory order, see `matching.match`
        turns = (divmod(heading, self._quarter) for heading in headings)
        return torch.stack([self._turned[rest].rot90(-quarters, (-2, -1)) for quarters, rest in turns])


class CityIndex:
    """What is kept of a city, and the search for templates in it."""

    def __init__(self, matcher: TemplateMatcher, places: Bool[Tensor, "h w"], first: tuple[int, int]) -> None:
        """Nothing of the map is read yet: the first search does.

        Args:
            matcher: gives the features of the map.
            places: corners of the lattice that are searched; corner k lies at k cells.
            first: row and column of the first of them.
        """
        grid, headings = matcher.template_grid, matcher.headings
        self._matcher, self._grid, self._headings, self._first = matcher, grid, headings, first
        self._half = math.ceil(max(grid.height, grid.width) / 2 / FACTOR) * FACTOR  # of a square about the templates
        self._side = fast_length(8 * self._half // FACTOR)  # of a transform: that of four templates
        self._step = self._side - 2 * self._half // FACTOR + 1  # coarse places of a block, along a side
        self._margin = self._half + REACH + FACTOR  # cells about the places that are kept
        self._coarse = _coarse_places(places)
        self._searched = F.pad(places.to(torch.uint8), [REACH] * 4).bool()
        every = max(1, int(COARSE_STEP_RAD * headings / (2.0 * math.pi) + 1e-9))
        coarse = range(0, headings, every)
        self._sectors = [list(coarse[i : i + _SECTOR]) for i in range(0, len(coarse), _SECTOR)]
        turns = every * (_SECTOR // 2) + every // 2  # a sector reaches so far from its middle
        self._turns = range(-turns, turns + 1)  # about a coarse heading, of the exact step
        self._cells = places.shape[0] + 2 * self._margin, places.shape[1] + 2 * self._margin
        self._features: Float16[Tensor, "c h w"] | None = None
        self._road: Float16[Tensor, "1 h w"] | None = None
        self._unread = [
            (row, col)
            for row in range(0, self._coarse.shape[0], self._step)
            for col in range(0, self._coarse.shape[1], self._step)
            if bool(self._coarse[row : row + self._step, col : col + self._step].any())
        ]
        self._blocks: list[_Block] = []

    def __len__(self) -> int:
        """Number of steps of the next search: of the first one, with blocks that are read."""
        return len(self._unread) + len(self._sectors) + 1

    @property
    def nbytes(self) -> int:
        """Memory that the map takes, as far as it was read."""
        spectra = sum(block.spectrum.nbytes for block in self._blocks)
        return spectra + (0 if self._features is None else self._features.nbytes)

    @torch.inference_mode()
    def best(self, template: ScanTemplate, kept: int = KEPT, on_step: OnStep | None = None) -> list[ScoredPose]:
        """The best poses for a scan, best first: one about each place that the coarse step kept.

        Args:
            template: of the scan.
            kept: places that the coarse step keeps.
            on_step: called after each step.
        """
        steps, done = len(self), 0

        def step() -> None:
            nonlocal done
            done += 1
            if on_step is not None:
                on_step(done, steps)

        while self._unread:
            self._blocks.append(self._read(*self._unread[-1]))
            self._unread.pop()
            step()
        if not self._blocks:
            return []
        turned = AllRound(template.cells, self._headings, self._grid)
        peaks = []
        for sector in self._sectors:
            peaks.append(self._coarse_peaks(turned, sector, kept))
            step()
        score, heading, row, col = (torch.cat(part) for part in zip(*peaks, strict=True))
        first = score.topk(min(kept, len(score))).indices
        poses = self._exact(template, turned, heading[first], row[first], col[first])
        step()
        return sorted(poses, key=lambda pose: -pose.score)

    def _read(self, row: int, col: int) -> _Block:
        """A block of the coarse map; keeps its features on the way."""
        beyond, side = self._margin - self._half, self._side * FACTOR
        top, left = row * FACTOR, col * FACTOR  # the block's first corner, from the first of all
        place = self._first[0] + top - self._margin, self._first[1] + left - self._margin
        part = self._matcher.map_features(*place, side + 2 * beyond, side + 2 * beyond)
        road = self._matcher.map_road(*place, side + 2 * beyond, side + 2 * beyond)[None]
        if self._features is None or self._road is None:
            self._features = torch.zeros(len(part), *self._cells, dtype=torch.float16)
            self._road = torch.zeros(1, *self._cells, dtype=torch.float16)
        for whole, read in ((self._features, part), (self._road, road)):
            kept = whole[:, top : top + read.shape[1], left : left + read.shape[2]]
            kept.copy_(read[:, : kept.shape[1], : kept.shape[2]])
        inner = part[:, beyond : beyond + side, beyond : beyond + side].float()
        return _Block(row, col, torch.fft.rfft2(F.avg_pool2d(inner, FACTOR)))

    def _coarse_peaks(
        self, turned: AllRound, sector: list[int], kept: int
    ) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"]]:
        """Scores, headings, rows and columns of the coarse places that stand out at the headings of a sector."""
        size = (self._side, self._side)
        templates = FACTOR**2 * F.avg_pool2d(_in_square(turned[sector], self._half), FACTOR)
        spectra = torch.fft.rfft2(templates, s=size).conj_physical_()
        score = torch.full(self._coarse.shape, -math.inf)
        which = torch.zeros(self._coarse.shape, dtype=torch.int64)
        for block in self._blocks:
            product = spectra[:, 0] * block.spectrum[0]
            for channel in range(1, spectra.shape[1]):
                product.addcmul_(spectra[:, channel], block.spectrum[channel])
            rows, cols = (slice(start, start + self._step) for start in (block.row, block.col))
            height, width = score[rows, cols].shape
            highest = torch.fft.irfft2(product, s=size)[:, :height, :width].max(0)
            score[rows, cols], which[rows, cols] = highest.values, highest.indices
        score.masked_fill_(~self._coarse, -math.inf)
        peak = (score == F.max_pool2d(score[None], 3, 1, 1)[0]) & self._coarse
        row, col = peak.nonzero().unbind(1)
        first = score[row, col].topk(min(kept, len(row))).indices
        row, col = row[first], col[first]
        return score[row, col], torch.tensor(sector)[which[row, col]], row, col

    def _exact(
        self,
        template: ScanTemplate,
        turned: AllRound,
        heading: Int[Tensor, " n"],
        row: Int[Tensor, " n"],
        col: Int[Tensor, " n"],
    ) -> list[ScoredPose]:
        """The best pose about each coarse place."""
        scale = math.exp(template.log_scale) / template.count
        ground = None if template.ground is None else AllRound(template.ground, self._headings, self._grid)
        poses = []
        for coarse in sorted(set(heading.tolist())):
            near = [(coarse + turn) % self._headings for turn in self._turns]
            for some in (heading == coarse).nonzero()[:, 0].split(_WINDOWS_AT_ONCE):
                corners = [(int(row[i]) * FACTOR, int(col[i]) * FACTOR) for i in some]
                windows = torch.stack([self._window(self._features, *corner) for corner in corners])
                volumes = scale * correlation(turned[near][None], windows[None], 2 * REACH + 1)[0]
                if template.ground is not None and ground is not None:
                    roads = torch.stack([self._window(self._road, *corner) for corner in corners])
                    volumes += template.ground_weight * self._on_road(template.ground, ground[near], roads)
                for (top, left), volume in zip(corners, volumes, strict=True):
                    poses.append(self._best_of(volume, top, left, near))
        return poses

    def _on_road(
        self, upright: Float[Tensor, "3 h w"], ground: Float[Tensor, "r 3 h w"], roads: Float[Tensor, "k 1 hw ww"]
    ) -> Float[Tensor, "k r s s"]:
        """The likelihood of the ground's contrast at every pose of some windows."""

        def under(plane: int, road: Tensor) -> Float[Tensor, "k r s s"]:
            return correlation(ground[None, :, plane : plane + 1], road[None], 2 * REACH + 1)[0]

        sums = GroundSums(
            cells=upright[0].sum(),
            spreads=[plane.square().sum() for plane in upright[1:]],
            road=under(0, roads),
            road_squared=under(0, roads * roads),
            products=[under(plane, roads) for plane in range(1, ground.shape[1])],
        )
        return sums.log_likelihood(self._grid.cell_m)

    def _best_of(self, volume: Float[Tensor, "r s s"], top: int, left: int, near: list[int]) -> ScoredPose:
        """The best pose of a volume about a corner, among those that are searched."""
        side = 2 * REACH + 1
        searched = self._searched[top : top + side, left : left + side]
        scores = volume.masked_fill(~searched, -math.inf)
        r, y, x = (int(i) for i in torch.unravel_index(scores.argmax(), scores.shape))
        row, col = self._first[0] + top + y - REACH, self._first[1] + left + x - REACH
        return ScoredPose(row, col, near[r] * 2.0 * math.pi / self._headings, float(scores[r, y, x]))

    def _window(self, kept: Float16[Tensor, "c h w"] | None, top: int, left: int) -> Float[Tensor, "c s s"]:
        """The cells that a template touches about a corner, of what is kept of the map."""
        assert kept is not None, "a place was found in a block that was read"
        half_height, half_width = self._grid.height // 2 + REACH, self._grid.width // 2 + REACH
        row, col = top + self._margin, left + self._margin
        return kept[:, row - half_height : row + half_height, col - half_width : col + half_width].float()


class CitySearch:
    """Looks for scans on the roads of an area (a `MapSearch`)."""

    def __init__(self, matcher: TemplateMatcher, area: SearchArea) -> None:
        """Find the roads; the map is read by the first search.

        Raises:
            DataError: if the area is too large to be kept in memory.
        """
        self._matcher = matcher
        cell_m = matcher.template_grid.cell_m
        x_min, y_min, x_max, y_max = (edge_m / cell_m for edge_m in area.bounds_m)
        row0, col0 = math.floor(y_min), math.floor(x_min)
        height, width = math.ceil(y_max) - row0 + 1, math.ceil(x_max) - col0 + 1
        if height * width > MAX_CELLS:
            raise DataError(
                f"the map has {height} x {width} cells of {cell_m:g} m, and {MAX_CELLS:,} can be searched at once: cut "
                "out the part in which the vehicle may be"
            )
        self._index = CityIndex(matcher, _road_corners(area, (row0, col0), (height, width), cell_m), (row0, col0))

    @property
    def nbytes(self) -> int:
        """Memory that is kept of the map; nothing before the first search."""
        return self._index.nbytes

    def candidates(self, scan: Scan, on_step: OnStep | None = None) -> list[Candidate]:
        """The best place about each of those that stood out, best first."""
        try:
            template = self._matcher.scan_template(scan)
        except DataError:  # no point in range: the scan says nothing
            return []
        cell_m = self._matcher.template_grid.cell_m
        return [
            Candidate(SE2(pose.col * cell_m, pose.row * cell_m, wrap_angle(pose.yaw_rad)), pose.score)
            for pose in self._index.best(template, on_step=on_step)
        ]


def _in_square(templates: Float[Tensor, "r c h w"], half: int) -> Float[Tensor, "r c s s"]:
    """The templates in the middle of a square of `half` cells to each side."""
    height, width = (half - length // 2 for length in templates.shape[-2:])
    return F.pad(templates, [width, width, height, height])


def _coarse_places(places: Bool[Tensor, "h w"]) -> Bool[Tensor, "h2 w2"]:
    """Coarse corners that are, or lie beside, one that is searched: corner k of them is corner FACTOR k."""
    near = F.max_pool2d(places[None].float(), 2 * FACTOR - 1, 1, FACTOR - 1)[0]
    return near[::FACTOR, ::FACTOR] > 0


def _road_corners(
    area: SearchArea, first: tuple[int, int], shape: tuple[int, int], cell_m: float
) -> Bool[Tensor, "h w"]:
    """Which corners of the lattice are searched, from one on; drawn a part at a time."""
    places = torch.zeros(shape, dtype=torch.bool)
    for row in range(0, shape[0], _DRAWN_AT_ONCE):
        for col in range(0, shape[1], _DRAWN_AT_ONCE):
            part = places[row : row + _DRAWN_AT_ONCE, col : col + _DRAWN_AT_ONCE]
            height, width = part.shape
            # the middles of these cells are the corners of the lattice
            x_m = (first[1] + col + 0.5 * (width - 1)) * cell_m
            y_m = (first[0] + row + 0.5 * (height - 1)) * cell_m
            part.copy_(torch.from_numpy(area.near_road(Grid(height, width, cell_m), SE2(x_m, y_m))))
    return places

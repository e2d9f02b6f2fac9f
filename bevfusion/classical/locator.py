"""From a scan and a prior to a pose on the map, without anything learnt: what a network has to beat.

One volume at 0.5 m and 1 degree holds every pose of the window. The estimate is its best bin, refined below a cell by
`heads/read_out.py`; the covariance, the confidence and the spread of the heading are moments of the same volume.
"""

import math
from collections.abc import Sequence

import torch

from bevfusion.classical.evidence import gather_evidence
from bevfusion.classical.expectation import draw_expectation
from bevfusion.classical.score import MAP_ERROR_M, belief_of, log_likelihood
from bevfusion.filters.search import ScoredWindow, WindowSearch
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.read_out import read_out
from bevfusion.maps.source import MapSource
from bevfusion.structures import MapSearch, PoseBelief, PoseEstimate, Scan, SearchArea

RANGE_M = 40.0
CELL_M = 0.5
YAW_STEP_RAD = math.radians(1.0)


class ClassicalLocator:
    """The training-free matcher on one map (a `structures.Locator`).

    Args:
        source: the map; poses that come and go are in its frame.
    """

    def __init__(self, source: MapSource) -> None:
        self.source = source
        self.model = None  # there is no network to look into
        self.map_error_m = MAP_ERROR_M
        self._grid = Grid.square(RANGE_M, CELL_M)

    @torch.inference_mode()
    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        """The pose of a scan within +-offset_m (map axes) and +-offset_rad of a prior pose in the map frame.

        Where the map shows nothing, the belief is flat and the estimate is the prior.

        Raises:
            DataError: if the scan has no point inside the range.
            ValueError: if the window makes no sense.
        """
        window = PoseWindow(offset_m, offset_rad, CELL_M, YAW_STEP_RAD)
        belief, _ = self._belief(scan, prior, window)
        reading = read_out(belief.log_prob[0].numpy(), window)
        return PoseEstimate(
            map_from_ego=prior.moved_by(reading.offset),
            covariance=reading.covariance,
            heading_std_rad=reading.heading_std_rad,
            confidence=reading.confidence,
            prior=prior,
            belief=belief,
        )

    def prepare(self, places: Sequence[SE2], offset_m: float) -> None:
        """Nothing takes long here."""

    def map_search(self, area: SearchArea) -> MapSearch:
        """A search window by window: what is said of a pose depends on the map about it alone, so windows compare."""

        def score(scan: Scan, centre: SE2, offset_m: float) -> ScoredWindow:
            window = PoseWindow(offset_m, math.pi, CELL_M, YAW_STEP_RAD)
            belief, log_sum = self._belief(scan, centre, window)
            return ScoredWindow(centre, window, belief.log_prob[0].numpy() + log_sum)

        return WindowSearch(area, score)

    @torch.inference_mode()
    def _belief(self, scan: Scan, prior: SE2, window: PoseWindow) -> tuple[PoseBelief, float]:
        """The belief over a window, and the log of the sum of its likelihoods: what the belief was divided by."""
        wider = 2 * window.reach
        tile_grid = Grid(self._grid.height + wider, self._grid.width + wider, CELL_M)
        evidence = gather_evidence(scan, self._grid)
        expectation = draw_expectation(self.source, prior, tile_grid)
        scores = log_likelihood(evidence, expectation, prior.yaw_rad, self._grid, window)
        return PoseBelief(belief_of(scores, window)[None], window), float(scores.flatten().logsumexp(0))

"""Tiles put together to one map of scores."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from bevfusion.filters.search import EVENNESS, Candidate, GlobalSearch, distinct, is_near
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import DataError, Locator, PoseBelief, PoseEstimate, Scan
from tests.filters.vehicles import scan_at

BOUNDS_M = (-100.0, -100.0, 100.0, 100.0)


@dataclass
class Landscape(Locator):
    """A locator with fixed scores all over the map: hills of given heights on an even slope."""

    hills: dict[SE2, float]
    asked: list[SE2] = field(default_factory=list)
    slope: float = 0.03

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        self.asked.append(prior)
        window = PoseWindow(offset_m, offset_rad, 1.0, math.radians(10.0))
        x_m, y_m = window.shifts_m() + prior.x_m, window.shifts_m() + prior.y_m
        yaws_rad = window.yaw_offsets_rad() + prior.yaw_rad
        logits = np.zeros(window.shape) + self.slope * x_m[None, None, :]
        for pose, height in self.hills.items():
            turn = (yaws_rad - pose.yaw_rad + math.pi) % (2.0 * math.pi) - math.pi
            distance = (turn / 0.2)[:, None, None] ** 2 + (y_m - pose.y_m)[None, :, None] ** 2 / 4.0
            logits += height * np.exp(-0.5 * (distance + (x_m - pose.x_m)[None, None, :] ** 2 / 4.0))
        belief = PoseBelief(torch.from_numpy(logits).float().flatten().log_softmax(0).view(1, *window.shape), window)
        return PoseEstimate(prior, np.eye(3), 0.1, 0.5, prior, belief)


def everywhere(grid: Grid, pose: SE2) -> np.ndarray:
    return np.full((1, grid.height, grid.width), 127, dtype=np.int8)


def one_street(grid: Grid, pose: SE2) -> np.ndarray:
    """Along the x axis."""
    xy_m = pose.apply(grid.centres_m())
    return (127 * (np.abs(xy_m[..., 1]) < 3.0)).astype(np.int8)[None]


def nowhere(grid: Grid, pose: SE2) -> np.ndarray:
    return np.zeros((1, grid.height, grid.width), dtype=np.int8)


def test_scores_compare_across_tiles() -> None:
    # in a tile of its own, each hill would hold nearly all the mass: only together do heights tell
    south_west, north_east = SE2(-70.0, -60.0, math.radians(60.0)), SE2(55.0, 71.0, math.radians(-120.0))
    hills = {south_west: 12.0, north_east: 16.0, SE2(20.0, -75.0, math.radians(170.0)): 14.0}
    locator = Landscape(hills)
    found = GlobalSearch(locator, everywhere, BOUNDS_M, 0, evenness=0.03).candidates(scan_at(SE2()), 3)
    ordered = sorted(hills, key=lambda pose: -(hills[pose] + 0.03 * pose.x_m))
    assert [is_near(c.pose, pose) for c, pose in zip(found, ordered, strict=True)] == [True] * 3
    for candidate, pose in zip(found, ordered, strict=True):
        height = hills[pose] + 0.03 * pose.x_m - (hills[ordered[0]] + 0.03 * ordered[0].x_m)
        assert candidate.score - found[0].score == pytest.approx(height, abs=0.8)
        assert math.hypot(candidate.pose.x_m - pose.x_m, candidate.pose.y_m - pose.y_m) <= 1.0
        assert abs(wrap_angle(candidate.pose.yaw_rad - pose.yaw_rad)) <= math.radians(5.1)


def test_tiles_that_colour_their_scores_do_not_drag_each_other_along() -> None:
    class Coloured(Landscape):
        """What lies near the middle of a tile changes what is said at its borders, by a few nats."""

        def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
            estimate = super().locate(scan, prior, offset_m, offset_rad)
            assert estimate.belief is not None
            window = estimate.belief.window
            rng = np.random.default_rng(len(self.asked))
            tilt = rng.normal(0.0, 6.0, 2)[:, None] * window.shifts_m() / offset_m
            logits = estimate.belief.log_prob + torch.from_numpy(tilt[0][None, :] + tilt[1][:, None]).float()
            return replace(estimate, belief=PoseBelief(logits.flatten().log_softmax(0).view_as(logits), window))

    true, other = SE2(-150.0, 160.0, 0.3), SE2(170.0, -140.0, -2.0)
    bounds_m = (-300.0, -300.0, 300.0, 300.0)

    def first(evenness: float) -> SE2:
        locator = Coloured({true: 24.0, other: 16.0}, slope=0.0)
        search = GlobalSearch(locator, everywhere, bounds_m, 0, evenness=evenness)
        return search.candidates(scan_at(SE2()), 1)[0].pose

    assert is_near(first(EVENNESS), true)
    assert not is_near(first(0.03), true)


def test_only_roads_are_searched() -> None:
    beside, on = SE2(10.0, 40.0, 0.0), SE2(-50.0, 1.0, 0.0)
    locator = Landscape({beside: 20.0, on: 10.0, SE2(60.0, 15.0, 0.0): 20.0})
    search = GlobalSearch(locator, one_street, BOUNDS_M, 0)
    found = search.candidates(scan_at(SE2()), 5)
    assert is_near(found[0].pose, on)
    assert not any(is_near(candidate.pose, beside) for candidate in found)
    assert all(abs(candidate.pose.y_m) < 9.0 for candidate in found)
    assert len(locator.asked) == len(search) < len(GlobalSearch(locator, everywhere, BOUNDS_M, 0))


def test_a_map_without_roads_is_searched_all_over() -> None:
    locator = Landscape({SE2(-50.0, 70.0, 0.5): 15.0})
    found = GlobalSearch(locator, nowhere, BOUNDS_M, 0).candidates(scan_at(SE2()), 1)
    assert is_near(found[0].pose, SE2(-50.0, 70.0, 0.5))


def test_the_whole_extract_is_covered() -> None:
    corner = SE2(98.0, -98.0, 2.0)
    found = GlobalSearch(Landscape({corner: 15.0}), everywhere, BOUNDS_M, 0).candidates(scan_at(SE2()), 1)
    assert is_near(found[0].pose, corner)


def test_scans_without_points_have_no_candidates() -> None:
    class Blind(Landscape):
        def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
            raise DataError("none of the scan's points is near")

    assert GlobalSearch(Blind({}), everywhere, BOUNDS_M, 0).candidates(scan_at(SE2()), 3) == []


def test_candidates_near_a_better_one_are_dropped() -> None:
    best, near, turned = SE2(0.0, 0.0, 3.1), SE2(2.0, 1.0, -3.1), SE2(0.0, 0.0, 0.0)
    candidates = [Candidate(pose, -float(i)) for i, pose in enumerate((best, near, turned))]
    assert [candidate.pose for candidate in distinct(candidates)] == [best, turned]


def test_tiles_must_overlap() -> None:
    with pytest.raises(ValueError, match="expected an overlap"):
        GlobalSearch(Landscape({}), everywhere, BOUNDS_M, 0, offset_m=20.0, overlap_m=0.0)

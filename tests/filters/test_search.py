"""Where on a map: what roads allow, window by window, and all that a locator finds at once."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from jaxtyping import Bool

from bevfusion.filters.search import GlobalSearch, RoadArea, ScoredWindow, WindowSearch, distinct, is_near
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import Candidate, DataError, Locator, OnStep, PoseEstimate, Scan, SearchArea
from tests.filters.vehicles import scan_at

BOUNDS_M = (-100.0, -100.0, 100.0, 100.0)


@dataclass
class Landscape(Locator):
    """A locator with fixed scores all over the map: hills of given heights on an even slope."""

    hills: dict[SE2, float]
    asked: list[SE2] = field(default_factory=list)
    slope: float = 0.03

    def locate(self, *_: object, **__: object) -> PoseEstimate:
        raise NotImplementedError

    def map_search(self, area: SearchArea) -> WindowSearch:
        return WindowSearch(area, self.score)

    def score(self, scan: Scan, centre: SE2, offset_m: float) -> ScoredWindow:
        self.asked.append(centre)
        window = PoseWindow(offset_m, math.pi, 1.0, math.radians(10.0))
        x_m, y_m = window.shifts_m() + centre.x_m, window.shifts_m() + centre.y_m
        yaws_rad = window.yaw_offsets_rad() + centre.yaw_rad
        scores = np.zeros(window.shape) + self.slope * x_m[None, None, :]
        for pose, height in self.hills.items():
            turn = (yaws_rad - pose.yaw_rad + math.pi) % (2.0 * math.pi) - math.pi
            distance = (turn / 0.2)[:, None, None] ** 2 + (y_m - pose.y_m)[None, :, None] ** 2 / 4.0
            scores += height * np.exp(-0.5 * (distance + (x_m - pose.x_m)[None, None, :] ** 2 / 4.0))
        return ScoredWindow(centre, window, scores)


def everywhere(grid: Grid, pose: SE2) -> np.ndarray:
    return np.full((1, grid.height, grid.width), 127, dtype=np.int8)


def one_street(grid: Grid, pose: SE2) -> np.ndarray:
    """Along the x axis."""
    xy_m = pose.apply(grid.centres_m())
    return (127 * (np.abs(xy_m[..., 1]) < 3.0)).astype(np.int8)[None]


def nowhere(grid: Grid, pose: SE2) -> np.ndarray:
    return np.zeros((1, grid.height, grid.width), dtype=np.int8)


def test_scores_compare_across_windows() -> None:
    south_west, north_east = SE2(-70.0, -60.0, math.radians(60.0)), SE2(55.0, 71.0, math.radians(-120.0))
    hills = {south_west: 12.0, north_east: 16.0, SE2(20.0, -75.0, math.radians(170.0)): 14.0}
    locator = Landscape(hills)
    seen: list[tuple[int, int]] = []
    search = GlobalSearch(locator, everywhere, BOUNDS_M, 0)
    found = search.candidates(scan_at(SE2()), 3, lambda done, count: seen.append((done, count)))
    ordered = sorted(hills, key=lambda pose: -(hills[pose] + 0.03 * pose.x_m))
    assert [is_near(c.pose, pose) for c, pose in zip(found, ordered, strict=True)] == [True] * 3
    for candidate, pose in zip(found, ordered, strict=True):
        assert candidate.score == pytest.approx(hills[pose] + 0.03 * pose.x_m, abs=1.2)  # half a bin off
        assert math.hypot(candidate.pose.x_m - pose.x_m, candidate.pose.y_m - pose.y_m) <= 1.0
        assert abs(wrap_angle(candidate.pose.yaw_rad - pose.yaw_rad)) <= math.radians(5.1)
    assert seen == [(i + 1, len(locator.asked)) for i in range(len(locator.asked))]


def test_what_a_locator_finds_at_once_is_sorted_and_thinned() -> None:
    best, near, turned = SE2(0.0, 0.0, 3.1), SE2(2.0, 1.0, -3.1), SE2(0.0, 0.0, 0.0)

    class AtOnce(Landscape):
        def map_search(self, area: SearchArea) -> "AtOnce":  # type: ignore[override]
            assert area.bounds_m == BOUNDS_M
            return self

        def candidates(self, scan: Scan, on_step: OnStep | None = None) -> list[Candidate]:
            return [Candidate(near, 4.0), Candidate(turned, 3.0), Candidate(best, 5.0)]

    search = GlobalSearch(AtOnce({}), everywhere, BOUNDS_M, 0)
    assert search.candidates(scan_at(SE2()), 5) == [Candidate(best, 5.0), Candidate(turned, 3.0)]
    assert search.candidates(scan_at(SE2()), 1) == [Candidate(best, 5.0)]


def test_a_locator_that_cannot_search_is_refused() -> None:
    class Narrow(Landscape):
        def map_search(self, area: SearchArea) -> None:  # type: ignore[override]
            return None

    with pytest.raises(DataError, match="cannot search a whole map"):
        GlobalSearch(Narrow({}), everywhere, BOUNDS_M, 0)


def test_only_roads_are_searched() -> None:
    beside, on = SE2(10.0, 40.0, 0.0), SE2(-50.0, 1.0, 0.0)
    locator = Landscape({beside: 20.0, on: 10.0, SE2(60.0, 15.0, 0.0): 20.0})
    search = GlobalSearch(locator, one_street, BOUNDS_M, 0)
    found = search.candidates(scan_at(SE2()), 5)
    assert is_near(found[0].pose, on)
    assert not any(is_near(candidate.pose, beside) for candidate in found)
    assert all(abs(candidate.pose.y_m) < 9.0 for candidate in found)
    assert 0 < len(locator.asked) < len(WindowSearch(RoadArea(everywhere, BOUNDS_M, 0), locator.score))


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
        def score(self, scan: Scan, centre: SE2, offset_m: float) -> ScoredWindow:
            raise DataError("none of the scan's points is near")

    assert GlobalSearch(Blind({}), everywhere, BOUNDS_M, 0).candidates(scan_at(SE2()), 3) == []


def test_candidates_near_a_better_one_are_dropped() -> None:
    best, near, turned = SE2(0.0, 0.0, 3.1), SE2(2.0, 1.0, -3.1), SE2(0.0, 0.0, 0.0)
    candidates = [Candidate(pose, -float(i)) for i, pose in enumerate((best, near, turned))]
    assert [candidate.pose for candidate in distinct(candidates)] == [best, turned]


def test_cells_beside_a_road_count_whatever_part_of_it_is_asked_for() -> None:
    area = RoadArea(one_street, BOUNDS_M, 0)
    whole = area.near_road(Grid(40, 20, 1.0), SE2(3.0, 0.0))
    y_m = np.arange(40) - 19.5
    np.testing.assert_array_equal(whole, np.repeat((np.abs(y_m) < 7.0)[:, None], 20, axis=1))
    upper = area.near_road(Grid(20, 20, 1.0), SE2(3.0, 16.0))  # from y = 6 on: the road itself lies outside
    np.testing.assert_array_equal(upper[:14], whole[26:])
    assert not RoadArea(one_street, (-300.0, -900.0, 900.0, 300.0), 0).near_road(Grid(4, 4, 1.0), SE2(0.0, 50.0)).any()


def test_a_map_that_shows_no_road_is_searched_all_over() -> None:
    near: Bool[np.ndarray, "h w"] = RoadArea(nowhere, BOUNDS_M, 0).near_road(Grid(4, 6, 1.0), SE2(0.0, 50.0))
    assert near.shape == (4, 6)
    assert near.all()

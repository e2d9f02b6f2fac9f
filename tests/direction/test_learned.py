"""Paths that a network corrects: what is kept of the map's, and how likely each is."""

import math

import numpy as np
import pytest

from bevfusion.direction.guide import Guide
from bevfusion.direction.learned import corrected
from bevfusion.direction.path import PathAhead
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import FollowedWay
from tests.direction.graphs import Picture, crossing, town

COVARIANCE = np.diag([4.0, 2.0, math.radians(3.0) ** 2])


class Seen:
    """A scan that shows the way a metre further left, and drivable where it goes to the left alone."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []

    def follow(self, xy_m, yaw_rad, position_std_m: float, heading_std_rad: float) -> FollowedWay:
        self.asked.append((position_std_m, heading_std_rad))
        drivable = 0.9 if xy_m[-1, 1] > 5.0 else 0.1
        return FollowedWay(xy_m + np.array([0.0, 1.0]), yaw_rad + 0.1, np.full(len(xy_m), 0.05), drivable)


def path(end_m: float, probability: float) -> PathAhead:
    line = np.stack([np.arange(2.0, 42.0, 2.0), np.linspace(0.0, end_m, 20)], axis=1)
    return PathAhead(line, np.zeros(20), np.full(20, 0.3), probability, beside_m=1.5)


def test_a_path_is_where_the_scan_has_it_and_keeps_what_the_map_alone_knows():
    seen = Seen()
    (made,) = corrected([path(0.0, 1.0)], seen, COVARIANCE)
    assert made.xy_m == pytest.approx(path(0.0, 1.0).xy_m + np.array([0.0, 1.0]))
    assert made.std_rad == pytest.approx(np.full(20, 0.05))
    assert (made.probability, made.beside_m) == (1.0, 1.5)
    assert seen.asked == [pytest.approx((math.sqrt(3.0), math.radians(3.0)))]


def test_a_branch_that_the_scan_shows_closed_is_less_likely():
    made = corrected([path(0.0, 0.6), path(20.0, 0.3)], Seen(), COVARIANCE)
    assert [each.xy_m[-1, 1] for each in made] == pytest.approx([21.0, 1.0])
    assert made[0].probability == pytest.approx(0.9 * 0.3 * 0.9 / 0.33)
    assert sum(each.probability for each in made) == pytest.approx(0.9)


def test_branches_of_a_guide_are_corrected_each_and_one_way_streets_stay_out():
    source = Picture()
    source.osm_map = town(crossing(oneway={3: -1}, width_m=8.0))
    pose = SE2(-20.0, -2.0, 0.0)
    plain = Guide(source).paths(pose, COVARIANCE)
    seen = Guide(source).paths(pose, COVARIANCE, Seen())
    assert len(seen) == len(plain) == 2
    assert {round(each.xy_m[-1, 1] - 1.0, 6) for each in seen} == {round(each.xy_m[-1, 1], 6) for each in plain}
    assert seen[0].xy_m[-1, 1] > 10.0  # to the left
    assert max(each.xy_m[-1, 0] for each in seen) < 30.0  # nobody goes on east, against the sign

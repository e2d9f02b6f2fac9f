"""What a map can tell, on maps of which that is known."""

import math

import numpy as np
import pytest

from bevfusion.geometry.se2 import SE2
from bevfusion.maps.expected_spread import ExpectedSpread, SpreadPredictor, _seen, street_pieces
from bevfusion.maps.features import Area, OsmMap, Point, Road
from bevfusion.maps.render import OsmRenderer
from tests.simulate.scenes import FRAME, box

FAR_M = 200.0
WINDOW_STD_M = math.sqrt(0.25 * (81**2 - 1) / 12.0)  # of 81 cells of half a metre, all alike


def expected(*areas: Area, yaw_rad: float = 0.0, points: tuple[Point, ...] = ()) -> ExpectedSpread:
    bounds = (-FAR_M, -FAR_M, FAR_M, FAR_M)
    return SpreadPredictor(OsmRenderer(OsmMap(FRAME, bounds, (), areas, (), points))).at(SE2(0.0, 0.0, yaw_rad))


def houses(borders_m: np.ndarray) -> list[Area]:
    """A row of houses along both sides of the x axis, between every other two of the borders."""
    sides = ((10.0, 20.0), (-20.0, -10.0))
    return [
        Area("building", box(float(begin), low, float(end), high))
        for begin, end in zip(borders_m[::2], borders_m[1::2], strict=False)
        for low, high in sides
    ]


def test_a_map_that_shows_nothing_leaves_the_window():
    spread = expected(Area("building", box(180.0, 180.0, 190.0, 190.0)))
    assert (spread.along_m, spread.across_m) == pytest.approx((WINDOW_STD_M, WINDOW_STD_M))
    assert spread.heading_deg == pytest.approx(5.84, abs=0.02)


def test_a_street_between_endless_walls_is_known_across_and_not_along():
    walls = houses(np.array([-FAR_M, FAR_M]))
    spread = expected(*walls)
    assert spread.along_m == pytest.approx(WINDOW_STD_M, rel=0.02)
    assert spread.across_m < 2.0
    assert spread.heading_deg < 3.0
    turned = expected(*walls, yaw_rad=0.5 * math.pi)
    assert (turned.across_m, turned.along_m) == pytest.approx((spread.along_m, spread.across_m), rel=1e-6)


def test_gaps_that_differ_tell_where_along_the_street_and_equal_ones_leave_it_open():
    equal = expected(*houses(np.arange(-FAR_M, FAR_M, 5.0)))
    steps_m = np.random.default_rng(3).uniform(2.0, 8.0, 80)
    different = expected(*houses(-FAR_M + np.cumsum(steps_m)))
    assert equal.along_m > 8.0
    assert different.along_m < 0.5 * equal.along_m


def test_what_a_house_hides_is_not_seen():
    building = np.zeros((240, 240), bool)
    building[120 - 10 : 120 + 10, 140:150] = True  # 5 m beside the place, 10 m wide
    seen = _seen(building)
    assert seen[120, 130] > 0.0
    assert seen[120, 140] > 0.0  # its wall
    assert not seen[115:125, 150:].any()
    assert seen[120, :110].any()


def test_streets_are_cut_into_pieces_with_their_direction():
    corner = Road("residential", np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 20.0]]), (1, 2, 3), 5.5, 0, True, name="A")
    path = Road("footway", np.array([[0.0, 0.0], [90.0, 0.0]]), (1, 4), 2.0, 0, False)
    far = Road("residential", np.array([[900.0, 0.0], [960.0, 0.0]]), (7, 8), 5.5, 0, True)
    bounds = (-FAR_M, -FAR_M, FAR_M, FAR_M)
    pieces = list(street_pieces(OsmMap(FRAME, bounds, (corner, path, far), (), (), ()), 25.0))
    assert [(piece.name, piece.kind) for piece in pieces] == [("A", "residential")] * 2
    np.testing.assert_allclose(pieces[0].xy_m, [[0.0, 0.0], [30.0, 0.0]])
    np.testing.assert_allclose(pieces[1].xy_m, [[30.0, 0.0], [40.0, 0.0], [40.0, 20.0]])
    assert pieces[0].middle == SE2(15.0, 0.0, 0.0)
    assert (pieces[1].middle.x_m, pieces[1].middle.y_m) == pytest.approx((40.0, 5.0))
    assert pieces[1].middle.yaw_rad == pytest.approx(0.5 * math.pi)

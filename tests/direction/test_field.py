"""Cells that can be driven and the directions in them, against what is known of a street and of a crossing."""

import math

import numpy as np
import pytest

from bevfusion.direction.field import UNKNOWN_RAD, DirectionField, field_of
from bevfusion.direction.path import PathAhead
from bevfusion.direction.road_graph import RoadGraph
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from tests.direction.graphs import crossing, graph, road

GRID = Grid.square(16.0, 0.5)
SURE = np.diag([1e-6, 1e-6, 1e-8])
HERE = SE2(-40.0, -1.75, 0.0)


def street(**more) -> RoadGraph:
    """From west to east along y = 0, 8 m wide."""
    return graph([road({0: (-100.0, 0.0), 1: (100.0, 0.0)}, (0, 1), **more)])


def at(field: DirectionField, x_m: float, y_m: float) -> tuple[float, float, float]:
    """p(drivable), direction in the map and its spread, both in degrees, of the cell that holds a place of the map."""
    inside = field.map_from_grid.inverse().apply(np.array([[x_m, y_m]]))
    row, col = np.rint(field.grid.cells_from_metres(inside)[0]).astype(int)
    yaw_rad = wrap_angle(float(field.yaw_rad[row, col]) + field.map_from_grid.yaw_rad)
    return float(field.drivable[row, col]), math.degrees(yaw_rad), math.degrees(float(field.std_rad[row, col]))


@pytest.mark.parametrize("turn_rad", [0.0, 0.7], ids=["map axes", "turned"])
def test_each_side_of_a_street_is_driven_in_its_own_direction(turn_rad: float):
    field = field_of(street(), GRID, SE2(-40.0, 0.0, turn_rad), HERE, SURE)
    for x_m in (-48.0, -40.0, -33.0):
        right, left = at(field, x_m, -1.9), at(field, x_m, 1.9)
        assert right[0] > 0.99
        assert left[0] > 0.99
        assert abs(right[1]) < 1e-6
        assert abs(left[1]) == pytest.approx(180.0)
        assert right[2] < 20.0
        assert at(field, x_m, 7.0)[0] < 0.01  # 3 m off the kerb


def test_traffic_that_keeps_left_drives_on_the_other_side():
    left_hand = graph([road({0: (-100.0, 0.0), 1: (100.0, 0.0)}, (0, 1))], left_hand_traffic=True)
    assert abs(at(field_of(left_hand, GRID, SE2(-40.0), HERE, SURE), -40.0, 1.9)[1]) < 1e-6


def test_a_one_way_street_has_one_direction_all_over():
    field = field_of(street(oneway=1), GRID, SE2(-40.0), HERE, SURE)
    for y_m in (-3.0, 0.3, 3.0):
        assert at(field, -40.0, y_m)[1:] == pytest.approx((0.0, 0.0), abs=0.1)


def test_in_the_middle_of_the_street_the_direction_is_not_known():
    assert at(field_of(street(), GRID, SE2(-40.0, 0.25), HERE, SURE), -40.0, 0.0)[2] > 60.0


def test_drivable_is_as_sure_as_the_pose():
    """At the kerb one half, whatever the doubt; off it as of a normal distribution."""
    for std_m in (0.0, 1.0, 3.0):
        covariance = np.diag([std_m**2, std_m**2, 0.0])
        field = field_of(street(), Grid.square(16.0, 1.0), SE2(-40.0, 0.5), HERE, covariance)
        sigma_m = math.hypot(std_m, 0.4)
        for y_m in (-2.0, 0.0, 4.0, 6.0, 9.0):
            expected = 0.5 * math.erfc((abs(y_m) - 4.0) / sigma_m / math.sqrt(2.0))
            assert at(field, -40.5, y_m)[0] == pytest.approx(expected, abs=1e-9)


def test_a_doubtful_heading_blurs_what_is_far():
    field = field_of(street(), GRID, SE2(-40.0), HERE, np.diag([0.0, 0.0, math.radians(5.0) ** 2]))
    near, far = at(field, -39.5, 4.6)[0], at(field, -26.0, 4.6)[0]
    assert near < far < 0.5
    assert at(field, -39.5, -1.9)[2] >= 5.0


def test_a_route_decides_in_its_lane_and_the_map_elsewhere():
    """Left at a crossing: the path leads over the lanes of those who go straight on."""
    angle = np.linspace(0.0, 0.5 * math.pi, 30)
    bend = 8.0 * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1) + (12.0, 0.0)
    way = PathAhead(bend, angle, np.full(30, 0.05))
    pose = SE2(-18.0, -1.75, 0.0)
    asked = field_of(graph(crossing()), GRID, SE2(), pose, SURE, [way])
    middle = pose.apply(bend[15:16])[0]
    assert at(asked, *middle)[1] == pytest.approx(math.degrees(angle[15]), abs=6.0)
    assert at(asked, *middle)[2] == pytest.approx(math.degrees(0.05), abs=0.1)
    assert abs(at(asked, 12.0, -1.9)[1]) < 1.0  # beyond the crossing the road says


def test_without_roads_a_route_alone_can_be_driven_and_nothing_without_it():
    way = PathAhead(np.stack([2.0 * np.arange(1.0, 8.0), np.zeros(7)], axis=1), np.zeros(7), np.full(7, 0.1))
    alone = field_of(None, GRID, HERE, HERE, SURE, [way])
    on_it, off_it = at(alone, -36.0, -1.75), at(alone, -36.0, 3.0)
    assert on_it[0] > 0.99
    assert on_it[1] == pytest.approx(0.0)
    assert off_it[0] < 0.01
    assert off_it[2] == pytest.approx(math.degrees(UNKNOWN_RAD))
    nothing = field_of(None, GRID, HERE, HERE, SURE)
    assert not nothing.drivable.any()
    far = field_of(street(), GRID, SE2(0.0, 300.0), SE2(0.0, 300.0), SURE)
    assert far.drivable.max() == 0.0
    assert far.std_rad.min() == UNKNOWN_RAD

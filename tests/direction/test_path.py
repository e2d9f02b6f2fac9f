"""Paths along a route in the ego frame: by hand, and their spread against poses drawn at random."""

import math

import numpy as np
import pytest

from bevfusion.direction.path import POINTS, path_along, path_as_drawn, straight_on
from bevfusion.direction.route import Route
from bevfusion.geometry.se2 import SE2, wrap_angle

EAST = Route.through(np.array([[-50.0, 0.0], [0.0, 0.0], [200.0, 0.0]]))


def arc(radius_m: float) -> Route:
    """A left bend that begins at the origin to the east, 30 m of straight road before it."""
    angle = np.linspace(0.0, 1.4, 60)
    bend = radius_m * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1)
    return Route.through(np.concatenate([[[-30.0, 0.0]], bend]))


def test_on_a_straight_route_the_path_goes_on():
    path = path_along(EAST, SE2(3.2, 0.0, 0.0))
    assert path.xy_m == pytest.approx(straight_on().xy_m, abs=1e-6)
    assert path.yaw_rad == pytest.approx(np.zeros(POINTS), abs=1e-9)
    assert path.beside_m == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("yaw_rad", [0.0, 1.0, -2.5])
def test_the_path_does_not_depend_on_the_axes_of_the_map(yaw_rad: float):
    turned = SE2(12.0, -7.0, yaw_rad)
    pose = SE2(2.0, 0.8, 0.05)
    here, there = path_along(arc(30.0), pose), path_along(Route.through(turned.apply(arc(30.0).xy_m)), turned @ pose)
    assert there.xy_m == pytest.approx(here.xy_m, abs=1e-6)
    assert there.beside_m == pytest.approx(here.beside_m)


def test_a_vehicle_beside_the_route_keeps_its_offset_at_first_and_comes_back_onto_it():
    path = path_along(EAST, SE2(0.0, 2.0, 0.0))
    assert path.beside_m == pytest.approx(2.0)
    left_m = path.xy_m[:, 1] + 2.0  # of the route
    assert left_m[0] > 1.9  # it does not jump onto the line
    assert (np.diff(left_m) < 0.0).all()
    assert left_m[-1] == pytest.approx(2.0 / 1.25, abs=0.1)  # at half of the 80 m that halve it
    drawn = path_as_drawn(EAST, SE2(0.0, 2.0, 0.0))
    assert drawn.xy_m[:, 1] == pytest.approx(np.full(POINTS, -2.0))


def test_the_offset_fades_towards_the_lane():
    lane = Route.through(EAST.xy_m, np.full(3, -1.5))
    on_lane = path_along(lane, SE2(0.0, -1.5, 0.0))
    assert on_lane.xy_m[:, 1] == pytest.approx(np.zeros(POINTS), abs=1e-6)
    on_line = path_along(lane, SE2(0.0, 0.0, 0.0))
    assert on_line.xy_m[-1, 1] == pytest.approx(-1.5 * (1.0 - 1.0 / 1.25), abs=0.05)


def test_a_heading_beside_the_routes_is_taken_along_and_fades():
    path = path_along(EAST, SE2(0.0, 0.0, math.radians(10.0)))
    assert math.degrees(path.yaw_rad[0]) == pytest.approx(-2.25, abs=0.3)  # first nearly as the vehicle faces
    assert math.degrees(path.yaw_rad[-1]) == pytest.approx(-10.0, abs=1.5)  # in the end as the road goes


def test_a_doubtful_heading_is_not_taken_along():
    sure, doubtful = (
        path_along(EAST, SE2(0.0, 0.0, math.radians(10.0)), np.diag([0.01, 0.01, math.radians(std) ** 2]))
        for std in (0.1, 60.0)
    )
    assert abs(doubtful.yaw_rad[0] + math.radians(10.0)) < 0.2 * abs(sure.yaw_rad[0] + math.radians(10.0))


def test_a_bend_is_followed():
    path = path_along(arc(25.0), SE2(0.0, 0.0, 0.0))
    angle = 2.0 * np.arange(1, 9) / 25.0
    expected = 25.0 * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1)
    assert np.hypot(*(path.xy_m[:8] - expected).T).max() < 0.6


def test_points_lie_two_metres_apart_along_the_path():
    path = path_along(arc(15.0), SE2(1.0, 1.0, 0.1))
    steps = np.hypot(*np.diff(np.concatenate([[[0.0, 0.0]], path.xy_m]), axis=0).T)
    assert steps == pytest.approx(np.full(len(steps), 2.0), abs=0.03)


def test_a_corner_of_a_map_is_rounded_as_a_car_takes_it():
    corner = Route.through(np.array([[-60.0, 0.0], [0.0, 0.0], [0.0, 60.0]]))
    path = path_along(corner, SE2(-10.0, 0.0, 0.0))
    turns = np.abs(np.diff(np.unwrap(path.yaw_rad)))
    assert turns.max() < 2.0 / 4.0  # no tighter than an arc of 4 m
    assert math.degrees(path.yaw_rad[-1]) == pytest.approx(90.0, abs=3.0)


def test_where_the_route_ends_the_path_ends():
    path = path_along(EAST, SE2(190.0, 0.0, 0.0))
    assert 4 <= len(path.xy_m) <= 5
    assert path.extended(8)[:, 0] == pytest.approx(2.0 * np.arange(1, 9), abs=1e-6)
    assert path_along(EAST, SE2(199.0, 0.0, 0.0)).extended(8) == pytest.approx(straight_on().xy_m[:8], abs=1e-6)


@pytest.mark.parametrize("route", [EAST, arc(20.0)], ids=["straight", "bend"])
@pytest.mark.parametrize("std", [(0.3, 0.3, 2.0), (1.5, 0.2, 0.5), (0.2, 1.2, 1.0)], ids=["heading", "along", "across"])
def test_the_spread_of_the_direction_is_that_of_paths_from_poses_drawn_at_random(
    route: Route, std: tuple[float, float, float]
):
    rng = np.random.default_rng(3)
    pose = SE2(4.0, 0.5, 0.02)
    sizes = np.array([std[0], std[1], math.radians(std[2])])
    covariance = np.diag(sizes**2)
    path = path_along(route, pose, covariance)
    drawn = []
    for offset in rng.normal(size=(60, 3)) * sizes:
        moved = path_along(route, pose.moved_by(SE2(*offset.tolist())), covariance)
        drawn.append(moved.yaw_rad[:10])
    spread = np.std([np.vectorize(wrap_angle)(each - path.yaw_rad[:10]) for each in drawn], axis=0)
    assert path.std_rad[:10] == pytest.approx(spread, rel=0.35, abs=math.radians(0.25))


def test_no_doubt_no_spread():
    for covariance in (None, np.zeros((3, 3))):
        assert not path_along(arc(20.0), SE2(0.0, 0.0, 0.0), covariance).std_rad.any()

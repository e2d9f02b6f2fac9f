"""Routes: over the road graph to a goal, and where a vehicle is on one."""

import math

import numpy as np
import pytest

from bevfusion.direction.road_graph import RoadGraph
from bevfusion.direction.route import Route, route_to
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import TurnRestriction
from bevfusion.structures import DataError
from tests.direction.graphs import FRAME, crossing, graph, road

EIGHT = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 50.0], [50.0, 50.0], [50.0, -50.0]])  # crosses itself at 50, 0


def goal(made: RoadGraph, pose: SE2, x_m: float, y_m: float) -> Route:
    place = GeoPose(*FRAME.degrees_from_metres(x_m, y_m))
    return route_to(made, pose, place, (x_m, y_m))


def test_the_way_to_a_goal_ends_there_and_begins_behind_the_vehicle():
    route = goal(graph(crossing()), SE2(-60.0, -1.0, 0.0), 3.0, 40.0)
    assert route.xy_m.tolist() == [[-100.0, 0.0], [0.0, 0.0], [0.0, 40.0]]
    assert route.lane_m == pytest.approx([-1.75, -1.75, -1.75])
    assert route.length_m == pytest.approx(140.0)
    assert route.place_of(SE2(-60.0, -1.0, 0.0)) == pytest.approx((40.0, 1.0))


def test_the_vehicle_sets_out_in_the_direction_that_it_faces():
    west = goal(graph(crossing()), SE2(-60.0, 1.0, math.pi), 3.0, 40.0)  # to the dead end, round, and back
    assert west.length_m > 200.0
    assert west.xy_m[:2].tolist() != [[-100.0, 0.0], [0.0, 0.0]]


def test_a_goal_that_no_way_leads_to_is_refused():
    closed = graph(crossing({4: -1}))  # the street to the north leads only out of it
    with pytest.raises(DataError, match="no way on the roads of town"):
        goal(closed, SE2(-60.0, 0.0, 0.0), 0.0, 40.0)
    forbidden = [TurnRestriction((come, 0, 4)) for come in (1, 2, 3)]
    with pytest.raises(DataError, match="no way on the roads of town"):
        goal(graph(crossing(), forbidden), SE2(-60.0, 0.0, 0.0), 0.0, 40.0)
    with pytest.raises(DataError, match="212 m from the nearest road"):
        goal(graph(crossing()), SE2(-60.0, 0.0, 0.0), 250.0, 150.0)


def test_of_the_streets_near_a_goal_that_counts_which_is_nearest():
    nodes = {1: (0.0, 0.0), 2: (100.0, 0.0), 3: (0.0, 30.0), 4: (100.0, 30.0)}
    made = graph([road(nodes, (1, 2)), road(nodes, (2, 4)), road(nodes, (4, 3))])
    assert goal(made, SE2(10.0, 0.0, 0.0), 40.0, 28.0).xy_m[-1].tolist() == [40.0, 30.0]


def test_where_a_vehicle_is_on_a_route_that_crosses_itself():
    route = Route.through(EIGHT)
    assert route.place_of(SE2(50.0, 1.0, 0.0)) == pytest.approx((50.0, 1.0))  # by its heading
    assert route.place_of(SE2(50.0, 1.0, -math.pi / 2.0))[0] == pytest.approx(249.0)
    same_way = Route.through(np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 50.0], [0.0, 50.0], [0.0, 0.0], [90.0, 0.0]]))
    assert same_way.place_of(SE2(20.0, 0.0, 0.0), 290.0)[0] == pytest.approx(320.0)  # by where it was before
    assert same_way.place_of(SE2(20.0, 0.0, 0.0), 0.0)[0] == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (SE2(50.0, 90.0, 0.0), "lies 40 m from the pose"),
        (SE2(50.0, -50.0, -math.pi / 2.0), "ends at the pose"),
        (SE2(70.0, 0.0, math.pi), "leads the other way"),
    ],
)
def test_a_route_that_does_not_lead_on_is_refused(pose: SE2, message: str):
    route = Route.through(EIGHT) if "other" not in message else Route.through(EIGHT[:2])
    with pytest.raises(DataError, match=message):
        route.check_near(pose)


def test_places_that_repeat_are_one_and_a_single_place_is_no_route():
    assert len(Route.through(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])).xy_m) == 2
    for places in (np.zeros((1, 2)), np.zeros((3, 2)), np.zeros((0, 2))):
        with pytest.raises(DataError, match="two places"):
            Route.through(places)


def test_dense_lines_are_rounded_less_than_those_of_few_vertices():
    assert Route.through(EIGHT).rounding_m > Route.through(np.stack([np.arange(0.0, 50.0, 2.0)] * 2, axis=1)).rounding_m

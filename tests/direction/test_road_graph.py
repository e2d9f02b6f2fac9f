"""Roads as a graph: one-way streets, forbidden turns, shortest ways against a search over all of them."""

import math
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest

from bevfusion.direction.road_graph import RoadGraph, places_of, road_graph_of
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import TurnRestriction
from bevfusion.maps.render import OsmRenderer
from bevfusion.structures import DataError
from tests.direction.graphs import Picture, crossing, graph, road, town

GRID = {10 * row + column: (40.0 * column, 40.0 * row) for row in range(4) for column in range(4)}


def grid_roads(rng: np.random.Generator):
    roads = []
    for ref in GRID:
        for other in (ref + 1, ref + 10):
            if other in GRID and rng.random() < 0.9:
                roads.append(road(GRID, (ref, other), int(rng.choice([0, 0, 1, -1]))))
    return roads


def test_a_oneway_street_is_driven_one_way_alone():
    made = graph([road(GRID, (0, 1), 1), road(GRID, (1, 2), -1), road(GRID, (2, 3))])
    assert set(made.roads) == {(0, 1), (2, 1), (2, 3), (3, 2)}


def test_where_it_may_go_on_at_a_crossing():
    made = graph(crossing({3: -1}))  # the street to the east leads to the crossing alone
    assert sorted(course[-1] for course in made.after((1, 0))) == [2, 4]
    assert sorted(course[-1] for course in made.after((3, 0))) == [1, 2, 4]
    assert [course[-1] for course in made.after((0, 1))] == [0]  # a dead end: it turns round


def test_a_forbidden_turn_and_a_demanded_one():
    made = graph(crossing(), [TurnRestriction((1, 0, 4)), TurnRestriction((2, 0, 3), mandatory=True)])
    assert sorted(course[-1] for course in made.after((1, 0))) == [2, 3]
    assert [course[-1] for course in made.after((2, 0))] == [3]
    assert sorted(course[-1] for course in made.after((3, 0))) == [1, 2, 4]


def test_a_restriction_over_a_street_between_two_junctions_holds_for_who_came_that_way():
    roads = [road(GRID, ids) for ids in ((0, 1), (10, 11), (1, 11), (11, 12), (11, 21), (1, 2))]
    made = graph(roads, [TurnRestriction((0, 1, 11, 10))])
    came = next(course for course in made.after((0, 1)) if course[-1] == 11)
    assert sorted(course[-1] for course in made.after(came)) == [12, 21]
    other = next(course for course in made.after((2, 1)) if course[-1] == 11)
    assert sorted(course[-1] for course in made.after(other)) == [10, 12, 21]


@pytest.mark.parametrize("seed", range(6))
def test_shortest_ways_are_those_of_all_walks(seed: int):
    """Against the shortest of all sequences of edges, found by going through them in the order of their length."""
    rng = np.random.default_rng(seed)
    roads = grid_roads(rng)
    made = graph(roads)
    edges = list(made.roads)
    rules = []
    for edge in edges:
        for end in made._leaving[edge[1]]:
            if end != edge[0] and rng.random() < 0.2:
                rules.append(TurnRestriction((*edge, end)))
    made = graph(roads, rules)
    banned = {rule.node_ids for rule in rules}
    lines = nx.DiGraph()
    for edge in edges:
        lines.add_node(edge)
        ends = [end for end in made._leaving[edge[1]] if end != edge[0]]
        turns_round = not ends
        for end in ends or made._leaving[edge[1]]:
            if (*edge, end) not in banned:
                lines.add_edge(edge, (edge[1], end), weight=40.0 + (200.0 if turns_round else 0.0))
    for _ in range(12):
        start, goal = (edges[int(i)] for i in rng.integers(len(edges), size=2))
        if start == goal:
            continue
        a, b = made.near(*middle(made, start), 1.0), made.near(*middle(made, goal), 1.0)
        way = made.shortest(next(p for p in a if p.edge == start), [next(p for p in b if p.edge == goal)])
        try:
            expected_m = nx.dijkstra_path_length(lines, start, goal)
        except nx.NetworkXNoPath:
            assert way is None
            continue
        assert way is not None
        assert way[0] == start
        assert way[-1] == goal
        found_m = sum(lines.edges[pair]["weight"] for pair in pairwise(way))
        assert found_m == pytest.approx(expected_m)


def middle(made: RoadGraph, edge: tuple[int, int]) -> tuple[float, float]:
    x, y = np.mean([made.places_m[ref] for ref in edge], axis=0)
    return float(x), float(y)


def test_a_goal_behind_on_the_same_street_is_reached_round_the_block():
    ring = [road(GRID, (0, 1, 11, 10, 0), 1)]
    made = graph(ring)
    start, goal = made.near(30.0, 0.0, 2.0)[0], made.near(10.0, 0.0, 2.0)[0]
    way = made.shortest(start, [goal])
    assert way == [(0, 1), (1, 11), (11, 10), (10, 0), (0, 1)]
    assert made.shortest(goal, [start]) == [(0, 1)]


def test_private_roads_are_driven_where_nothing_else_leads_there():
    direct = road(GRID, (0, 1, 2), private=True)
    round_it = road(GRID, (0, 10, 11, 12, 2))
    tail, head = road({**GRID, 99: (-40.0, 0.0)}, (99, 0)), road(GRID, (2, 3))
    both = graph([direct, round_it, tail, head])
    start, goal = both.near(-20.0, 0.0, 2.0, 0.0)[0], both.near(100.0, 0.0, 2.0, 0.0)[0]
    assert (0, 10) in both.shortest(start, [goal])
    alone = graph([direct, tail, head])
    assert (0, 1) in alone.shortest(alone.near(-20.0, 0.0, 2.0, 0.0)[0], [alone.near(100.0, 0.0, 2.0, 0.0)[0]])


def test_a_place_on_the_road_by_hand():
    made = graph([road(GRID, (0, 1))])
    place = made.near(10.0, 2.0, 5.0, math.radians(20.0))[0]
    assert place.edge == (0, 1)
    assert (place.along_m, place.left_m, place.distance_m) == pytest.approx((10.0, 2.0, 2.0))
    assert math.degrees(place.turn_rad) == pytest.approx(20.0)
    assert made.near(10.0, 2.0, 5.0, math.radians(170.0))[0].edge == (1, 0)
    assert made.near(10.0, 6.0, 5.0) == []
    assert made.distance_m(10.0, 6.0) == pytest.approx(6.0)


def test_lanes_lie_on_the_side_that_traffic_keeps_to():
    nodes = {1: (0.0, 0.0), 2: (50.0, 0.0), 3: (100.0, 0.0), 4: (150.0, 0.0)}
    roads = [
        road(nodes, (1, 2), width_m=6.0),
        road(nodes, (2, 3), 1, width_m=6.0),
        road(nodes, (3, 4), width_m=3.0),
    ]
    right, left = graph(roads), graph(roads, left_hand_traffic=True)
    assert [right.lane_m(edge) for edge in ((1, 2), (2, 1), (2, 3), (3, 4))] == [-1.5, -1.5, 0.0, 0.0]
    assert left.lane_m((1, 2)) == 1.5


@pytest.mark.parametrize(("x_m", "message"), [(200.0, "160 m from the nearest road"), (20.0, "against its heading")])
def test_a_pose_that_no_road_leads_on_from_is_refused(x_m: float, message: str):
    made = graph([road(GRID, (0, 1), 1)])
    with pytest.raises(DataError, match=message):
        places_of(SE2(x_m, 0.0, math.pi), made)


def test_a_picture_has_no_graph_and_a_map_without_roads_neither():
    with pytest.raises(DataError, match=r"city\.png is a picture"):
        road_graph_of(Picture())
    with pytest.raises(DataError, match="no road that cars drive on"):
        road_graph_of(OsmRenderer(town([])))
    assert len(road_graph_of(OsmRenderer(town(crossing()))).roads) == 8

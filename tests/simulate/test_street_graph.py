"""Walks keep to streets that go on, and look for new ones by the shortest way."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bevfusion.simulate.route import StreetGraph
from tests.simulate.scenes import ring_map, road

SPUR = {(3, 9), (9, 3)}


def test_dead_ends_are_not_driven_into() -> None:
    graph = StreetGraph(ring_map(), 0.0)
    assert set(graph.after) >= SPUR
    graph.prune_dead_ends()
    assert SPUR & set(graph.after) == {(9, 3)}  # one may come from there
    assert len(graph.after) == 9  # four streets, both ways
    assert not any((3, 9) in following for following in graph.after.values())


def test_where_all_ends_dead_nothing_is_dropped() -> None:
    graph = StreetGraph(replace(ring_map(), roads=(road([(0.0, 0.0), (80.0, 0.0), (90.0, 60.0)], [1, 2, 3]),)), 0.0)
    graph.prune_dead_ends()
    assert set(graph.after) == {(1, 2), (2, 3), (3, 2), (2, 1)}


def test_streets_near_the_border_are_left_out() -> None:
    assert not set(StreetGraph(ring_map(), 100.0).after) & SPUR
    assert not StreetGraph(ring_map(), 170.0).after


@pytest.mark.parametrize("seed", range(8))
def test_a_walk_goes_on_from_step_to_step_and_is_as_long_as_asked(seed: int) -> None:
    graph = StreetGraph(ring_map(), 0.0)
    graph.prune_dead_ends()
    steps = graph.walk(1900.0, np.random.default_rng(seed))
    assert all(following in graph.after[step] for step, following in pairwise(steps))
    assert 1900.0 <= sum(map(graph.length_m, steps)) < 2100.0
    assert graph.new_m(steps) in (pytest.approx(800.0), pytest.approx(880.0))  # twice round is still four streets


@pytest.mark.parametrize("seed", range(8))
def test_the_nearest_new_street_is_next_where_none_is_ahead(seed: int) -> None:
    """A ladder of 13 streets: whatever is driven first, 20 steps see them all."""
    rungs = range(5)
    lower = road([(80.0 * i, 0.0) for i in rungs], [10 + i for i in rungs])
    upper = road([(80.0 * i, 80.0) for i in rungs], [20 + i for i in rungs])
    across = [road([(80.0 * i, 0.0), (80.0 * i, 80.0)], [10 + i, 20 + i]) for i in rungs]
    graph = StreetGraph(replace(ring_map(), roads=(lower, upper, *across), bounds_m=(-99.0, -99.0, 500.0, 199.0)), 0.0)
    graph.prune_dead_ends()
    steps = graph.walk(80.0 * 20, np.random.default_rng(seed))
    assert graph.new_m(steps) == pytest.approx(80.0 * 13)


def test_alleys_do_not_count_as_new() -> None:
    osm = ring_map()
    graph = StreetGraph(replace(osm, roads=(replace(osm.roads[0], kind="service"), osm.roads[1])), 0.0)
    assert graph.new_m([(1, 2), (2, 3), (3, 9), (9, 3)]) == pytest.approx(80.0)

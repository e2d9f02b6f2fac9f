"""Ways on where nobody says where to go."""

import math

import numpy as np
import pytest

from bevfusion.direction.branches import paths_ahead
from bevfusion.direction.path import PathAhead
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import TurnRestriction
from bevfusion.structures import DataError
from tests.direction.graphs import crossing, graph, road

SURE = np.diag([0.25, 0.25, math.radians(1.0) ** 2])
COMING = SE2(-20.0, -1.5, 0.0)  # from the west, 20 m before the crossing


def ends(paths: list[PathAhead]) -> dict[str, float]:
    """Probability of the ways on, by where they lead, seen from a car that drives east."""
    found = {}
    for path in paths:
        turn_deg = math.degrees(path.yaw_rad[-1])
        found["left" if turn_deg > 45.0 else "right" if turn_deg < -45.0 else "straight"] = path.probability
    return found


def test_one_path_a_branch_with_probabilities_that_add_up():
    paths = paths_ahead(graph(crossing()), COMING, SURE)
    found = ends(paths)
    assert set(found) == {"left", "straight", "right"}
    assert sum(path.probability for path in paths) == pytest.approx(1.0)
    assert found["straight"] > found["left"] == pytest.approx(found["right"])
    assert paths[0].probability == found["straight"]
    weight = math.exp(-90.0 / 40.0)
    assert found["left"] == pytest.approx(weight / (1.0 + 2.0 * weight), abs=1e-3)


def test_oneway_streets_against_their_direction_and_forbidden_turns_are_no_branch():
    assert set(ends(paths_ahead(graph(crossing({4: -1})), COMING, SURE))) == {"straight", "right"}
    assert set(ends(paths_ahead(graph(crossing({4: 1})), COMING, SURE))) == {"left", "straight", "right"}
    forbidden = graph(crossing(), [TurnRestriction((1, 0, 2))])
    assert set(ends(paths_ahead(forbidden, COMING, SURE))) == {"left", "straight"}
    demanded = graph(crossing(), [TurnRestriction((1, 0, 2), mandatory=True)])
    assert ends(paths_ahead(demanded, COMING, SURE)) == {"right": pytest.approx(1.0)}


def test_a_main_road_goes_on_and_few_turn_into_a_drive():
    main = {1: (-100.0, 0.0), 0: (0.0, 0.0), 3: (100.0, 0.0), 4: (0.0, 100.0)}
    roads = [road(main, (1, 0, 3), kind="tertiary"), road(main, (0, 4), kind="service")]
    found = ends(paths_ahead(graph(roads), COMING, SURE))
    assert found["straight"] > 0.95
    assert 0.0 < found.get("left", 0.02) < 0.03


def test_a_junction_farther_than_a_path_makes_no_branch():
    assert len(paths_ahead(graph(crossing()), SE2(-80.0, -1.5, 0.0), SURE)) == 1


def test_a_dead_end_ends_the_path():
    paths = paths_ahead(graph(crossing()), SE2(85.0, -1.5, 0.0), SURE)
    assert len(paths) == 1
    assert 6 <= len(paths[0].xy_m) <= 8


def test_two_parallel_roads_share_the_probability_as_the_pose_says():
    nodes = {1: (-100.0, 0.0), 2: (100.0, 0.0), 3: (-100.0, 10.0), 4: (100.0, 10.0)}
    made = graph([road(nodes, (1, 2), 1), road(nodes, (3, 4), 1)])
    between = paths_ahead(made, SE2(0.0, 5.0, 0.0), SURE)
    assert [path.probability for path in between] == pytest.approx([0.5, 0.5])
    nearer = paths_ahead(made, SE2(0.0, 2.0, 0.0), SURE)
    variance = 2.5**2 + 0.25
    share = math.exp(-0.5 * 8.0**2 / variance)
    expected = math.exp(-0.5 * 2.0**2 / variance)
    assert nearer[0].probability == pytest.approx(expected / (expected + share), abs=0.01)
    doubtful = paths_ahead(made, SE2(0.0, 2.0, 0.0), np.diag([100.0, 100.0, 0.01]))
    assert doubtful[0].probability < nearer[0].probability


def test_off_the_roads_there_is_no_path():
    with pytest.raises(DataError, match="60 m from the nearest road"):
        paths_ahead(graph(crossing()), SE2(160.0, 0.0, 0.0), SURE)

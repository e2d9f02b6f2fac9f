"""The way on, pose after pose, and how it is told."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bevfusion.direction.guide import Guide, described, in_words
from bevfusion.direction.path import PathAhead
from bevfusion.direction.route_files import read_route
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.render import OsmRenderer
from bevfusion.structures import DataError
from tests.direction.graphs import FRAME, crossing, town

SURE = np.diag([0.25, 0.25, math.radians(1.0) ** 2])
COMING = SE2(-20.0, -1.5, 0.0)


@pytest.fixture(scope="module")
def source() -> OsmRenderer:
    return OsmRenderer(town(crossing()))


def place(x_m: float, y_m: float) -> GeoPose:
    return GeoPose(*FRAME.degrees_from_metres(x_m, y_m))


def turn_deg(path: PathAhead) -> float:
    return math.degrees(path.yaw_rad[-1])


def test_without_a_route_every_branch_is_told_and_with_a_goal_the_one_that_leads_there(source: OsmRenderer):
    assert len(Guide(source).paths(COMING, SURE)) == 3
    for goal, expected in ((place(0.0, 60.0), 90.0), (place(0.0, -60.0), -90.0), (place(60.0, 0.0), 0.0)):
        (path,) = Guide(source, goal=goal).paths(COMING, SURE)
        assert turn_deg(path) == pytest.approx(expected, abs=6.0)
        assert path.probability == 1.0


def test_whoever_leaves_the_way_gets_another_one(source: OsmRenderer):
    guide = Guide(source, goal=place(0.0, 60.0))
    assert turn_deg(guide.paths(COMING, SURE)[0]) == pytest.approx(90.0, abs=6.0)
    (path,) = guide.paths(SE2(40.0, -1.5, 0.0), SURE)  # drove straight on: to the end, and back
    assert abs(turn_deg(path)) < 10.0
    (path,) = guide.paths(SE2(30.0, 1.5, math.pi), SURE)
    assert turn_deg(path) == pytest.approx(-90.0, abs=8.0)


def test_a_goal_off_the_map_is_refused(source: OsmRenderer):
    with pytest.raises(DataError, match="outside of the map town"):
        Guide(source, goal=place(5000.0, 0.0)).paths(COMING, SURE)


def test_a_route_file_needs_no_roads(tmp_path: Path):
    bare = OsmRenderer(town([]))
    line = [FRAME.degrees_from_metres(x_m, 0.0)[::-1] for x_m in (-50.0, 100.0)]
    (tmp_path / "route.geojson").write_text(json.dumps({"type": "LineString", "coordinates": line}))
    guide = Guide(bare, read_route(tmp_path / "route.geojson"))
    assert guide.usable
    assert turn_deg(guide.paths(COMING, SURE)[0]) == pytest.approx(0.0, abs=3.0)
    assert not Guide(bare).usable
    with pytest.raises(DataError, match="no road"):
        Guide(bare).paths(COMING, SURE)
    with pytest.raises(DataError, match="no road"):
        Guide(bare, goal=place(0.0, 0.0)).check_map()


def test_json_of_a_path_is_in_the_sensors_frame_and_on_the_globe(source: OsmRenderer):
    (path,) = Guide(source, goal=place(0.0, 60.0)).paths(COMING, SURE)
    told = json.loads(json.dumps(described(path, COMING, source)))
    for (x_m, y_m), (lat_deg, lon_deg) in zip(told["points_m"], told["lat_lon"], strict=True):
        on_map = COMING.apply(np.array([[x_m, y_m]]))[0]
        assert FRAME.metres_from_degrees(lat_deg, lon_deg) == pytest.approx(on_map, abs=0.01)
    assert told["heading_deg"][-1] == pytest.approx(90.0, abs=6.0)
    assert len(told["std_deg"]) == len(told["turn_deg"]) == len(told["points_m"]) == 20


def test_directions_in_words():
    ahead = np.zeros((20, 2))
    left = PathAhead(ahead, np.radians(np.linspace(0.0, 95.0, 20)), np.full(20, math.radians(1.5)), 0.25)
    straight = PathAhead(ahead, np.zeros(20), np.zeros(20), 0.75)
    assert in_words([straight, left]) == "+0.0 ± 0.0 (75 %), +35.0 ± 1.5 (25 %)"
    assert in_words([left]) == "+35.0 ± 1.5"
    assert in_words([]) == "-"

"""directions.geojson: the ways on from each pose of a track."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bevfusion.direction.guide import Guide
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.render import OsmRenderer
from bevfusion.structures import PoseEstimate
from bevfusion.tracking.directions import write_directions
from bevfusion.tracking.follow import TrackedFrame
from tests.direction.graphs import FRAME, crossing, town


def tracked(index: int, pose: SE2 | None) -> TrackedFrame:
    estimate = None if pose is None else PoseEstimate(pose, np.diag([0.04, 0.04, 1e-4]), 0.01, 0.9, pose)
    return TrackedFrame(index, 1000 * index, "lost" if pose is None else "following", "", estimate, None)


FRAMES = [tracked(0, SE2(-20.0, -1.5, 0.0)), tracked(1, None), tracked(2, SE2(300.0, 0.0, 0.0))]


@pytest.mark.parametrize(("goal_m", "count"), [(None, 3), ((0.0, 60.0), 1)])
def test_a_line_a_way_and_a_reason_where_there_is_none(tmp_path: Path, goal_m: tuple[float, float] | None, count: int):
    source = OsmRenderer(town(crossing()))
    goal = None if goal_m is None else GeoPose(*FRAME.degrees_from_metres(*goal_m))
    told = write_directions(tmp_path / "directions.geojson", FRAMES, Guide(source, goal=goal), source)
    assert (told["with_path"], told["without"]) == (1, 1)
    features = json.loads((tmp_path / "directions.geojson").read_text())["features"]
    assert [feature["properties"]["frame"] for feature in features] == [0] * count + [2]
    assert features[-1]["geometry"] is None
    assert "from the nearest road" in features[-1]["properties"]["no_path"]
    for feature in features[:-1]:
        first, *rest = feature["geometry"]["coordinates"]
        assert FRAME.metres_from_degrees(first[1], first[0]) == pytest.approx((-20.0, -1.5), abs=0.01)
        assert len(rest) == len(feature["properties"]["heading_deg"]) == 20
        last = FRAME.metres_from_degrees(rest[-1][1], rest[-1][0])
        assert math.dist(last, (-20.0, -1.5)) > 25.0
    assert sum(feature["properties"]["probability"] for feature in features[:-1]) == pytest.approx(1.0, abs=1e-3)

"""Routes and goals of the node, and the ways ahead that come of them."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bevfusion.geometry.se2 import SE2
from bevfusion.maps.render import OsmRenderer
from bevfusion.ros.core import NodeCore, Output
from bevfusion.ros.direction import DirectionControl
from bevfusion.ros.extrinsics import PlanarPose
from bevfusion.ros.parameters import NodeParameters, parse_parameters
from bevfusion.ros.visualization import drivable_cells, field_arrows_m
from bevfusion.structures import DataError, Scan
from tests.direction.graphs import FRAME, crossing, town
from tests.ros.fakes import START_NS, FakeLocalizer, FakeMap, estimate, header, pose_of

COMING = PlanarPose(SE2(-20.0, -1.5, 0.0), np.diag([0.1, 0.1, 1e-4]))
LEFT = ((-30.0, 0.0), (0.0, 0.0), (0.0, 60.0))


def route(places: Any, frame: str = "map") -> SimpleNamespace:
    poses = [SimpleNamespace(pose=pose_of(SE2(x_m, y_m))) for x_m, y_m in places]
    return SimpleNamespace(header=header(frame, 0), poses=poses)


def goal(x_m: float, y_m: float, frame: str = "map") -> SimpleNamespace:
    return SimpleNamespace(header=header(frame, 0), pose=pose_of(SE2(x_m, y_m)))


@pytest.fixture
def control() -> DirectionControl:
    made = DirectionControl(NodeParameters())
    made.use(OsmRenderer(town(crossing())))
    return made


def turn_deg(control: DirectionControl, pose: PlanarPose = COMING) -> float:
    (path,) = control.ahead(pose).paths
    return math.degrees(path.yaw_rad[-1])


def test_without_a_route_every_branch_lies_ahead(control: DirectionControl):
    assert control.status == "unasked"
    assert len(control.ahead(COMING).paths) == 3
    assert (control.status, control.failed) == ("3 branches", False)


def test_a_route_is_followed_until_another_one_or_none_comes(control: DirectionControl):
    control.follow(route(LEFT))
    assert turn_deg(control) == pytest.approx(90.0, abs=6.0)
    assert control.status == "as asked"
    control.go_to(goal(0.0, -70.0))
    assert turn_deg(control) == pytest.approx(-90.0, abs=6.0)
    control.follow(route([]))
    assert len(control.ahead(COMING).paths) == 3


def test_a_route_that_does_not_lead_on_is_told(control: DirectionControl):
    control.follow(route([(-30.0, 200.0), (0.0, 200.0)]))
    assert control.ahead(COMING).paths == ()
    assert control.failed
    assert "~/route lies" in control.status


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (route(LEFT, "odom"), "~/route is in the frame 'odom', expected 'map'"),
        (route([(0.0, 0.0)]), "a single place"),
        (route([(1.0, 2.0), (1.0, 2.0)]), "a single place"),
    ],
)
def test_routes_that_are_none_are_refused(control: DirectionControl, message: SimpleNamespace, said: str):
    with pytest.raises(DataError, match=said):
        control.follow(message)
    assert len(control.ahead(COMING).paths) == 3


def test_a_place_that_is_not_finite_is_refused(control: DirectionControl):
    broken = route(LEFT)
    broken.poses[1].pose.position.y = math.nan
    with pytest.raises(DataError, match="not finite"):
        control.follow(broken)


def test_goals_that_are_none_are_refused(control: DirectionControl):
    with pytest.raises(DataError, match="lies off the map"):
        control.go_to(goal(5000.0, 0.0))
    with pytest.raises(DataError, match="expected 'map'"):
        control.go_to(goal(0.0, 0.0, "base_link"))
    with pytest.raises(DataError, match="before there is a map"):
        DirectionControl(NodeParameters()).go_to(goal(0.0, 0.0))


def test_another_map_drops_a_route_in_metres_and_keeps_the_goal_of_the_parameters():
    lat_deg, lon_deg = FRAME.degrees_from_metres(0.0, -60.0)
    control = DirectionControl(parse_parameters({"goal": f"{lat_deg} {lon_deg}"}))
    control.use(OsmRenderer(town(crossing())))
    assert turn_deg(control) == pytest.approx(-90.0, abs=6.0)
    control.follow(route(LEFT))
    assert turn_deg(control) == pytest.approx(90.0, abs=6.0)
    control.use(OsmRenderer(town(crossing())))
    assert turn_deg(control) == pytest.approx(-90.0, abs=6.0)


def test_parameters_that_lead_nowhere_are_refused(tmp_path):
    with pytest.raises(DataError, match="goal is latitude longitude"):
        parse_parameters({"goal": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match="parameters"):
        parse_parameters({"goal": [91.0, 0.0]})
    with pytest.raises(DataError, match="nowhere"):
        DirectionControl(parse_parameters({"route": str(tmp_path / "nowhere.gpx")}))


def test_the_field_lies_in_map_axes_about_the_vehicle(control: DirectionControl):
    control.follow(route(LEFT))
    field = control.field(control.ahead(COMING))
    assert field is not None
    assert (field.map_from_grid, field.grid.half_extent_m) == (SE2(-20.0, -1.5, 0.0), (32.0, 32.0))
    cells = drivable_cells(field)
    assert (cells.origin.x_m, cells.origin.y_m) == (-52.0, -33.5)
    row, col = (round(float(value)) for value in field.grid.cells_from_metres(np.array([0.0, 0.0])))
    assert cells.cells[row, col] == 0  # where the vehicle stands
    assert cells.cells[row + 20, col - 20] == 100  # in the block beside the street
    ends_m, strength = field_arrows_m(field)
    assert ends_m.shape == (len(strength), 3, 2, 2)
    shafts = ends_m[:, 0, 1] - ends_m[:, 0, 0]
    assert np.hypot(*shafts.T) == pytest.approx(np.full(len(shafts), 0.8))
    own_lane = (np.abs(ends_m[:, 0, 0, 1] + 1.7) < 0.6) & (ends_m[:, 0, 0, 0] < -21.0)
    assert own_lane.sum() > 10
    assert (shafts[own_lane, 0] > 0.7).all()  # to the east
    assert strength.min() >= 0.0
    assert strength.max() <= 1.0


def test_a_picture_has_a_field_along_a_route_alone():
    control = DirectionControl(NodeParameters())
    control.use(FakeMap())
    assert control.ahead(COMING).paths == ()
    assert "picture" in control.status
    assert not control.failed  # nobody asked for a way
    control.follow(route([(-60.0, 0.0), (100.0, 0.0)]))
    field = control.field(control.ahead(COMING))
    assert field is not None
    assert field.drivable.max() > 0.9
    assert field.drivable.mean() < 0.1


def test_the_core_tells_what_it_knows_of_the_way():
    core = NodeCore(
        NodeParameters(),
        lambda output: None,
        open_locator=lambda checkpoint, source: FakeLocalizer(),
        make_sequence_localizer=lambda locator, source, config: locator,
    )
    core.direction.use(OsmRenderer(town(crossing())))
    scan = Scan(np.zeros((1, 3), np.float32), np.zeros(1, np.float32))
    found = estimate(COMING.map_from_base)
    spoken = Output(START_NS, "following", scan, SE2(), COMING, None, 0.1, found, None, {})
    assert dict(core.status().values)["direction"] == "unasked"
    way = core.way_ahead(spoken)
    assert way is not None
    assert dict(core.status().values)["direction"] == "3 branches"
    core.route(route([(-30.0, 200.0), (0.0, 200.0)]))
    core.activate(True)
    core.way_ahead(spoken)
    told = core.status()
    assert dict(told.values)["direction"].startswith("none: ~/route lies")
    core.goal(goal(9000.0, 0.0))
    assert "lies off the map" in dict(core.status().values)["last_refusal"]
    assert core.way_ahead(Output(START_NS, "lost", scan, SE2(), None, None, 0.1, None, None, {})) is None
    core.stop(1.0)

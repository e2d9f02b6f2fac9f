"""What is asked, and what the answer is: ways by hand, roads against shapely, mirrors against mirrors."""

import math

import numpy as np
import pytest
import shapely

from bevfusion.datasets.directions import Directions, truth_tensors, way_tensors
from bevfusion.direction.path import path_along
from bevfusion.direction.targets import (
    AS_GNSS,
    AS_MATCHED,
    Asking,
    DrivenWay,
    PoseNoise,
    Ways,
    base_field,
    drawn_wrong,
    mirrored_question,
    mirrored_target,
    on_roads,
    path_from,
    target_of,
)
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from tests.direction.graphs import crossing, graph, road

GRID = Grid.square(24.0, 1.0)
EXACT = PoseNoise(0.0, 0.0)
RNG = np.random.default_rng


def round_the_corner() -> DrivenWay:
    """From the west into the north at the crossing, in the right lane: 2 m to the right, a bend of 8 m."""
    angle = np.linspace(0.0, 0.5 * math.pi, 9)
    bend = [SE2(-6.0 + 8.0 * math.sin(a), -2.0 + 8.0 * (1.0 - math.cos(a)), a) for a in angle]
    before = [SE2(x, -2.0, 0.0) for x in np.arange(-80.0, -6.5, 4.0)]
    after = [SE2(2.0, y, 0.5 * math.pi) for y in np.arange(10.0, 80.0, 4.0)]
    return DrivenWay.through([*before, *bend, *after])


def test_a_way_through_poses_is_the_arc_that_they_lie_on():
    """Poses 8 m apart on a circle of 10 m: a cubic leaves a few centimetres."""
    angle = np.arange(0.0, 3.0, 0.8)
    way = DrivenWay.through([SE2(10.0 * math.sin(a), 10.0 * (1.0 - math.cos(a)), wrap_angle(a)) for a in angle])
    assert np.hypot(way.xy_m[:, 0], way.xy_m[:, 1] - 10.0) == pytest.approx(np.full(len(way.xy_m), 10.0), abs=0.05)
    assert np.hypot(*np.diff(way.xy_m, axis=0).T) == pytest.approx(np.full(len(way.xy_m) - 1, 0.5), abs=0.01)
    assert way.yaw_rad[-3] == pytest.approx(0.05 * (len(way.xy_m) - 3), abs=0.03)


def test_a_standstill_takes_no_room_and_crossings_are_told_apart_by_the_heading():
    east = [SE2(x, 0.0, 0.0) for x in np.arange(-40.0, 40.0, 2.0)]
    way = DrivenWay.through([*east[:10], *[east[10]] * 30, *east[10:]])
    assert len(way.xy_m) == pytest.approx(2 * 78, abs=1)
    loop = DrivenWay(
        np.array([[x, 0.0] for x in np.arange(-9.0, 9.0)] + [[0.0, y] for y in np.arange(-9.0, 9.0)]),
        np.array([0.0] * 18 + [0.5 * math.pi] * 18),
    )
    assert loop.index_of(SE2(0.1, 0.1, 0.1)) == 9
    assert loop.index_of(SE2(0.1, 0.1, 1.5)) == 27


def test_the_answer_is_the_way_that_is_driven():
    way = round_the_corner()
    pose = SE2(-20.0, -2.0, 0.0)
    target = target_of(way, pose, way.index_of(pose), GRID)
    assert target.path_m[:6] == pytest.approx(np.stack([np.arange(2.0, 13.0, 2.0), np.zeros(6)], axis=1), abs=0.02)
    assert target.path_m[-1] == pytest.approx([22.0, 40.0 - 14.0 - 8.0 * math.pi / 2 + 8.0], abs=0.2)
    assert target.scored
    assert (target.drivable == -1).all()  # nobody knows the roads
    row, col = GRID.cells_from_metres(np.array([22.5, 14.5])).astype(int)  # behind the bend, half a metre to the right
    assert target.field.left_m[row, col] == pytest.approx(-0.5, abs=0.05)
    assert target.field.yaw_rad[row, col] == pytest.approx(0.5 * math.pi, abs=0.05)


def test_a_way_that_ends_is_told_as_far_as_it_is_known():
    way = DrivenWay.through([SE2(x, 0.0, 0.0) for x in np.arange(0.0, 41.0, 2.0)])
    pose = SE2(30.0, 0.0, 0.0)
    target = target_of(way, pose, way.index_of(pose), GRID)
    assert len(target.path_m) == 4
    assert not target.scored
    assert float(truth_tensors(target).points) == 0.0  # too short to learn from


def test_a_path_begins_at_the_vehicle_wherever_the_line_does():
    line = np.stack([np.arange(-10.0, 30.0, 0.5), np.full(80, 0.2)], axis=1)
    path = path_from(line)
    assert path[0] == pytest.approx([1.99, 0.2], abs=0.1)
    assert len(path) == 14


def test_the_carriageway_is_what_lies_within_half_a_width_of_a_centre_line():
    nodes = {1: (-30.0, -3.0), 2: (0.0, 4.0), 3: (25.0, -6.0)}
    roads = [road(nodes, (1, 2, 3), width_m=7.0), road({1: (5.0, -40.0), 2: (9.0, 40.0)}, (1, 2), width_m=4.0)]
    path = road({1: (-40.0, 20.0), 2: (40.0, 20.0)}, (1, 2), width_m=5.0)
    path = type(path)(**{name: getattr(path, name) for name in path.__dataclass_fields__} | {"drivable": False})
    centres = GRID.centres_m()
    area = shapely.union_all([shapely.LineString(each.xy_m).buffer(each.width_m / 2.0, 64) for each in roads])
    expected = shapely.contains_xy(area, centres[..., 0], centres[..., 1])
    got = on_roads([*roads, path], centres)
    assert (got != expected).mean() < 1e-3  # corners are round here, nearly round there
    assert 0.1 < got.mean() < 0.5
    assert not on_roads([path], centres).any()


def test_a_question_at_the_true_pose_is_the_maps_way_from_there():
    way = round_the_corner()
    ways = Ways(way, graph(crossing(width_m=8.0)))
    pose = SE2(-20.0, -2.0, 0.0)
    index = way.index_of(pose)
    found = ways.route(index)
    assert found is not None
    question = ways.ask(pose, index, EXACT, RNG(0))
    expected = path_along(found[0], pose, np.zeros((3, 3)), along_m=found[0].place_of(pose)[0])
    assert question.known
    assert question.path.xy_m == pytest.approx(expected.xy_m)
    assert question.path.xy_m[-1, 1] > 15.0  # it turns as the drive does


@pytest.mark.parametrize("noise", [AS_MATCHED, AS_GNSS])
def test_poses_are_as_far_off_as_is_told(noise: PoseNoise):
    way = round_the_corner()
    ways = Ways(way, graph(crossing(width_m=8.0)))
    pose, rng = SE2(-30.0, -2.0, 0.0), RNG(1)
    off = [ways.ask(pose, way.index_of(pose), noise, rng).ego_from_asked for _ in range(300)]
    assert np.std([each.x_m for each in off]) == pytest.approx(noise.position_m, rel=0.15)
    assert np.std([each.yaw_rad for each in off]) == pytest.approx(noise.heading_rad, rel=0.15)


def test_where_the_map_has_no_road_straight_on_is_asked():
    way = round_the_corner()
    ways = Ways(way, graph(crossing(width_m=8.0)))
    pose = SE2(-20.0, -2.0, 0.0)
    for question in (
        ways.ask(pose, way.index_of(pose), EXACT, RNG(0), missing=True),
        Ways(way, graph([road({1: (300.0, 300.0), 2: (400.0, 300.0)}, (1, 2))])).ask(pose, 0, EXACT, RNG(0)),
    ):
        assert not question.known
        assert question.path.xy_m[:, 1] == pytest.approx(np.zeros(20))
        assert float(way_tensors(question, GRID).known) == 0.0


def test_a_road_drawn_wrong_lies_as_far_off_as_is_said_and_is_no_longer():
    ways = Ways(round_the_corner(), graph(crossing(width_m=8.0)))
    found = ways.route(40)
    assert found is not None
    line = shapely.LineString(found[0].xy_m)
    away = []
    for seed in range(60):
        wrong = drawn_wrong(found[0], 1.0, RNG(seed))
        assert wrong.length_m == pytest.approx(found[0].length_m, rel=0.1)
        away += [line.distance(shapely.Point(*place)) for place in wrong.at(np.arange(20.0, 90.0, 10.0))[0]]
    assert np.sqrt(np.mean(np.square(away))) == pytest.approx(1.0, rel=0.25)


def test_shares_are_drawn_as_asked():
    way = round_the_corner()
    ways = Ways(way, graph(crossing(width_m=8.0)))
    pose, rng = SE2(-30.0, -2.0, 0.0), RNG(2)
    asking = Asking(gnss=0.25, missing=0.2, wrong=0.0)
    drawn = [ways.draw(pose, way.index_of(pose), asking, rng) for _ in range(400)]
    assert np.mean([question.position_std_m > 2.0 for question in drawn]) == pytest.approx(0.25, abs=0.06)
    assert np.mean([not question.known for question in drawn]) == pytest.approx(0.2, abs=0.06)


def test_in_the_mirror_left_is_right_and_nothing_else():
    """The field of a mirrored way is the mirrored field."""
    way = round_the_corner()
    ways = Ways(way, graph(crossing(width_m=8.0)))
    pose = SE2(-20.0, -2.0, 0.0)
    question = ways.ask(pose, way.index_of(pose), AS_MATCHED, RNG(3))
    there = base_field(mirrored_question(question).path, GRID)
    here = base_field(question.path, GRID)
    near = np.abs(here.left_m) < 6.0
    assert there.direction_rad[::-1][near] == pytest.approx(-here.direction_rad[near], abs=1e-6)
    target = target_of(way, pose, way.index_of(pose), GRID)
    back = mirrored_target(mirrored_target(target))
    assert back.path_m == pytest.approx(target.path_m)
    assert np.array_equal(back.field.left_m, target.field.left_m)
    assert mirrored_target(target).path_m[-1, 1] == pytest.approx(-target.path_m[-1, 1])


def test_a_sample_says_where_the_pose_is_thought_as_an_offset_from_the_prior():
    way = round_the_corner()
    directions = Directions([Ways(way, graph(crossing(width_m=8.0)))], GRID, Asking(gnss=0.0, missing=0.0, wrong=0.0))
    pose = SE2(-20.0, -2.0, 0.0)
    tile_from_ego = SE2(3.0, -4.0, 1.0)
    sample = directions.sample(0, pose, tile_from_ego, 0.8, False, RNG(5))
    off = directions.ways[0].draw(pose, way.index_of(pose), directions.asking, RNG(5)).ego_from_asked
    asked = tile_from_ego @ off
    assert sample.poses[0].tolist() == pytest.approx([asked.x_m, asked.y_m, asked.yaw_rad - 0.8], abs=1e-5)
    assert sample.truth.points.tolist() == [20.0]
    assert sample.way.direction_rad.shape == (1, 48, 48)

from dataclasses import replace

import numpy as np
import pytest
import shapely

from bevfusion.simulate.route import lane_offset_m, plan_path
from bevfusion.structures import DataError
from tests.simulate.scenes import ring_map, road


@pytest.mark.parametrize("seed", range(6))
def test_path_is_continuous_and_keeps_to_its_lane(seed: int) -> None:
    osm = ring_map()
    path = plan_path(osm, 500.0, np.random.default_rng(seed))
    assert path.length_m >= 500.0
    steps = np.hypot(*np.diff(path.xy_m, axis=0).T)
    np.testing.assert_allclose(steps, 0.5, atol=0.03)
    assert np.abs(np.diff(path.yaw_rad)).max() < 0.5 / 3.9  # arcs of 4 m radius at least
    course = np.arctan2(*np.diff(path.xy_m, axis=0).T[::-1])
    assert np.abs(np.angle(np.exp(1j * (course - path.yaw_rad[:-1])))).max() < 0.2
    streets = shapely.union_all([shapely.LineString(r.xy_m) for r in osm.roads])
    away = shapely.distance(shapely.points(path.xy_m), streets)
    assert away.max() < 0.5 * 6.5
    # on the straights the offset is the lane's, to the right
    middle = np.abs(path.xy_m).min(axis=1) < 60.0
    np.testing.assert_allclose(away[middle], lane_offset_m(osm.roads[0]), atol=0.1)
    shifted = path.shifted(lane_offset_m(osm.roads[0]))
    assert shapely.distance(shapely.points(shifted[middle]), streets).max() < 0.1


@pytest.mark.parametrize("oneway", [1, -1])
def test_oneway_is_respected(oneway: int) -> None:
    for seed in range(4):
        path = plan_path(ring_map(oneway), 300.0, np.random.default_rng(seed))
        x, y = path.xy_m[:-1].T
        dx, dy = np.diff(path.xy_m, axis=0).T
        assert np.sign(np.sum(x * dy - y * dx)) == oneway


def test_the_driver_wanders_within_the_lane() -> None:
    osm = ring_map()
    offsets = []
    for seed in range(8):
        path = plan_path(osm, 400.0, np.random.default_rng(seed), wander_m=0.3)
        middle = np.abs(path.xy_m).min(axis=1) < 60.0
        streets = shapely.union_all([shapely.LineString(r.xy_m) for r in osm.roads])
        offsets.append(shapely.distance(shapely.points(path.xy_m[middle]), streets) - lane_offset_m(osm.roads[0]))
        assert np.abs(np.diff(path.yaw_rad)).max() < 0.5 / 3.9
    spread = np.concatenate(offsets)
    assert 0.1 < spread.std() < 0.5
    assert np.abs(spread).max() < 0.8


def test_path_stays_inside_the_bounds_and_off_dead_ends() -> None:
    for seed in range(6):
        path = plan_path(ring_map(), 300.0, np.random.default_rng(seed))
        assert np.abs(path.xy_m).max() < 104.0


def test_same_seed_same_path() -> None:
    a, b = (plan_path(ring_map(), 200.0, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a.xy_m, b.xy_m)


def test_at_interpolates() -> None:
    path = plan_path(ring_map(), 200.0, np.random.default_rng(5))
    xy, yaw = path.at(np.array([0.0, 10.0]))
    np.testing.assert_allclose(xy, path.xy_m[[0, 20]])
    np.testing.assert_allclose(yaw, path.yaw_rad[[0, 20]])


def test_map_without_roads_is_refused() -> None:
    with pytest.raises(DataError, match="no drivable road"):
        plan_path(replace(ring_map(), roads=()), 100.0, np.random.default_rng(0))


def test_too_short_roads_are_refused_with_their_length() -> None:
    osm = replace(ring_map(), roads=(road([(0.0, 0.0), (80.0, 0.0)], [1, 2]),))
    assert plan_path(osm, 30.0, np.random.default_rng(0)).length_m >= 30.0
    with pytest.raises(DataError, match="longest drive"):
        plan_path(osm, 500.0, np.random.default_rng(0))


def test_an_acute_corner_is_rounded_too() -> None:
    streets = (
        road([(0.0, 0.0), (150.0, 0.0)], [1, 2]),
        road([(150.0, 0.0), (75.0, 130.0)], [2, 3]),
        road([(75.0, 130.0), (0.0, 0.0)], [3, 1]),
    )
    for seed in range(4):
        path = plan_path(replace(ring_map(), roads=streets), 600.0, np.random.default_rng(seed), 10.0)
        assert np.abs(np.diff(path.yaw_rad)).max() < 0.5 / 3.5

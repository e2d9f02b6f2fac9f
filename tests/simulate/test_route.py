from dataclasses import replace

import numpy as np
import pytest
import shapely

from bevfusion.maps.features import OsmMap
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


def test_the_path_keeps_left_where_traffic_does() -> None:
    osm = replace(ring_map(), left_hand_traffic=True)
    streets = shapely.union_all([shapely.LineString(r.xy_m) for r in osm.roads])
    offset_m = lane_offset_m(osm.roads[0])
    for seed in range(3):
        path = plan_path(osm, 300.0, np.random.default_rng(seed))
        middle = np.abs(path.xy_m).min(axis=1) < 60.0
        assert shapely.distance(shapely.points(path.shifted(-offset_m)[middle]), streets).max() < 0.1
        assert shapely.distance(shapely.points(path.shifted(offset_m)[middle]), streets).min() > 1.5 * offset_m


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


def blocks_map(count: int, block_m: float = 60.0) -> OsmMap:
    """Streets around count x count square blocks."""
    middle = 0.5 * count * block_m
    places = [block_m * i - middle for i in range(count + 1)]
    streets = []
    for i, place in enumerate(places):
        streets.append(road([(x, place) for x in places], [1000 + 100 * i + j for j in range(count + 1)]))
        streets.append(road([(place, y) for y in places], [1000 + 100 * j + i for j in range(count + 1)]))
    edge = middle + 70.0
    return replace(ring_map(), roads=tuple(streets), areas=(), bounds_m=(-edge, -edge, edge, edge))


@pytest.mark.parametrize("seed", range(4))
def test_new_streets_are_driven_before_known_ones(seed: int) -> None:
    """Of 40 streets of 60 m: a drive as long as all of them sees nearly all, one half as long hardly any twice."""
    osm = blocks_map(4)
    streets = shapely.union_all([shapely.LineString(r.xy_m) for r in osm.roads])
    for length_m, share in ((1200.0, 0.85), (2400.0, 0.75), (4800.0, 0.95)):
        path = plan_path(osm, length_m, np.random.default_rng(seed))
        driven = shapely.LineString(path.xy_m).buffer(5.0)
        assert streets.intersection(driven).length >= share * min(length_m, streets.length)


def test_other_seeds_begin_elsewhere() -> None:
    """All short drives see new streets alone: none is better than another."""
    starts = [plan_path(blocks_map(4), 60.0, np.random.default_rng(seed)).xy_m[0] for seed in range(8)]
    assert len({tuple(np.round(start / 30.0)) for start in starts}) >= 6


def test_a_street_full_of_corners_is_driven_as_long_as_asked() -> None:
    """A ring in zigzag: a path that rounds its corners is a third shorter than the street."""
    turns = np.arange(60)
    reach_m = np.where(turns % 2, 100.0, 110.0)
    places = np.stack([reach_m * np.cos(turns * np.pi / 30), reach_m * np.sin(turns * np.pi / 30)], axis=1)
    ring = road([(float(x), float(y)) for x, y in [*places, places[0]]], [*range(1, 61), 1])
    path = plan_path(replace(ring_map(), roads=(ring,)), 900.0, np.random.default_rng(0))
    assert path.length_m >= 900.0


LINKS = ((100.0, 3, 1303), (-100.0, 2, 1003))  # from the ring's corners to those of the blocks inside


def test_alleys_are_not_sought() -> None:
    """A loop of streets round a maze of alleys: a drive of two rounds does not spend itself between garages."""
    inner = [replace(r, kind="track") for r in blocks_map(3, 40.0).roads]
    inner += [
        road([(100.0, y), (92.0, 0.6 * y), (60.0, 0.6 * y)], [node, 10 + node, other], "track")
        for y, node, other in LINKS
    ]
    osm = replace(ring_map(), roads=(*ring_map().roads[:1], *inner))
    paths = [plan_path(osm, 1500.0, np.random.default_rng(seed)) for seed in range(6)]
    assert np.median([np.mean(np.abs(path.xy_m).max(axis=1) > 90.0) for path in paths]) > 0.9


def test_a_small_map_is_driven_up_to_its_border() -> None:
    """Where 60 m from the border leave only one block, the drive comes nearer rather than going round it for ever."""
    osm = replace(blocks_map(3), bounds_m=(-95.0, -95.0, 95.0, 95.0))
    path = plan_path(osm, 900.0, np.random.default_rng(0))
    assert np.abs(path.xy_m).max() > 80.0

from dataclasses import replace

import numpy as np
import pytest
import shapely

from bevfusion.maps.features import Line, Point
from bevfusion.simulate.map_errors import add_noise, draw_errors, warp_map
from bevfusion.structures import DataError
from tests.simulate.scenes import ring_map


def test_shares_and_kinds() -> None:
    osm = ring_map()
    count = len(osm.areas)
    areas, errors = draw_errors(osm, (0.25, 0.25, 0.1), np.random.default_rng(0))
    assert abs(len(errors.missing) - 0.25 * count) <= 1
    assert abs(len(errors.shifted) - 0.25 * count) <= 1
    assert 1 <= len(errors.new) <= 0.1 * count + 1
    assert len(areas) == count - len(errors.missing) + len(errors.new)
    assert not set(errors.missing) & set(errors.shifted)
    for shift in errors.shifted.values():
        assert 0.5 <= np.hypot(*shift) <= 3.0


def test_shifted_buildings_move_and_others_stay() -> None:
    osm = ring_map()
    areas, errors = draw_errors(osm, (0.0, 0.5, 0.0), np.random.default_rng(1))
    for i, (area, before) in enumerate(zip(areas, osm.areas, strict=True)):
        shift = errors.shifted.get(i, (0.0, 0.0))
        np.testing.assert_allclose(area.outer_m, before.outer_m + np.array(shift))


def test_new_buildings_stand_free() -> None:
    osm = ring_map()
    _, errors = draw_errors(osm, (0.0, 0.0, 0.2), np.random.default_rng(2))
    old = shapely.union_all([shapely.Polygon(area.outer_m) for area in osm.areas])
    roads = shapely.union_all([shapely.LineString(road.xy_m).buffer(road.width_m / 2) for road in osm.roads])
    assert errors.new
    for area in errors.new:
        shape = shapely.Polygon(area.outer_m)
        assert not shape.intersects(old)
        assert not shape.intersects(roads)


@pytest.mark.parametrize("shares", [(-0.1, 0.0, 0.0), (0.7, 0.5, 0.0), (0.0, 0.0, 1.5)])
def test_impossible_shares_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match="shares"):
        draw_errors(ring_map(), shares, np.random.default_rng(0))


def test_redrawing_moves_houses_and_points_a_little() -> None:
    osm = replace(ring_map(), points=tuple(Point("tree", float(x), 0.0) for x in range(200)))
    drawn, areas = add_noise(osm, osm.areas, 0.3, np.random.default_rng(0))
    houses = np.array([a.outer_m[0] - b.outer_m[0] for a, b in zip(areas, osm.areas, strict=True)])
    trees = np.array([(a.x_m - b.x_m, a.y_m - b.y_m) for a, b in zip(drawn.points, osm.points, strict=True)])
    for offsets in (houses, trees):
        assert 0.2 < offsets.std() < 0.4
        assert abs(offsets.mean()) < 0.1


def test_streets_and_areas_swerve_each_in_their_own_way_and_little() -> None:
    osm = ring_map()
    osm = replace(
        osm,
        lines=tuple(Line("hedge", road.xy_m) for road in osm.roads),
        points=tuple(Point("lamp", *map(float, road.xy_m[0])) for road in osm.roads),
    )
    street_m, area_m = [], []
    for seed in range(200):
        world = warp_map(osm, 0.6, np.random.default_rng(seed))
        for road, line, point in zip(world.roads, world.lines, world.points, strict=True):
            np.testing.assert_array_equal(road.xy_m, line.xy_m)  # what is drawn together stays together
            np.testing.assert_array_equal(road.xy_m[0], (point.x_m, point.y_m))
        street_m.append(np.concatenate([a.xy_m - b.xy_m for a, b in zip(world.roads, osm.roads, strict=True)]))
        area_m.append(np.concatenate([a.outer_m - b.outer_m for a, b in zip(world.areas, osm.areas, strict=True)]))
    for offsets in (street_m, area_m):
        assert np.allclose(np.std(offsets, axis=(0, 1)), 0.6, atol=0.08)
        assert np.allclose(np.mean(offsets, axis=(0, 1)), 0.0, atol=0.08)
    together = np.mean([street[:, None] * area[None] for street, area in zip(street_m, area_m, strict=True)])
    assert abs(together) < 0.03


@pytest.mark.parametrize(("apart_m", "correlation"), [(0.0, 1.0), (10.0, 0.969), (40.0, 0.607), (200.0, 0.0)])
def test_swerving_fades_with_distance(apart_m: float, correlation: float) -> None:
    osm = ring_map()
    osm = replace(osm, roads=(replace(osm.roads[0], xy_m=np.array([[0.0, 0.0], [0.6 * apart_m, 0.8 * apart_m]])),))
    here, there = np.moveaxis(
        [warp_map(osm, 1.0, np.random.default_rng(seed)).roads[0].xy_m - osm.roads[0].xy_m for seed in range(2000)],
        1,
        0,
    )
    np.testing.assert_allclose((here * there).mean(axis=0), correlation, atol=0.08)  # exp(-(d / 40 m)^2 / 2)
    np.testing.assert_allclose((here[:, 0] * there[:, 1]).mean(), 0.0, atol=0.08)  # east and north are independent


def test_no_swerving_leaves_the_map() -> None:
    osm = ring_map()
    assert warp_map(osm, 0.0, np.random.default_rng(0)) is osm

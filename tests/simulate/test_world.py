import numpy as np
import shapely

from bevfusion.simulate.relief import Relief
from bevfusion.simulate.route import plan_path
from bevfusion.simulate.surfaces import BUILDING, GROUND, TRUNK, VEGETATION
from bevfusion.simulate.world import build_world
from tests.simulate.scenes import ring_map


def test_world_is_solid_where_the_map_says_and_free_where_one_drives() -> None:
    osm = ring_map()
    for seed in (0, 1, 2, 24):  # in 2 and 24 cars stood so that their bows reached into the bend
        rng = np.random.default_rng(seed)
        path = plan_path(osm, 600.0, rng)
        world = build_world(osm, osm.areas, path, Relief.flat(), 1.0, rng)
        solid = world.surfaces
        assert {BUILDING, VEGETATION, TRUNK} <= set(solid.label.tolist())
        # the map's walls are all there, at the height that it gives
        walls = solid.select(solid.style >= 0)
        assert len(walls) == 4 * len(osm.areas)
        np.testing.assert_allclose(walls.corners_m[:, 2:, 2] - world.facades.base_m[walls.style, None], 7.0, atol=1e-5)
        np.testing.assert_allclose(world.facades.base_m, 0.12, atol=0.15)  # the land is level, but roads are cambered
        lane = shapely.LineString(path.xy_m)
        low = solid.select((solid.corners_m[..., 2].min(axis=1) < 1.5) & (solid.label != VEGETATION))
        outlines = shapely.linestrings(low.corners_m[:, :2, :2])
        assert shapely.distance(outlines, lane).min() > 0.9


def test_surroundings_are_cut_out_and_get_land() -> None:
    osm = ring_map()
    rng = np.random.default_rng(0)
    path = plan_path(osm, 100.0, rng)
    world = build_world(osm, osm.areas, path, Relief.random(rng, 0.05), 1.0, rng)
    surfaces, patch = world.around(path.xy_m[0])
    assert (surfaces.label == GROUND).sum() > 1000
    assert np.abs(surfaces.centres_m() - path.xy_m[0]).max() < 130.0
    assert patch.codes_at(path.xy_m[:1])[0] == 1


def test_buildings_on_the_way_are_left_out() -> None:
    osm = ring_map()
    rng = np.random.default_rng(0)
    path = plan_path(osm, 100.0, rng)
    blocked = tuple(
        type(area)(area.kind, area.outer_m + (path.xy_m[50] - area.outer_m[0]), (), area.height_m)
        for area in osm.areas[:1]
    )
    world = build_world(osm, blocked, path, Relief.flat(), 0.0, rng)
    assert not (world.surfaces.style >= 0).any()

from dataclasses import replace

import numpy as np
import shapely

from bevfusion.simulate.relief import STEEPEST, Relief, road_profiles, sidewalk_m
from bevfusion.simulate.route import plan_path
from bevfusion.simulate.terrain import Terrain
from tests.simulate.scenes import ring_map, road

EAST = np.array([1.0, 0.0])
CROSS = (
    road([(-200.0, 0.0), (0.0, 0.0), (200.0, 0.0)], [1, 2, 3]),
    road([(0.0, -200.0), (0.0, 0.0), (0.0, 200.0)], [4, 2, 5]),
)


def test_relief_is_as_steep_as_asked_for() -> None:
    """Root mean square of the slope in one direction, over many lands."""
    places = np.random.default_rng(0).uniform(-2000.0, 2000.0, (500, 2))
    for hills in (0.007, 0.06):
        squares = []
        for seed in range(60):
            relief = Relief.random(np.random.default_rng(seed), hills)
            rise = relief.height_m(places + EAST) - relief.height_m(places - EAST)
            squares.append(float(((0.5 * rise) ** 2).mean()))
        assert abs(np.sqrt(np.mean(squares)) - hills) < 0.15 * hills
    assert not Relief.random(np.random.default_rng(0), 0.0).height_m(places).any()


def test_roads_meet_at_one_height_and_are_never_too_steep() -> None:
    for seed in range(5):
        relief = Relief.random(np.random.default_rng(seed), 0.12)
        points = road_profiles(CROSS, relief, np.random.default_rng(seed))
        crossing = [np.flatnonzero((points.road == i) & (np.hypot(*points.xy_m.T) < 0.3)) for i in (0, 1)]
        assert abs(points.z_m[crossing[0]].mean() - points.z_m[crossing[1]].mean()) < 0.1
        for i in (0, 1):
            own = points.road == i
            grade = np.diff(points.z_m[own]) / np.diff(points.travelled_m[own])
            assert np.abs(grade).max() <= STEEPEST + 0.005
            assert np.ptp(points.z_m[own]) > 2.0


def test_mapped_inclines_are_driven() -> None:
    steep = replace(CROSS[0], grade=0.08)
    points = road_profiles([steep], Relief.flat(), np.random.default_rng(0))
    middle = (points.travelled_m > 100.0) & (points.travelled_m < 300.0)
    grade = np.diff(points.z_m[middle]) / np.diff(points.travelled_m[middle])
    assert 0.06 < grade.mean() <= 0.085


def test_an_embankment_is_above_the_land_and_a_cutting_below() -> None:
    relief = Relief.random(np.random.default_rng(0), 0.007)
    for kind, sign in (("embankment", 1.0), ("cutting", -1.0)):
        terrain = Terrain.shape([replace(CROSS[0], earthwork=kind)], relief, np.random.default_rng(1))
        road_m = terrain.height_m(np.array([[-60.0, 0.0]])) - relief.height_m(np.array([[-60.0, 0.0]]))
        aside = np.array([[-60.0, 60.0]])
        assert sign * road_m[0] > 0.7
        np.testing.assert_allclose(terrain.height_m(aside), relief.height_m(aside), atol=0.05)


def test_the_carriageway_is_smooth_along_and_falls_to_its_edges() -> None:
    """Along: nothing steeper than 15 % (and a crossing's crossfall). Across: 1.5 to 4 %, from a crown or one-sided."""
    for hills in (0.0, 0.007, 0.1):
        relief = Relief.random(np.random.default_rng(3), hills)
        terrain = Terrain.shape(CROSS, relief, np.random.default_rng(4))
        x = np.arange(-190.0, 190.0, 0.5)
        for y in (-1.5, 0.0, 1.5):
            z = terrain.height_m(np.stack([x, np.full(len(x), y)], axis=1))
            assert np.abs(np.diff(z)).max() / 0.5 < STEEPEST + 0.06
        edges = terrain.height_m(np.array([[100.0, 2.5], [100.0, 0.0], [100.0, -2.5]]))
        falls = (edges[1] - edges[[0, 2]]) / 2.5
        assert ((np.abs(falls) > 0.008) & (np.abs(falls) < 0.045)).all()
        away = np.array([[100.0, 120.0], [-150.0, -90.0]])
        np.testing.assert_allclose(terrain.height_m(away), relief.height_m(away), atol=0.05)


def test_land_does_not_depend_on_what_was_asked_before() -> None:
    """Tiles agree where they meet, and any order of questions gets the same answers."""
    relief = Relief.random(np.random.default_rng(5), 0.06)
    one, two = (Terrain.shape(CROSS, relief, np.random.default_rng(6)) for _ in range(2))
    places = np.random.default_rng(0).uniform(-250.0, 250.0, (4000, 2))
    answers = one.height_m(places)
    np.testing.assert_array_equal(two.height_m(places[::-1])[::-1], answers)
    seam = np.stack([np.zeros(200), np.linspace(-190.0, 190.0, 200)], axis=1)  # x = 0 is a border of tiles
    step = one.height_m(seam + 1e-6 * EAST) - one.height_m(seam - 1e-6 * EAST)
    assert np.abs(step).max() < 2e-3


def test_mesh_lies_on_the_land_and_faces_up() -> None:
    terrain = Terrain.shape(CROSS, Relief.random(np.random.default_rng(1), 0.05), np.random.default_rng(1))
    quads = terrain.mesh(np.array([100.0, -50.0]), 30.0)
    np.testing.assert_allclose(quads[..., 2], terrain.height_m(quads[..., :2]))
    assert (np.cross(quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 0])[:, 2] > 0).all()
    assert np.ptp(quads[..., 0]) >= 60.0
    share = np.random.default_rng(0).dirichlet(np.ones(3), len(quads))
    inside = np.einsum("nk,nkc->nc", share, quads[:, [0, 1, 2]])  # anywhere in a triangle
    np.testing.assert_allclose(terrain.height_m(inside[:, :2]), inside[:, 2], atol=1e-6)
    assert not Terrain.flat().height_m(np.ones((3, 2))).any()


def test_retaining_walls_stand_where_the_land_steps() -> None:
    relief = Relief.random(np.random.default_rng(1), 0.1)
    found = 0
    for seed in range(6):
        terrain = Terrain.shape(CROSS, relief, np.random.default_rng(seed))
        ends, foot, top = terrain.retaining_walls()
        found += len(ends)
        if len(ends) == 0:
            continue
        assert ((top - foot) > 0.29).all()
        edge = 3.25 + sidewalk_m(CROSS[0]) + 0.1
        lines = shapely.union_all([shapely.LineString(r.xy_m) for r in CROSS])
        away = shapely.distance(shapely.points(ends[:, 0]), lines)
        assert abs(np.median(away) - edge) < 0.02
        assert away.min() > 3.25
    assert found > 20


def test_a_drive_over_a_hilly_map_has_the_grades_asked_for() -> None:
    osm = ring_map()
    rng = np.random.default_rng(0)
    path = plan_path(osm, 600.0, rng)
    steep = []
    for seed in range(8):
        terrain = Terrain.shape(
            osm.roads, Relief.random(np.random.default_rng(seed), 0.06), np.random.default_rng(seed)
        )
        xy, _ = path.at(np.arange(0.0, path.length_m, 2.0))
        steep.append(np.gradient(terrain.height_m(xy), 2.0))
    rms = float(np.sqrt(np.mean(np.concatenate(steep) ** 2)))
    assert 0.035 < rms < 0.07
    assert np.percentile(np.abs(np.concatenate(steep)), 99) < STEEPEST

import numpy as np
import pytest

from bevfusion.simulate.facades import Facades
from bevfusion.simulate.ground import KERB_M, draw_ground
from bevfusion.simulate.sensor import SENSORS, Caster, _may_meet, scan_world
from bevfusion.simulate.surfaces import (
    BUILDING,
    FENCE,
    GROUND,
    ROAD,
    SIDEWALK,
    VEGETATION,
    Surfaces,
    prisms,
    rectangles,
    upright,
)
from bevfusion.simulate.terrain import Terrain
from bevfusion.structures import DataError, Scan
from tests.simulate.scenes import road

FLAT = Terrain.flat()
NOTHING = Caster(Surfaces.join([]))


def wall_at(x: float) -> Surfaces:
    quad = upright(np.array([[x, 50.0]]), np.array([[x, -50.0]]), np.array([-2.0]), np.array([20.0]))
    return Surfaces.of(quad, BUILDING, 0.6)


def scan(surfaces: Surfaces, movers: Caster = NOTHING, sensor: str = "hdl64e") -> Scan:
    land = Surfaces.of(FLAT.mesh(np.zeros(2), 120.0), GROUND, 0.3)
    street = road([(-200.0, 0.0), (200.0, 0.0)], [1, 2])
    patch = draw_ground(np.zeros(2), 100.0, [street], [], [], FLAT)
    pose = np.eye(4)
    pose[2, 3] = SENSORS[sensor].height_m
    rng = np.random.default_rng(0)
    facades = Facades.random(1, rng)
    lidar = SENSORS[sensor].with_columns(512)
    return scan_world(lidar, Caster(Surfaces.join([surfaces, land])), movers, (patch, facades), pose, rng)


@pytest.mark.parametrize("name", list(SENSORS))
def test_beam_tables(name: str) -> None:
    sensor = SENSORS[name]
    assert len(sensor.elevations_rad) == {"hdl64e": 64, "hdl32e": 32, "vlp16": 16, "os1_128": 128}[name]
    assert list(sensor.elevations_rad) == sorted(sensor.elevations_rad, reverse=True)
    directions = sensor.with_columns(100).directions()
    assert directions.shape == (100 * len(sensor.elevations_rad), 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, atol=1e-6)


def test_too_few_columns_are_refused() -> None:
    with pytest.raises(DataError, match="16 columns"):
        SENSORS["vlp16"].with_columns(3)


def test_a_wall_is_hit_where_it_stands() -> None:
    got = scan(wall_at(10.0))
    assert got.labels is not None
    # at its ends and its foot beams mix with the ground
    wall = got.xyz[(got.labels == BUILDING) & (np.abs(got.xyz[:, 1]) < 45.0) & (got.xyz[:, 2] > -1.5)]
    assert len(wall) > 1000
    range_m = np.linalg.norm(wall, axis=1)
    # noise is along the ray
    error = wall[:, 0] - 10.0
    assert np.abs(error).max() < 0.15
    assert abs(error.mean()) < 0.005
    assert (range_m > 9.8).all()


def test_the_road_lies_at_the_sensor_height_below_and_the_pavement_a_kerb_higher() -> None:
    got = scan(Surfaces.join([]))
    assert got.labels is not None
    near = np.hypot(got.xyz[:, 0], got.xyz[:, 1]) < 15.0
    asphalt = got.xyz[near & (got.labels == ROAD)]
    stone = got.xyz[near & (got.labels == SIDEWALK)]
    assert abs(asphalt[:, 2].mean() + 1.73) < 0.01
    assert abs(np.median(stone[:, 2]) + 1.73 - KERB_M) < 0.02
    assert np.abs(asphalt[:, 1]).max() < 0.5 * 6.5 + 0.3
    assert (got.xyz[:, 2] < 0.0).all()


def test_what_moves_hides_what_stands() -> None:
    mover = Caster(
        Surfaces.of(prisms(np.array([[[5.0, -1], [6, -1], [6, 1], [5, 1]]]), np.zeros(1), np.full(1, 3.0)), FENCE, 0.5)
    )
    got = scan(wall_at(10.0), mover)
    assert got.labels is not None
    ahead = (np.abs(got.xyz[:, 1] / got.xyz[:, 0]) < 0.15) & (got.xyz[:, 0] > 0) & (np.abs(got.xyz[:, 2]) < 1.0)
    assert set(np.unique(got.labels[ahead])) == {FENCE}
    assert abs(got.xyz[ahead, 0].mean() - 5.0) < 0.02


def test_rays_are_only_spared_where_nothing_is() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = rng.uniform(-30.0, 30.0, 2)
        box = prisms(rectangles(place[None], rng.uniform(-3, 3, 1), 5.0, 2.0), np.zeros(1), np.full(1, 3.0))
        surfaces = Surfaces.of(box, FENCE, 0.5)
        rays = np.zeros((4096, 6), np.float32)
        rays[:, 2] = 1.0
        rays[:, 3:] = SENSORS["vlp16"].with_columns(256).directions()
        hit = Caster(surfaces).nearest(rays).quad >= 0
        chosen = _may_meet(surfaces, rays)
        assert not (hit & ~chosen).any()
        assert chosen.mean() < 0.6 or np.hypot(*place) < 5.0


def rays_ahead(count: int) -> np.ndarray:
    rays = np.zeros((count, 6), np.float32)
    rays[:, 3] = 1.0
    rays[:, 2] = 1.0
    return rays


def test_beams_mix_at_edges_alone() -> None:
    """Between a board at 9 m and the wall at 10 m there are some echoes; on a bare slanting wall there are none."""
    wall = wall_at(10.0)
    board = Surfaces.of(
        upright(np.array([[9.0, 1.0]]), np.array([[9.0, -1.0]]), np.array([-2.0]), np.array([20.0])), FENCE, 0.5
    )
    before = scan(Surfaces.join([wall, board]))
    between = before.xyz[(before.xyz[:, 0] > 9.15) & (before.xyz[:, 0] < 9.85) & (before.xyz[:, 2] > -1.0)]
    assert 3 < len(between) < 0.02 * len(before)
    assert np.abs(np.abs(between[:, 1]) - 1.0).max() < 0.3
    bare = scan(wall)
    hit = bare.xyz[(bare.labels == BUILDING) & (np.abs(bare.xyz[:, 1]) < 45.0) & (bare.xyz[:, 2] > -1.5)]
    assert np.abs(hit[:, 0] - 10.0).max() < 0.15


def test_a_volume_stops_rays_exponentially() -> None:
    leaves = prisms(np.array([[[4.0, -2], [6, -2], [6, 2], [4, 2]]]), np.zeros(1), np.full(1, 3.0))
    both = Surfaces.join([Surfaces.of(leaves, VEGETATION, 0.3, free_path_m=1.0), wall_at(10.0)])
    hits = Caster(both).first_return(rays_ahead(20_000), np.random.default_rng(0))
    through = both.label[hits.quad] == BUILDING
    assert abs(through.mean() - np.exp(-2.0)) < 0.01
    depth = hits.range_m[~through] - 4.0
    assert depth.min() >= 0.0
    assert depth.max() <= 2.0 + 1e-3
    assert abs(np.median(depth) - 0.566) < 0.03  # of the exponential cut at 2 m
    np.testing.assert_allclose(hits.range_m[through], 10.0, atol=0.01)


def test_a_screen_lets_its_share_through() -> None:
    mesh = upright(np.array([[4.0, 2.0]]), np.array([[4.0, -2.0]]), np.zeros(1), np.full(1, 2.0))
    both = Surfaces.join([Surfaces.of(mesh, FENCE, 0.3, passing=0.4), wall_at(10.0)])
    hits = Caster(both).first_return(rays_ahead(20_000), np.random.default_rng(0))
    assert abs((both.label[hits.quad] == BUILDING).mean() - 0.4) < 0.02


def test_no_surfaces_give_no_hits() -> None:
    hits = NOTHING.nearest(rays_ahead(3))
    assert (hits.quad == -1).all()
    assert np.isinf(hits.range_m).all()


def test_intensity_tells_materials_apart() -> None:
    got = scan(wall_at(10.0))
    assert got.labels is not None
    near = np.hypot(got.xyz[:, 0], got.xyz[:, 1]) < 15.0
    mean = {label: got.intensity[near & (got.labels == label)].mean() for label in (ROAD, SIDEWALK, BUILDING)}
    assert 0.15 < mean[ROAD] < mean[SIDEWALK] < mean[BUILDING]
    assert got.intensity.min() >= 0.0
    assert got.intensity.max() <= 1.0

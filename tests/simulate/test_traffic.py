from dataclasses import replace

import numpy as np
import pytest
import shapely

from bevfusion.simulate.roadside import Obstacles, _parked, _RoadSide
from bevfusion.simulate.route import plan_path
from bevfusion.simulate.surfaces import CAR, MOVING_CAR, MOVING_TRUCK, TRUCK
from bevfusion.simulate.terrain import Terrain
from bevfusion.simulate.traffic import Traffic, Vehicles
from tests.simulate.scenes import ring_map, road


def test_vehicles_stand_on_the_road_with_plausible_sizes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        one = Vehicles.random(np.array([[7.0, 3.0]]), np.zeros(1), rng).surfaces(Terrain.flat(), moving=False)
        length, width, height = np.ptp(one.corners_m.reshape(-1, 3), axis=0)
        assert 3.5 < length < 8.5
        assert 1.5 < width < 2.6
        assert 1.3 < height < 3.5
        assert one.corners_m[..., 2].min() >= -1e-6
        assert set(one.label) <= {CAR, TRUCK}
        np.testing.assert_allclose(one.corners_m.reshape(-1, 3)[:, :2].mean(axis=0), [7.0, 3.0], atol=0.8)


def test_traffic_moves_and_keeps_clear_of_the_recording_vehicle() -> None:
    rng = np.random.default_rng(4)
    path = plan_path(ring_map(), 400.0, rng)
    traffic = Traffic.random(path, 50.0, 3.0, rng)
    seen = 0
    for step in range(0, 400, 10):
        vehicles = traffic.at(step / 8.0, float(step))
        own, _ = path.at(np.array([float(step)]))
        if len(vehicles.yaw_rad):
            seen += len(vehicles.yaw_rad)
            assert np.hypot(*(vehicles.xy_m - own).T).min() > 2.2
            solid = vehicles.surfaces(Terrain.flat(), moving=True)
            assert set(solid.label) <= {MOVING_CAR, MOVING_TRUCK}
    assert seen > 10


def test_no_traffic_at_density_zero() -> None:
    path = plan_path(ring_map(), 100.0, np.random.default_rng(0))
    traffic = Traffic.random(path, 10.0, 0.0, np.random.default_rng(0))
    assert len(traffic.at(1.0, 10.0).surfaces(Terrain.flat(), moving=True)) == 0


@pytest.mark.parametrize("left_hand", [False, True])
def test_what_comes_towards_one_passes_on_the_far_side(left_hand: bool) -> None:
    osm = replace(ring_map(), left_hand_traffic=left_hand)
    path = plan_path(osm, 400.0, np.random.default_rng(2))
    traffic = Traffic.random(path, 50.0, 4.0, np.random.default_rng(1))
    met = 0
    for travelled_m in np.arange(20.0, 380.0, 10.0):
        vehicles = traffic.at(travelled_m / 8.0, travelled_m)
        own, yaw = path.at(np.array([travelled_m]))
        away = vehicles.xy_m - own
        left = np.array([-np.sin(yaw[0]), np.cos(yaw[0])])
        facing = np.cos(vehicles.yaw_rad - yaw[0]) < -0.95
        beside = facing & (np.hypot(*away.T) < 12.0)
        met += int(beside.sum())
        assert (np.sign(away[beside] @ left) == (-1.0 if left_hand else 1.0)).all()
    assert met > 0


@pytest.mark.parametrize(("left_hand", "oneway"), [(False, 0), (True, 0), (False, 1), (True, -1)])
def test_parked_cars_mostly_face_the_way_that_traffic_goes_beside_them(left_hand: bool, oneway: int) -> None:
    nothing = shapely.STRtree([])
    obstacles = Obstacles(nothing, nothing, shapely.LineString([(0.0, 500.0), (1.0, 500.0)]), nothing)
    street = road([(-400.0, 0.0), (400.0, 0.0)], [1, 2], oneway=oneway)
    for side in (-1.0, 1.0):
        rng = np.random.default_rng(0)
        parked = [_parked(_RoadSide(street, side), obstacles, 3.0, -1.0 if left_hand else 1.0, rng) for _ in range(10)]
        xy, yaw = (np.concatenate(column) for column in zip(*parked, strict=True))
        assert len(xy) > 100
        assert (np.sign(xy[:, 1]) == side).all()
        # along +x on the right side, and on the left one where traffic keeps left
        ahead = float(oneway) if oneway else (-side if not left_hand else side)
        assert 0.8 < (np.sign(np.cos(yaw)) == ahead).mean() < 1.0

import numpy as np

from bevfusion.simulate.route import plan_path
from bevfusion.simulate.surfaces import CAR, MOVING_CAR, MOVING_TRUCK, TRUCK
from bevfusion.simulate.terrain import Terrain
from bevfusion.simulate.traffic import Traffic, Vehicles
from tests.simulate.scenes import ring_map


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

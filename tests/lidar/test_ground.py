import numpy as np
import pytest

from bevfusion.lidar.ground import fit_ground, height_above_ground


def street(rng: np.random.Generator, slope: tuple[float, float] = (0.0, 0.0), height_m: float = 1.73) -> np.ndarray:
    """A sloping plane with walls on both sides and cars on it."""
    ground = rng.uniform(-40, 40, (20000, 2))
    wall = np.column_stack([rng.uniform(-40, 40, 8000), rng.choice([-9.0, 9.0], 8000)])
    car = np.column_stack([rng.uniform(5, 9, 3000), rng.uniform(1, 3, 3000)])
    up = np.concatenate([np.zeros(20000), rng.uniform(0, 8, 8000), rng.uniform(0.3, 1.5, 3000)])
    xy = np.concatenate([ground, wall, car])
    z = slope[0] * xy[:, 0] + slope[1] * xy[:, 1] - height_m + up + rng.normal(0, 0.02, len(xy))
    return np.column_stack([xy, z]).astype(np.float32)


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.05, 0.0), (-0.03, 0.04)])
@pytest.mark.parametrize("height_m", [0.6, 1.73, 2.5])
def test_plane_of_a_street_is_found(slope: tuple[float, float], height_m: float):
    a, b, c = fit_ground(street(np.random.default_rng(0), slope, height_m))
    assert (a, b) == pytest.approx(slope, abs=0.01)
    assert c == pytest.approx(-height_m, abs=0.1)


def test_heights_on_a_slope_are_above_the_ground_below():
    xyz = street(np.random.default_rng(1), (0.05, 0.0))
    assert np.median(np.abs(height_above_ground(xyz)[:20000])) < 0.1


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_points_give_a_level_plane(count: int):
    xyz = np.random.default_rng(0).uniform(-5, 5, (count, 3)).astype(np.float32)
    a, b, c = fit_ground(xyz)
    assert a == b == 0.0
    assert np.isfinite(c)


def test_real_sensor_stands_173_cm_above_the_road(shared_data):
    scans = sorted((shared_data / "kitti_raw").glob("*/*/velodyne_points/data/*.bin"))
    heights = [-fit_ground(np.fromfile(path, np.float32).reshape(-1, 4)[:, :3])[2] for path in scans]
    assert np.median(heights) == pytest.approx(1.73, abs=0.1)
    assert np.max(np.abs(np.array(heights) - 1.73)) < 0.35

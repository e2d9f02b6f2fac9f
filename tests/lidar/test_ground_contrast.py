import math

import numpy as np
import pytest
import torch

from bevfusion.geometry.grid import Grid
from bevfusion.lidar.ground_contrast import contrast_of_scan, ground_contrast, local_contrast, roughness
from bevfusion.structures import Scan

GRID = Grid.square(30.0, 0.5)


def strip(seed: int = 0, *, verge_m: float = 0.04, asphalt: float = 0.1, verge: float = 0.4) -> Scan:
    """Level land, 1.7 m below the sensor: asphalt within 3 m of the x axis, rough and bright beside it."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-30.0, 30.0, (60_000, 2))
    on_road = np.abs(xy[:, 1]) < 3.0
    z = -1.7 + rng.normal(0.0, np.where(on_road, 0.005, verge_m))
    intensity = np.where(on_road, asphalt, verge) + rng.normal(0.0, 0.02, len(xy))
    return Scan(np.column_stack([xy, z]).astype(np.float32), np.clip(intensity, 0.0, 1.0).astype(np.float32))


def planes_of(scan: Scan, coarser: int = 1) -> torch.Tensor:
    return contrast_of_scan(scan, scan.xyz[:, 2] + np.float32(1.7), GRID, coarser)


def test_the_road_is_dark_and_smooth():
    ground, darkness, smoothness = planes_of(strip())
    y_m = torch.from_numpy(GRID.centres_m()[..., 1])
    road, verge = (y_m.abs() < 2.5) & (ground > 0), (y_m.abs() > 4.0) & (y_m.abs() < 9.0) & (ground > 0)
    for plane in (darkness, smoothness):
        assert float(plane[road].mean()) > float(plane[verge].mean()) + 1.0


def test_gain_and_offset_of_the_reflectance_do_not_count():
    scan = strip()
    dimmed = Scan(scan.xyz, (0.3 * scan.intensity + 0.1).astype(np.float32))
    torch.testing.assert_close(planes_of(scan), planes_of(dimmed), atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_sensor_without_reflectance_tells_nothing_of_it(value: float):
    scan = strip()
    _, darkness, smoothness = planes_of(Scan(scan.xyz, np.full_like(scan.intensity, value)))
    assert not bool(darkness.any())
    assert bool(smoothness.any())


def test_contrast_has_no_mean_and_stays_on_the_ground():
    ground, *contrasts = planes_of(strip())
    for plane in contrasts:
        assert abs(float(plane.sum()) / float(ground.sum())) < 1e-4
        assert bool((plane[ground == 0] == 0).all())
        assert float(plane.abs().max()) < 4.0  # clipped at two, and the mean taken out


def test_what_stands_high_is_no_ground():
    scan = strip()
    ground, *_ = planes_of(Scan(scan.xyz + np.array([0.0, 0.0, 1.0], np.float32), scan.intensity))
    assert not bool(ground.any())


def test_coarser_cells_are_means():
    torch.testing.assert_close(planes_of(strip(), 2), torch.nn.functional.avg_pool2d(planes_of(strip())[None], 2)[0])


@pytest.mark.parametrize("xyz", [np.zeros((0, 3)), np.array([[90.0, 0.0, 0.0]]), np.array([[1.0, 0.5, -1.7]])])
def test_nothing_seen_says_nothing(xyz: np.ndarray):
    scan = Scan(xyz.astype(np.float32), np.ones(len(xyz), np.float32))
    assert not bool(planes_of(scan).any())


def test_points_without_a_height_do_not_count():
    scan = strip()
    height_m = torch.from_numpy(scan.xyz[:, 2] + np.float32(1.7))
    columns = torch.from_numpy(scan.xyz), torch.from_numpy(scan.intensity)
    known = height_m.clone()
    known[::2] = math.nan
    half = ground_contrast(columns[0][1::2], height_m[1::2], columns[1][1::2], GRID)
    torch.testing.assert_close(ground_contrast(columns[0], known, columns[1], GRID), half)


def slow_roughness(bottom: np.ndarray, ground: np.ndarray, row: int, col: int) -> tuple[float, float]:
    rows, cols = slice(max(row - 1, 0), row + 2), slice(max(col - 1, 0), col + 2)
    heights = bottom[rows, cols][ground[rows, cols] > 0]
    known = ground[row, col] > 0 and len(heights) >= 3
    return (math.log(heights.std() + 0.01), 1.0) if known else (0.0, 0.0)


def test_roughness_is_the_spread_over_three_by_three_cells():
    rng = np.random.default_rng(0)
    bottom = rng.normal(0.0, 0.1, (7, 9)).astype(np.float32)
    ground = (rng.random((7, 9)) < 0.5).astype(np.float32)
    rough, known = (plane.numpy() for plane in roughness(torch.from_numpy(bottom), torch.from_numpy(ground)))
    for row in range(1, 6):
        for col in range(1, 8):
            expected = slow_roughness(bottom, ground, row, col)
            assert (rough[row, col], known[row, col]) == pytest.approx(expected, abs=1e-3)


def test_a_slope_of_the_values_cancels():
    """What changes over tens of metres is no contrast: falling with range, climbing roads."""
    x_m = torch.from_numpy(GRID.centres_m()[..., 0]).float()
    known = torch.ones_like(x_m)
    bump = ((x_m > 0.0) & (x_m < 3.0)).float()
    flat = local_contrast(bump, known, GRID)
    sloped = local_contrast(bump + 0.002 * x_m, known, GRID)
    inner = (slice(40, -40), slice(40, -40))
    assert float(torch.corrcoef(torch.stack([flat[inner].flatten(), sloped[inner].flatten()]))[0, 1]) > 0.98

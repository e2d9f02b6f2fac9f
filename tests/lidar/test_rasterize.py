import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bevfusion.geometry.grid import Grid
from bevfusion.lidar.rasterize import bev_channels, rasterize, rasterize_scan
from bevfusion.lidar.visibility import seen_cells
from bevfusion.structures import Scan

GRID = Grid(16, 16, 1.0)
SLICES = (0.3, 1.0, 3.0)
CHANNELS = bev_channels(SLICES)


def draw(xyz: list[list[float]], heights: list[float], intensity: list[float]) -> dict[str, torch.Tensor]:
    planes = rasterize(torch.tensor(xyz).reshape(-1, 3), torch.tensor(heights), torch.tensor(intensity), GRID, SLICES)
    return dict(zip(CHANNELS, planes, strict=True))


def test_a_point_marks_its_cell_and_slice():
    planes = draw([[2.5, -3.5, 0.0]], [2.0], [0.5])
    expected = torch.zeros(16, 16)
    expected[4, 10] = 1.0  # y = -3.5 is row 4, x = 2.5 is column 10
    torch.testing.assert_close(planes["occupied_1_3m"], expected)
    assert planes["occupied_0.3_1m"].sum() == 0.0
    assert planes["max_height"][4, 10] == pytest.approx(0.2)
    assert planes["intensity"][4, 10] == pytest.approx(0.5)


def test_planes_equal_a_loop_over_points():
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-9, 9, (500, 3)).astype(np.float32)
    heights, intensity = rng.uniform(-0.5, 4, 500).astype(np.float32), rng.random(500).astype(np.float32)
    planes = dict(
        zip(CHANNELS, rasterize(*map(torch.from_numpy, (xyz, heights, intensity)), GRID, SLICES), strict=True)
    )
    count, top, total = np.zeros((16, 16)), np.zeros((16, 16)), np.zeros((16, 16))
    low, ground = np.zeros((16, 16)), np.zeros((16, 16))
    for (x, y, _), height, strength in zip(xyz, heights, intensity, strict=True):
        if not (-8 <= x < 8 and -8 <= y < 8):
            continue
        cell = math.floor(y + 8), math.floor(x + 8)
        count[cell] += 1
        top[cell] = max(top[cell], height)
        total[cell] += strength
        low[cell] = max(low[cell], 0.3 <= height < 1.0)
        ground[cell] = max(ground[cell], height < 0.3)
    np.testing.assert_allclose(planes["density"], np.minimum(np.log1p(count) / math.log(33.0), 1.0), atol=1e-6)
    np.testing.assert_allclose(planes["max_height"], np.clip(top / 10.0, 0, 1), atol=1e-6)
    np.testing.assert_allclose(planes["intensity"], total / np.maximum(count, 1), atol=1e-5)
    np.testing.assert_allclose(planes["occupied_0.3_1m"], low)
    np.testing.assert_allclose(planes["ground"], ground)


def test_ground_intensity_is_the_same_for_a_weaker_sensor():
    rng = np.random.default_rng(0)
    xyz = np.column_stack([rng.uniform(-7, 7, (400, 2)), np.zeros(400)]).astype(np.float32)
    strength = rng.random(400).astype(np.float32)
    strong = draw(xyz.tolist(), [0.0] * 400, strength.tolist())["ground_intensity"]
    weak = draw(xyz.tolist(), [0.0] * 400, (0.4 * strength + 0.1).tolist())["ground_intensity"]
    torch.testing.assert_close(strong, weak, atol=1e-4, rtol=0)
    assert strong.std() > 0.1


def test_an_empty_scan_is_all_unseen():
    planes = draw([], [], [])
    assert (planes["never_seen"] == 1.0).all()
    assert sum(plane.abs().sum() for name, plane in planes.items() if name != "never_seen") == 0.0


def test_points_that_do_not_count_change_nothing():
    """Outside of the grid, or of no finite height."""
    rng = np.random.default_rng(1)
    xyz = torch.from_numpy(rng.uniform(-7, 7, (300, 3)).astype(np.float32))
    height_m, intensity = torch.from_numpy(rng.uniform(0, 3, 300).astype(np.float32)), torch.rand(300)
    alone = rasterize(xyz, height_m, intensity, GRID, SLICES)
    more = torch.cat([xyz[:100], torch.full((5, 3), 40.0), xyz[100:], torch.full((2, 3), 2.0)])
    heights = torch.cat([height_m[:100], torch.full((5,), 1.0), height_m[100:], torch.tensor([torch.nan, torch.inf])])
    both = torch.cat([intensity[:100], torch.full((5,), 0.9), intensity[100:], torch.full((2,), 0.9)])
    assert torch.equal(rasterize(more, heights, both, GRID, SLICES), alone)


@pytest.mark.parametrize("count", [0, 1])
def test_contrast_of_the_ground_needs_two_cells(count: int):
    planes = draw([[2.5, 0.5, 0.0]] * count, [0.0] * count, [0.7] * count)
    assert (planes["ground"] == 1.0).sum() == count
    assert (planes["ground_intensity"] == 0.0).all()


def test_behind_a_wall_is_not_free():
    wall_y = torch.linspace(-2.0, 2.0, 200)
    wall = torch.stack([torch.full_like(wall_y, 4.0), wall_y], dim=1)
    free, reached = seen_cells(wall, torch.full((200,), 1.5), GRID)
    assert free[8, 10]  # before the wall
    assert not free[8, 14]  # behind it
    assert not reached[8, 14]
    assert not reached[8, 2]  # nothing came back from behind the sensor


def test_what_stands_out_behind_a_hedge_is_reached_but_not_free():
    y = torch.linspace(-0.5, 0.5, 50)
    points = torch.cat([torch.stack([torch.full_like(y, x), y * x / 3.0], dim=1) for x in (3.0, 7.5)])
    free, reached = seen_cells(points, torch.full((100,), 1.0), GRID)
    assert reached[8, 13]
    assert not free[8, 13]


@pytest.mark.parametrize("firings", [180, 360, 720, 2000])
def test_a_coarse_sensor_reaches_the_same_cells(firings: int):
    azimuth = torch.linspace(-math.pi, math.pi, firings + 1)[:-1]
    ring = 6.0 * torch.stack([azimuth.cos(), azimuth.sin()], dim=1)
    free, reached = seen_cells(ring, torch.zeros(firings), GRID)
    range_m = torch.from_numpy(np.linalg.norm(GRID.centres_m(), axis=-1))
    torch.testing.assert_close(reached, range_m <= 6.0)
    torch.testing.assert_close(free, reached)


def test_a_wide_gap_without_returns_stays_unseen():
    azimuth = torch.linspace(0.2, 2 * math.pi - 0.2, 1000)  # nothing came back from straight ahead
    _, reached = seen_cells(6.0 * torch.stack([azimuth.cos(), azimuth.sin()], dim=1), torch.zeros(1000), GRID)
    assert not reached[8, 12]
    assert reached[8, 4]


@settings(max_examples=50)
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 50), st.just(3)), elements=st.floats(-1e9, 1e9, width=32)))
def test_any_finite_scan_gives_finite_planes(xyz: np.ndarray):
    planes = rasterize_scan(Scan(xyz, np.ones(len(xyz), np.float32)), GRID, SLICES)
    assert planes.shape == (len(CHANNELS), 16, 16)
    assert bool(torch.isfinite(planes).all())
    assert float(planes.abs().max()) <= 1.0

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2

grids = st.builds(Grid, st.integers(1, 300), st.integers(1, 300), st.floats(0.05, 5.0))


@given(grids, st.floats(-100.0, 100.0), st.floats(-100.0, 100.0))
def test_cells_and_metres_round_trip(grid: Grid, x_m: float, y_m: float):
    point = np.array([x_m, y_m])
    np.testing.assert_allclose(grid.metres_from_cells(grid.cells_from_metres(point)), point, atol=1e-9)


def test_first_cell_is_the_lower_left_and_its_centre_half_a_cell_inside():
    grid = Grid(4, 6, 0.5)
    np.testing.assert_allclose(grid.metres_from_cells(np.array([0.0, 0.0])), [-1.25, -0.75])
    np.testing.assert_allclose(grid.centres_m()[3, 5], [1.25, 0.75])


def test_rows_run_along_y_and_columns_along_x():
    index, inside = Grid(4, 6, 1.0).flat_index(torch.tensor([2.5]), torch.tensor([-1.5]))
    assert inside.item()
    assert divmod(index.item(), 6) == (0, 5)


@pytest.mark.parametrize(("half_m", "cell_m"), [(76.8, 0.32), (51.2, 0.16), (39.68, 0.16), (54.0, 0.075), (50.0, 0.1)])
def test_float32_just_below_the_border_stays_in_the_last_cell(half_m: float, cell_m: float):
    grid = Grid.square(half_m, cell_m)
    edge_m = torch.tensor([half_m], dtype=torch.float32)
    below_m = torch.nextafter(edge_m, torch.zeros(1))
    index, _ = grid.flat_index(below_m, below_m)
    assert index.item() == grid.height * grid.width - 1


def test_points_outside_and_nan_are_told_apart_and_clamped():
    x_m = torch.tensor([0.0, 5.0, -5.0, math.nan, math.inf])
    index, inside = Grid(4, 4, 1.0).flat_index(x_m, torch.zeros(5))
    assert inside.tolist() == [True, False, False, False, False]
    assert ((index >= 0) & (index < 16)).all()


@given(grids)
def test_normalized_coordinates_meet_grid_sample(grid: Grid):
    centres_m = torch.from_numpy(grid.centres_m())
    values = torch.rand(1, 1, grid.height, grid.width, dtype=torch.float64)
    sampled = torch.nn.functional.grid_sample(values, grid.normalized(centres_m)[None], align_corners=False)
    torch.testing.assert_close(sampled, values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("offset_deg", [10.0, 7.0, 180.0])
def test_bins_and_offsets_round_trip(offset_deg: float):
    window = PoseWindow(20.0, math.radians(offset_deg), 1.0, math.radians(2.0))
    for r, y, x in [(0.0, 0.0, 0.0), (1.5, 7.25, 30.0), (3.25, 40.0, 12.5)]:
        assert window.bins_from_offset(window.offset_from_bins(r, y, x)) == pytest.approx((r, y, x), abs=1e-9)


def test_window_is_centred_on_the_prior():
    window = PoseWindow(20.0, math.radians(10.0), 0.5, math.radians(1.0))
    assert window.shape == (21, 81, 81)
    assert window.offset_from_bins(10.0, 40.0, 40.0) == SE2(0.0, 0.0, 0.0)
    assert window.bins_from_offset(SE2(20.0, -20.0, math.radians(10.0))) == pytest.approx((20.0, 0.0, 80.0))


def test_full_circle_has_every_heading_once():
    window = PoseWindow(5.0, math.pi, 1.0, math.radians(2.0))
    yaws = window.yaw_offsets_rad()
    assert len(yaws) == 180
    assert 0.0 in yaws
    gaps = np.diff(np.concatenate([yaws, [yaws[0] + 2.0 * math.pi]]))
    np.testing.assert_allclose(gaps, math.radians(2.0))
    r, _, _ = window.bins_from_offset(SE2(0.0, 0.0, math.pi - 1e-9))
    assert 0.0 <= r < 180.0


def test_senseless_sizes_are_refused():
    with pytest.raises(ValueError, match="positive"):
        Grid(0, 4, 0.5)
    with pytest.raises(ValueError, match="up to pi"):
        PoseWindow(20.0, 4.0, 1.0, 0.1)
    with pytest.raises(ValueError, match="divide"):
        Grid(5, 4, 0.5).coarser(2)

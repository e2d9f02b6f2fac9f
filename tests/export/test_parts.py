import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bevfusion.export.operations import GroupNormByRows, match_by_products, norms_by_rows
from bevfusion.geometry.grid import Grid
from bevfusion.heads.matching_reference import rotate_all
from bevfusion.lidar.rasterize import rasterize
from bevfusion.lidar.visibility import cell_rays
from tests.heads.direct import correlate_direct

GRID = Grid(16, 16, 1.0)
SLICES = (0.3, 1.0, 3.0)


@pytest.mark.parametrize("shape", [(14, 14, 32, 34), (14, 12, 27 + 1, 25 + 1)])
@pytest.mark.parametrize("reach", [3, 6])
def test_products_of_matrices_are_the_correlation(shape: tuple[int, int, int, int], reach: int):
    grid = Grid(shape[0], shape[1], 1.0)
    template, features = torch.randn(2, 3, *shape[:2]), torch.randn(2, 3, *shape[2:])
    yaws = torch.tensor([[0.4], [-2.0]]) + 0.1 * torch.arange(5)
    expected = correlate_direct(rotate_all(template, yaws, grid), features, reach)
    torch.testing.assert_close(match_by_products(template, features, yaws, grid, reach), expected, atol=1e-4, rtol=1e-4)


class Raster(torch.nn.Module):
    """`rasterize` as a module, as `PointsToBeliefs` has it."""

    def __init__(self) -> None:
        super().__init__()
        cell_rays(GRID, torch.device("cpu"))

    def forward(self, xyz: torch.Tensor, height_m: torch.Tensor, intensity: torch.Tensor) -> torch.Tensor:
        return rasterize(xyz, height_m, intensity, GRID, SLICES)


@pytest.fixture(scope="module")
def graph() -> torch.nn.Module:
    cell_rays.cache_clear()
    inputs = torch.rand(9, 3), torch.rand(9), torch.rand(9)
    points = {0: torch.export.Dim("points", min=2, max=10000)}
    return torch.export.export(Raster(), inputs, dynamic_shapes=(points, points, points)).module()


@pytest.mark.parametrize("count", [2, 3, 40, 3000])
def test_the_raster_in_a_graph_is_the_raster(graph: torch.nn.Module, count: int):
    rng = np.random.default_rng(count)
    xyz = torch.from_numpy(rng.uniform(-9, 9, (count, 3)).astype(np.float32))
    height_m = torch.from_numpy(rng.uniform(-0.5, 4, count).astype(np.float32))
    intensity = torch.from_numpy(rng.random(count).astype(np.float32))
    height_m[::5] = torch.nan
    expected = rasterize(xyz, height_m, intensity, GRID, SLICES)
    assert type(expected) is torch.Tensor, "tracing leaves no tensors without values in the cache"
    torch.testing.assert_close(graph(xyz, height_m, intensity), expected, atol=1e-6, rtol=0)


@settings(max_examples=50)
@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 50), st.just(3)), elements=st.floats(-1e9, 1e9, width=32)))
def test_any_finite_points_give_the_same_raster_in_a_graph(graph: torch.nn.Module, points: np.ndarray):
    xyz = torch.from_numpy(points)
    values = xyz, xyz[:, 2].clone(), torch.full((len(xyz),), 0.5)
    torch.testing.assert_close(graph(*values), rasterize(*values, GRID, SLICES), atol=1e-6, rtol=0)


def test_group_norm_by_rows_is_group_norm():
    norm = torch.nn.GroupNorm(2, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = 3.0 + torch.randn(2, 6, 9, 11)
    torch.testing.assert_close(GroupNormByRows(norm)(x), norm(x), atol=1e-5, rtol=1e-5)
    nested = torch.nn.Sequential(torch.nn.Sequential(norm), torch.nn.ReLU())
    norms_by_rows(nested)
    assert isinstance(nested[0][0], GroupNormByRows)
    assert math.isclose(float(nested[0][0].eps), norm.eps)

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bevfusion.geometry.grid import Grid
from bevfusion.lidar import voxelize as module
from bevfusion.lidar.rasterize import bev_channels, rasterize_scan
from bevfusion.lidar.voxelize import VOXEL_FEATURES, VoxelGrid, scan_input, voxelize, voxelize_scan
from bevfusion.structures import Scan, Voxels

PLAN = Grid(12, 16, 0.5)  # 6 m along y, 8 m along x
GRID = VoxelGrid(PLAN, low_m=-0.5, layer_m=0.5, layers=6)
COLUMN = {name: number for number, name in enumerate(VOXEL_FEATURES)}


def make(xyz: list[list[float]] | np.ndarray, intensity: list[float] | np.ndarray | None = None) -> Voxels:
    """Heights are z."""
    points = torch.as_tensor(np.asarray(xyz, np.float32)).reshape(-1, 3)
    strength = torch.zeros(len(points)) if intensity is None else torch.as_tensor(np.asarray(intensity, np.float32))
    return voxelize(points, points[:, 2].contiguous(), strength, GRID)


def slow(xyz: np.ndarray, intensity: np.ndarray) -> dict[tuple[int, int, int], list[float]]:
    """Cell (layer, row, column) -> mean offsets, density, mean intensity, by a loop over points."""
    inside: dict[tuple[int, int, int], list[np.ndarray]] = {}
    for (x, y, z), strength in zip(xyz.astype(np.float64), intensity, strict=True):
        place = np.array([(x + 4.0) / 0.5, (y + 3.0) / 0.5, (z + 0.5) / 0.5])
        if not (np.isfinite(place).all() and (place >= 0).all() and (place < [16, 12, 6]).all()):
            continue
        column, row, layer = np.floor(place).astype(int)
        inside.setdefault((layer, row, column), []).append(np.array([*place - [column, row, layer] - 0.5, strength]))
    result = {}
    for cell, members in inside.items():
        *offset, strength = np.mean(members, axis=0)
        result[cell] = [*offset, min(math.log1p(len(members)) / math.log(33.0), 1.0), strength]
    return result


def assert_as_slow(voxels: Voxels, xyz: np.ndarray, intensity: np.ndarray) -> None:
    expected = slow(xyz, intensity)
    cells = [tuple(cell) for cell in voxels.cells[:, 1:].tolist()]
    assert cells == sorted(expected)
    if cells:
        np.testing.assert_allclose(voxels.features[:, :5], [expected[cell] for cell in cells], atol=2e-5)


@pytest.mark.parametrize("table", [2**25, 0])
def test_voxels_equal_a_loop_over_points(table: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_TABLE_CELLS", table)
    rng = np.random.default_rng(0)
    xyz = rng.uniform([-5, -4, -1], [5, 4, 3], (3000, 3)).astype(np.float32)
    intensity = rng.random(3000).astype(np.float32)
    voxels = make(xyz, intensity)
    assert 500 < len(voxels.cells) < 1152
    assert_as_slow(voxels, xyz, intensity)
    assert (voxels.cells[:, 0] == 0).all()


def test_the_order_of_points_does_not_matter():
    rng = np.random.default_rng(1)
    xyz, intensity = rng.uniform(-3, 3, (500, 3)).astype(np.float32), rng.random(500).astype(np.float32)
    order = rng.permutation(500)
    first, second = make(xyz, intensity), make(xyz[order], intensity[order])
    torch.testing.assert_close(first.cells, second.cells, rtol=0, atol=0)
    torch.testing.assert_close(first.features, second.features)


def test_no_point_and_one_point():
    assert make([]).features.shape == (0, len(VOXEL_FEATURES))
    assert make([]).cells.shape == (0, 4)
    voxels = make([[0.1, -0.3, 0.25]], [0.7])
    assert voxels.cells.tolist() == [[0, 1, 5, 8]]
    np.testing.assert_allclose(voxels.features[0], [-0.3, -0.1, 0.0, math.log(2) / math.log(33), 0.7, 0.0], atol=1e-5)


def test_points_in_one_place_are_one_voxel():
    voxels = make([[0.1, 0.2, 0.3]] * 40, [0.25] * 40)
    assert len(voxels.cells) == 1
    assert voxels.features[0, COLUMN["density"]] == 1.0
    assert voxels.features[0, COLUMN["intensity"]] == pytest.approx(0.25)


def test_borders_belong_to_the_cell_above_and_the_top_to_none():
    assert make([[0.0, 0.0, 0.0]]).cells.tolist() == [[0, 1, 6, 8]]
    assert make([[-4.0, -3.0, -0.5]]).cells.tolist() == [[0, 0, 0, 0]]
    outside = [[4.0, 0, 0], [-4.001, 0, 0], [0, 3.0, 0], [0, -3.001, 0], [0, 0, 2.5], [0, 0, -0.501]]
    assert len(make(outside).cells) == 0


@pytest.mark.parametrize(("cell_m", "half"), [(0.32, 240), (0.16, 320), (0.075, 720), (0.1, 500), (0.25, 160)])
def test_just_below_the_border_stays_inside(cell_m: float, half: int):
    """float32 puts such points one cell too far."""
    grid = VoxelGrid(Grid(2 * half, 2 * half, cell_m), -0.7, 0.1, 32)
    edge = np.nextafter(np.float32(half * cell_m), np.float32(0))
    top = np.nextafter(np.float32(-0.7 + 3.2), np.float32(0))
    point = torch.tensor([[edge, edge, top]])
    voxels = voxelize(point, point[:, 2].contiguous(), torch.zeros(1), grid)
    assert (voxels.cells[:, 1:] < torch.tensor(grid.shape)).all()
    assert (voxels.features[:, :3].abs() <= 0.5).all()


def test_contrast_is_the_same_for_a_weaker_sensor():
    rng = np.random.default_rng(0)
    xyz, strength = rng.uniform(-2, 2, (400, 3)), rng.random(400)
    strong, weak = (make(xyz, s).features[:, COLUMN["contrast"]] for s in (strength, 0.4 * strength + 0.1))
    torch.testing.assert_close(strong, weak, atol=1e-4, rtol=0)
    assert strong.std() > 0.1
    assert make(xyz).features[:, COLUMN["contrast"]].abs().max() == 0.0


@settings(max_examples=40)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 40), st.just(3)),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    )
)
def test_anything_gives_finite_voxels_inside_the_grid(xyz: np.ndarray):
    voxels = make(xyz, np.ones(len(xyz), np.float32))
    assert bool(torch.isfinite(voxels.features).all())
    assert voxels.features.abs().max() <= 1.0 if len(voxels.cells) else True
    assert (voxels.cells >= 0).all()
    assert (voxels.cells[:, 1:] < torch.tensor(GRID.shape)).all()


def test_what_was_seen_equals_the_raster_s_planes():
    rng = np.random.default_rng(3)
    xyz = rng.uniform([-5, -4, -2], [5, 4, 2], (400, 3)).astype(np.float32)
    scan = Scan(xyz, rng.random(400).astype(np.float32))
    bev = Grid(6, 8, 1.0)
    planes, _ = voxelize_scan(scan, bev, GRID)
    raster = dict(zip(bev_channels((0.3, 1.0)), rasterize_scan(scan, bev, (0.3, 1.0)), strict=True))
    torch.testing.assert_close(planes, torch.stack([raster["free"], raster["never_seen"]]))


def test_the_encoder_s_input_is_the_raster_or_voxels():
    scan = Scan(np.zeros((3, 3), np.float32), np.zeros(3, np.float32))
    bev = Grid(6, 8, 1.0)
    planes, voxels = scan_input(scan, bev, (0.3, 1.0), None)
    assert (planes.shape, voxels) == ((len(bev_channels((0.3, 1.0))), 6, 8), None)
    planes, voxels = scan_input(scan, bev, (0.3, 1.0), GRID)
    assert planes.shape == (2, 6, 8)
    assert voxels is not None


def test_many_scans_become_one_batch():
    parts = [make([[0.1, 0.1, 0.1]]), make([]), make([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]])]
    together = Voxels.together(parts)
    assert together.cells[:, 0].tolist() == [0, 2, 2]
    torch.testing.assert_close(together.features, torch.cat([part.features for part in parts]))


@pytest.mark.parametrize("broken", [{"layers": 0}, {"layer_m": 0.0}])
def test_a_grid_without_height_is_refused(broken: dict):
    with pytest.raises(ValueError, match="layers of positive height"):
        VoxelGrid(**{"plan": PLAN, "low_m": 0.0, "layer_m": 0.5, "layers": 4, **broken})


def test_too_many_voxels_to_number_are_refused():
    with pytest.raises(ValueError, match=r"less than 2\^31 voxels"):
        VoxelGrid(Grid(40_000, 40_000, 0.01), 0.0, 0.1, 2)

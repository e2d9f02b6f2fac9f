import pytest
import torch

from bevfusion.benchmark import encoders, measuring
from bevfusion.lidar.voxelize import voxelize_scan

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_LEAST_S", 0.0), ("_LEAST_RUNS", 2), ("_WARM_UPS", 0)):
        monkeypatch.setattr(measuring, name, value)


def test_every_encoder_is_measured_forward_and_backward(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoders, "POINTS", 300)
    rows = encoders.encoder_rows(CPU)
    methods = [row.method for row in rows]
    assert [m for m in methods if m.startswith("voxels alone")]
    for name in ("raster", *(f"sparse, {backend}" for backend in encoders._backends())):
        assert methods.count(name) == 2
    assert all(row.timed.median_ms > 0 for row in rows)


def test_the_street_fills_the_grid():
    scan = encoders.street_scan(20_000, 0)
    grid = encoders._grid(encoders.sparse_config("reference"))
    _, voxels = voxelize_scan(scan, encoders.bev_grid(encoders.sparse_config("reference")), grid)
    assert 3_000 < len(voxels.cells) < 20_000

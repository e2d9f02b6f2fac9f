"""A scan as voxels, and the encoders of both kinds, by each backend that is installed."""

import importlib.util
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from bevfusion.benchmark.measuring import MethodTiming, Task, compared
from bevfusion.build import bev_grid, build_model, voxel_grid
from bevfusion.config import Config, ModelConfig, SparseConfig
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.rasterize import rasterize_scan
from bevfusion.lidar.voxelize import VoxelGrid, voxelize, voxelize_scan
from bevfusion.progress import frame_progress
from bevfusion.structures import Scan, Voxels

POINTS = 120_000


def encoder_rows(device: torch.device) -> list[MethodTiming]:
    """Voxelizing on its own and with all that goes before, then the encoders, forward and with backward."""
    rows: list[MethodTiming] = []
    jobs: list[Callable[[torch.device], list[MethodTiming]]] = [_inputs, _encoders]
    with frame_progress(f"encoders on {device.type}", len(jobs)) as show:
        for done, job in enumerate(jobs, start=1):
            rows.extend(job(device))
            show(done, len(jobs))
    return rows


def sparse_config(backend: str) -> Config:
    """The default network with the sparse encoder."""
    sparse = SparseConfig.model_validate({"backend": backend})
    return Config(model=ModelConfig(encoder="sparse", sparse=sparse))


def street_scan(points: int, seed: int) -> Scan:
    """Half of the points on the ground, half on facades; as dense as a rotating sensor's, in inverse range."""
    rng = np.random.default_rng(seed)
    azimuth = rng.uniform(-np.pi, np.pi, points)
    range_m = np.minimum(2.0 + rng.exponential(15.0, points), 80.0)
    ground = rng.random(points) < 0.5
    facade_m = np.minimum(12.0 / np.maximum(np.abs(np.sin(azimuth)), 0.15), 80.0)
    range_m = np.where(ground, np.minimum(range_m, facade_m), facade_m + rng.normal(0.0, 0.02, points))
    z_m = np.where(ground, -1.73 + rng.normal(0.0, 0.03, points), rng.uniform(-1.7, 6.0, points))
    xyz = np.stack([range_m * np.cos(azimuth), range_m * np.sin(azimuth), z_m], axis=1)
    return Scan(xyz.astype(np.float32), rng.random(points).astype(np.float32))


def _inputs(device: torch.device) -> list[MethodTiming]:
    config, scan = sparse_config("reference"), street_scan(POINTS, 0)
    bev, grid = bev_grid(config), _grid(config)
    xyz, intensity = (torch.from_numpy(values).to(device) for values in (scan.xyz, scan.intensity))
    height_m = torch.from_numpy(height_above_ground(scan.xyz)).to(device)
    voxels = voxelize(xyz, height_m, intensity, grid)
    # read x, y, z, height and intensity once, write features and cells once
    moved = 20 * POINTS + voxels.features.nbytes + voxels.cells.nbytes
    task = Task(f"{POINTS:,} points to an encoder's input", moved, 0.0)
    with torch.inference_mode():
        return compared(
            task,
            {
                "ground, raster, visibility": lambda: rasterize_scan(scan, bev, config.bev.slices_m).to(device),
                "ground, voxels, visibility": lambda: _moved(voxelize_scan(scan, bev, grid), device),
                f"voxels alone ({len(voxels.cells):,})": lambda: voxelize(xyz, height_m, intensity, grid),
            },
            device,
        )


def _moved(given: tuple[Tensor, Voxels], device: torch.device) -> None:
    given[0].to(device)
    given[1].to(device)


def _encoders(device: torch.device) -> list[MethodTiming]:
    scan, bev = street_scan(POINTS, 0), bev_grid(sparse_config("reference"))
    raster = rasterize_scan(scan, bev, Config().bev.slices_m)[None].to(device)
    seen, voxels = voxelize_scan(scan, bev, _grid(sparse_config("reference")))
    given: dict[str, tuple[nn.Module, tuple[Tensor | Voxels, ...]]] = {
        "raster": (build_model(Config()).lidar_encoder, (raster,))
    }
    for backend in _backends():
        given[f"sparse, {backend}"] = (
            build_model(sparse_config(backend)).lidar_encoder,
            (seen[None].to(device), voxels.to(device)),
        )
    forward, both = {}, {}
    for name, (encoder, inputs) in given.items():
        forward[name], both[name] = _methods(encoder.to(device), inputs)
    output = given["raster"][0](raster)
    task = Task(f"encoder, {POINTS:,} points", raster.nbytes + output.nbytes, 0.0)
    back = Task(f"encoder with backward, {POINTS:,} points", raster.nbytes + 3 * output.nbytes, 0.0)
    return compared(task, forward, device) + compared(back, both, device)


def _methods(encoder: nn.Module, inputs: tuple[Tensor | Voxels, ...]) -> tuple[Callable[[], None], Callable[[], None]]:
    @torch.inference_mode()
    def forward() -> None:
        encoder(*inputs)

    def both() -> None:
        encoder.zero_grad(set_to_none=True)
        encoder(*inputs).sum().backward()

    return forward, both


def _backends() -> list[str]:
    return ["reference", *(["spconv"] if importlib.util.find_spec("spconv") is not None else [])]


def _grid(config: Config) -> VoxelGrid:
    grid = voxel_grid(config)
    assert grid is not None  # the configuration asks for voxels
    return grid

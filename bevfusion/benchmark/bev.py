"""A scan as a raster: ground, planes and visibility."""

import math

import numpy as np
import torch

from bevfusion.benchmark.measuring import MethodTiming, Task, compared
from bevfusion.config import Config
from bevfusion.geometry.grid import Grid
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.rasterize import bev_channels, rasterize, rasterize_scan
from bevfusion.structures import Scan

POINTS = 120_000
GRID = Grid.square(48.0, 0.5)


def bev_rows(device: torch.device) -> list[MethodTiming]:
    """All of it from points in memory (ground is fitted on the CPU), and the planes alone where they are computed."""
    scan, slices_m = dense_scan(0), Config().bev.slices_m
    xyz, intensity = (torch.from_numpy(values).to(device) for values in (scan.xyz, scan.intensity))
    height_m = torch.from_numpy(height_above_ground(scan.xyz)).to(device)
    planes = len(bev_channels(slices_m))
    # read x, y, z and intensity once, write the planes once; one comparison and one sum a point and plane
    least = Task(f"{POINTS:,} points", 16 * POINTS + 4 * planes * GRID.height * GRID.width, 2.0 * POINTS * planes)
    with torch.inference_mode():
        return compared(
            least,
            {
                "ground and planes": lambda: rasterize_scan(scan, GRID, slices_m).to(device),
                "planes": lambda: rasterize(xyz, height_m, intensity, GRID, slices_m),
                "ground": lambda: height_above_ground(scan.xyz),
            },
            device,
        )


def dense_scan(seed: int) -> Scan:
    """Points as thick as a 64-beam sensor's: half of them ground, thinning out with the distance."""
    rng = np.random.default_rng(seed)
    azimuth = rng.uniform(-math.pi, math.pi, POINTS)
    range_m = np.minimum(2.0 + rng.exponential(15.0, POINTS), 80.0)
    ground = rng.random(POINTS) < 0.5
    z_m = np.where(ground, -1.73 + rng.normal(0.0, 0.03, POINTS), rng.uniform(-1.7, 6.0, POINTS))
    xyz = np.stack([range_m * np.cos(azimuth), range_m * np.sin(azimuth), z_m], axis=1)
    return Scan(xyz.astype(np.float32), rng.random(POINTS).astype(np.float32))

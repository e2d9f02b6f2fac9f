"""What training draws from drives: a scan, a tile about a prior that is off, and where the truth lies."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import Dataset

from bevfusion.datasets.augment import (
    drop_beams,
    drop_mapped_kinds,
    drop_points,
    insert_vehicles,
    mirrored,
    without_vehicles,
)
from bevfusion.datasets.directions import Directions
from bevfusion.datasets.drive import Drive, together
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.ground_contrast import contrast_of_scan
from bevfusion.lidar.voxelize import VoxelGrid, scan_input
from bevfusion.maps.source import MapSource
from bevfusion.maps.tiles import TileStore
from bevfusion.structures import Batch, DataError, DirectionSample, Frame, Scan, Voxels

_ODOMETRY_STD = (0.05, 0.05, math.radians(0.2))  # m, m, rad: over the few scans that are put together


@dataclass(frozen=True, slots=True)
class Variation:
    """How far samples may differ from the drive; the defaults leave it as it is."""

    turn: bool = False
    mirror: bool = False
    point_dropout: float = 0.0
    beam_dropout: float = 0.0
    intensity_dropout: float = 0.0
    vehicles: int = 0
    vehicle_removal: float = 0.0
    map_dropout: float = 0.0
    scans: int = 1


class PoseSamples(Dataset[Batch]):
    """Sample i is a function of (seed, i) alone, whoever asks and when: a resumed run sees what it would have seen.

    Every pass over the frames takes them in another order.
    """

    def __init__(
        self,
        drives: Sequence[tuple[Drive, MapSource]],
        *,
        bev_grid: Grid,
        tile_grid: Grid,
        slices_m: Sequence[float],
        offset_m: float,
        offset_rad: float,
        variation: Variation,
        seed: int,
        voxel_grid: VoxelGrid | None = None,
        contrast_stride: int | None = None,
        directions: Directions | None = None,
    ) -> None:
        """All frames of all drives, each drive with its own map; one pass over them until `spanning` says otherwise.

        `contrast_stride` cells of the raster are one of the ground's contrast; None: samples have none.

        Raises:
            DataError: if there is no frame at all.
        """
        self.drives = drives
        self.frames = [(d, f) for d, (drive, _) in enumerate(drives) for f in range(len(drive))]
        if not self.frames:
            raise DataError("expected at least one frame to train on, got none")
        self.stores = [TileStore(source, tile_grid) for _, source in drives]
        self.bev_grid = bev_grid
        self.slices_m = slices_m
        self.voxel_grid = voxel_grid
        self.contrast_stride = contrast_stride
        self.directions = directions
        self.offset_m = offset_m
        self.offset_rad = offset_rad
        self.variation = variation
        self.seed = seed
        self.span = range(len(self.frames))

    def spanning(self, span: range) -> "PoseSamples":
        """The same samples under other numbers, sharing maps and drives."""
        other = copy.copy(self)
        other.span = span
        return other

    def __len__(self) -> int:
        return len(self.span)

    def describe(self, position: int) -> str:
        """Which drive and frame a sample comes from, for messages."""
        drive, frame = self._source(self.span[position])
        return f"{self.drives[drive][0].name}[{frame}]"

    def __getitem__(self, position: int) -> Batch:
        """A batch of one."""
        number = self.span[position]
        rng = np.random.default_rng([self.seed, number])
        drive_index, frame_index = self._source(number)
        drive, source = self.drives[drive_index]
        frame = drive[frame_index]
        if frame.truth is None:
            raise DataError(f"{drive.name}: frame {frame.index} has no true pose to learn from")
        map_from_ego = source.frame.map_from_ego(frame.truth)
        earlier = self._earlier(drive, source, frame_index, rng)
        scan = self._vary(together([*earlier, replace(frame, odom_from_ego=map_from_ego)]).scan, rng)
        mirror = self.variation.mirror and bool(rng.random() < 0.5)
        if mirror:
            scan = mirrored(scan)
        turn_rad = rng.uniform(-math.pi, math.pi) if self.variation.turn else 0.0
        shift = SE2(*rng.uniform(-self.offset_m, self.offset_m, 2))
        centre = SE2(map_from_ego.x_m, map_from_ego.y_m, turn_rad) @ (shift.mirrored() if mirror else shift).inverse()
        layers = self.stores[drive_index].turned_tile(centre, mirror).layers
        tile_from_ego = centre.inverse() @ map_from_ego
        if mirror:
            tile_from_ego = tile_from_ego.mirrored()
        yaw_off_rad = rng.uniform(-self.offset_rad, self.offset_rad)
        truth = [tile_from_ego.x_m, tile_from_ego.y_m, yaw_off_rad]
        if self.variation.map_dropout:
            layers = drop_mapped_kinds(layers, rng.uniform(0.0, self.variation.map_dropout), rng)
        height_m = height_above_ground(scan.xyz)
        bev, voxels = scan_input(scan, self.bev_grid, self.slices_m, self.voxel_grid, height_m)
        stride = self.contrast_stride
        contrast = None if stride is None else contrast_of_scan(scan, height_m, self.bev_grid, stride)[None]
        prior_yaw_rad = wrap_angle(tile_from_ego.yaw_rad - yaw_off_rad)
        direction = None
        if self.directions is not None:
            direction = self.directions.sample(drive_index, map_from_ego, tile_from_ego, prior_yaw_rad, mirror, rng)
        return Batch(
            bev[None],
            torch.from_numpy(layers[None].astype(np.float32) / 127.0),
            torch.tensor([prior_yaw_rad], dtype=torch.float32),
            torch.tensor([truth], dtype=torch.float32),
            voxels,
            contrast,
            direction,
        )

    def _source(self, number: int) -> tuple[int, int]:
        pass_, position = divmod(number, len(self.frames))
        return self.frames[int(_shuffled(len(self.frames), self.seed, pass_)[position])]

    def _earlier(self, drive: Drive, source: MapSource, position: int, rng: np.random.Generator) -> list[Frame]:
        """Frames before one, whose scans go with its own, placed as odometry would; none for every other sample."""
        if self.variation.scans == 1 or rng.random() < 0.5:
            return []
        count = int(rng.integers(1, self.variation.scans))
        frames = [drive[k] for k in range(max(0, position - count), position)]
        return [
            replace(f, odom_from_ego=source.frame.map_from_ego(f.truth) @ SE2(*rng.normal(0.0, _ODOMETRY_STD)))
            for f in frames
            if f.truth is not None
        ]

    def _vary(self, scan: Scan, rng: np.random.Generator) -> Scan:
        variation = self.variation
        if scan.labels is not None and rng.random() < variation.vehicle_removal:
            scan = without_vehicles(scan)
        if variation.point_dropout:
            scan = drop_points(scan, rng.uniform(0.0, variation.point_dropout), rng)
        if variation.beam_dropout:
            scan = drop_beams(scan, rng.uniform(0.0, variation.beam_dropout), rng)
        if variation.vehicles:
            scan = insert_vehicles(scan, int(rng.integers(variation.vehicles + 1)), rng)
        if rng.random() < variation.intensity_dropout:
            scan = Scan(scan.xyz, np.zeros_like(scan.intensity), scan.labels)
        return scan


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, pass_: int) -> np.ndarray:
    return np.random.default_rng([seed, pass_, 1]).permutation(count)


def collate(samples: Sequence[Batch]) -> Batch:
    """One batch of many samples, all with a truth or none."""
    truths = [sample.truth for sample in samples if sample.truth is not None]
    voxels = [sample.voxels for sample in samples if sample.voxels is not None]
    contrasts = [sample.contrast for sample in samples if sample.contrast is not None]
    directions = [sample.direction for sample in samples if sample.direction is not None]
    return Batch(
        torch.cat([sample.bev for sample in samples]),
        torch.cat([sample.tile for sample in samples]),
        torch.cat([sample.prior_yaw_rad for sample in samples]),
        torch.cat(truths) if truths else None,
        Voxels.together(voxels) if voxels else None,
        torch.cat(contrasts) if contrasts else None,
        DirectionSample.together(directions) if directions else None,
    )

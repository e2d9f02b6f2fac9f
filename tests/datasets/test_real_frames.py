"""Real scans on real maps: were a sign, an axis or the lever arm wrong, walls would not stand on walls."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import layer_index
from bevfusion.maps.source import open_map
from bevfusion.maps.tiles import TileStore

BUILDING = 50  # of SemanticKITTI
GRID = Grid.square(70.0, 0.5)

PLACES = [
    ("2011_10_03/2011_10_03_drive_0027_sync", "kitti_00.osm.bz2"),
    ("2011_10_03/2011_10_03_drive_0027_sync", "image/kitti_00.png"),
    ("2011_09_30/2011_09_30_drive_0027_sync", "kitti_07.osm.bz2"),
    ("2011_09_30/2011_09_30_drive_0027_sync", "image/kitti_07.png"),
]


class Walls:
    """Points on real walls, and how far every place of the map is from a mapped wall."""

    def __init__(self, data: Path, drive: str, map_name: str) -> None:
        frame = KittiRawDrive(data / "kitti_raw" / drive)[5]
        source = open_map(data / "maps" / map_name)
        assert frame.truth is not None
        assert frame.scan.labels is not None
        self.truth = source.frame.map_from_ego(frame.truth)
        xyz = frame.scan.xyz[(frame.scan.labels & 0xFFFF) == BUILDING]
        self.points_m = xyz[np.hypot(xyz[:, 0], xyz[:, 1]) < 40.0, :2].astype(np.float64)
        tile = TileStore(source, GRID).tile(self.truth)
        self.tile_from_map = tile.map_from_tile.inverse()
        outline = tile.layers[layer_index("building_outline")] > 0
        self.away_m = cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, 5) * GRID.cell_m

    def overlap(self, pose: SE2, mirror: bool = False) -> float:
        """Share of the wall points within 0.75 m of a mapped wall, the scan standing at a pose."""
        points_m = self.points_m * np.array([1.0, -1.0]) if mirror else self.points_m
        cells = np.round(GRID.cells_from_metres((self.tile_from_map @ pose).apply(points_m))).astype(int)
        rows, cols = np.clip(cells, 0, GRID.height - 1).T
        return float((self.away_m[rows, cols] < 0.75).mean())

    def shifted(self, x_m: float, y_m: float, yaw_deg: float = 0.0) -> SE2:
        return SE2(self.truth.x_m + x_m, self.truth.y_m + y_m, self.truth.yaw_rad + math.radians(yaw_deg))


@pytest.mark.parametrize(("drive", "map_name"), PLACES)
def test_walls_stand_on_walls_at_the_true_pose_alone(shared_data, drive: str, map_name: str):
    walls = Walls(shared_data, drive, map_name)
    # GPS and map are each good to a metre or so: the best shift within that is the truth.
    steps = np.arange(-1.5, 1.75, 0.5)
    near = max(walls.overlap(walls.shifted(x, y)) for x in steps for y in steps)
    ring = [(r * math.cos(a), r * math.sin(a)) for r in (4.0, 6.0, 8.0) for a in np.arange(16) * math.pi / 8]
    far = [walls.overlap(walls.shifted(x, y)) for x, y in ring]
    assert near > 0.5
    assert near > 1.05 * max(far)  # along a street of one long facade a shift keeps most of it
    assert near > 2.5 * float(np.mean(far))


@pytest.mark.parametrize(("drive", "map_name"), PLACES)
def test_walls_do_not_stand_on_walls_turned_or_in_a_mirror(shared_data, drive: str, map_name: str):
    walls = Walls(shared_data, drive, map_name)
    steps = np.arange(-1.5, 1.75, 0.5)

    def best(yaw_deg: float, mirror: bool = False) -> float:
        return max(walls.overlap(walls.shifted(x, y, yaw_deg), mirror) for x in steps for y in steps)

    upright = best(0.0)
    assert all(upright > 1.2 * best(yaw_deg) for yaw_deg in (-90.0, -10.0, 10.0, 90.0, 180.0))
    assert upright > 1.2 * best(0.0, mirror=True)

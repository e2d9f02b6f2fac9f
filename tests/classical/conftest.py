"""A street with a crossing and four houses, as a map, and what a LiDAR sees of it, by plain geometry."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import Area, Line, OsmMap, Road
from bevfusion.maps.render import OsmRenderer
from bevfusion.structures import Scan

SENSOR_M, WALL_M, FAR_M = 1.7, 6.0, 60.0
NEVER_M = 1e6  # along a ray that hits nothing
ROAD_M = 7.0
MAIN = ((-150.0, -40.0), (150.0, 40.0))
SIDE = ((12.0, 3.2), (-14.0, 100.0))


def rectangle(x_m: float, y_m: float, length_m: float, width_m: float, yaw_rad: float) -> Area:
    """A house by its centre and size."""
    half = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]]) * (length_m / 2, width_m / 2)
    return Area("building", SE2(x_m, y_m, yaw_rad).apply(half))


def road(ends_m: tuple[tuple[float, float], tuple[float, float]], first_node: int) -> Road:
    return Road("residential", np.array(ends_m), (first_node, first_node + 1), ROAD_M, 0, True)


HOUSES = (
    rectangle(-22.0, 8.0, 14.0, 9.0, 0.26),
    rectangle(-8.0, -15.0, 18.0, 8.0, 0.26),
    rectangle(27.0, 22.0, 10.0, 12.0, 0.26),
    rectangle(22.0, -9.0, 12.0, 10.0, 0.30),
)


@dataclass(frozen=True)
class Street:
    """What is on the map, and how the scanner and the ground are."""

    houses: tuple[Area, ...] = HOUSES
    roads: tuple[Road, ...] = (road(MAIN, 1), road(SIDE, 3))
    fences: tuple[Line, ...] = ()
    gain: float = 1.0  # of the reflectance; 0 is a sensor without
    kerb_m: float = 0.1

    def source(self) -> OsmRenderer:
        """The map of it."""
        box = (-200.0, -200.0, 200.0, 200.0)
        return OsmRenderer(OsmMap(LocalFrame(49.0, 8.4), box, self.roads, self.houses, self.fences, (), "street"))

    def without(self, *names: str) -> "Street":
        """The same street, some of its kinds of things not there."""
        return replace(self, **dict.fromkeys(names, ()))

    def scan(self, map_from_ego: SE2) -> Scan:
        """One turn of 64 beams at half a degree, ray by ray."""
        azimuth = np.radians(np.arange(0.0, 360.0, 0.5))
        elevation = np.radians(np.linspace(-24.0, 4.0, 64))
        walls_m = np.concatenate([np.stack([h.outer_m[:-1], h.outer_m[1:]], axis=1) for h in self.houses] or [[]])
        origin = np.array([map_from_ego.x_m, map_from_ego.y_m])
        wall_range_m = nearest_wall_m(origin, azimuth + map_from_ego.yaw_rad, walls_m)
        az, el = (a.ravel() for a in np.meshgrid(azimuth, elevation, indexing="ij"))
        to_wall_m = np.repeat(wall_range_m, len(elevation))
        to_ground_m = np.where(el < 0.0, SENSOR_M / np.tan(np.maximum(-el, 1e-6)), NEVER_M)
        range_m = np.minimum(to_wall_m, to_ground_m)
        z_m = np.where(to_wall_m < to_ground_m, range_m * np.tan(el), -SENSOR_M)
        hit = (range_m < FAR_M) & (range_m > 2.5) & (z_m < WALL_M - SENSOR_M)
        xy_m = np.stack([range_m * np.cos(az), range_m * np.sin(az)], axis=1)[hit]
        z_m, on_wall = z_m[hit], (to_wall_m < to_ground_m)[hit]
        off_road = np.min([distance_m(map_from_ego.apply(xy_m), r.xy_m) for r in self.roads], axis=0) > ROAD_M / 2
        verge = off_road & ~on_wall
        rng = np.random.default_rng(0)
        xyz = np.column_stack([xy_m, z_m + self.kerb_m * verge]) + rng.normal(0.0, 0.02, (len(xy_m), 3))
        strength = 0.3 + 0.06 * verge - 0.003 * np.linalg.norm(xy_m, axis=1) + rng.normal(0.0, 0.03, len(xy_m))
        return Scan(xyz.astype(np.float32), np.clip(self.gain * strength, 0.0, 1.0).astype(np.float32))


def nearest_wall_m(origin: np.ndarray, bearing_rad: np.ndarray, walls_m: np.ndarray) -> np.ndarray:
    """Distance along each ray to the first of the segments (n, 2, 2); NEVER_M where there is none."""
    if walls_m.size == 0:
        return np.full(len(bearing_rad), NEVER_M)
    ray = np.stack([np.cos(bearing_rad), np.sin(bearing_rad)], axis=1)[:, None]
    start, along = walls_m[None, :, 0] - origin, walls_m[None, :, 1] - walls_m[None, :, 0]
    cross = ray[..., 0] * along[..., 1] - ray[..., 1] * along[..., 0]
    cross = np.where(cross == 0.0, 1e-12, cross)
    far = (start[..., 0] * along[..., 1] - start[..., 1] * along[..., 0]) / cross
    share = (start[..., 0] * ray[..., 1] - start[..., 1] * ray[..., 0]) / cross
    return np.where((far > 0.0) & (share >= 0.0) & (share <= 1.0), far, NEVER_M).min(axis=1)


def distance_m(points_m: np.ndarray, ends_m: np.ndarray) -> np.ndarray:
    """Distance of points to a segment."""
    along = ends_m[1] - ends_m[0]
    share = np.clip((points_m - ends_m[0]) @ along / (along @ along), 0.0, 1.0)
    return np.linalg.norm(points_m - ends_m[0] - share[:, None] * along, axis=1)


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Many small transforms: threads that wait for a busy core cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def street() -> Street:
    return Street()


@pytest.fixture(scope="session")
def on_the_street() -> SE2:
    """A pose on the right-hand lane, along the main road, at no round number."""
    return SE2(-2.13, -2.37, math.atan2(80.0, 300.0) + 0.021)


@pytest.fixture(scope="session")
def crossing_without_houses(street: Street) -> Street:
    return street.without("houses")


Moved = Callable[[SE2, float, float, float], SE2]


@pytest.fixture(scope="session")
def moved() -> Moved:
    """A pose displaced in map axes and in heading (degrees)."""
    return lambda pose, east_m, north_m, turn_deg: SE2(
        pose.x_m + east_m, pose.y_m + north_m, pose.yaw_rad + math.radians(turn_deg)
    )

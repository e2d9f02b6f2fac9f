"""LiDARs: beam tables, ray casting by Open3D, noise, dropouts and intensity.

The only file of the package that imports Open3D for simulation.
"""

import ctypes
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from bevfusion.choices import meant
from bevfusion.extras import needs
from bevfusion.simulate.facades import Facades
from bevfusion.simulate.ground import GroundPatch
from bevfusion.simulate.returns import Hits, Returns, lost_share, overlay, own_car_hides, reported_strength, shade
from bevfusion.simulate.surfaces import Surfaces
from bevfusion.structures import DataError, Scan

_MAX_CROSSINGS = 8  # skins that one ray may cross: more foliage than that is opaque
_BLIND_M = 0.9  # nothing nearer is reported
_EDGE_M, _EDGE_SHARE = (0.25, 2.0), 0.15  # steps within a beam's breadth, and how often a beam lies on their edge
_SKIN_M = 1e-3  # a ray goes on this far behind a skin


@dataclass(frozen=True, slots=True)
class Sensor:
    """A spinning LiDAR: which rays it casts in a turn, and how well it measures."""

    elevations_rad: tuple[float, ...]  # one a beam, above the horizon
    columns: int  # firings a turn
    max_range_m: float
    height_m: float  # above the road, as usually mounted
    noise_m: float  # standard deviation of the range
    dropout: float  # share of good returns that are lost
    gain: float = 1.0  # of the reported strength: age, window, weather
    azimuths_rad: tuple[float, ...] = ()  # where the beams of a firing point, counter-clockwise; none: all ahead
    name: str = ""  # of those that do not ship

    def with_columns(self, columns: int) -> "Sensor":
        """The same sensor with another number of firings a turn.

        Raises:
            DataError: if there are fewer than 16.
        """
        if columns < 16:
            raise DataError(f"expected at least 16 columns a turn, got {columns}")
        return replace(self, columns=columns)

    def directions(self) -> Float32[np.ndarray, "n 3"]:
        """Unit vectors of one turn in the sensor's frame, beam by beam from the top, counter-clockwise from behind."""
        azimuth = -math.pi + (np.arange(self.columns) + 0.5) * (2.0 * math.pi / self.columns)
        if self.azimuths_rad:
            azimuth = azimuth + np.array(self.azimuths_rad)[:, None]
        elevation = np.array(self.elevations_rad)[:, None]
        flat = np.broadcast_to(np.cos(elevation), (len(elevation), self.columns))
        parts = [flat * np.cos(azimuth), flat * np.sin(azimuth), np.broadcast_to(np.sin(elevation), flat.shape)]
        return np.stack(parts, axis=2).reshape(-1, 3).astype(np.float32)


def _fan(top_deg: float, bottom_deg: float, count: int) -> tuple[float, ...]:
    return tuple(float(angle) for angle in np.deg2rad(np.linspace(top_deg, bottom_deg, count)))


SENSORS: dict[str, Sensor] = {
    # two blocks of 32 lasers, the lower one spaced half as densely
    "hdl64e": Sensor(_fan(2.4, -7.85, 32) + _fan(-8.4, -23.7, 32), 2083, 120.0, 1.73, 0.02, 0.015),
    "hdl32e": Sensor(_fan(10.67, -30.67, 32), 1085, 100.0, 1.84, 0.02, 0.04),
    "vlp16": Sensor(_fan(15.0, -15.0, 16), 1800, 100.0, 1.8, 0.02, 0.04),
    "os1_128": Sensor(_fan(22.5, -22.5, 128), 1024, 120.0, 1.8, 0.015, 0.03),
}


def sensor_of(choice: str | Sensor) -> Sensor:
    """The LiDAR of a name, or the one that is described itself.

    Raises:
        DataError: if there is none of that name.
    """
    if isinstance(choice, Sensor):
        return choice
    if choice not in SENSORS:
        raise DataError(
            f"unknown sensor {choice!r}: choose one of {', '.join(SENSORS)}, or the path of a YAML file"
            f"{meant(choice, SENSORS)}"
        )
    return SENSORS[choice]


def sensor_name(choice: str | Sensor) -> str:
    """Of a LiDAR, for folders and messages."""
    return choice.name if isinstance(choice, Sensor) else choice


@cache
def _open3d() -> Any:
    """Open3D, after the library that it needs and a bare machine lacks.

    Raises:
        MissingExtraError: if one of the packages is absent.
    """
    with needs("simulate", "simulation"):
        import libusb_package

        library = libusb_package.get_library_path()
        if library is not None:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        import open3d
    return open3d


class Caster:
    """Surfaces ready to be hit by rays."""

    def __init__(self, surfaces: Surfaces) -> None:
        self.surfaces = surfaces
        self._scene: Any = None
        if len(surfaces) == 0:
            return
        o3d = _open3d()
        count = len(surfaces)
        first = 4 * np.arange(count, dtype=np.uint32)[:, None]
        triangles = (first + np.array([0, 1, 2, 0, 2, 3], np.uint32)).reshape(-1, 3)
        self._scene = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            o3d.core.Tensor(np.ascontiguousarray(surfaces.corners_m.reshape(-1, 3))), o3d.core.Tensor(triangles)
        )

    def nearest(self, rays: Float32[np.ndarray, "n 6"]) -> Hits:
        """First hit of each ray (origin, unit direction)."""
        count = len(rays)
        if self._scene is None or count == 0:
            return Hits(np.full(count, np.inf, np.float32), np.full(count, -1), np.zeros(count, np.float32))
        answer = self._scene.cast_rays(_open3d().core.Tensor(np.ascontiguousarray(rays)))
        range_m = answer["t_hit"].numpy()
        missed = ~np.isfinite(range_m)
        quad = np.where(missed, 0, answer["primitive_ids"].numpy()).astype(np.int64) // 2
        cosine = np.einsum("nc,nc->n", answer["primitive_normals"].numpy(), rays[:, 3:])
        return Hits(range_m, np.where(missed, -1, quad), cosine)

    def first_return(self, rays: Float32[np.ndarray, "n 6"], rng: np.random.Generator) -> Hits:
        """Where each ray ends, with foliage and fences that let some through.

        In a volume the way of a ray is exponentially distributed about the free path of its skin.
        """
        hits = self.nearest(rays)
        range_m, quad, cosine = hits.range_m.copy(), hits.quad.copy(), hits.cosine.copy()
        open_quads = (self.surfaces.free_path_m > 0) | (self.surfaces.passing > 0)
        active = np.flatnonzero((quad >= 0) & open_quads[np.maximum(quad, 0)])
        for _ in range(_MAX_CROSSINGS):
            if len(active) == 0:
                break
            here, entry_m = quad[active], range_m[active]
            beyond = rays[active].copy()
            beyond[:, :3] += (entry_m + _SKIN_M)[:, None] * beyond[:, 3:]
            after = self.nearest(beyond)
            free = self.surfaces.free_path_m[here]
            inside = (free > 0) & (cosine[active] < 0)
            way_m = np.where(inside, rng.exponential(1.0, len(active)) * free, 0.0).astype(np.float32)
            stops_inside = inside & (way_m < after.range_m)
            stops_at_screen = (free == 0) & (rng.random(len(active)) >= self.surfaces.passing[here])
            range_m[active] += np.where(stops_inside, way_m, 0.0)
            goes_on = ~(stops_inside | stops_at_screen)
            moving = active[goes_on]
            range_m[moving] += after.range_m[goes_on] + _SKIN_M
            quad[moving], cosine[moving] = after.quad[goes_on], after.cosine[goes_on]
            active = moving[(quad[moving] >= 0) & open_quads[np.maximum(quad[moving], 0)]]
        quad[active] = -1  # still among leaves: lost
        return Hits(range_m, quad, cosine)


def scan_world(
    sensor: Sensor,
    world: Caster,
    movers: Caster,
    looks: tuple[GroundPatch, Facades],
    map_from_sensor: Float[np.ndarray, "4 4"],
    rng: np.random.Generator,
) -> Scan:
    """One turn of the sensor.

    Args:
        sensor: which LiDAR.
        world: what stands still, the terrain included.
        movers: what moves, at this moment.
        looks: the ground's classes around the sensor, and the table of facades.
        map_from_sensor: pose as a homogeneous matrix, metres.
        rng: source of noise.
    """
    directions = sensor.directions()
    # written out: for so narrow a product the threads of a BLAS cost more than they save
    axes = map_from_sensor[:3, :3].T.astype(np.float32)
    turned = directions[:, :1] * axes[0] + directions[:, 1:2] * axes[1] + directions[:, 2:] * axes[2]
    origin = np.broadcast_to(map_from_sensor[:3, 3].astype(np.float32), turned.shape)
    rays = np.concatenate([origin, turned], axis=1)
    met = shade(world.first_return(rays, rng), world.surfaces, rays, looks, rng)
    towards = np.flatnonzero(_may_meet(movers.surfaces, rays))
    if len(towards):
        some = rays[towards]
        overlay(met, towards, shade(movers.first_return(some, rng), movers.surfaces, some, looks, rng))
    met.label[own_car_hides(directions)] = -1
    return _measure(sensor, met, directions, rng)


def _may_meet(surfaces: Surfaces, rays: Float32[np.ndarray, "n 6"], bins: int = 720) -> Bool[np.ndarray, " n"]:
    """Whether each ray from one origin heads where, seen from above, some of the surfaces lie."""
    covered = np.zeros(2 * bins + 1, int)
    if len(surfaces):
        centre = surfaces.centres_m()
        radius = np.hypot(*(surfaces.corners_m[:, :, :2] - centre[:, None]).transpose(2, 0, 1)).max(axis=1)
        away = centre - rays[0, :2]
        half = np.arcsin(np.clip(radius / np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-3), 0.0, 1.0))
        azimuth = np.arctan2(away[:, 1], away[:, 0])
        first = np.floor((azimuth - half + np.pi) / (2.0 * np.pi) * bins).astype(int)
        last = np.floor((azimuth + half + np.pi) / (2.0 * np.pi) * bins).astype(int)
        start = first % bins
        # intervals are counted where they begin and end; those over the seam run on into the second turn
        np.add.at(covered, start, 1)
        np.add.at(covered, start + np.minimum(last - first, bins - 1) + 1, -1)
    inside = np.cumsum(covered)[:-1].reshape(2, bins).sum(axis=0) > 0
    own = np.floor((np.arctan2(rays[:, 4], rays[:, 3]) + np.pi) / (2.0 * np.pi) * bins).astype(int)
    hit: np.ndarray = inside[own % bins]
    return hit


def _mixed_edges_m(met: Returns, columns: int, rng: np.random.Generator) -> Float32[np.ndarray, " n"]:
    """How far behind an edge its echo lies: a beam that the edge cuts reports a range between both surfaces."""
    range_m = np.where(np.isfinite(met.range_m), met.range_m, 0.0).reshape(-1, columns)
    before, after = np.roll(range_m, 1, axis=1), np.roll(range_m, -1, axis=1)
    one, other = range_m - before, range_m - after
    behind, going_on = np.maximum(one, other), np.minimum(one, other)
    # of a slanting surface the next point is as much farther as the last one was nearer
    cut = (before > 0.0) & (after > 0.0) & (behind > _EDGE_M[0]) & (behind < _EDGE_M[1])
    cut &= (np.abs(going_on) < 0.3 * behind) & (rng.random(range_m.shape, np.float32) < _EDGE_SHARE)
    moved = np.where(cut, -behind * rng.random(range_m.shape, np.float32), 0.0)
    return np.asarray(moved.ravel(), np.float32)


def _measure(sensor: Sensor, met: Returns, directions: Float32[np.ndarray, "n 3"], rng: np.random.Generator) -> Scan:
    """Noise, lost returns, and the intensity that the sensor reports."""
    reached = np.flatnonzero((met.label >= 0) & (met.range_m < sensor.max_range_m) & (met.range_m > _BLIND_M))
    beams = len(sensor.elevations_rad)
    # lasers differ by a fifth in strength (asphalt of real scans), the same ones in every scan
    gains = np.clip(np.random.default_rng(beams).normal(1.0, 0.19, beams), 0.5, 1.5).astype(np.float32)
    gains *= np.float32(sensor.gain)
    spread_m = _mixed_edges_m(met, sensor.columns, rng)
    met = met.select(reached)
    beam, column = reached // sensor.columns, reached % sensor.columns
    patch = (beam // 3) * (sensor.columns // 8 + 1) + column // 8
    intensity = reported_strength(met, gains[beam], patch, rng)
    kept = rng.random(len(reached), np.float32) >= lost_share(met) + sensor.dropout
    noisy = met.range_m + spread_m[reached] + np.float32(sensor.noise_m) * rng.standard_normal(len(reached), np.float32)
    xyz = directions[reached] * noisy[:, None]
    return Scan(xyz[kept], intensity[kept], met.label[kept].astype(np.uint32))

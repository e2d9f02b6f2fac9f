"""LiDARs: beam tables, ray casting by Open3D, noise, dropouts and intensity.

The only file of the package that imports Open3D for simulation.
"""

import ctypes
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from bevfusion.simulate.facades import Facades
from bevfusion.simulate.ground import GroundPatch
from bevfusion.simulate.surfaces import (
    CAR,
    GROUND,
    MARKING,
    MOVING_CAR,
    MOVING_TRUCK,
    PARKING,
    ROAD,
    SIDEWALK,
    TERRAIN,
    TRUCK,
    VEGETATION,
    Surfaces,
)
from bevfusion.structures import DataError, Scan

_MAX_CROSSINGS = 8  # skins that one ray may cross: more foliage than that is opaque
_SKIN_M = 1e-3  # a ray goes on this far behind a skin


@dataclass(frozen=True, slots=True)
class Sensor:
    """A spinning LiDAR."""

    elevations_rad: tuple[float, ...]  # one a beam, above the horizon
    columns: int  # firings a turn
    max_range_m: float
    height_m: float  # above the road, as usually mounted
    noise_m: float  # standard deviation of the range
    dropout: float  # share of good returns that are lost

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
        elevation = np.array(self.elevations_rad)[:, None]
        flat = np.broadcast_to(np.cos(elevation), (len(elevation), self.columns))
        parts = [flat * np.cos(azimuth), flat * np.sin(azimuth), np.broadcast_to(np.sin(elevation), flat.shape)]
        return np.stack(parts, axis=2).reshape(-1, 3).astype(np.float32)


def _fan(top_deg: float, bottom_deg: float, count: int) -> tuple[float, ...]:
    return tuple(float(angle) for angle in np.deg2rad(np.linspace(top_deg, bottom_deg, count)))


SENSORS: dict[str, Sensor] = {
    # two blocks of 32 lasers, the lower one spaced half as densely
    "hdl64e": Sensor(_fan(2.4, -7.85, 32) + _fan(-8.4, -23.7, 32), 2083, 120.0, 1.73, 0.02, 0.04),
    "hdl32e": Sensor(_fan(10.67, -30.67, 32), 1085, 100.0, 1.84, 0.02, 0.04),
    "vlp16": Sensor(_fan(15.0, -15.0, 16), 1800, 100.0, 1.8, 0.02, 0.04),
    "os1_128": Sensor(_fan(22.5, -22.5, 128), 1024, 120.0, 1.8, 0.015, 0.03),
}


@cache
def _open3d() -> Any:
    """Open3D, after the library that it needs and a bare machine lacks.

    Raises:
        ImportError: if one of the packages is absent.
    """
    try:
        import libusb_package

        library = libusb_package.get_library_path()
        if library is not None:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        import open3d
    except ImportError as error:
        raise ImportError("simulation needs open3d and libusb-package: pip install open3d libusb-package") from error
    return open3d


@dataclass(frozen=True, slots=True)
class _Hits:
    """The nearest surface along each ray; `quad` is -1 where there is none within reach."""

    range_m: Float32[np.ndarray, " n"]
    quad: Int[np.ndarray, " n"]
    cosine: Float32[np.ndarray, " n"]  # of ray and outward normal: negative where the ray enters


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

    def nearest(self, rays: Float32[np.ndarray, "n 6"]) -> _Hits:
        """First hit of each ray (origin, unit direction)."""
        count = len(rays)
        if self._scene is None or count == 0:
            return _Hits(np.full(count, np.inf, np.float32), np.full(count, -1), np.zeros(count, np.float32))
        answer = self._scene.cast_rays(_open3d().core.Tensor(np.ascontiguousarray(rays)))
        range_m = answer["t_hit"].numpy()
        missed = ~np.isfinite(range_m)
        quad = np.where(missed, 0, answer["primitive_ids"].numpy()).astype(np.int64) // 2
        cosine = np.einsum("nc,nc->n", answer["primitive_normals"].numpy(), rays[:, 3:])
        return _Hits(range_m, np.where(missed, -1, quad), cosine)

    def first_return(self, rays: Float32[np.ndarray, "n 6"], rng: np.random.Generator) -> _Hits:
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
        return _Hits(range_m, quad, cosine)


@dataclass(frozen=True, slots=True)
class _Returns:
    """What the rays met, before noise."""

    range_m: Float[np.ndarray, " n"]
    label: Int[np.ndarray, " n"]  # -1: nothing
    reflectance: Float[np.ndarray, " n"]
    cosine: Float[np.ndarray, " n"]  # absolute
    glass: Bool[np.ndarray, " n"]


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
    turned = directions @ map_from_sensor[:3, :3].T.astype(np.float32)
    origin = np.broadcast_to(map_from_sensor[:3, 3].astype(np.float32), turned.shape)
    rays = np.concatenate([origin, turned], axis=1)
    met = _shade(world.first_return(rays, rng), world.surfaces, rays, looks, rng)
    if len(movers.surfaces):
        _overlay(met, _shade(movers.first_return(rays, rng), movers.surfaces, rays, looks, rng))
    met.label[_own_car_hides(directions)] = -1
    return _measure(sensor, met, directions, rng)


def _own_car_hides(directions: Float32[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """Rays that end on the roof, its rails and mirrors: steep ones ahead, behind and aside, as in real drives."""
    steep_deg = np.rad2deg(-np.arcsin(directions[:, 2]))
    aside_deg = np.rad2deg(np.abs(np.arctan2(directions[:, 1], directions[:, 0])))
    rear = (aside_deg > 166.0) & (steep_deg > 19.3)
    front = (aside_deg / 16.0) ** 2 + ((steep_deg - 25.0) / 4.5) ** 2 < 1.0
    rails = ((aside_deg - 72.0) / 8.0) ** 2 + ((steep_deg - 20.5) / 5.0) ** 2 < 1.0
    hidden: np.ndarray = rear | front | rails
    return hidden


def _overlay(base: _Returns, other: _Returns) -> None:
    """Let what is nearer hide what is behind, in place."""
    nearer = other.range_m < base.range_m
    for name in ("range_m", "label", "reflectance", "cosine", "glass"):
        getattr(base, name)[nearer] = getattr(other, name)[nearer]


def _shade(
    hits: _Hits,
    surfaces: Surfaces,
    rays: Float32[np.ndarray, "n 6"],
    looks: tuple[GroundPatch, Facades],
    rng: np.random.Generator,
) -> _Returns:
    """Class and reflectance of what was hit; kerbs, windows and balconies move the hit along its ray."""
    ground, facades = looks
    quad = np.maximum(hits.quad, 0)
    label = np.where(hits.quad >= 0, surfaces.label[quad], -1)
    met = _Returns(
        hits.range_m.astype(np.float32),
        label,
        surfaces.reflectance[quad].copy(),
        np.abs(hits.cosine),
        np.zeros(len(quad), bool),
    )
    low = np.flatnonzero(label == GROUND)
    if len(low):
        met.range_m[low], met.label[low], met.reflectance[low] = ground.resolve(rays[low], met.range_m[low], rng)
    styled = np.flatnonzero((hits.quad >= 0) & (surfaces.style[quad] >= 0))
    if len(styled):
        corners = surfaces.corners_m[quad[styled]]
        points = rays[styled, :3] + met.range_m[styled, None] * rays[styled, 3:]
        along = np.hypot(points[:, 0] - corners[:, 0, 0], points[:, 1] - corners[:, 0, 1])
        up = points[:, 2] - ground.terrain.height_m(points[:, :2])
        depth, glass = facades.relief(surfaces.style[quad[styled]], along, up)
        # a flat look along the wall sees the next wall's end, not the bottom of a recess
        met.range_m[styled] += np.clip(depth / np.maximum(met.cosine[styled], 0.25), -1.5, 1.0)
        met.glass[styled] = glass
        met.reflectance[styled[glass]] *= 0.6
    met.range_m[met.label < 0] = np.inf
    return met


def _focus(range_m: Float[np.ndarray, " n"], upright: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """What is left of the reported strength after the sensor's correction for range, as seen in real drives."""
    steep = np.interp(range_m, [3.0, 7.5, 10.0, 18.0, 30.0, 50.0], [0.7, 0.76, 1.0, 1.0, 0.78, 0.6])
    grazing = np.interp(range_m, [14.0, 22.0, 36.0], [1.0, 0.8, 0.3])
    share: np.ndarray = np.where(upright, steep, grazing)
    return share


def _measure(sensor: Sensor, met: _Returns, directions: Float32[np.ndarray, "n 3"], rng: np.random.Generator) -> Scan:
    """Noise, lost returns, and the intensity that the sensor reports."""
    reached = np.flatnonzero((met.label >= 0) & (met.range_m < sensor.max_range_m) & (met.range_m > 0.9))
    range_m, label = met.range_m[reached], met.label[reached]
    reflectance, cosine, glass = met.reflectance[reached], met.cosine[reached], met.glass[reached]
    beams = len(sensor.elevations_rad)
    # lasers differ by an eighth in strength, the same ones in every scan
    gains = np.random.default_rng(beams).normal(1.0, 0.12, beams)[reached // sensor.columns]
    shiny = np.isin(label, (CAR, MOVING_CAR, TRUCK, MOVING_TRUCK))
    upright = ~np.isin(label, (ROAD, PARKING, SIDEWALK, MARKING, TERRAIN))
    # leaves are small: some of them lie in focus at any range
    focus = np.where(label == VEGETATION, np.sqrt(_focus(range_m, upright)), _focus(range_m, upright))
    strength = reflectance * gains * focus
    strength *= np.where(upright, np.clip(cosine, 0.05, 1.0) ** 0.2, 1.0) * rng.normal(1.0, 0.14, len(reached))
    strength += rng.normal(0.0, 0.035, len(reached))
    # paint mirrors: away from the normal mostly nothing comes back
    mirrored = shiny & (cosine < 0.9)
    strength = np.where(mirrored, strength * rng.choice([0.0, 0.4, 1.0], len(reached), p=[0.6, 0.2, 0.2]), strength)
    # a weak echo counts as a point but reports no strength; so does a share of what is too near to focus on
    faint = strength < rng.normal(0.1, 0.03, len(reached))
    blurred = rng.random(len(reached)) < np.where(upright & (label != VEGETATION), 0.12, 0.03) * (range_m < 8.0)
    strength = np.where(faint | blurred, 0.0, strength)
    intensity = np.clip(np.round(strength, 2), 0.0, 0.99).astype(np.float32)
    power = np.clip(reflectance, 0.02, 1.0) * np.sqrt(np.clip(cosine, 0.01, 1.0)) * (55.0 / range_m) ** 2
    lost = sensor.dropout + 0.35 * glass + 0.3 * shiny * (cosine < 0.4) + np.exp(-4.0 * power)
    kept = rng.random(len(reached)) >= lost
    noisy = range_m + rng.normal(0.0, sensor.noise_m, len(reached))
    xyz = directions[reached] * noisy[:, None].astype(np.float32)
    return Scan(xyz[kept], intensity[kept], label[kept].astype(np.uint32))

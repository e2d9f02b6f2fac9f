"""LiDARs: those that are built in or that users describe, ray casting by Open3D, and what becomes of each hit.

The only file of the package that imports Open3D for simulation. Users describe a LiDAR in a YAML file or a section of a
configuration, with a table of beams beside it. Hits become echoes with a class, a reflectance and a reported strength,
noise and dropouts.
"""

import csv
import ctypes
import math
import re
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from pydantic import ValidationError

from bevfusion.choices import meant
from bevfusion.config import ConfigError, SensorConfig, explain, parse_yaml
from bevfusion.extras import needs
from bevfusion.simulate.facades import Facades
from bevfusion.simulate.ground import GroundPatch
from bevfusion.simulate.surfaces import (
    CAR,
    GROUND,
    MARKING,
    MOVING_CAR,
    MOVING_TRUCK,
    PARKING,
    POLE,
    ROAD,
    SIDEWALK,
    SIGN,
    TERRAIN,
    TRUCK,
    TRUNK,
    VEGETATION,
    Surfaces,
)
from bevfusion.structures import DataError, Scan

_PAVED = (ROAD, PARKING, SIDEWALK, MARKING)
_THIN = (TRUNK, POLE, SIGN)
_MAX_CROSSINGS = 8  # skins that one ray may cross: more foliage than that is opaque
_BLIND_M = 0.9  # nothing nearer is reported
_EDGE_M, _EDGE_SHARE = (0.25, 2.0), 0.15  # steps within a beam's breadth, and how often a beam lies on their edge
_SKIN_M = 1e-3  # a ray goes on this far behind a skin
SUFFIXES = (".yaml", ".yml")
_ELEVATIONS, _AZIMUTHS = ("elevation", "vertical", "altitude", "pitch"), ("azimuth", "horizontal")


@dataclass(frozen=True, slots=True)
class Hits:
    """The nearest surface along each ray; `quad` is -1 where there is none within reach."""

    range_m: Float32[np.ndarray, " n"]
    quad: Int[np.ndarray, " n"]
    cosine: Float32[np.ndarray, " n"]  # of ray and outward normal: negative where the ray enters


@dataclass(frozen=True, slots=True)
class Returns:
    """What the rays met, before noise."""

    range_m: Float[np.ndarray, " n"]
    label: Int[np.ndarray, " n"]  # -1: nothing
    reflectance: Float[np.ndarray, " n"]
    cosine: Float[np.ndarray, " n"]  # absolute
    glass: Bool[np.ndarray, " n"]

    def select(self, rows: Int[np.ndarray, " m"]) -> "Returns":
        """Those at the indices."""
        return Returns(*(getattr(self, field.name)[rows] for field in fields(self)))


def own_car_hides(directions: Float32[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """Rays that end on the roof, its rails and mirrors: steep ones ahead, behind and aside, as in real drives."""
    steep_deg = np.rad2deg(-np.arcsin(directions[:, 2]))
    aside_deg = np.rad2deg(np.abs(np.arctan2(directions[:, 1], directions[:, 0])))
    rear = (aside_deg > 166.0) & (steep_deg > 19.3)
    front = (aside_deg / 16.0) ** 2 + ((steep_deg - 25.0) / 4.5) ** 2 < 1.0
    rails = ((aside_deg - 72.0) / 8.0) ** 2 + ((steep_deg - 20.5) / 5.0) ** 2 < 1.0
    hidden: np.ndarray = rear | front | rails
    return hidden


def overlay(base: Returns, rows: Int[np.ndarray, " m"], other: Returns) -> None:
    """Let what is nearer hide what is behind, in place; `rows` are the rays of `other`."""
    nearer = other.range_m < base.range_m[rows]
    for field in fields(base):
        getattr(base, field.name)[rows[nearer]] = getattr(other, field.name)[nearer]


def shade(
    hits: Hits,
    surfaces: Surfaces,
    rays: Float32[np.ndarray, "n 6"],
    looks: tuple[GroundPatch, Facades],
    rng: np.random.Generator,
) -> Returns:
    """Class and reflectance of what was hit; kerbs, windows and balconies move the hit along its ray."""
    ground, facades = looks
    quad = np.maximum(hits.quad, 0)
    label = np.where(hits.quad >= 0, surfaces.label[quad], -1)
    met = Returns(
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
        up = points[:, 2] - facades.base_m[surfaces.style[quad[styled]]]
        depth, glass = facades.relief(surfaces.style[quad[styled]], along, up)
        # a flat look along the wall sees the next wall's end, not the bottom of a recess
        met.range_m[styled] += np.clip(depth / np.maximum(met.cosine[styled], 0.25), -1.5, 1.0)
        met.glass[styled] = glass
        met.reflectance[styled[glass]] *= 0.6
    met.range_m[met.label < 0] = np.inf
    return met


def _focus(range_m: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """What is left of the reported strength after the sensor's correction for range.

    Mean strength over range of the classes of SemanticKITTI, in the scans of four drives: walls hold out longest,
    leaves and poles are small, grass faces the beam more than asphalt does.
    """
    near = np.interp(range_m, [3.0, 7.5, 10.0, 18.0], [0.7, 0.76, 1.0, 1.0])
    wall = near * np.interp(range_m, [18.0, 30.0, 50.0], [1.0, 0.78, 0.6])
    small = np.interp(range_m, [20.0, 28.0, 40.0, 60.0], [1.0, 0.8, 0.42, 0.28])  # fills less and less of a beam
    grass = np.interp(range_m, [16.0, 28.0, 40.0], [1.0, 0.8, 0.45])
    asphalt = np.interp(range_m, [18.0, 28.0, 40.0], [1.0, 0.65, 0.17])
    share = np.where(label == TERRAIN, grass, np.where(np.isin(label, _THIN), near * small, wall))
    share = np.where(label == VEGETATION, np.sqrt(near) * small, share)
    return np.asarray(np.where(np.isin(label, _PAVED), asphalt, share))


def reported_strength(
    met: Returns, gain: Float32[np.ndarray, " n"], patch: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Float32[np.ndarray, " n"]:
    """Intensity as the sensor gives it, 0 to 1, in steps of a hundredth.

    Args:
        met: what was hit.
        gain: of the laser that fired each ray.
        patch: number of the bundle of neighbouring rays to which each belongs: these meet the same paint.
        rng: source of noise.
    """
    count = len(met.label)
    upright = ~np.isin(met.label, (*_PAVED, TERRAIN))
    leaves = met.label == VEGETATION
    focus = _focus(met.range_m, met.label)
    slant = np.where(upright, np.clip(met.cosine, 0.05, 1.0) ** 0.2, 1.0)
    grain = np.where(leaves, 0.3, np.where(upright, 0.13, 0.1))  # a leaf, a twig, the sky between them
    strength = met.reflectance * gain * focus * slant * (1.0 + grain * rng.standard_normal(count, np.float32))
    strength += 0.03 * rng.standard_normal(count, np.float32)
    # paint mirrors: away from the normal mostly nothing comes back, and from a whole panel alike
    mirrors = np.flatnonzero(_is_shiny(met.label) & (met.cosine < 0.9))
    panels = rng.choice([0.0, 0.4, 1.0], int(patch.max(initial=0)) + 1, p=[0.66, 0.17, 0.17])
    strength[mirrors] *= np.where(rng.random(len(mirrors)) < 0.85, panels[patch[mirrors]], 1.0)
    # a weak echo counts as a point but reports no strength; so does a share of what is too near to focus on
    faint = strength < 0.1 + 0.03 * rng.standard_normal(count, np.float32)
    close = np.where(upright & ~leaves, 0.12, 0.03) * (met.range_m < 8.0)
    blurred = rng.random(count, np.float32) < close + 0.05 * np.clip(met.range_m / 16.0 - 1.5, 0.0, 1.5)
    strength = np.where(faint | blurred, 0.0, strength)
    return np.clip(np.round(strength, 2), 0.0, 0.99).astype(np.float32)


def lost_share(met: Returns) -> Float[np.ndarray, " n"]:
    """Chance that no echo comes back: far, dark and slanting surfaces, glass, and paint that mirrors."""
    power = np.clip(met.reflectance, 0.02, 1.0) * np.sqrt(np.clip(met.cosine, 0.01, 1.0)) * (55.0 / met.range_m) ** 2
    mirrored = _is_shiny(met.label) & (met.cosine < 0.4)
    share: np.ndarray = 0.35 * met.glass + 0.3 * mirrored + np.exp(-20.0 * power)
    return share


def _is_shiny(label: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    return np.isin(label, (CAR, MOVING_CAR, TRUCK, MOVING_TRUCK))


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


def sensor_choice(words: str) -> str | Sensor:
    """What a user names: one of the LiDARs that ship, which stays a name, or the path of a YAML file.

    Raises:
        DataError: if there is no such LiDAR or file, or the file describes none.
    """
    if words.lower().endswith(SUFFIXES) or "/" in words:
        return read_sensor(Path(words))
    sensor_of(words)
    return words


def read_sensor(path: Path) -> Sensor:
    """The LiDAR that a YAML file describes by the keys of `SensorConfig`; its table of beams lies beside it.

    Raises:
        DataError: in one line that begins with the path.
    """
    try:
        values: Any = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        if not isinstance(values, dict):
            raise DataError(f"{path}: expected keys and values of a sensor, got {type(values).__name__}")
        return described_sensor(
            SensorConfig.model_validate({"name": re.sub("[^A-Za-z0-9_-]", "-", path.stem), **values}), path.parent
        )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except ConfigError as error:
        raise DataError(str(error)) from error
    except ValidationError as error:
        raise DataError(f"{path}: " + "; ".join(explain(error, SensorConfig))) from error


def described_sensor(described: SensorConfig, folder: Path = Path()) -> Sensor:
    """The LiDAR that a section describes.

    Args:
        described: the section.
        folder: what the path of its table of beams is relative to.

    Raises:
        DataError: if its beams cannot be read, or are none.
    """
    beams = list(described.beams_deg)
    if described.beams:
        beams = read_beams(folder / described.beams)
    beams.sort(key=lambda beam: -beam[0])
    columns = described.columns
    if columns is None:
        columns = round(described.points_per_s / (described.rate_hz * len(beams)))
    sensor = Sensor(
        elevations_rad=tuple(math.radians(elevation) for elevation, _ in beams),
        columns=columns,
        max_range_m=described.max_range_m,
        height_m=described.height_m,
        noise_m=described.range_noise_m,
        dropout=described.dropout,
        azimuths_rad=tuple(math.radians(azimuth) for _, azimuth in beams) if any(a for _, a in beams) else (),
        name=described.name,
    )
    return sensor.with_columns(columns)


def read_beams(path: Path) -> list[tuple[float, float]]:
    """Elevation above the horizon and azimuth of every beam, in degrees, from CSV.

    The header names a column of elevations (elevation, vertical, altitude or pitch) and, where beams of one firing
    point to different sides, one of azimuths (azimuth or horizontal; counter-clockwise); all others are left. A file
    without a header holds one elevation a line.

    Raises:
        DataError: if it is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no table of beams: {error}") from error
    delimiter = next((mark for mark in ",;\t" if mark in text), ",")
    rows = [[word.strip() for word in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    rows = [row for row in rows if any(row) and not row[0].startswith("#")]
    if not rows:
        raise DataError(f"{path}: no table of beams: it is empty")
    elevation, azimuth = _column(rows[0], _ELEVATIONS), _column(rows[0], _AZIMUTHS)
    if elevation is not None:
        rows = rows[1:]
    elif len(rows[0]) == 1:
        elevation = 0
    else:
        raise DataError(
            f"{path}: expected a header with a column of {', '.join(_ELEVATIONS)}, got {', '.join(rows[0])}"
        )
    try:
        beams = [(float(row[elevation]), 0.0 if azimuth is None else float(row[azimuth])) for row in rows]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: expected numbers of degrees in every row: {error}") from error
    wrong = [beam for beam in beams if not (abs(beam[0]) < 90.0 and abs(beam[1]) <= 180.0)]
    if wrong or not beams:
        told = f"got {wrong[0]}" if wrong else "got no row"
        raise DataError(f"{path}: expected elevations within -90 and 90 degrees, azimuths within 180, {told}")
    return beams


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((at for at, word in enumerate(header) if word.lower().startswith(names)), None)

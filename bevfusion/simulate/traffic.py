"""Vehicles: parked along kerbs, and driving ahead, behind and towards."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from bevfusion.simulate.route import Path
from bevfusion.simulate.surfaces import CAR, MOVING_CAR, MOVING_TRUCK, TRUCK, Surfaces, prisms, rectangles
from bevfusion.simulate.terrain import Terrain

# outlines seen from the left: (x forward, z up) of the top edge, in shares of length and height
_OUTLINES = {
    "hatch": [(-0.5, 0.5), (-0.47, 0.68), (-0.36, 0.98), (0.08, 1.0), (0.24, 0.66), (0.46, 0.54), (0.5, 0.4)],
    "saloon": [(-0.5, 0.6), (-0.34, 0.68), (-0.2, 0.98), (0.06, 1.0), (0.22, 0.68), (0.46, 0.56), (0.5, 0.42)],
    "van": [(-0.5, 0.96), (-0.48, 1.0), (0.28, 1.0), (0.38, 0.6), (0.5, 0.45), (0.5, 0.4)],
    "truck": [(-0.5, 1.0), (0.24, 1.0), (0.25, 0.8), (0.48, 0.78), (0.5, 0.4)],
}
_SIZES_M = {"hatch": (4.0, 1.72, 1.5), "saloon": (4.5, 1.78, 1.45), "van": (5.0, 1.95, 2.0), "truck": (7.5, 2.35, 3.1)}
_MIX = {"hatch": 0.5, "saloon": 0.33, "van": 0.15, "truck": 0.02}
_CLEARANCE_M = 0.28  # of the body above the road
_WHEEL_M = 0.31


@dataclass(frozen=True, slots=True)
class Vehicles:
    """Vehicles at one moment: places, headings and looks."""

    xy_m: Float[np.ndarray, "n 2"]  # map frame
    yaw_rad: Float[np.ndarray, " n"]
    kind: tuple[str, ...]
    scale: Float[np.ndarray, " n"]
    paint: Float[np.ndarray, " n"]  # reflectance

    @classmethod
    def random(
        cls, xy_m: Float[np.ndarray, "n 2"], yaw_rad: Float[np.ndarray, " n"], rng: np.random.Generator
    ) -> "Vehicles":
        """A mix of vehicles at given places."""
        count = len(yaw_rad)
        kinds = rng.choice(list(_MIX), count, p=list(_MIX.values()))
        paint = rng.uniform(0.1, 0.8, count)
        return cls(xy_m, yaw_rad, tuple(str(kind) for kind in kinds), rng.uniform(0.93, 1.08, count), paint)

    def select(self, keep: Bool[np.ndarray, " n"]) -> "Vehicles":
        """The vehicles at a mask."""
        kinds = tuple(kind for kind, kept in zip(self.kind, keep, strict=True) if kept)
        return Vehicles(self.xy_m[keep], self.yaw_rad[keep], kinds, self.scale[keep], self.paint[keep])

    def surfaces(self, terrain: Terrain, moving: bool) -> Surfaces:
        """Their bodies and wheels, standing on the road."""
        parts = []
        for kind in _OUTLINES:
            chosen = np.array([own == kind for own in self.kind], bool)
            if not chosen.any():
                continue
            body = _body(kind)
            local = body[None] * self.scale[chosen, None, None, None]
            cos, sin = np.cos(self.yaw_rad[chosen])[:, None, None], np.sin(self.yaw_rad[chosen])[:, None, None]
            base, slope = terrain.height_m(self.xy_m[chosen]), terrain.gradient(self.xy_m[chosen], 1.3)
            # on a slope the body is sheared, which to 15 % is the same as turned
            ahead = (slope[:, 0, None, None] * cos + slope[:, 1, None, None] * sin) * local[..., 0]
            aside = (slope[:, 1, None, None] * cos - slope[:, 0, None, None] * sin) * local[..., 1]
            corners = np.stack(
                [
                    local[..., 0] * cos - local[..., 1] * sin + self.xy_m[chosen, 0, None, None],
                    local[..., 0] * sin + local[..., 1] * cos + self.xy_m[chosen, 1, None, None],
                    local[..., 2] + base[:, None, None] + ahead + aside,
                ],
                axis=3,
            )
            heavy = kind == "truck"
            label = (MOVING_TRUCK if heavy else MOVING_CAR) if moving else (TRUCK if heavy else CAR)
            paint = np.repeat(self.paint[chosen], len(body))
            parts.append(Surfaces.of(corners.reshape(-1, 4, 3), label, paint))
        return Surfaces.join(parts)


def _body(kind: str) -> Float[np.ndarray, "n 4 3"]:
    """Quads of one vehicle, x forward, y left, z up from the road."""
    length, width, height = _SIZES_M[kind]
    top = np.array(_OUTLINES[kind]) * (length, height)
    half = 0.5 * width
    quads = []
    for (x0, z0), (x1, z1) in pairwise(top):
        # the cabin leans in above the waist
        y0, y1 = (half * (1.0 - 0.12 * max(0.0, z / height - 0.6) / 0.4) for z in (z0, z1))
        quads.append([[x0, -y0, z0], [x1, -y1, z1], [x1, y1, z1], [x0, y0, z0]])
        for side in (-1.0, 1.0):
            low = half * side
            quads.append([[x0, low, _CLEARANCE_M], [x1, low, _CLEARANCE_M], [x1, y1 * side, z1], [x0, y0 * side, z0]])
    for x, z in (top[0], top[-1]):
        quads.append([[x, -half, _CLEARANCE_M], [x, half, _CLEARANCE_M], [x, half, z], [x, -half, z]])
    hubs = np.array([[x * length, y * (half - 0.12)] for x in (-0.3, 0.31) for y in (-1.0, 1.0)])
    tyres = rectangles(hubs, np.zeros(4), 2.0 * _WHEEL_M, 0.2)
    wheels = prisms(tyres, np.zeros(4), np.full(4, 1.2 * _WHEEL_M))
    return np.concatenate([np.array(quads), wheels])


@dataclass(frozen=True, slots=True)
class Traffic:
    """Vehicles that move along the path of the recording one."""

    path: Path
    left_m: Float[np.ndarray, " k"]  # line of the oncoming lane, to the left of the path
    oncoming: Vehicles
    oncoming_start_m: Float[np.ndarray, " n"]  # place on the path at time zero
    oncoming_speed: Float[np.ndarray, " n"]  # m/s
    along: Vehicles
    gap_m: Float[np.ndarray, " m"]  # ahead of the recording vehicle (negative: behind)
    sway_m: Float[np.ndarray, " m"]

    @classmethod
    def random(cls, path: Path, duration_s: float, density: float, rng: np.random.Generator) -> "Traffic":
        """One oncoming vehicle every 120 m and often one ahead and one behind, at density 1."""
        reach_m = path.length_m + 12.0 * duration_s
        count = int(rng.poisson(density * reach_m / 120.0))
        start = rng.uniform(20.0, max(reach_m, 21.0), count)
        gaps = np.array([rng.uniform(11.0, 40.0), rng.uniform(45.0, 60.0), -rng.uniform(9.0, 30.0)])
        gaps = gaps[rng.random(3) < np.array([0.45, 0.3, 0.45]) * density]
        return cls(
            path,
            path.side * np.maximum(2.0 * path.lane_m, 3.0),
            Vehicles.random(np.zeros((count, 2)), np.zeros(count), rng),
            start,
            rng.uniform(6.0, 12.0, count),
            Vehicles.random(np.zeros((len(gaps), 2)), np.zeros(len(gaps)), rng),
            gaps,
            rng.uniform(0.5, 2.5, len(gaps)),
        )

    def at(self, time_s: float, travelled_m: float) -> Vehicles:
        """Those near the recording vehicle at a moment."""
        ticks = np.linspace(0.0, self.path.length_m, len(self.path.xy_m))
        places = self.oncoming_start_m - self.oncoming_speed * time_s
        near = (places > 0) & (places < self.path.length_m) & (np.abs(places - travelled_m) < 90.0)
        # one-way streets have no oncoming lane
        near &= np.interp(places, ticks, self.path.lane_m) > 0.3
        aside = np.interp(places[near], ticks, self.left_m)
        xy, yaw = self.path.at(places[near])
        xy = xy + aside[:, None] * np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
        ahead = travelled_m + self.gap_m + self.sway_m * math.sin(0.3 * time_s)
        present = (ahead > 0) & (ahead < self.path.length_m)
        xy_along, yaw_along = self.path.at(ahead[present])
        facing, following = self.oncoming.select(near), self.along.select(present)
        return Vehicles(
            np.concatenate([xy, xy_along]),
            np.concatenate([yaw + math.pi, yaw_along]),
            facing.kind + following.kind,
            np.concatenate([facing.scale, following.scale]),
            np.concatenate([facing.paint, following.paint]),
        )

"""From hits of rays to echoes: class, reflectance, reported strength, and what is lost."""

from dataclasses import dataclass, fields

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

_PAVED = (ROAD, PARKING, SIDEWALK, MARKING)
_THIN = (TRUNK, POLE, SIGN)


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

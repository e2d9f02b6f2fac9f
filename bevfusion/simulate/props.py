"""Solid shapes of the things beside roads: trees, bushes, hedges, fences, walls, poles, signs, people."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from bevfusion.simulate.ground import KERB_M
from bevfusion.simulate.surfaces import (
    ELLIPSOID,
    FENCE,
    OTHER_STRUCTURE,
    PERSON,
    POLE,
    SIGN,
    TRUNK,
    VEGETATION,
    Surfaces,
    ellipsoids,
    prism_owners,
    prisms,
    rectangles,
    rounds,
    upright,
)
from bevfusion.simulate.terrain import Terrain

Free = Callable[[Float[np.ndarray, "n 2"], float], Bool[np.ndarray, " n"]]

_PIECE_M = 5.0  # of hedges and walls
_POST_M = 2.5  # between the posts of fences
_BURIED_M = 0.3  # things start below ground, so that no ray slips under


def trees(xy_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator, size: float = 1.0) -> Surfaces:
    """Trunks and porous crowns; one call makes one kind of tree, so that a row looks like a row."""
    count = len(xy_m)
    base = terrain.height_m(xy_m) + KERB_M
    low = rng.random() < 0.3  # conifers and untrimmed trees have leaves from the ground up
    bare = size * (rng.uniform(0.2, 1.0) if low else rng.uniform(1.4, 3.0)) * rng.uniform(0.8, 1.15, count)
    radii = size * rng.uniform(1.2, 2.8) * rng.uniform(0.8, 1.2, (count, 3))
    radii[:, 2] *= rng.uniform(0.9, 1.6)
    thick = size * rng.uniform(0.1, 0.22) * rng.uniform(0.8, 1.2, count)
    trunks = prisms(rounds(xy_m, thick, 6), base - _BURIED_M, base + bare + radii[:, 2])
    centres = np.column_stack([xy_m, base + bare + 0.9 * radii[:, 2]])
    crowns = ellipsoids(centres, radii, rng)
    leaf = float(rng.uniform(0.36, 0.5))
    return Surfaces.join(
        [
            Surfaces.of(trunks, TRUNK, 0.45),
            Surfaces.of(crowns, VEGETATION, leaf, free_path_m=float(rng.uniform(0.5, 2.5))),
        ]
    ).made_of(prism_owners(np.arange(count), 6), _of_balls(count))


def bushes(xy_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator) -> Surfaces:
    """Round shrubs and perennials of 0.2 to 1.8 m radius, most of them small."""
    count = len(xy_m)
    radii = np.clip(rng.lognormal(-0.5, 0.6, (count, 1)), 0.2, 1.8) * rng.uniform(0.7, 1.3, (count, 3))
    base = terrain.height_m(xy_m) + KERB_M
    shells = ellipsoids(np.column_stack([xy_m, base + 0.7 * radii[:, 2]]), radii, rng, roughness=0.25)
    brightness = float(rng.uniform(0.36, 0.48))
    return Surfaces.of(shells, VEGETATION, brightness, free_path_m=0.25).made_of(_of_balls(count))


def _of_balls(count: int) -> Int[np.ndarray, " m"]:
    """Whose each quad of `ellipsoids` is."""
    return np.repeat(np.arange(count), math.prod(ELLIPSOID))


def _pieces(
    start_m: Float[np.ndarray, "n 2"], end_m: Float[np.ndarray, "n 2"], most_m: float
) -> tuple[Float[np.ndarray, "m 2 2"], Int[np.ndarray, " m"]]:
    """(ends, segment) of pieces of at most `most_m`, so that what stands on them follows the land."""
    count = np.maximum(np.ceil(np.hypot(*(end_m - start_m).T) / most_m), 1.0).astype(int)
    segment = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
    share = np.stack([number, number + 1], axis=1) / count[segment, None]
    ends = start_m[segment, None] + share[:, :, None] * (end_m - start_m)[segment, None]
    return ends, segment


def _strips(
    start_m: Float[np.ndarray, "n 2"],
    end_m: Float[np.ndarray, "n 2"],
    breadth_m: Float[np.ndarray, " n"],
    height_m: Float[np.ndarray, " n"],
    terrain: Terrain,
) -> tuple[Float[np.ndarray, "m 4 3"], Int[np.ndarray, " m"]]:
    """(quads, segment of each) of upright bodies along segments, as high all along above the land."""
    ends, segment = _pieces(start_m, end_m, _PIECE_M)
    along = ends[:, 1] - ends[:, 0]
    base = terrain.height_m(ends) + KERB_M
    footprint = rectangles(
        ends.mean(axis=1), np.arctan2(along[:, 1], along[:, 0]), np.hypot(along[:, 0], along[:, 1]), breadth_m[segment]
    )
    corners = base[:, [1, 1, 0, 0]]  # of the footprint: twice its end, twice its start
    quads = prisms(footprint, corners - _BURIED_M, corners + height_m[segment, None])
    return quads, prism_owners(segment, 4)


def hedges(
    start_m: Float[np.ndarray, "n 2"], end_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator
) -> Surfaces:
    """Dense boxes of leaves, 0.8 to 2.6 m high."""
    count = len(start_m)
    boxes, owner = _strips(start_m, end_m, rng.uniform(0.5, 1.4, count), rng.uniform(0.8, 2.6, count), terrain)
    return Surfaces.of(boxes, VEGETATION, 0.42, free_path_m=float(rng.uniform(0.1, 0.3))).made_of(owner)


def beds(
    start_m: Float[np.ndarray, "n 2"], end_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator
) -> Surfaces:
    """Strips of low plants and tall grass, 0.3 to 0.7 m high."""
    count = len(start_m)
    boxes, owner = _strips(start_m, end_m, rng.uniform(0.5, 1.8, count), rng.uniform(0.3, 0.7, count), terrain)
    return Surfaces.of(boxes, VEGETATION, 0.38, free_path_m=float(rng.uniform(0.2, 0.5))).made_of(owner)


def walls(
    start_m: Float[np.ndarray, "n 2"],
    end_m: Float[np.ndarray, "n 2"],
    terrain: Terrain,
    rng: np.random.Generator,
    heights_m: tuple[float, float] = (0.4, 1.9),
) -> Surfaces:
    """Garden walls of stone."""
    count = len(start_m)
    boxes, owner = _strips(start_m, end_m, np.full(count, 0.25), rng.uniform(*heights_m, count), terrain)
    return Surfaces.of(boxes, FENCE, float(rng.uniform(0.32, 0.52))).made_of(owner)


def retaining_walls(terrain: Terrain, free: Free, rng: np.random.Generator) -> Surfaces:
    """Walls that hold the land where it steps beside a road, some with a parapet.

    Args:
        terrain: knows where it steps.
        free: whether a thing of a radius may stand at each of some places.
        rng: chooses parapets and stone.
    """
    ends, foot, top = terrain.retaining_walls()
    stands = free(ends.mean(axis=1), 0.4)
    ends, foot, top = ends[stands], foot[stands], top[stands]
    if len(ends) == 0:
        return Surfaces.join([])
    along = ends[:, 1] - ends[:, 0]
    length = np.hypot(along[:, 0], along[:, 1])
    footprint = rectangles(ends.mean(axis=1), np.arctan2(along[:, 1], along[:, 0]), length + 0.05, 0.25)
    # one choice every dozen pieces: walls are long
    parapet = np.repeat(rng.choice([0.1, 0.3, 0.9], len(ends) // 12 + 1, p=[0.4, 0.35, 0.25]), 12)[: len(ends)]
    high = (top + KERB_M + parapet[:, None])[:, [1, 1, 0, 0]]
    quads = prisms(footprint, foot[:, [1, 1, 0, 0]] - _BURIED_M, high)
    return Surfaces.of(quads, OTHER_STRUCTURE, float(rng.uniform(0.3, 0.5)))


def fences(
    start_m: Float[np.ndarray, "n 2"], end_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator
) -> Surfaces:
    """Slats and meshes that let a share of the rays through, with a post every 2.5 m."""
    ends, segment = _pieces(start_m, end_m, _POST_M)
    base = terrain.height_m(ends) + KERB_M
    high = base + rng.uniform(0.8, 1.8, len(start_m))[segment, None]
    screens = upright(ends[:, 0], ends[:, 1], base - _BURIED_M, high)
    last = np.flatnonzero(np.diff(segment, append=-1))
    feet, own = np.concatenate([ends[:, 0], ends[last, 1]]), np.concatenate([segment, segment[last]])
    foot, head = (np.concatenate([edge[:, 0], edge[last, 1]]) for edge in (base, high))
    stakes = prisms(rounds(feet, np.full(len(feet), 0.05), 4), foot - _BURIED_M, head + 0.05)
    bright = float(rng.uniform(0.3, 0.5))
    return Surfaces.join(
        [
            Surfaces.of(screens, FENCE, bright, passing=float(rng.uniform(0.2, 0.75))),
            Surfaces.of(stakes, FENCE, bright),
        ]
    ).made_of(segment, prism_owners(own, 4))


def poles(
    xy_m: Float[np.ndarray, "n 2"], terrain: Terrain, height_m: float, radius_m: float, raised_m: float = KERB_M
) -> Surfaces:
    """Lamps, masts and bollards."""
    base = terrain.height_m(xy_m) + raised_m
    shafts = prisms(rounds(xy_m, np.full(len(xy_m), radius_m), 6), base - _BURIED_M, base + height_m)
    return Surfaces.of(shafts, POLE, 0.36).made_of(prism_owners(np.arange(len(xy_m)), 6))


def signs(xy_m: Float[np.ndarray, "n 2"], yaw_rad: Float[np.ndarray, " n"], terrain: Terrain) -> Surfaces:
    """Bright plates on thin poles, seen from along the yaw."""
    base = terrain.height_m(xy_m) + KERB_M
    plates = prisms(rectangles(xy_m, yaw_rad, 0.04, 0.6), base + 1.9, base + 2.5)
    sticks, each = poles(xy_m, terrain, 2.6, 0.035), np.arange(len(xy_m))
    return Surfaces.join([sticks, Surfaces.of(plates, SIGN, 0.6)]).made_of(sticks.thing, prism_owners(each, 4))


def people(xy_m: Float[np.ndarray, "n 2"], terrain: Terrain, rng: np.random.Generator) -> Surfaces:
    """Upright ellipsoids of human size."""
    count = len(xy_m)
    half = rng.uniform(0.78, 0.93, count)
    radii = np.column_stack([np.full(count, 0.28), np.full(count, 0.2), half])
    centres = np.column_stack([xy_m, terrain.height_m(xy_m) + KERB_M + half])
    return Surfaces.of(ellipsoids(centres, radii, rng, roughness=0.08), PERSON, 0.5)

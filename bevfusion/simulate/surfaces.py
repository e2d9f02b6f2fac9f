"""Triangle soup with a meaning: what the rays of a simulated sensor meet.

Everything is made of quads (two triangles each). A quad is solid, or the skin of a volume that a ray may cross for
some way (a crown, a hedge: `free_path_m` > 0), or a screen that lets a share of the rays through (a fence).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int

# SemanticKITTI classes
CAR, TRUCK, PERSON, ROAD, PARKING, SIDEWALK, BUILDING, FENCE = 10, 18, 30, 40, 44, 48, 50, 51
OTHER_STRUCTURE, MARKING, VEGETATION, TRUNK, TERRAIN, POLE, SIGN = 52, 60, 70, 71, 72, 80, 81
MOVING_CAR, MOVING_PERSON, MOVING_TRUCK = 252, 254, 258
GROUND = 0  # marks the terrain: the true class of a hit is read from the ground's raster
PLAIN = -1  # style of a quad that is not a facade
ELLIPSOID = (5, 8)  # rings and sides of a ball
NO_THING = -1  # of a quad that belongs to no thing beside the road


@dataclass(frozen=True, slots=True)
class Surfaces:
    """Quads and their looks; corners run so that the normal (1-0) x (2-0) points outwards."""

    corners_m: Float[np.ndarray, "n 4 3"]
    label: Int[np.ndarray, " n"]
    reflectance: Float[np.ndarray, " n"]  # 0 to 1
    free_path_m: Float[np.ndarray, " n"]  # mean way of a ray inside the volume; 0 for what has no inside
    passing: Float[np.ndarray, " n"]  # share of rays that go through a screen
    style: Int[np.ndarray, " n"]  # row of the table of facades, or PLAIN
    thing: Int[np.ndarray, " n"]  # which tree, hedge, fence, pole or sign, counted from 0; or NO_THING

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(
        cls,
        corners_m: Float[np.ndarray, "n 4 3"],
        label: int,
        reflectance: float | Float[np.ndarray, " n"],
        free_path_m: float = 0.0,
        passing: float = 0.0,
        style: Int[np.ndarray, " n"] | None = None,
    ) -> "Surfaces":
        """Quads of one class that share what is given as a single number."""
        count = len(corners_m)
        return cls(
            corners_m.astype(np.float32),
            np.full(count, label, np.int32),
            np.broadcast_to(np.asarray(reflectance, np.float32), (count,)).copy(),
            np.full(count, free_path_m, np.float32),
            np.full(count, passing, np.float32),
            np.full(count, PLAIN, np.int32) if style is None else style.astype(np.int32),
            np.full(count, NO_THING, np.int32),
        )

    @classmethod
    def join(cls, parts: "Sequence[Surfaces]") -> "Surfaces":
        """All parts as one, in order; the things of different parts are different ones."""
        if not parts:
            return cls.of(np.zeros((0, 4, 3)), 0, 0.0)
        joined = cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))
        before = np.cumsum([0, *(part.things for part in parts[:-1])])
        shift = np.repeat(before, [len(part) for part in parts])
        return joined.made_of(np.where(joined.thing == NO_THING, NO_THING, joined.thing + shift))

    @property
    def things(self) -> int:
        """How many things beside the road there are, of whatever is left of each."""
        return int(self.thing.max(initial=NO_THING)) + 1

    def made_of(self, *thing: Int[np.ndarray, " _"]) -> "Surfaces":
        """The same quads as parts of these things, one number a quad."""
        return replace(self, thing=np.concatenate(thing).astype(np.int32))

    def thinned(self, share: float, rng: np.random.Generator) -> "Surfaces":
        """What is left when every thing beside the road stays with a chance of `share`, as a whole."""
        stays = np.append(rng.random(self.things) < share, True)  # the last is that of NO_THING
        return self.select(stays[self.thing])

    def select(self, keep: Bool[np.ndarray, " n"] | Int[np.ndarray, " m"]) -> "Surfaces":
        """The quads at a mask or at indices."""
        return Surfaces(*(getattr(self, field.name)[keep] for field in fields(self)))

    def centres_m(self) -> Float[np.ndarray, "n 2"]:
        """(x, y) of every quad's middle."""
        middle: np.ndarray = self.corners_m[:, :, :2].mean(axis=1)
        return middle


def upright(
    start_m: Float[np.ndarray, "n 2"],
    end_m: Float[np.ndarray, "n 2"],
    low_m: Float[np.ndarray, "n *ends"],
    high_m: Float[np.ndarray, "n *ends"],
) -> Float[np.ndarray, "n 4 3"]:
    """Upright quads above the segments; the normal points to the right of start -> end.

    Args:
        start_m: where each begins.
        end_m: where it ends.
        low_m: height of the lower edge, one a segment, or one at its start and one at its end.
        high_m: the same of the upper edge.
    """
    bottom = np.stack([start_m, end_m], axis=1)
    corners = np.concatenate([bottom, bottom[:, ::-1]], axis=1)
    low, high = _each(low_m, 2), _each(high_m, 2)
    heights = np.concatenate([low, high[:, ::-1]], axis=1)
    return np.concatenate([corners, heights[:, :, None]], axis=2)


def _each(height_m: Float[np.ndarray, "n *k"], count: int) -> Float[np.ndarray, "n k"]:
    """One height for each of `count` corners, where there may be one for all of them."""
    columns = height_m if height_m.ndim == 2 else height_m[:, None]
    return np.broadcast_to(columns, (len(height_m), count))


def prisms(
    footprints_m: Float[np.ndarray, "n k 2"], low_m: Float[np.ndarray, "n *k"], high_m: Float[np.ndarray, "n *k"]
) -> Float[np.ndarray, "m 4 3"]:
    """Sides of upright prisms over counter-clockwise footprints, and a lid where these have four corners.

    Heights are one a prism, or one a corner.
    """
    sides = footprints_m.shape[1]
    low, high = _each(low_m, sides), _each(high_m, sides)
    walls = upright(
        footprints_m.reshape(-1, 2),
        np.roll(footprints_m, -1, axis=1).reshape(-1, 2),
        np.stack([low, np.roll(low, -1, axis=1)], axis=2).reshape(-1, 2),
        np.stack([high, np.roll(high, -1, axis=1)], axis=2).reshape(-1, 2),
    )
    if sides != 4:
        return walls
    lids = np.concatenate([footprints_m, high[:, :, None]], axis=2)
    return np.concatenate([walls, lids])


def prism_owners(owners: Int[np.ndarray, " n"], sides: int) -> Int[np.ndarray, " m"]:
    """Whose each quad of `prisms` is."""
    walls = np.repeat(owners, sides)
    return walls if sides != 4 else np.concatenate([walls, owners])


def rectangles(
    centre_m: Float[np.ndarray, "n 2"],
    yaw_rad: Float[np.ndarray, " n"],
    length_m: float | Float[np.ndarray, " n"],
    width_m: float | Float[np.ndarray, " n"],
) -> Float[np.ndarray, "n 4 2"]:
    """Counter-clockwise rectangles with their length along the yaw."""
    along = np.stack([np.cos(yaw_rad), np.sin(yaw_rad)], axis=1)[:, None]
    across = np.stack([-np.sin(yaw_rad), np.cos(yaw_rad)], axis=1)[:, None]
    half_length = 0.5 * np.broadcast_to(np.asarray(length_m, float), yaw_rad.shape)[:, None, None]
    half_width = 0.5 * np.broadcast_to(np.asarray(width_m, float), yaw_rad.shape)[:, None, None]
    x = np.array([1.0, 1.0, -1.0, -1.0])[None, :, None] * half_length
    y = np.array([-1.0, 1.0, 1.0, -1.0])[None, :, None] * half_width
    corners: np.ndarray = centre_m[:, None] + x * along + y * across
    return corners


def rounds(
    centre_m: Float[np.ndarray, "n 2"], radius_m: Float[np.ndarray, " n"], sides: int
) -> Float[np.ndarray, "n k 2"]:
    """Regular polygons, counter-clockwise: trunks and poles."""
    angle = np.arange(sides) * (2.0 * np.pi / sides) + 0.1
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    corners: np.ndarray = centre_m[:, None] + radius_m[:, None, None] * ring
    return corners


def ellipsoids(
    centre_m: Float[np.ndarray, "n 3"],
    radii_m: Float[np.ndarray, "n 3"],
    rng: np.random.Generator,
    roughness: float = 0.15,
) -> Float[np.ndarray, "m 4 3"]:
    """Lumpy balls of 5 x 8 quads, one after the other: crowns and bushes."""
    rings, sides = ELLIPSOID
    polar = np.linspace(-0.5 * np.pi, 0.5 * np.pi, rings + 1)
    angle = np.arange(sides) * (2.0 * np.pi / sides)
    unit = np.stack(
        [
            np.cos(polar)[:, None] * np.cos(angle),
            np.cos(polar)[:, None] * np.sin(angle),
            np.broadcast_to(np.sin(polar)[:, None], (rings + 1, sides)),
        ],
        axis=2,
    )
    lumps = 1.0 + roughness * rng.uniform(-1.0, 1.0, (len(centre_m), rings + 1, sides, 1))
    lumps[:, [0, -1]] = 1.0  # the poles are single points
    shell = centre_m[:, None, None] + radii_m[:, None, None] * unit * lumps
    following = np.roll(shell, -1, axis=2)
    quads = np.stack([shell[:, :-1], following[:, :-1], following[:, 1:], shell[:, 1:]], axis=3)
    return quads.reshape(-1, 4, 3)

"""The ways of a multipolygon -> polygons: rings put together, holes taken out, what is cut off closed at the box.

Where all ways are there, geometry decides what is a hole, not roles, which are often wrong (GEOS, `build_area`: areas
alternate from the outside in). Where some are missing, roles decide, for a hole whose outer ring is missing is no area.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely
from jaxtyping import Float, Int

Bounds = tuple[float, float, float, float]
Course = Float[np.ndarray, "_ 2"]

_AT_BORDER_M = 25.0
"""A way whose next node lies beyond the box may end this far inside of it."""

_MAX_SHARE_OF_BOX = 0.25
"""The inside of an open ring is its smaller side, if that is at most this share of the box; else it might be either.

Of 18 multipolygons of real extracts that were cut by boxes and closed so, 17 were right (95 % of their area). The limit
was set on these same 18, so others may fare worse.
"""


class Assembled(NamedTuple):
    """What became of a multipolygon."""

    polygons: tuple[shapely.Polygon, ...]
    whole: bool  # nothing of it is missing inside the box
    closed_at_box: bool = False


def is_closed(ends: Int[np.ndarray, "n 2"]) -> bool:
    """Whether ways, by their first and last nodes, make rings with no end left over."""
    return not (np.unique(ends, return_counts=True)[1] % 2).any()


def enclosed(courses: Sequence[Course]) -> tuple[shapely.Polygon, ...]:
    """The areas that ways enclose, holes left out; ways that cross themselves or each other are cut there."""
    lines = [shapely.linestrings(course) for course in courses if len(course) > 1]
    return _polygons(shapely.build_area(shapely.unary_union(lines))) if lines else ()


def assembled_partly(outer: Sequence[Course], inner: Sequence[Course], bounds_m: Bounds | None) -> Assembled:
    """What is sure of a multipolygon whose ways are not all there.

    Args:
        outer: the ways there are, but for those of holes.
        inner: those of holes.
        bounds_m: the extract's box, at whose border open rings are closed; None if it has none.
    """
    lines = [shapely.linestrings(course) for course in outer if len(course) > 1]
    chains = shapely.get_parts(shapely.line_merge(shapely.unary_union(lines))) if lines else np.zeros(0, object)
    rings = shapely.is_closed(chains) if len(chains) else np.zeros(0, bool)
    closed = shapely.build_area(shapely.multilinestrings(chains[rings])) if rings.any() else shapely.Polygon()
    # where rings touch, what is left over of one may enclose something with another; that is not sure
    holes = shapely.union_all(enclosed(inner)) if inner else shapely.Polygon()
    open_chains = chains[~rings]
    whole, at_box = True, False
    if len(open_chains) and bounds_m is None:
        whole = False
    elif len(open_chains) and bounds_m is not None:
        box = shapely.box(*bounds_m)
        open_chains = open_chains[shapely.intersects(open_chains, box)]
        inside = _closed_at_box(open_chains, holes, box) if len(open_chains) else shapely.Polygon()
        whole = inside is not None
        at_box = inside is not None and not inside.is_empty
        closed = shapely.union(closed, inside) if inside is not None else closed
    sure = shapely.difference(closed, holes)
    if bounds_m is not None:  # ways that are missing have no node in the box, so what is known ends there
        sure = shapely.intersection(sure, shapely.box(*bounds_m))
    return Assembled(_polygons(sure), whole, at_box)


def mended(polygon: shapely.Polygon) -> tuple[shapely.Polygon, ...]:
    """The valid polygons that one which crosses itself stands for."""
    return _polygons(shapely.make_valid(polygon))


def clipped(polygon: shapely.Polygon, bounds_m: Bounds) -> tuple[shapely.Polygon, ...]:
    """What lies in a box of a polygon, which has to be valid."""
    return _polygons(shapely.intersection(polygon, shapely.box(*bounds_m)))


def _polygons(shape: shapely.Geometry) -> tuple[shapely.Polygon, ...]:
    parts = shapely.get_parts(shapely.get_parts(shape))  # a mended polygon may be a collection with multipolygons
    return tuple(part for part in parts if part.geom_type == "Polygon" and part.area > 0.0)


def _closed_at_box(chains: np.ndarray, holes: shapely.Geometry, box: shapely.Polygon) -> shapely.Geometry | None:
    """The part of a box that open rings enclose; None where that cannot be told."""
    cuts = [shapely.intersection(_to_border(chain, box), box) for chain in chains]
    faces = _polygons(shapely.polygonize([*shapely.get_parts(shapely.unary_union([*cuts, box.exterior]))]))
    if any(_ends_inside(chain, box) for chain in chains) or len(faces) < 2:
        return None
    side = _sides(faces)
    if side is None:
        return None
    both = [shapely.union_all([face for face, of in zip(faces, side, strict=True) if of == which]) for which in (0, 1)]
    marks = [shapely.intersection(one, holes).area for one in both]
    if max(marks) > 0.0:  # a hole lies inside
        return both[int(np.argmax(marks))]
    smaller = min(both, key=lambda one: float(one.area))
    return smaller if smaller.area <= _MAX_SHARE_OF_BOX * box.area else None


def _to_border(chain: shapely.LineString, box: shapely.Polygon) -> shapely.LineString:
    """A chain whose ends, where they lie just inside the box, are led to its border."""
    course = shapely.get_coordinates(chain)
    parts = [course]
    for end, place in ((0, 0), (-1, 2)):
        point = shapely.Point(course[end])
        if shapely.contains_properly(box, point):
            border = shapely.get_coordinates(shapely.shortest_line(box.exterior, point))[:1]
            parts = [border, *parts] if place == 0 else [*parts, border]
    return shapely.linestrings(np.concatenate(parts))


def _ends_inside(chain: shapely.LineString, box: shapely.Polygon) -> bool:
    """Whether a chain ends in the middle of the box: what goes on from there is missing from the file."""
    ends = shapely.points(shapely.get_coordinates(chain)[[0, -1]])
    return bool((shapely.contains_properly(box, ends) & (shapely.distance(box.exterior, ends) > _AT_BORDER_M)).any())


def _sides(faces: Sequence[shapely.Polygon]) -> list[int] | None:
    """0 or 1 of each face, different wherever two meet; None if that cannot be."""
    side: list[int | None] = [None] * len(faces)
    side[0] = 0
    todo = [0]
    while todo:
        at = todo.pop()
        for other, face in enumerate(faces):
            if other != at and shapely.intersection(faces[at], face).length > 0.0:
                if side[other] is None:
                    side[other] = 1 - (side[at] or 0)
                    todo.append(other)
                elif side[other] == side[at]:
                    return None
    return None if None in side else [of or 0 for of in side]

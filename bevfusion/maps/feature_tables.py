"""The features of a large map as a few arrays: sequences that make a `Road`, `Area` or `Line` when it is asked for.

An extract may hold a million of them, which as objects with an array each take ten times the memory of their vertices.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import SupportsIndex, TypeVar, overload

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from bevfusion.maps.features import Area, Line, Road
from bevfusion.maps.ragged import Ragged
from bevfusion.maps.schema import LAYER_NAMES, layer_index

Feature = TypeVar("Feature")

_NO_VERTICES = np.zeros((0, 2))


class _Table(Sequence[Feature]):
    """A sequence whose items are made anew each time they are asked for."""

    @abstractmethod
    def _made(self, at: int) -> Feature:
        """The feature with this number."""

    @overload
    def __getitem__(self, at: SupportsIndex) -> Feature: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Feature, ...]: ...

    def __getitem__(self, at: SupportsIndex | slice) -> Feature | tuple[Feature, ...]:
        chosen = range(len(self))[at]
        return self._made(chosen) if isinstance(chosen, int) else tuple(self._made(each) for each in chosen)


class RoadTable(_Table[Road]):
    """Roads: vertices and node ids one road after the other, and what tags say once for all roads that share them."""

    def __init__(
        self,
        courses: Ragged,
        node_ids: Int[np.ndarray, " n"],
        styles: Sequence[Road],
        style: Int[np.ndarray, " r"],
        names: Sequence[str],
        name: Int[np.ndarray, " r"],
    ) -> None:
        """Take arrays as they are.

        Args:
            courses: vertices of each road, in metres of the map frame.
            node_ids: of OSM, one a vertex.
            styles: roads that lend everything but course, nodes and name.
            style: which of them each road follows.
            names: all names.
            name: which of them each road has.
        """
        self.courses, self.node_ids = courses, node_ids
        self._styles, self._style, self._names, self._name = styles, style, names, name

    @classmethod
    def of(cls, roads: Sequence[Road]) -> "RoadTable":
        """Any roads; a table stays as it is."""
        if isinstance(roads, cls):
            return roads
        each = np.arange(len(roads))
        ids = np.array([node for road in roads for node in road.node_ids], np.int64)
        courses = Ragged.of([road.xy_m for road in roads], _NO_VERTICES)
        return cls(courses, ids, roads, each, [road.name for road in roads], each)

    def __len__(self) -> int:
        return len(self.courses)

    def _made(self, at: int) -> Road:
        nodes = self.node_ids[self.courses.starts[at] : self.courses.starts[at + 1]]
        return replace(
            self._styles[int(self._style[at])],
            xy_m=self.courses[at],
            node_ids=tuple(nodes.tolist()),
            name=self._names[int(self._name[at])],
        )

    @property
    def width_m(self) -> Float[np.ndarray, " r"]:
        """Width of each road, tagged or by its kind."""
        of_roads: np.ndarray = np.array([road.width_m for road in self._styles], np.float64)[self._style]
        return of_roads

    @property
    def oneway(self) -> Int8[np.ndarray, " r"]:
        """1 along the vertices, -1 against them, 0 both ways."""
        of_roads: np.ndarray = np.array([road.oneway for road in self._styles], np.int8)[self._style]
        return of_roads

    @property
    def drivable(self) -> Bool[np.ndarray, " r"]:
        """Whether cars drive on each road."""
        of_roads: np.ndarray = np.array([road.drivable for road in self._styles], bool)[self._style]
        return of_roads


class AreaTable(_Table[Area]):
    """Areas: the rings of each, its outer one first."""

    def __init__(
        self,
        rings: Ragged,
        first_ring: Int[np.ndarray, " a1"],
        layer: Int8[np.ndarray, " a"],
        height_m: Float[np.ndarray, " a"],
        valid: Bool[np.ndarray, " a"],
    ) -> None:
        """Take arrays as they are.

        Args:
            rings: closed, in metres of the map frame.
            first_ring: area i has the rings first_ring[i] to first_ring[i + 1].
            layer: position in `LAYERS`.
            height_m: of a building, NaN where it is not known.
            valid: whether it is known that no ring crosses itself or another.
        """
        self.rings, self.first_ring, self.layer, self.height_m, self.valid = rings, first_ring, layer, height_m, valid

    @classmethod
    def of(cls, areas: Sequence[Area]) -> "AreaTable":
        """Any areas; a table stays as it is."""
        if isinstance(areas, cls):
            return areas
        rings = [ring for area in areas for ring in (area.outer_m, *area.holes_m)]
        counts = [0, *(1 + len(area.holes_m) for area in areas)]
        return cls(
            Ragged.of(rings, _NO_VERTICES),
            np.cumsum(counts, dtype=np.int64),
            np.array([layer_index(area.kind) for area in areas], np.int8),
            np.array([math.nan if area.height_m is None else area.height_m for area in areas], np.float64),
            np.zeros(len(areas), bool),
        )

    def __len__(self) -> int:
        return len(self.layer)

    def _made(self, at: int) -> Area:
        outer_m, *holes_m = (self.rings[ring] for ring in range(self.first_ring[at], self.first_ring[at + 1]))
        height_m = float(self.height_m[at])
        kind = LAYER_NAMES[self.layer[at]]
        return Area(kind, outer_m, tuple(holes_m), None if math.isnan(height_m) else height_m)

    def followed_by(self, other: "AreaTable") -> "AreaTable":
        """These areas, then the others."""
        if not len(other):
            return self
        rings = Ragged(
            np.concatenate([self.rings.values, other.rings.values]),
            np.concatenate([self.rings.starts, self.rings.starts[-1] + other.rings.starts[1:]]),
        )
        return AreaTable(
            rings,
            np.concatenate([self.first_ring, self.first_ring[-1] + other.first_ring[1:]]),
            np.concatenate([self.layer, other.layer]),
            np.concatenate([self.height_m, other.height_m]),
            np.concatenate([self.valid, other.valid]),
        )

    def taken(self, order: Int[np.ndarray, " k"]) -> "AreaTable":
        """Some of the areas, in this order."""
        numbers = Ragged(np.arange(len(self.rings)), self.first_ring).taken(order)
        return AreaTable(
            self.rings.taken(numbers.values), numbers.starts, self.layer[order], self.height_m[order], self.valid[order]
        )


class LineTable(_Table[Line]):
    """Lines: vertices one line after the other."""

    def __init__(self, courses: Ragged, layer: Int8[np.ndarray, " k"]) -> None:
        """Take arrays as they are: vertices in metres of the map frame, and the position of each line in `LAYERS`."""
        self.courses, self.layer = courses, layer

    @classmethod
    def of(cls, lines: Sequence[Line]) -> "LineTable":
        """Any lines; a table stays as it is."""
        if isinstance(lines, cls):
            return lines
        layer = np.array([layer_index(line.kind) for line in lines], np.int8)
        return cls(Ragged.of([line.xy_m for line in lines], _NO_VERTICES), layer)

    def __len__(self) -> int:
        return len(self.layer)

    def _made(self, at: int) -> Line:
        return Line(LAYER_NAMES[self.layer[at]], self.courses[at])

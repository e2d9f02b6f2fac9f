"""Nodes, ways and relations of an extract, each once: what the readers of the formats collect and `maps/osm.py` draws.

Files hold them in any order, twice, in several versions, deleted, with negative ids or with coordinates in place of
nodes. Collecting them all first and settling that in whole arrays makes the order of no account.
"""

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bevfusion.maps.ragged import Ragged
from bevfusion.summary import InputSummary

Tags = dict[str, str]

SAYS_NOTHING = frozenset({"type", "source", "created_by", "note", "fixme", "FIXME", "converted_by", "attribution"})
"""Keys that describe the mapping, not the thing."""

_INLINED = -1  # version of coordinates that a way carries itself: a node of the file is preferred
_FIRST_INVENTED_ID = -(1 << 62)
MISSING_NODE = _FIRST_INVENTED_ID - 1
"""Id of a vertex that a file leaves out of a way."""

_AT_ONCE = 1 << 20
_NO_TAGS: Tags = {}


class Member(NamedTuple):
    """A part of a relation."""

    kind: str
    ref: int
    role: str


class Relation(NamedTuple):
    """A relation with its tags and parts."""

    id: int
    tags: Tags
    members: tuple[Member, ...]


class Box(NamedTuple):
    """Degrees; where east lies west of west the box crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, slots=True)
class Elements:
    """What an extract holds, nothing twice and nothing deleted.

    Way i has the nodes `way_nodes[starts[i] : starts[i + 1]]`, none of which repeats the one before it. Ways and nodes
    carry only the tags of `kept_keys`, as a place in `tag_sets`, of which there are few; a way's name stands apart.
    """

    lon_lat: Float[np.ndarray, "n 2"]  # of each node
    node_ids: Int[np.ndarray, " n"]  # ascending
    tagged_nodes: Int[np.ndarray, " t"]  # places in the arrays of nodes
    node_tags: Int[np.ndarray, " t"]  # places in `tag_sets`
    tag_sets: tuple[Tags, ...]  # the first is empty
    names: tuple[str, ...]  # the first is empty
    way_ids: Int[np.ndarray, " w"]
    way_tags: Int[np.ndarray, " w"]  # places in `tag_sets`
    way_names: Int[np.ndarray, " w"]  # places in `names`
    way_marks: Int[np.ndarray, " w"]  # equal where all tags that say something are equal
    starts: Int[np.ndarray, " w1"]
    way_nodes: Int[np.ndarray, " r"]  # places in the arrays of nodes, -1 where the file lacks the node
    relations: tuple[Relation, ...]
    boxes: tuple[Box, ...]  # of the header

    def tags_of(self, way: int) -> Tags:
        """The tags of a way."""
        return self.tag_sets[int(self.way_tags[way])]


class _Versions:
    """Ids and ranks of the copies of things of one kind: of equal ids the last of the highest rank counts."""

    def __init__(self) -> None:
        self.ids, self.ranks = array("q"), array("q")

    def add(self, ref: int, version: int, deleted: bool, tagged: bool) -> None:
        """A copy: newer ones count more, then those that are deleted, then those that carry tags."""
        self.ids.append(ref)
        self.ranks.append((version * 2 + deleted) * 2 + tagged)

    def chosen(self) -> Int[np.ndarray, " n"]:
        """Places of the copies that count, by ascending id."""
        ids, ranks = np.frombuffer(self.ids, np.int64), np.frombuffer(self.ranks, np.int64)
        if (ids[1:] > ids[:-1]).all():
            return np.arange(len(ids))
        order = np.lexsort((ranks, ids))
        return order[np.append(ids[order][1:] != ids[order][:-1], True)] if len(order) else order

    def copies(self, chosen: int) -> int:
        """How many stand in the file again; not counting what stands inlined with others.

        Args:
            chosen: how many there are once each counts once.
        """
        if chosen == len(self.ids):
            return 0
        of_file = np.frombuffer(self.ids, np.int64)[np.frombuffer(self.ranks, np.int64) >= 0]
        return len(of_file) - len(np.unique(of_file))


@dataclass
class ElementCollector:
    """What a reader adds elements to, in the order of the file. Tags are None of an element that is deleted."""

    kept_keys: frozenset[str]
    boxes: list[Box] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # of a server: what went wrong
    changes_only: bool = False  # an osmChange holds no more than what changed
    _nodes: _Versions = field(default_factory=_Versions)
    _ways: _Versions = field(default_factory=_Versions)
    _relations: _Versions = field(default_factory=_Versions)
    _lon: "array[float]" = field(default_factory=lambda: array("d"))
    _lat: "array[float]" = field(default_factory=lambda: array("d"))
    _tagged_nodes: "array[int]" = field(default_factory=lambda: array("q"))  # by the order of the node
    _node_tags: "array[int]" = field(default_factory=lambda: array("i"))
    _way_marks: "array[int]" = field(default_factory=lambda: array("q"))
    _way_tags: "array[int]" = field(default_factory=lambda: array("i"))  # -1 of those that are deleted
    _way_names: "array[int]" = field(default_factory=lambda: array("i"))
    _refs: "array[int]" = field(default_factory=lambda: array("q"))
    _starts: "array[int]" = field(default_factory=lambda: array("q", [0]))
    _relation_bodies: list[Relation | None] = field(default_factory=list)
    _tag_sets: dict[tuple[tuple[str, str], ...], int] = field(default_factory=lambda: {(): 0})
    _names: dict[str, int] = field(default_factory=lambda: {"": 0})
    _invented: dict[tuple[float, float], int] = field(default_factory=dict)

    def add_node(self, ref: int, version: int, lon: float, lat: float, tags: Mapping[str, str] | None) -> None:
        """A node in degrees; NaN where it has no place."""
        kept = self._tag_set(tags) if tags else 0
        if kept:
            self._tagged_nodes.append(len(self._lon))
            self._node_tags.append(kept)
        self._nodes.add(ref, version, tags is None, kept > 0)
        self._lon.append(math.nan if tags is None else lon)
        self._lat.append(lat)

    def add_bare_nodes(
        self, refs: "array[int]", versions: "array[int]", lon: "array[float]", lat: "array[float]"
    ) -> None:
        """Nodes without tags, none of them deleted."""
        self._nodes.ids.extend(refs)
        self._nodes.ranks.frombytes((np.frombuffer(versions, np.int64) * 4).tobytes())
        self._lon.extend(lon)
        self._lat.extend(lat)

    def add_inlined_node(self, ref: int | None, lon: float, lat: float) -> int:
        """A vertex that stands with its way; returns its id, invented (by its place) where it has none."""
        if ref is None:
            ref = self._invented.setdefault((lon, lat), _FIRST_INVENTED_ID + len(self._invented))
        self.add_node(ref, _INLINED, lon, lat, _NO_TAGS)
        return ref

    def add_way(self, ref: int, version: int, nodes: Iterable[int], tags: Mapping[str, str] | None) -> None:
        """A way by the ids of its nodes."""
        if tags is not None:
            self._refs.extend(nodes)
        kept = self._tag_set(tags) if tags else 0
        self._starts.append(len(self._refs))
        self._ways.add(ref, version, tags is None, bool(tags))
        self._way_tags.append(-1 if tags is None else kept)
        mark = name = 0
        if tags and kept:
            mark = hash(frozenset([item for item in tags.items() if item[0] not in SAYS_NOTHING]))
            if "name" in tags:
                name = self._names.setdefault(tags["name"], len(self._names))
        self._way_marks.append(mark)
        self._way_names.append(name)

    def add_inlined_way(self, ref: int, nodes: Iterable[int]) -> None:
        """A way that stands with a relation, without its tags; one of the file is preferred."""
        self.add_way(ref, _INLINED, nodes, _NO_TAGS)

    def add_relation(self, ref: int, version: int, members: Iterable[Member], tags: Tags | None) -> None:
        """A relation with its parts."""
        self._relations.add(ref, version, tags is None, bool(tags))
        self._relation_bodies.append(None if tags is None else Relation(ref, tags, tuple(members)))

    def _tag_set(self, tags: Mapping[str, str]) -> int:
        kept = tuple([item for item in tags.items() if item[0] in self.kept_keys])
        return self._tag_sets.setdefault(kept, len(self._tag_sets))

    def settled(self, summary: InputSummary) -> Elements:
        """Each element once, in its newest version, without those that are deleted; notes what was dropped."""
        lon, lat = np.frombuffer(self._lon), np.frombuffer(self._lat)
        nodes = self._nodes.chosen()
        placed = nodes[np.isfinite(lon[nodes]) & np.isfinite(lat[nodes])]
        lon_lat = np.empty((len(placed), 2))
        lon_lat[:, 0], lon_lat[:, 1] = lon[placed], lat[placed]
        node_ids = np.frombuffer(self._nodes.ids, np.int64)[placed]
        place_of = np.full(len(lon), -1, np.int32)
        place_of[placed] = np.arange(len(placed), dtype=np.int32)
        tagged = place_of[np.frombuffer(self._tagged_nodes, np.int64)]
        node_tags = np.frombuffer(self._node_tags, np.int32)[tagged >= 0]

        all_ways = self._ways.chosen()
        way_tags = np.frombuffer(self._way_tags, np.int32)
        ways = all_ways[way_tags[all_ways] >= 0]
        refs, starts = _taken(np.frombuffer(self._refs, np.int64), np.frombuffer(self._starts, np.int64), ways)
        all_relations = self._relations.chosen()
        bodies = [self._relation_bodies[at] for at in all_relations.tolist()]
        relations = tuple(body for body in bodies if body is not None)

        dead = len(nodes) - len(placed), len(all_ways) - len(ways), len(bodies) - len(relations)
        if any(dead):
            text = (
                f"{dead[0]} nodes, {dead[1]} ways and {dead[2]} relations are deleted or without a place, and left out"
            )
            summary.add("ignored", "deleted", text, count=sum(dead))
        chosen = (self._nodes, len(nodes)), (self._ways, len(all_ways)), (self._relations, len(bodies))
        copies = sum(versions.copies(count) for versions, count in chosen)
        if copies:
            summary.add(
                "ignored", "versions", f"{copies} older or repeated versions of elements left out", count=copies
            )
        return Elements(
            lon_lat=lon_lat,
            node_ids=node_ids,
            tagged_nodes=tagged[tagged >= 0],
            node_tags=node_tags,
            tag_sets=tuple(dict(tags) for tags in self._tag_sets),
            names=tuple(self._names),
            way_ids=np.frombuffer(self._ways.ids, np.int64)[ways],
            way_tags=way_tags[ways],
            way_names=np.frombuffer(self._way_names, np.int32)[ways],
            way_marks=np.frombuffer(self._way_marks, np.int64)[ways],
            starts=starts,
            way_nodes=_places(node_ids, refs),
            relations=relations,
            boxes=tuple(self.boxes),
        )


def _taken(
    refs: Int[np.ndarray, " r"], starts: Int[np.ndarray, " w1"], ways: Int[np.ndarray, " w"]
) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " v1"]]:
    """The nodes of some ways one after the other, none that repeats the one before it, and where each way begins."""
    chosen = Ragged(refs, starts).taken(ways)
    refs, starts = chosen.values, chosen.starts
    kept = np.append(True, refs[1:] != refs[:-1])[: len(refs)]
    kept[starts[:-1][chosen.lengths > 0]] = True
    if kept.all():
        return refs, starts
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    return refs[kept], before[starts]


def _places(node_ids: Int[np.ndarray, " n"], refs: Int[np.ndarray, " r"]) -> Int[np.ndarray, " r"]:
    """Where the nodes stand among the ids, which ascend; -1 where they do not."""
    if not len(node_ids):
        return np.full(len(refs), -1, np.int32)
    places = np.empty(len(refs), np.int32)
    for start in range(0, len(refs), _AT_ONCE):  # so that what is in between takes little memory
        part = refs[start : start + _AT_ONCE]
        found = np.minimum(np.searchsorted(node_ids, part), len(node_ids) - 1)
        places[start : start + _AT_ONCE] = np.where(node_ids[found] == part, found, -1)
    return places

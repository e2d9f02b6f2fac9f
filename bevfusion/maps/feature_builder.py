"""`Elements` -> `OsmMap`: what the tags have drawn, in metres, and an account of what could not be."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Float, Int

from bevfusion.maps import schema
from bevfusion.maps.drawing import NOTHING, Drawing, drawing_of, is_old_multipolygon
from bevfusion.maps.elements import SAYS_NOTHING, Elements, Relation, Tags
from bevfusion.maps.extent import Bounds, extent_of
from bevfusion.maps.features import Area, Line, OsmMap, Point, Road
from bevfusion.maps.multipolygons import Assembled, assembled_partly, clipped, enclosed, is_closed, mended
from bevfusion.maps.restrictions import turn_restrictions
from bevfusion.maps.tags import building_height_m, earthwork, is_private, oneway_direction, road_grade, road_width_m
from bevfusion.maps.traffic_side import left_hand_traffic_at, tagged_left_hand_traffic
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

BEYOND_BOX_M = 1000.0
"""Areas are cut so far outside of the extract's box: no tile about a place in it shows more."""

MAX_LOST_SHARE = 0.7
"""If more of what should be drawn cannot be, the rest is no map."""

_EXAMPLES = 3


@dataclass
class _Account:
    """Features of one kind that should be drawn, and those that cannot be, or not as a whole."""

    total: int = 0
    lost: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)


_NOTHING = "{path} holds nothing to draw: no roads, buildings, barriers or other mapped features"


class FeatureBuilder:
    """Draws the elements of one file."""

    def __init__(self, elements: Elements, path: Path, summary: InputSummary) -> None:
        """Look what there is to draw, and where.

        Raises:
            DataError: if that is nothing, or lies nowhere.
        """
        self._elements, self._path, self._summary = elements, path, summary
        self._drawings: dict[int, Drawing] = {}
        drawings = [self._drawing(tags) for tags in elements.way_tags]
        self._ways = [i for i, d in enumerate(drawings) if d.shows_course or (d.area and self._closes(i))]
        self._points = [(at, tags) for at, tags in elements.tagged_nodes if self._drawing(tags).point]
        self._relations = [(relation, self._parts(relation)) for relation in self._area_relations()]
        self._way_account, self._relation_account = _Account(total=len(self._ways)), _Account()
        self._mended = 0
        vertices, features = self._vertices()
        if not len(vertices):
            if self._ways:
                raise DataError(self._uselessness(len(self._ways), len(self._ways)))
            raise DataError(_NOTHING.format(path=path))
        self.frame, self.bounds_m = extent_of(elements.boxes, elements.lon_lat[vertices], features, path, summary)
        lat_lon = np.ascontiguousarray(elements.lon_lat[:, ::-1])
        self._xy_m = self.frame.many_metres_from_degrees(lat_lon)
        x0, y0, x1, y1 = self.bounds_m
        self._reach_m = (x0 - BEYOND_BOX_M, y0 - BEYOND_BOX_M, x1 + BEYOND_BOX_M, y1 + BEYOND_BOX_M)

    def build(self, name: str) -> OsmMap:
        """All features.

        Raises:
            DataError: if most of what should be drawn cannot be.
        """
        areas, drawn_with_relation = self._relation_areas()
        roads: list[Road] = []
        lines: list[Line] = []
        for way in self._ways:
            tags = self._elements.way_tags[way]
            drawing = self._drawing(tags)
            closed = self._closes(way)
            runs = self._runs(way)
            shown = False
            if drawing.road and not (drawing.rounds_area and closed):
                roads.extend(_road(tags, self._ids(run), self._xy_m[run]) for run in runs)
                shown = bool(runs)
            for kind in drawing.lines:
                lines.extend(Line(kind, self._xy_m[run]) for run in runs)
                shown = bool(runs)
            if drawing.stream_m is not None:
                areas.extend(area for run in runs for area in _stream_areas(self._xy_m[run], drawing.stream_m))
                shown = bool(runs)
            if drawing.area and closed and way not in drawn_with_relation:
                found = self._way_area(way, drawing.area, tags, runs)
                areas.extend(found)
                shown = shown or bool(found)
            self._account(way, runs, shown or way in drawn_with_relation)
        points = [(self._drawing(tags).point or "", *self._xy_m[at].tolist()) for at, tags in self._points]
        if not (roads or areas or lines or points):
            raise DataError(_NOTHING.format(path=self._path))
        self._tell()
        return OsmMap(
            frame=self.frame,
            bounds_m=self.bounds_m,
            roads=tuple(roads),
            areas=tuple(areas),
            lines=tuple(lines),
            points=tuple(Point(kind, x, y) for kind, x, y in points),
            name=name,
            left_hand_traffic=self._left_hand_traffic(),
            summary=self._summary,
            restrictions=turn_restrictions(self._elements, self._summary),
        )

    # -- ways

    def _drawing(self, tags: Tags) -> Drawing:
        """Ways with the same tags share a dictionary, which outlives this object."""
        if not tags:
            return NOTHING
        found = self._drawings.get(id(tags))
        if found is None:
            found = self._drawings[id(tags)] = drawing_of(tags)
        return found

    def _nodes(self, way: int) -> Int[np.ndarray, " n"]:
        return self._elements.way_nodes[self._elements.starts[way] : self._elements.starts[way + 1]]

    def _closes(self, way: int) -> bool:
        """Whether a way is a ring by its first and last node; two that are missing may be the same."""
        start, stop = self._elements.starts[way], self._elements.starts[way + 1]
        nodes = self._elements.way_nodes
        return bool(stop - start >= 4 and nodes[start] == nodes[stop - 1])

    def _runs(self, way: int) -> list[Int[np.ndarray, " _"]]:
        """The unbroken runs of a way: where its nodes are missing from the file, it is cut rather than bridged."""
        nodes = self._nodes(way)
        if len(nodes) > 1 and nodes.min() >= 0:
            return [nodes]
        missing = np.flatnonzero(nodes < 0)
        parts = [part[part >= 0] for part in np.split(nodes, missing)]
        return [part for part in parts if len(part) > 1]

    def _ids(self, nodes: Int[np.ndarray, " n"]) -> tuple[int, ...]:
        return tuple(self._elements.node_ids[nodes].tolist())

    def _way_area(self, way: int, kind: str, tags: Tags, runs: Sequence[Int[np.ndarray, " _"]]) -> list[Area]:
        nodes = self._nodes(way)
        height_m = building_height_m(tags) if kind == "building" else None
        if nodes.min() >= 0:
            return self._areas_of_ring(kind, self._xy_m[nodes], height_m)
        if nodes[0] >= 0 and len(runs) > 1:  # the run that ends with the ring's first node goes on with the first one
            runs = [np.concatenate([runs[-1], runs[0][1:]]), *runs[1:-1]] if runs[-1][-1] == runs[0][0] else runs
        partly = assembled_partly([self._xy_m[run] for run in runs], [], self._box())
        return [area for polygon in partly.polygons for area in self._areas_of_polygon(kind, polygon, height_m)]

    def _account(self, way: int, runs: Sequence[Int[np.ndarray, " _"]], shown: bool) -> None:
        if not shown:
            self._way_account.lost.append(int(self._elements.way_ids[way]))
        elif len(runs) != 1 or len(runs[0]) < len(self._nodes(way)):
            self._way_account.cut.append(int(self._elements.way_ids[way]))

    # -- areas

    def _areas_of_ring(self, kind: str, ring_m: Float[np.ndarray, "n 2"], height_m: float | None) -> list[Area]:
        polygon = shapely.Polygon(ring_m)
        if not polygon.is_valid:
            self._mended += 1
            return [area for part in mended(polygon) for area in self._areas_of_polygon(kind, part, height_m)]
        low, high = ring_m.min(axis=0), ring_m.max(axis=0)
        x0, y0, x1, y1 = self._reach_m
        if low[0] < x0 or low[1] < y0 or high[0] > x1 or high[1] > y1:
            return self._areas_of_polygon(kind, polygon, height_m)
        return [Area(kind, ring_m, (), height_m)]

    def _areas_of_polygon(self, kind: str, polygon: shapely.Polygon, height_m: float | None) -> list[Area]:
        parts = clipped(polygon, self._reach_m) if not _within(polygon.bounds, self._reach_m) else (polygon,)
        return [
            Area(
                kind,
                shapely.get_coordinates(part.exterior),
                tuple(shapely.get_coordinates(hole) for hole in part.interiors),
                height_m,
            )
            for part in parts
        ]

    def _box(self) -> Bounds | None:
        """The extract's box, where the header names one: without it nobody knows where the file was cut."""
        return self.bounds_m if self._elements.boxes else None

    # -- relations

    def _area_relations(self) -> Iterator[Relation]:
        for relation in self._elements.relations:
            is_area = relation.tags.get("type") in ("multipolygon", "boundary")
            if is_area and (self._drawing(relation.tags).relation_area or is_old_multipolygon(relation.tags)):
                yield relation

    def _parts(self, relation: Relation) -> list[tuple[int, str]]:
        """The ways of a relation, -1 where the file lacks them, with their roles; those of relations in it, too."""
        by_id = {each.id: each for each in self._elements.relations} if self._nests(relation) else {}
        found: list[tuple[int, str]] = []
        todo, seen = [(relation, "")], {relation.id}
        while todo:
            at, role_above = todo.pop()
            for member in at.members:
                role = role_above or member.role
                if member.kind == "way":
                    found.append((self._way_of_id(member.ref), role))
                elif member.kind == "relation" and member.ref not in seen:
                    seen.add(member.ref)
                    if member.ref in by_id:
                        todo.append((by_id[member.ref], role))
                    else:
                        found.append((-1, role))
        return found

    @staticmethod
    def _nests(relation: Relation) -> bool:
        return any(member.kind == "relation" for member in relation.members)

    def _way_of_id(self, ref: int) -> int:
        ids = self._elements.way_ids
        at = int(np.searchsorted(ids, ref))
        return at if at < len(ids) and ids[at] == ref else -1

    def _relation_areas(self) -> tuple[list[Area], set[int]]:
        """Areas of multipolygons, and the ways whose own areas they stand for."""
        areas: list[Area] = []
        drawn: set[int] = set()
        at_box = 0
        for relation, all_parts in self._relations:
            kinds = self._kinds_of(relation, all_parts)
            for kind, (tags, parts) in kinds.items():
                ways = [way for way, _ in parts if way >= 0]
                if not ways or self._is_drawn_by_its_ways(kind, parts):
                    continue
                result = self._assembled(parts, by_role=len(kinds) > 1)
                if not result.polygons and not self._touches_box(ways):
                    continue  # it lies elsewhere
                self._relation_account.total += 1
                if not result.polygons:
                    self._relation_account.lost.append(relation.id)
                    continue
                if not result.whole:
                    self._relation_account.cut.append(relation.id)
                at_box += result.closed_at_box
                height_m = self._height_m(tags, parts) if kind == "building" else None
                for polygon in result.polygons:
                    areas.extend(self._areas_of_polygon(kind, polygon, height_m))
                drawn.update(self._same_area(relation, parts, kind))
        if at_box:
            text = f"{at_box} areas that the extract cuts off are closed along its border"
            self._summary.add("assumed", "multipolygons", text, count=at_box, total=self._relation_account.total)
        return areas, drawn

    def _kinds_of(
        self, relation: Relation, parts: Sequence[tuple[int, str]]
    ) -> dict[str, tuple[Tags, Sequence[tuple[int, str]]]]:
        """The layers that a multipolygon is drawn in, the tags that say so, and the ways that count for it.

        The tags are its own, or else those of its outer ways, of which some may be another thing than the others.
        """
        own = self._drawing(relation.tags).relation_area
        if own:
            return {own: (relation.tags, parts)}
        kinds: dict[str, tuple[Tags, Sequence[tuple[int, str]]]] = {}
        kind_of = [self._drawing(self._elements.way_tags[way]).area if way >= 0 else None for way, _ in parts]
        for kind, (way, role) in zip(kind_of, parts, strict=True):
            if kind and role != "inner" and kind not in kinds:
                other = (
                    each not in (kind, None) and part[1] != "inner" for each, part in zip(kind_of, parts, strict=True)
                )
                of_kind = [part for part, differs in zip(parts, other, strict=True) if not differs]
                kinds[kind] = (self._elements.way_tags[way] | relation.tags, of_kind)
        return kinds

    def _height_m(self, tags: Tags, parts: Sequence[tuple[int, str]]) -> float | None:
        """Height of a building by its own tags, else by those of its outer ways."""
        outer = (self._elements.way_tags[way] for way, role in parts if way >= 0 and role != "inner")
        return next((height for each in (tags, *outer) if (height := building_height_m(each)) is not None), None)

    def _is_drawn_by_its_ways(self, kind: str, parts: Sequence[tuple[int, str]]) -> bool:
        """Whether all that the file holds of a multipolygon are rings with its tags, which are drawn as they are."""
        here = [(way, role) for way, role in parts if way >= 0]
        return len(here) < len(parts) and all(
            role != "inner" and self._closes(way) and self._drawing(self._elements.way_tags[way]).area == kind
            for way, role in here
        )

    def _same_area(self, relation: Relation, parts: Sequence[tuple[int, str]], kind: str) -> Iterator[int]:
        """Ways that say again what the multipolygon says: outer ones of its kind, and inner ones with its very tags."""
        marks = {hash(frozenset((k, v) for k, v in relation.tags.items() if k not in SAYS_NOTHING))}
        outer = [way for way, role in parts if way >= 0 and role != "inner"]
        marks.update(int(self._elements.way_marks[way]) for way in outer if self._elements.way_marks[way])
        for way, role in parts:
            same_kind = way >= 0 and self._drawing(self._elements.way_tags[way]).area == kind
            if same_kind and (role != "inner" or int(self._elements.way_marks[way]) in marks):
                yield way

    def _assembled(self, parts: Sequence[tuple[int, str]], by_role: bool) -> Assembled:
        courses: dict[bool, list[Float[np.ndarray, "_ 2"]]] = {True: [], False: []}
        ends: list[tuple[int, int]] = []
        whole = True
        for way, role in parts:
            runs = self._runs(way) if way >= 0 else []
            whole = whole and way >= 0 and len(runs) == 1 and len(runs[0]) == len(self._nodes(way))
            courses[role == "inner"].extend(self._xy_m[run] for run in runs)
            ends.extend((int(run[0]), int(run[-1])) for run in runs)
        if not ends:
            return Assembled((), False)
        if whole and by_role:  # a hole may lie in another outer ring, which is not among the parts
            return assembled_partly(courses[False], courses[True], None)
        if whole and is_closed(np.array(ends)):
            return Assembled(enclosed([*courses[False], *courses[True]]), True)
        return assembled_partly(courses[False], courses[True], self._box())

    def _touches_box(self, ways: Iterable[int]) -> bool:
        x0, y0, x1, y1 = self.bounds_m
        for way in ways:
            xy_m = self._xy_m[self._nodes(way)[self._nodes(way) >= 0]]
            if len(xy_m) and (xy_m.max(axis=0) >= (x0, y0)).all() and (xy_m.min(axis=0) <= (x1, y1)).all():
                return True
        return False

    # -- the whole

    def _vertices(self) -> tuple[Int[np.ndarray, " v"], Int[np.ndarray, " v"]]:
        """The nodes of all that is drawn, and the feature that each belongs to, ascending."""
        starts, nodes = self._elements.starts, self._elements.way_nodes
        of_relations = [[way for way, _ in parts if way >= 0] for _, parts in self._relations]
        ways = np.array([*self._ways, *(way for group in of_relations for way in group)], np.int64)
        groups = np.repeat(len(self._ways) + np.arange(len(of_relations)), [len(group) for group in of_relations])
        feature_of_way = np.concatenate([np.arange(len(self._ways)), groups.astype(np.int64)])
        lengths = (starts[1:] - starts[:-1])[ways]
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        vertices = nodes[np.repeat(starts[:-1][ways], lengths) + within].astype(np.int64)
        features = np.repeat(feature_of_way, lengths)
        placed = vertices >= 0
        points = np.array([at for at, _ in self._points], np.int64)
        first_point = len(self._ways) + len(of_relations)
        return (
            np.concatenate([vertices[placed], points]),
            np.concatenate([features[placed], first_point + np.arange(len(points))]),
        )

    def _tell(self) -> None:
        """Say what was lost, and stop if it is too much."""
        for subject, account in (("ways", self._way_account), ("multipolygons", self._relation_account)):
            missing = "their nodes" if subject == "ways" else "some of their ways"
            if account.lost:
                share = f"{len(account.lost)} of {account.total} ({len(account.lost) / account.total:.0%})"
                text = f"{share} are not drawn, for the file lacks {missing}: {_examples(account.lost)}"
                self._summary.add("lost", subject, text, count=len(account.lost), total=account.total)
            if account.cut:
                text = f"{len(account.cut)} of {account.total} are drawn in part, for the file lacks {missing}"
                self._summary.add("ignored", subject, text, count=len(account.cut), total=account.total)
        if self._mended:
            text = f"{self._mended} areas cross themselves, and are mended"
            self._summary.add("assumed", "areas", text, count=self._mended)
        lost = len(self._way_account.lost) + len(self._relation_account.lost)
        total = self._way_account.total + self._relation_account.total
        if lost > MAX_LOST_SHARE * total:
            raise DataError(self._uselessness(lost, total))

    def _uselessness(self, lost: int, total: int) -> str:
        return (
            f"{self._path} lacks the nodes of {lost} of {total} ways and multipolygons that should be drawn; export it "
            "again with them (in Overpass `out body; >; out skel qt;` or `out geom`)"
        )

    def _left_hand_traffic(self) -> bool:
        """What the tags say, else what the country has; the country is an assumption, and noted."""
        elements = self._elements
        of_region = [
            tags["driving_side"]
            for tags in (
                *(tags for _, tags in elements.tagged_nodes),
                *(relation.tags for relation in elements.relations),
            )
            if "driving_side" in tags and ("boundary" in tags or "place" in tags)
        ]
        tagged_ways = (elements.way_tags[way] for way in self._ways)
        of_roads = [tags.get("driving_side") for tags in tagged_ways if tags.get("highway") in schema.ROAD_WIDTHS_M]
        by_country = left_hand_traffic_at(self.frame.origin_lat_deg, self.frame.origin_lon_deg)
        tagged = tagged_left_hand_traffic(of_region, of_roads)
        side = "left" if (by_country if tagged is None else tagged) else "right"
        if tagged is None:
            self._summary.add(
                "assumed", "driving_side", f"traffic keeps to the {side}, as in the country of this place"
            )
        elif tagged != by_country:
            self._summary.add(
                "used", "driving_side", f"traffic keeps to the {side} by the tags, unlike in this country"
            )
        return side == "left"


def _within(inner: tuple[float, float, float, float], outer: Bounds) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _examples(ids: Sequence[int]) -> str:
    return ", ".join(str(ref) for ref in ids[:_EXAMPLES]) + (", ..." if len(ids) > _EXAMPLES else "")


def _road(tags: Tags, ids: tuple[int, ...], xy_m: Float[np.ndarray, "n 2"]) -> Road:
    kind = tags["highway"]
    return Road(
        kind=kind,
        xy_m=xy_m,
        node_ids=ids,
        width_m=road_width_m(tags),
        oneway=oneway_direction(tags),
        drivable=kind in schema.ROAD_WIDTHS_M,
        bridge=tags.get("bridge", "no") != "no",
        name=tags.get("name", ""),
        grade=road_grade(tags),
        earthwork=earthwork(tags),
        private=is_private(tags),
    )


def _stream_areas(xy_m: Float[np.ndarray, "n 2"], width_m: float) -> list[Area]:
    """A watercourse that is mapped as a line, with its width."""
    banks = shapely.buffer(shapely.linestrings(xy_m), 0.5 * width_m, quad_segs=2, cap_style="flat")
    parts = [part for part in shapely.get_parts(banks) if not part.is_empty]
    return [
        Area("water", np.array(part.exterior.coords), tuple(np.array(ring.coords) for ring in part.interiors))
        for part in parts
    ]

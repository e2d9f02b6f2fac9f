"""`Elements` -> `OsmMap`: what the tags have drawn, in metres, and an account of what could not be.

Ways are handled all at once, in arrays; one by one only those that are out of the ordinary: cut areas, areas that cross
themselves or reach far beyond the extract, watercourses, and the parts of relations.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int

from bevfusion.maps import schema
from bevfusion.maps.drawing import Drawing, drawing_of, is_old_multipolygon
from bevfusion.maps.elements import SAYS_NOTHING, Elements, Relation, Tags
from bevfusion.maps.extent import Bounds, extent_of
from bevfusion.maps.feature_tables import AreaTable, LineTable, RoadTable
from bevfusion.maps.features import Area, OsmMap, Point, Road
from bevfusion.maps.multipolygons import Assembled, assembled_partly, clipped, enclosed, is_closed, mended
from bevfusion.maps.ragged import Ragged, spans
from bevfusion.maps.restrictions import turn_restrictions
from bevfusion.maps.schema import layer_index
from bevfusion.maps.tags import building_height_m, earthwork, is_private, oneway_direction, road_grade, road_width_m
from bevfusion.maps.traffic_side import left_hand_traffic_at, tagged_left_hand_traffic
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

BEYOND_BOX_M = 1000.0
"""Areas are cut so far outside of the extract's box: no tile about a place in it shows more."""

MAX_LOST_SHARE = 0.7
"""If more of what should be drawn cannot be, the rest is no map."""

_EXAMPLES = 3
_AT_ONCE = 1 << 18  # nodes
_RINGS_AT_ONCE = 1 << 15


@dataclass
class _Account:
    """Features of one kind that should be drawn, and those that cannot be, or not as a whole."""

    total: int = 0
    lost: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)


_NOTHING = "{path} holds nothing to draw: no roads, buildings, barriers or other mapped features"


class _Runs(NamedTuple):
    """Unbroken runs of ways, by way: where its nodes are missing from the file, a way is cut rather than bridged."""

    way: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " n"]  # place of its first node in `Elements.way_nodes`
    length: Int[np.ndarray, " n"]  # at least 2

    def where(self, chosen: Bool[np.ndarray, " n"]) -> "_Runs":
        """Those that are chosen."""
        return _Runs(self.way[chosen], self.start[chosen], self.length[chosen])


class FeatureBuilder:
    """Draws the elements of one file."""

    def __init__(self, elements: Elements, path: Path, summary: InputSummary) -> None:
        """Look what there is to draw, and where.

        Raises:
            DataError: if that is nothing, or lies nowhere.
        """
        self._elements, self._path, self._summary = elements, path, summary
        self._drawings = [drawing_of(tags) for tags in elements.tag_sets]
        self._closed = _closed(elements)
        courses = self._of_ways([drawing.shows_course for drawing in self._drawings])
        areas = self._of_ways([drawing.area is not None for drawing in self._drawings])
        self._ways = np.flatnonzero(courses | (areas & self._closed))
        points = np.array([drawing.point is not None for drawing in self._drawings])[elements.node_tags]
        self._points = elements.tagged_nodes[points], elements.node_tags[points]
        self._by_id = {each.id: each for each in elements.relations}
        self._relations = [(relation, self._parts(relation)) for relation in self._area_relations()]
        self._way_account, self._relation_account = _Account(total=len(self._ways)), _Account()
        self._mended = 0
        vertices, features = self._vertices()
        if not len(vertices):
            if len(self._ways):
                raise DataError(self._uselessness(len(self._ways), len(self._ways)))
            raise DataError(_NOTHING.format(path=path))
        self.frame, self.bounds_m = extent_of(elements.boxes, elements.lon_lat[vertices], features, path, summary)
        self._xy_m = np.empty_like(elements.lon_lat)
        for first in range(0, len(self._xy_m), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            lat_lon = np.ascontiguousarray(elements.lon_lat[part, ::-1])
            self._xy_m[part] = self.frame.many_metres_from_degrees(lat_lon)
        x0, y0, x1, y1 = self.bounds_m
        self._reach_m = (x0 - BEYOND_BOX_M, y0 - BEYOND_BOX_M, x1 + BEYOND_BOX_M, y1 + BEYOND_BOX_M)

    def build(self, name: str) -> OsmMap:
        """All features.

        Raises:
            DataError: if most of what should be drawn cannot be.
        """
        of_relations, drawn_with_relation = self._relation_areas()
        runs = self._runs_of_ways()
        roads, lines = self._roads(runs), self._lines(runs)
        areas, showing_area = self._areas(runs, of_relations, drawn_with_relation)
        self._account(runs, showing_area | drawn_with_relation)
        points = tuple(
            Point(self._drawings[tags].point or "", *self._xy_m[at].tolist())
            for at, tags in zip(*(values.tolist() for values in self._points), strict=True)
        )
        if not (len(roads) or len(areas) or len(lines) or points):
            raise DataError(_NOTHING.format(path=self._path))
        self._tell()
        return OsmMap(
            frame=self.frame,
            bounds_m=self.bounds_m,
            roads=roads,
            areas=areas,
            lines=lines,
            points=points,
            name=name,
            left_hand_traffic=self._left_hand_traffic(),
            summary=self._summary,
            restrictions=turn_restrictions(self._elements, self._summary),
        )

    # -- ways

    def _of_ways(self, of_tags: Sequence[bool]) -> Bool[np.ndarray, " w"]:
        """What holds for tags, of each way."""
        found: np.ndarray = np.array(of_tags, bool)[self._elements.way_tags]
        return found

    def _drawing(self, way: int) -> Drawing:
        return self._drawings[int(self._elements.way_tags[way])]

    def _nodes(self, way: int) -> Int[np.ndarray, " n"]:
        return self._elements.way_nodes[self._elements.starts[way] : self._elements.starts[way + 1]]

    def _runs(self, way: int) -> list[Int[np.ndarray, " _"]]:
        """The nodes of the unbroken runs of a way."""
        nodes = self._nodes(way)
        parts = [part[part >= 0] for part in np.split(nodes, np.flatnonzero(nodes < 0))]
        return [part for part in parts if len(part) > 1]

    def _runs_of_ways(self) -> _Runs:
        """The unbroken runs of all ways that are drawn."""
        starts, nodes = self._elements.starts, self._elements.way_nodes
        lengths = (starts[1:] - starts[:-1])[self._ways]
        runs = _Runs(self._ways, starts[self._ways], lengths)
        if len(nodes) and nodes.min() < 0:
            at = spans(runs.start, runs.length)
            way = np.repeat(self._ways, lengths)
            here = nodes[at] >= 0
            goes_on = np.append(False, here[:-1] & (way[1:] == way[:-1])) if len(at) else here
            first = np.flatnonzero(here & ~goes_on)
            run_of_node = np.cumsum(here & ~goes_on) - 1
            runs = _Runs(way[first], at[first], np.bincount(run_of_node[here], minlength=len(first)))
        return runs.where(runs.length > 1)

    def _course(self, runs: _Runs) -> tuple[Ragged, Int[np.ndarray, " v"]]:
        """The vertices of runs in metres, and their nodes."""
        nodes = self._elements.way_nodes[spans(runs.start, runs.length)]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(runs.length, dtype=np.int64)])
        return Ragged(self._xy_m[nodes], starts), nodes

    def _roads(self, all_runs: _Runs) -> RoadTable:
        runs = all_runs.where(self._roads_of_ways()[all_runs.way])
        courses, nodes = self._course(runs)
        used, style = np.unique(self._elements.way_tags[runs.way], return_inverse=True)
        styles = [_road(self._elements.tag_sets[at]) for at in used.tolist()]
        names = self._elements.names, self._elements.way_names[runs.way]
        return RoadTable(courses, self._elements.node_ids[nodes], styles, style.astype(np.int32), *names)

    def _roads_of_ways(self) -> Bool[np.ndarray, " w"]:
        """Which ways are roads along their course, rather than around an area."""
        around = self._of_ways([drawing.rounds_area for drawing in self._drawings]) & self._closed
        along: np.ndarray = self._of_ways([drawing.road for drawing in self._drawings]) & ~around
        return along

    def _lines(self, all_runs: _Runs) -> LineTable:
        """Lines by way; those of one way by layer."""
        layers = [[layer_index(kind) for kind in drawing.lines] for drawing in self._drawings]
        count = np.array([len(each) for each in layers])[self._elements.way_tags]
        chosen = all_runs.where(count[all_runs.way] > 0)
        numbers = np.repeat(np.arange(len(chosen.way)), count[chosen.way])
        within = spans(np.zeros(len(chosen.way), np.int64), count[chosen.way])
        order = np.lexsort((numbers, within, chosen.way[numbers]))
        runs = _Runs(*(values[numbers[order]] for values in chosen))
        of_tags = Ragged.of([np.array(each, np.int8) for each in layers], np.zeros(0, np.int8))
        layer = of_tags.values[of_tags.starts[self._elements.way_tags[runs.way]] + within[order]]
        return LineTable(self._course(runs)[0], layer)

    def _account(self, runs: _Runs, shown_as_area: Bool[np.ndarray, " w"]) -> None:
        """Note the ways that are not drawn, and those that are drawn in part."""
        ways, starts, ids = self._ways, self._elements.starts, self._elements.way_ids
        along = self._roads_of_ways() | self._of_ways([bool(d.lines) or d.stream_m is not None for d in self._drawings])
        count = np.bincount(runs.way, minlength=len(ids))
        seen = np.bincount(runs.way, weights=runs.length, minlength=len(ids))
        shown = (along & (count > 0)) | shown_as_area
        whole = (count == 1) & (seen == starts[1:] - starts[:-1])
        self._way_account.lost.extend(ids[ways[~shown[ways]]].tolist())
        self._way_account.cut.extend(ids[ways[(shown & ~whole)[ways]]].tolist())

    # -- areas

    def _areas(
        self, all_runs: _Runs, of_relations: Sequence[Area], drawn_with_relation: Bool[np.ndarray, " w"]
    ) -> tuple[AreaTable, Bool[np.ndarray, " w"]]:
        """Those of relations, then those of ways by way; and which ways show any."""
        drawings, ids = self._drawings, self._elements.way_tags
        encloses = self._of_ways([drawing.area is not None for drawing in drawings]) & self._closed
        rings = self._ways[(encloses & ~drawn_with_relation)[self._ways]]
        plain = self._plain_rings(rings, all_runs)
        showing = np.zeros(len(ids), bool)
        showing[rings[plain]] = True
        single: list[tuple[int, Area]] = [(-1, area) for area in of_relations]
        streams = self._of_ways([drawing.stream_m is not None for drawing in drawings])
        single += self._streams(all_runs.where(streams[all_runs.way]))
        for way in rings[~plain].tolist():
            found = self._way_area(way)
            showing[way] = bool(found)
            single += [(way, area) for area in found]

        at_once = rings[plain]
        layer = np.array([-1 if d.area is None else layer_index(d.area) for d in drawings], np.int8)[ids[at_once]]
        height_m = np.array([_height_m(d, t) for d, t in zip(drawings, self._elements.tag_sets, strict=True)])
        starts = self._elements.starts
        courses, _ = self._course(_Runs(at_once, starts[at_once], starts[at_once + 1] - starts[at_once]))
        table = AreaTable(courses, np.arange(len(at_once) + 1), layer, height_m[ids[at_once]], plain[plain])
        if not single:
            return table, showing
        table = AreaTable.of([area for _, area in single]).followed_by(table)
        way = np.concatenate([np.array([way for way, _ in single], np.int64), at_once])
        return table.taken(np.argsort(way, kind="stable")), showing

    def _plain_rings(self, rings: Int[np.ndarray, " r"], runs: _Runs) -> Bool[np.ndarray, " r"]:
        """Which rings are areas as they are: all there, none that crosses itself, none that reaches far beyond."""
        starts, nodes = self._elements.starts, self._elements.way_nodes
        lengths = starts[rings + 1] - starts[rings]
        plain: np.ndarray = np.bincount(runs.way, weights=runs.length, minlength=len(starts))[rings] == lengths
        x0, y0, x1, y1 = self._reach_m
        for first in range(0, len(rings), _RINGS_AT_ONCE):
            part = first + np.flatnonzero(plain[first : first + _RINGS_AT_ONCE])
            if not len(part):
                continue
            ring_m = self._xy_m[nodes[spans(starts[rings[part]], lengths[part])]]
            owner = np.repeat(np.arange(len(part)), lengths[part])
            begins = np.cumsum(lengths[part]) - lengths[part]
            low, high = np.minimum.reduceat(ring_m, begins), np.maximum.reduceat(ring_m, begins)
            near = (low >= (x0, y0)).all(axis=1) & (high <= (x1, y1)).all(axis=1)
            polygons = shapely.polygons(shapely.linearrings(ring_m, indices=owner))
            plain[part] = near & shapely.is_valid(polygons)
        return plain

    def _streams(self, runs: _Runs) -> Iterator[tuple[int, Area]]:
        nodes = self._elements.way_nodes
        for way, start, length in zip(*(values.tolist() for values in runs), strict=True):
            width_m = self._drawing(way).stream_m
            if width_m is not None:
                for area in _stream_areas(self._xy_m[nodes[start : start + length]], width_m):
                    yield way, area

    def _way_area(self, way: int) -> list[Area]:
        """The areas of a ring that is out of the ordinary."""
        nodes, runs, kind = self._nodes(way), self._runs(way), self._drawing(way).area or ""
        height_m = building_height_m(self._elements.tags_of(way)) if kind == "building" else None
        if nodes.min() >= 0:
            return self._areas_of_ring(kind, self._xy_m[nodes], height_m)
        if nodes[0] >= 0 and len(runs) > 1:  # the run that ends with the ring's first node goes on with the first one
            runs = [np.concatenate([runs[-1], runs[0][1:]]), *runs[1:-1]] if runs[-1][-1] == runs[0][0] else runs
        partly = assembled_partly([self._xy_m[run] for run in runs], [], self._box())
        return [area for polygon in partly.polygons for area in self._areas_of_polygon(kind, polygon, height_m)]

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
            if is_area and (drawing_of(relation.tags).relation_area or is_old_multipolygon(relation.tags)):
                yield relation

    def _parts(self, relation: Relation) -> list[tuple[int, str]]:
        """The ways of a relation, -1 where the file lacks them, with their roles; those of relations in it, too."""
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
                    if member.ref in self._by_id:
                        todo.append((self._by_id[member.ref], role))
                    else:
                        found.append((-1, role))
        return found

    def _way_of_id(self, ref: int) -> int:
        ids = self._elements.way_ids
        at = int(np.searchsorted(ids, ref))
        return at if at < len(ids) and ids[at] == ref else -1

    def _relation_areas(self) -> tuple[list[Area], Bool[np.ndarray, " w"]]:
        """Areas of multipolygons, and whether they stand for the own area of each way."""
        areas: list[Area] = []
        drawn = np.zeros(len(self._elements.way_ids), bool)
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
                drawn[list(self._same_area(relation, parts, kind))] = True
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
        own = drawing_of(relation.tags).relation_area
        if own:
            return {own: (relation.tags, parts)}
        kinds: dict[str, tuple[Tags, Sequence[tuple[int, str]]]] = {}
        kind_of = [self._drawing(way).area if way >= 0 else None for way, _ in parts]
        for kind, (way, role) in zip(kind_of, parts, strict=True):
            if kind and role != "inner" and kind not in kinds:
                other = (
                    each not in (kind, None) and part[1] != "inner" for each, part in zip(kind_of, parts, strict=True)
                )
                of_kind = [part for part, differs in zip(parts, other, strict=True) if not differs]
                kinds[kind] = (self._elements.tags_of(way) | relation.tags, of_kind)
        return kinds

    def _height_m(self, tags: Tags, parts: Sequence[tuple[int, str]]) -> float | None:
        """Height of a building by its own tags, else by those of its outer ways."""
        outer = (self._elements.tags_of(way) for way, role in parts if way >= 0 and role != "inner")
        return next((height for each in (tags, *outer) if (height := building_height_m(each)) is not None), None)

    def _is_drawn_by_its_ways(self, kind: str, parts: Sequence[tuple[int, str]]) -> bool:
        """Whether all that the file holds of a multipolygon are rings with its tags, which are drawn as they are."""
        here = [(way, role) for way, role in parts if way >= 0]
        return len(here) < len(parts) and all(
            role != "inner" and self._closed[way] and self._drawing(way).area == kind for way, role in here
        )

    def _same_area(self, relation: Relation, parts: Sequence[tuple[int, str]], kind: str) -> Iterator[int]:
        """Ways that say again what the multipolygon says: outer ones of its kind, and inner ones with its very tags."""
        marks = {hash(frozenset((k, v) for k, v in relation.tags.items() if k not in SAYS_NOTHING))}
        outer = [way for way, role in parts if way >= 0 and role != "inner"]
        marks.update(int(self._elements.way_marks[way]) for way in outer if self._elements.way_marks[way])
        for way, role in parts:
            same_kind = way >= 0 and self._drawing(way).area == kind
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
        ways = np.concatenate([self._ways, np.array([way for group in of_relations for way in group], np.int64)])
        groups = np.repeat(len(self._ways) + np.arange(len(of_relations)), [len(group) for group in of_relations])
        feature_of_way = np.concatenate([np.arange(len(self._ways)), groups]).astype(np.int32)
        lengths = (starts[1:] - starts[:-1])[ways]
        vertices = nodes[spans(starts[ways], lengths)]
        features = np.repeat(feature_of_way, lengths)
        if len(vertices) and vertices.min() < 0:
            features, vertices = features[vertices >= 0], vertices[vertices >= 0]
        points, _ = self._points
        first_point = len(self._ways) + len(of_relations)
        return (
            np.concatenate([vertices, points]),
            np.concatenate([features, first_point + np.arange(len(points), dtype=np.int32)]),
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
        nodes_of_tags, ways_of_tags = (
            np.bincount(tags, minlength=len(elements.tag_sets)).tolist()
            for tags in (elements.node_tags, elements.way_tags[self._ways])
        )
        of_nodes = ((tags, nodes_of_tags[at]) for at, tags in enumerate(elements.tag_sets) if "driving_side" in tags)
        of_relations = ((relation.tags, 1) for relation in elements.relations if "driving_side" in relation.tags)
        of_region = chain.from_iterable(
            repeat(tags["driving_side"], count)
            for tags, count in (*of_nodes, *of_relations)
            if "boundary" in tags or "place" in tags
        )
        of_roads = chain.from_iterable(
            repeat(tags.get("driving_side"), ways_of_tags[at])
            for at, tags in enumerate(elements.tag_sets)
            if tags.get("highway") in schema.ROAD_WIDTHS_M
        )
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


def _closed(elements: Elements) -> Bool[np.ndarray, " w"]:
    """Whether each way is a ring by its first and last node; two that are missing may be the same."""
    starts, nodes = elements.starts, elements.way_nodes
    closed: np.ndarray = starts[1:] - starts[:-1] >= 4
    ways = np.flatnonzero(closed)
    closed[ways] = nodes[starts[ways]] == nodes[starts[ways + 1] - 1]
    return closed


def _height_m(drawing: Drawing, tags: Tags) -> float:
    """Height of what a way with these tags encloses; NaN where it is not known, or no building."""
    height_m = building_height_m(tags) if drawing.area == "building" else None
    return np.nan if height_m is None else height_m


def _road(tags: Tags) -> Road:
    """A road with these tags, without its course."""
    kind = tags["highway"]
    return Road(
        kind=kind,
        xy_m=np.zeros((0, 2)),
        node_ids=(),
        width_m=road_width_m(tags),
        oneway=oneway_direction(tags),
        drivable=kind in schema.ROAD_WIDTHS_M,
        bridge=tags.get("bridge", "no") != "no",
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

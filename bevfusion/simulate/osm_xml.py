"""Writing OpenStreetMap files: XML 0.6 with bounds, then nodes, ways and relations, all ids positive and ascending."""

import gzip
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Float

from bevfusion.files import atomic_file
from bevfusion.geometry.geodesy import LocalFrame

Tags = dict[str, str]


class OsmFile:
    """Features in metres of a local frame, to be written as one file.

    Vertices within a centimetre of each other become one node: ways that share one are connected.
    """

    def __init__(self, frame: LocalFrame) -> None:
        self._frame = frame
        self._nodes: dict[tuple[int, int], int] = {}
        self._node_tags: dict[int, Tags] = {}
        self._ways: list[tuple[list[int], Tags]] = []
        self._relations: list[tuple[list[tuple[int, str]], Tags]] = []

    def node(self, xy_m: Float[np.ndarray, " 2"], tags: Tags | None = None) -> int:
        """Id of the node at a place; tags are added to those it has."""
        key = (round(float(xy_m[0]) * 100.0), round(float(xy_m[1]) * 100.0))
        number = self._nodes.setdefault(key, len(self._nodes) + 1)
        if tags:
            self._node_tags.setdefault(number, {}).update(tags)
        return number

    def way(self, xy_m: Float[np.ndarray, "n 2"], tags: Tags) -> int:
        """Id of a new way; a ring is closed if its last vertex is its first."""
        ids = [self.node(place) for place in xy_m]
        kept = [a for a, b in zip(ids, [*ids[1:], -1], strict=True) if a != b]
        self._ways.append((kept, tags))
        return len(self._ways)

    def multipolygon(self, outer_m: Float[np.ndarray, "n 2"], hole_m: Float[np.ndarray, "m 2"], tags: Tags) -> None:
        """An area with a hole."""
        members = [(self.way(outer_m, {}), "outer"), (self.way(hole_m, {}), "inner")]
        self._relations.append((members, {"type": "multipolygon", **tags}))

    def write(self, path: Path, bounds_m: tuple[float, float, float, float]) -> None:
        """Write the file, compressed if its name ends in .gz; the same features give the same bytes.

        Args:
            path: the file; replaced if it exists.
            bounds_m: (x_min, y_min, x_max, y_max) of the extract.
        """
        lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<osm version="0.6" generator="bevfusion simulate">']
        south, west = self._frame.degrees_from_metres(bounds_m[0], bounds_m[1])
        north, east = self._frame.degrees_from_metres(bounds_m[2], bounds_m[3])
        lines.append(f' <bounds minlat="{south:.7f}" minlon="{west:.7f}" maxlat="{north:.7f}" maxlon="{east:.7f}"/>')
        common = 'version="1" timestamp="2024-01-01T00:00:00Z" visible="true"'
        for (x_cm, y_cm), number in self._nodes.items():
            lat, lon = self._frame.degrees_from_metres(0.01 * x_cm, 0.01 * y_cm)
            head = f'<node id="{number}" {common} lat="{lat:.7f}" lon="{lon:.7f}"'
            lines += _element(head, [], self._node_tags.get(number, {}), "node")
        for number, (ids, tags) in enumerate(self._ways, start=1):
            lines += _element(f'<way id="{number}" {common}', [f'<nd ref="{ref}"/>' for ref in ids], tags, "way")
        for number, (members, tags) in enumerate(self._relations, start=1):
            rows = [f'<member type="way" ref="{ref}" role="{role}"/>' for ref, role in members]
            lines += _element(f'<relation id="{number}" {common}', rows, tags, "relation")
        data = ("\n".join([*lines, "</osm>"]) + "\n").encode()
        if path.name.endswith(".gz"):
            data = gzip.compress(data, mtime=0)
        with atomic_file(path) as draft:
            draft.write_bytes(data)


def _element(head: str, rows: list[str], tags: Tags, name: str) -> list[str]:
    inside = rows + [f"<tag k={quoteattr(key)} v={quoteattr(value)}/>" for key, value in tags.items()]
    if not inside:
        return [f" {head}/>"]
    return [f" {head}>", *(f"  {row}" for row in inside), f" </{name}>"]

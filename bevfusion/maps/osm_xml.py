"""OpenStreetMap XML -> `ElementCollector`, in all the dialects in which programs write it.

Expat reads it, which holds one element at a time. Besides the plain form: JOSM (`action='delete'`, negative ids),
history (`visible='false'`), osmChange (<create>, <modify>, <delete>), augmented diffs (<old>, <new>), and Overpass
with the coordinates of ways in place (`out geom`) or its remarks when a run ends early.
https://wiki.openstreetmap.org/wiki/OSM_XML, /OsmChange, /Overpass_API/Overpass_QL, /JOSM_file_format
"""

import math
from collections.abc import Mapping
from io import BufferedIOBase
from xml.parsers import expat

from bevfusion.maps.elements import MISSING_NODE, Box, ElementCollector, Member, Tags

_CHUNK_BYTES = 1 << 20
_ROOTS = ("osm", "osmChange", "osmAugmentedDiff")
_MAX_VERSION = 1 << 40
Attributes = Mapping[str, str]


class XmlReader:
    """Passes what it reads on, element by element."""

    def __init__(self, elements: ElementCollector) -> None:
        self._elements = elements
        self._in_root = False
        self._deleting = False  # in <delete> of an osmChange
        self._outdated = False  # in <old> of an augmented diff
        self._kind = ""  # of the open element: node, way, relation
        self._attributes: Attributes = {}
        self._tags: Tags = {}
        self._refs: list[int] = []
        self._members: list[Member] = []
        self._member_refs: list[int] | None = None  # of a member with its vertices in place
        self._remark: list[str] | None = None

    def read(self, stream: BufferedIOBase) -> None:
        """Read a document.

        Raises:
            ValueError: if it is no XML, or none of OpenStreetMap's.
        """
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                parser.Parse(chunk, False)
            parser.Parse(b"", True)
        except (expat.ExpatError, LookupError) as error:  # an encoding that nobody knows
            raise ValueError(f"XML: {error}") from error

    @staticmethod
    def _entity(name: str, *_: object) -> None:
        raise ValueError(f"it declares the XML entity {name[:20]!r}, which no map needs")

    def _start(self, name: str, attributes: Attributes) -> None:
        if name == "nd":
            self._add_vertex(attributes)
        elif name == "tag":
            self._tags[attributes["k"]] = attributes["v"]
        elif name in ("node", "way", "relation"):
            self._kind, self._attributes = name, attributes
            self._tags, self._refs, self._members = {}, [], []
        elif name == "member":
            self._members.append(Member(attributes["type"], int(attributes["ref"]), attributes.get("role", "")))
            self._member_refs = []
        elif not self._in_root:
            self._check_root(name, attributes)
        elif name in ("bounds", "bound") and not self._kind:
            self._elements.boxes.append(_box(attributes))
        elif name == "delete":
            self._deleting = True
        elif name == "old":
            self._outdated = True
        elif name == "action":  # augmented diffs of Overpass have the root <osm>
            self._elements.changes_only = True
        elif name in ("remark", "error"):
            self._remark = []

    def _end(self, name: str) -> None:
        if name in ("nd", "tag"):  # most ends are these
            return
        if name in ("node", "way", "relation"):
            if not self._outdated:
                self._finish_element()
            self._kind = ""
        elif name == "member":
            refs, member = self._member_refs, self._members[-1]
            if refs and member.kind == "way":
                self._elements.add_inlined_way(member.ref, refs)
            self._member_refs = None
        elif name == "delete":
            self._deleting = False
        elif name == "old":
            self._outdated = False
        elif name in ("remark", "error") and self._remark is not None:
            self._elements.remarks.append(" ".join("".join(self._remark).split()))
            self._remark = None

    def _text(self, text: str) -> None:
        if self._remark is not None:
            self._remark.append(text)

    def _check_root(self, name: str, attributes: Attributes) -> None:
        if name not in _ROOTS:
            what = "a web page" if name.lower() == "html" else f"an XML document of <{name[:40]}>"
            raise ValueError(f"it is {what}, not of <osm>")
        version = attributes.get("version", "0.6")
        if version != "0.6" and name != "osmAugmentedDiff":
            raise ValueError(f"version {version[:20]} of the format, expected 0.6")
        self._elements.changes_only = name != "osm"
        self._in_root = True

    def _add_vertex(self, attributes: Attributes) -> None:
        ref = attributes.get("ref")
        node = None if ref is None else int(ref)
        if "lat" in attributes and not self._outdated:
            lon, lat = _place(attributes)
            node = self._elements.add_inlined_node(node, lon, lat)
        refs = self._refs if self._member_refs is None else self._member_refs
        refs.append(MISSING_NODE if node is None else node)

    def _finish_element(self) -> None:
        attributes = self._attributes
        deleted = self._deleting or attributes.get("visible") == "false" or attributes.get("action") == "delete"
        tags = None if deleted else self._tags
        ref, version = int(attributes["id"]), int(attributes.get("version", "0"))
        if not 0 <= version < _MAX_VERSION:
            raise ValueError(f"version {version} of {self._kind} {ref}")
        if self._kind == "node":
            lon, lat = _place(attributes) if "lat" in attributes and not deleted else (math.nan, math.nan)
            self._elements.add_node(ref, version, lon, lat, tags)
        elif self._kind == "way":
            self._elements.add_way(ref, version, self._refs, tags)
        else:
            self._elements.add_relation(ref, version, self._members, tags)


def _place(attributes: Attributes) -> tuple[float, float]:
    lon, lat = float(attributes["lon"]), float(attributes["lat"])
    if not (-180.0 <= lon <= 180.0 and -90.0 <= lat <= 90.0):
        raise ValueError(f"a node lies at latitude {lat:g}, longitude {lon:g}, off the globe")
    return lon, lat


def _box(attributes: Attributes) -> Box:
    if "box" in attributes:  # <bound box="south,west,north,east"/>, as Osmosis wrote it
        south, west, north, east = map(float, attributes["box"].split(","))
        return Box(west, south, east, north)
    return Box(*(float(attributes[key]) for key in ("minlon", "minlat", "maxlon", "maxlat")))

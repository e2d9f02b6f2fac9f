"""GeoJSON, GeoPackage, FlatGeobuf, shapefiles and GeoParquet (Overture) as maps, by pyogrio and pyarrow.

Roads, buildings and the rest are read by their OpenStreetMap tags, in whatever way programs keep those (a column a tag,
`other_tags`, `tags`, Geofabrik's `fclass`), or by the schema of Overture (https://docs.overturemaps.org/schema).
What is understood is written as an OpenStreetMap file and read as one, so that one set of rules says what tags mean.
"""

import json
import math
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import osmium
import pyproj
import shapely
from shapely.ops import substring

from bevfusion.maps import schema
from bevfusion.maps.features import OsmMap
from bevfusion.maps.osm import read_osm
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

OGR_SUFFIXES = (".geojson", ".geojsonl", ".geojsons", ".gpkg", ".fgb", ".shp")
PARQUET_SUFFIXES = (".parquet", ".geoparquet")
SUFFIXES = (*OGR_SUFFIXES, *PARQUET_SUFFIXES)
MAX_FEATURES = 3_000_000

Tags = dict[str, str]
Row = dict[str, Any]

_WORLD = "EPSG:4326"
_STARTS: Mapping[str, tuple[bytes, ...]] = {
    ".geojson": (b"{", b"["),
    ".geojsonl": (b"{", b"\x1e"),
    ".geojsons": (b"{", b"\x1e"),
    ".gpkg": (b"SQLite format 3\0",),
    ".fgb": (b"fgb\x03",),
    ".shp": (b"\0\0\x27\x0a",),
    ".parquet": (b"PAR1",),
    ".geoparquet": (b"PAR1",),
}
_INSTALL = "pip install 'bevfusion[vector]'"
_ALL_GEOMETRIES = frozenset[schema.Geometry]({"area", "band", "line", "point"})


class _Table(NamedTuple):
    """Features of one layer of one file."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    shapes: np.ndarray  # of shapely, in lon/lat degrees


def is_vector(path: Path) -> bool:
    """Whether a path is a file of vector features by its suffix, or a folder that holds some."""
    if path.is_dir():
        return bool(_files(path))
    return path.suffix.lower() in SUFFIXES


def read_vector(path: Path) -> OsmMap:
    """Read vector features as a map; the files of a folder make one map.

    Raises:
        DataError: if a file cannot be read, or holds nothing that is understood.
    """
    if not path.exists():
        raise DataError(f"{path} is no file")
    summary = InputSummary(path.name)
    with tempfile.TemporaryDirectory(prefix="bevfusion-") as folder:
        file = Path(folder) / f"{path.stem}.osm.pbf"
        writer = _OsmWriter()
        known = Counter[str]()
        for source in _files(path) if path.is_dir() else [path]:
            for table in _tables(source, summary):
                known += _translate(table, writer, summary)
        if not known:
            told = "; ".join(note.line() for note in summary.of_kind("ignored", "lost"))
            raise DataError(
                f"{path} holds no roads, buildings or other things by tags of OpenStreetMap or classes of Overture"
                + (f" ({told})" if told else "")
                + "; rename its columns to tags, as in: ogr2ogr -sql \"SELECT *, 'yes' AS building FROM layer\" "
                "out.geojson in.gpkg"
            )
        writer.write(file)
        try:
            found = read_osm(file)
        except DataError as error:
            raise DataError(str(error).replace(str(file), str(path))) from error
    most = ", ".join(f"{count} {kind}" for kind, count in known.most_common(8))
    summary.add("used", "features", most, count=sum(known.values()))
    summary.notes.extend(note for note in found.summary.notes if note not in summary.notes)
    return replace(found, summary=summary)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


# -- files


def _tables(path: Path, summary: InputSummary) -> Iterator[_Table]:
    with path.open("rb") as file:
        head = file.read(512)
    suffix = path.suffix.lower()
    if suffix == ".geojson" and re.search(rb'"elements"\s*:', head) and b"FeatureCollection" not in head:
        raise DataError(f"{path} is OpenStreetMap's own JSON, not GeoJSON: name it {path.stem}.osm.json")
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_STARTS[suffix]):
        begins = "it is empty" if not head else f"it begins with {head[:12]!r}"
        raise DataError(f"{path} is no {suffix} file: {begins}; export it again")
    if suffix in PARQUET_SUFFIXES:
        yield _parquet_table(path, summary)
        return
    yield from _ogr_tables(path, summary)


def _ogr_tables(path: Path, summary: InputSummary) -> Iterator[_Table]:
    try:
        import pyogrio
    except ImportError as error:
        raise DataError(f"{path}: {path.suffix} files need pyogrio: {_INSTALL}") from error
    with _told(path, summary):
        for layer, kind in pyogrio.list_layers(path):
            if kind is None:
                summary.add("ignored", str(layer), "a table without places")
                continue
            count = pyogrio.read_info(path, layer=layer, force_feature_count=True)["features"]
            if count > MAX_FEATURES:
                raise DataError(f"{path} holds {count} features (at most {MAX_FEATURES}); cut what you need")
            meta, _, geometry, fields = pyogrio.raw.read(path, layer=layer, force_2d=True)
            columns = tuple(str(name) for name in meta["fields"])
            rows: list[Row] = [{} for _ in range(len(geometry))]
            for column, values in zip(columns, fields, strict=True):
                for at, value in enumerate(values.tolist()):
                    if value is not None and value == value and value != "":  # NaN differs from itself
                        rows[at][column] = value
            shapes = _in_degrees(shapely.from_wkb(geometry, on_invalid="ignore"), meta["crs"], path, summary)
            yield _Table(str(layer), columns, rows, shapes)


@contextmanager
def _told(path: Path, summary: InputSummary) -> Iterator[None]:
    """Errors of GDAL in one line, and its warnings in the summary, not on standard error."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            yield
        except DataError:
            raise
        except (RuntimeError, ValueError, OverflowError) as error:  # pyogrio's own are RuntimeErrors
            raise DataError(f"{path} cannot be read ({_line(error)}); export it again") from error
    for warning in said:
        if "Altering it to be unique" not in str(warning.message):  # of identities, which are not used
            summary.add("warning", path.name, f"GDAL says: {_line(warning.message)}")


def _parquet_table(path: Path, summary: InputSummary) -> _Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: {path.suffix} files need pyarrow: {_INSTALL}") from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
        if file.metadata.num_rows > MAX_FEATURES:
            rows_here = file.metadata.num_rows
            raise DataError(f"{path} holds {rows_here} features (at most {MAX_FEATURES}); cut what you need by bbox")
        about = json.loads((file.schema_arrow.metadata or {}).get(b"geo", b"{}"))
        column = about.get("primary_column", "geometry")
        names = file.schema_arrow.names
        if column not in names:
            raise DataError(f"{path} has no column {column} of geometries; it is no GeoParquet")
        geo = about.get("columns", {}).get(column, {})
        if str(geo.get("encoding", "WKB")).upper() != "WKB":
            raise DataError(f"{path} keeps geometries as {geo['encoding']}; write them as WKB")
        if not about:
            summary.add("assumed", path.name, "degrees of WGS84: the file holds no description of its geometries")
        kept = [name for name in names if name != column and name not in ("bbox", "sources")]
        table = file.read(columns=[column, *kept])
        shapes = shapely.from_wkb(np.array(table[column].to_pylist(), object), on_invalid="ignore")
        rows = [
            {key: value for key, value in row.items() if value is not None}
            for row in table.select(kept).to_pylist(maps_as_pydicts="lossy")
        ]
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, AttributeError, shapely.GEOSException) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read ({_line(error)}); export it again") from error
    crs = geo.get("crs", "OGC:CRS84")
    return _Table(path.stem, tuple(kept), rows, _in_degrees(shapes, crs, path, summary))


def _in_degrees(shapes: np.ndarray, crs: object, path: Path, summary: InputSummary) -> np.ndarray:
    """Shapes with longitude and latitude WGS84; those that have none of their own, or no place there, become None."""
    coordinates = shapely.get_coordinates(shapes)
    if not len(coordinates):
        return shapes
    low, high = np.nanmin(coordinates, axis=0), np.nanmax(coordinates, axis=0)
    degrees = bool((low >= (-180.0, -90.0)).all() and (high <= (180.0, 90.0)).all())
    if crs is None:
        if not degrees:
            raise DataError(
                f"{path} names no coordinate system, and its numbers are no degrees: say which (ogr2ogr -a_srs)"
            )
        summary.add("assumed", "crs", "degrees of WGS84: the file names no coordinate system")
        crs = _WORLD
    try:
        system = pyproj.CRS.from_user_input(crs)
        if system.is_geographic and not degrees:
            raise DataError(
                f"{path} says {system.name}, which counts degrees, and reaches to ({high[0]:.10g}, {high[1]:.10g}): "
                "say which system these numbers have (ogr2ogr -s_srs EPSG:... -t_srs EPSG:4326)"
            )
        turn = pyproj.Transformer.from_crs(system, _WORLD, always_xy=True)
    except (pyproj.exceptions.CRSError, pyproj.exceptions.ProjError) as error:
        raise DataError(f"{path}: the coordinate system cannot be used ({_line(error)})") from error
    turned = np.stack(turn.transform(coordinates[:, 0], coordinates[:, 1]), axis=1)
    wrong = ~np.isfinite(turned).all(axis=1) | (np.abs(turned) > (180.0, 90.0)).any(axis=1)
    if wrong.any():
        owners = np.repeat(np.arange(len(shapes)), shapely.get_num_coordinates(shapes))
        lost = np.unique(owners[wrong])
        summary.add("lost", path.name, f"{len(lost)} features lie nowhere on the globe", count=len(lost))
        kept = shapes.copy()
        kept[lost] = None
        turned = turned[~np.isin(owners, lost)]
        return np.asarray(shapely.set_coordinates(kept, turned))
    return np.asarray(shapely.set_coordinates(shapes.copy(), turned))


# -- what features are


def _translate(table: _Table, writer: "_OsmWriter", summary: InputSummary) -> Counter[str]:
    """Write what is understood; how many of each kind that was."""
    known, unknown = Counter[str](), Counter[str]()
    overture = _overture_type(table)
    broken = 0
    for row, shape in zip(table.rows, table.shapes, strict=True):
        if shape is None or shape.is_empty:
            broken += 1
            continue
        pieces = _overture(overture, row, shape) if overture else [(_tags(row, table.name), shape)]
        for tags, piece in pieces:
            kind = schema.layer_of_tags(tags, _ALL_GEOMETRIES) or ("building part" if "building:part" in tags else None)
            if kind is None:
                unknown[_what(row, overture)] += 1
                continue
            known[kind] += 1
            writer.add(piece, tags)
    if unknown:
        most = ", ".join(f"{count} {what}" for what, count in unknown.most_common(5))
        if set(unknown) == {"without tags"}:
            most += f", with the columns {', '.join(table.columns[:12]) or 'none'}"
        total, left = len(table.rows), sum(unknown.values())
        summary.add(
            "ignored", table.name, f"{left} features are of no kind that is drawn: {most}", count=left, total=total
        )
    if broken:
        summary.add("lost", table.name, f"{broken} features have no geometry", count=broken, total=len(table.rows))
    return known


_SHOWN_KEYS = tuple(dict.fromkeys(key for layer in schema.LAYERS for key, _ in layer.tags))


def _what(row: Row, overture: str) -> str:
    """A feature that is not drawn, in a word."""
    if overture:
        return "/".join(str(row[key]) for key in ("subtype", "class") if row.get(key)) or overture
    tags = _tags(row, "")
    for key in ("amenity", "shop", "place", "boundary", "public_transport", *_SHOWN_KEYS):
        if key in tags:
            return f"{key}={tags[key]}"
    return "without tags"


def _tags(row: Row, layer: str) -> Tags:
    """OpenStreetMap's tags of a feature, however they are kept."""
    tags: Tags = {}
    for key, value in row.items():
        name = key.removeprefix("tags.").removeprefix("tag:")
        if name in ("other_tags", "all_tags", "tags", "source_tags", "properties"):
            tags |= _packed_tags(value)
        elif not isinstance(value, dict):
            text = _text(_first(value))
            if text is not None:
                tags.setdefault(name, text)
    if "fclass" in tags:
        return _geofabrik(tags, layer)
    if not any(key in tags for key in _SHOWN_KEYS) and re.search(r"building|footprint|houses", layer, re.IGNORECASE):
        tags["building"] = "yes"
    return tags


def _packed_tags(value: object) -> Tags:
    """Tags of a dictionary, of JSON, or of the text that GDAL writes: "lanes"=>"2","oneway"=>"yes"."""
    found = _nested(value)
    if isinstance(found, dict):
        return {str(key): text for key, item in found.items() if (text := _text(item)) is not None}
    if isinstance(value, str):
        pairs = re.findall(r'"((?:[^"\\]|\\.)*)"\s*=>\s*"((?:[^"\\]|\\.)*)"', value)
        return {re.sub(r"\\(.)", r"\1", key): re.sub(r"\\(.)", r"\1", item) for key, item in pairs}
    return {}


def _first(value: object) -> object:
    """The first of several values, as OSMnx has them of streets that it joined: ["residential", "service"]."""
    if isinstance(value, list):
        return value[0] if value else None
    if isinstance(value, str) and value in ("True", "False"):
        return value == "True"
    several = re.fullmatch(r"\[\s*['\"]([^'\"]*)['\"]\s*(?:,.*)?\]", value) if isinstance(value, str) else None
    return value if several is None else several[1]


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}" if math.isfinite(value) else None
    return str(value) if isinstance(value, str | int) and value != "" else None


_FCLASS_KEYS = (
    ("building", "building"),
    ("road", "highway"),
    ("railway", "railway"),
    ("waterway", "waterway"),
    ("water", "natural"),
    ("landuse", "landuse"),
    ("natural", "natural"),
    ("traffic", "highway"),
)


def _geofabrik(columns: Tags, layer: str) -> Tags:
    """Tags of a row of Geofabrik's shapefiles, whose layer and `fclass` say what it is."""
    value = columns["fclass"]
    key = next((key for part, key in _FCLASS_KEYS if part in layer.lower()), "")
    kept: tuple[str, ...] = ("name", "layer", "width", "height")
    tags: Tags = {name: columns[name] for name in kept if name in columns}
    if key == "highway":
        value = re.sub(r"^track_grade\d$", "track", value)
        tags["oneway"] = {"F": "yes", "T": "-1"}.get(columns.get("oneway", ""), "no")
        tags |= {flag: "yes" for flag in ("bridge", "tunnel") if columns.get(flag) == "T"}
    if value in ("park", "nature_reserve"):
        key = "leisure"
    elif key == "natural" and "water" in layer.lower():
        key, value = ("waterway", value) if value in ("riverbank", "dock") else ("natural", "water")
    elif key == "building":
        value = columns.get("type", "yes")
    elif value.startswith("parking"):
        key, value = "amenity", "parking"
    return tags | {key: value} if key else tags


# -- Overture

_OVERTURE_COLUMNS = (
    ("segment", {"connectors", "road_flags", "access_restrictions", "road_surface", "rail_flags", "width_rules"}),
    ("building", {"num_floors", "has_parts", "facade_material", "roof_shape", "is_underground", "facade_color"}),
    ("building_part", {"building_id"}),
    ("base", {"source_tags"}),
)
_OVERTURE_TYPES = ("segment", "building", "building_part", "land", "land_use", "water", "infrastructure", "land_cover")
_LINKS = ("motorway", "trunk", "primary", "secondary", "tertiary")
_RAILS = {"standard_gauge": "rail", "unknown": "rail"}
_HIGHWAY_THINGS = ("street_lamp", "traffic_signals", "traffic_sign", "stop", "give_way")
_PARKING = ("parking", "parking_space", "motorcycle_parking")


def _overture_type(table: _Table) -> str:
    """Which type of Overture's schema a table holds; empty if it is another's."""
    columns = set(table.columns)
    for row in table.rows[:1]:
        if row.get("type") in _OVERTURE_TYPES and (columns & {"subtype", "sources", "version", "theme", "class"}):
            return str(row["type"])
    if not columns & {"sources", "version", "subtype", "names", "theme", "building_id"}:
        return ""
    if "building_id" in columns:
        return "building_part"
    return next((kind for kind, own in _OVERTURE_COLUMNS if own & columns), "")


def _overture(kind: str, row: Row, shape: Any) -> Iterable[tuple[Tags, Any]]:
    kind = str(row.get("type", kind))
    if kind == "segment":
        return _overture_segment(row, shape)
    if kind in ("building", "building_part"):
        return [(_overture_building(kind, row), shape)]
    return [(_overture_base(kind, row), shape)]


def _overture_building(kind: str, row: Row) -> Tags:
    tags: Tags = {"building:part": "yes"} if kind == "building_part" else {"building": str(row.get("class") or "yes")}
    names = (("height", "height"), ("num_floors", "building:levels"), ("min_height", "min_height"))
    tags |= {tag: text for own, tag in (*names, ("min_floor", "building:min_level")) if (text := _text(row.get(own)))}
    if _truth(row.get("is_underground")):
        tags["location"] = "underground"
    return tags


def _overture_base(kind: str, row: Row) -> Tags:
    tags = _packed_tags(row.get("source_tags"))
    own, wider = str(row.get("class") or ""), str(row.get("subtype") or "")
    if any(key in tags for key in _SHOWN_KEYS):
        return tags
    if kind == "infrastructure":
        if own in _HIGHWAY_THINGS:
            return tags | {"highway": own}
        if own in _PARKING:
            return tags | {"amenity": own}
        if wider in ("power", "communication"):
            return tags | {"power": own.removeprefix("power_")}
        return tags | {"barrier": own}
    if kind == "water":
        return tags | ({"waterway": own} if own in schema.WATERWAY_WIDTHS_M else {"natural": "water"})
    if kind in ("land_use", "land_cover"):
        leisure = own in ("park", "garden", "golf_course", "dog_park", "nature_reserve")
        return tags | ({"leisure": own} if leisure else {"landuse": own or wider})
    return tags | {"natural": "wood" if wider == "forest" and own not in ("tree", "tree_row") else own}


def _overture_segment(row: Row, shape: Any) -> Iterator[tuple[Tags, Any]]:
    """A segment, cut where a rule about a part of it begins or ends (bridges, tunnels, one-way stretches)."""
    rules = [
        (name, rule)
        for name in ("road_flags", "rail_flags", "access_restrictions", "width_rules", "level_rules")
        for rule in (_nested(row.get(name)) or [])
        if isinstance(rule, dict)
    ]
    ends = {0.0, 1.0}
    for _, rule in rules:
        ends.update(float(at) for at in _between(rule))
    cuts = sorted(ends)
    for low, high in pairwise(cuts):
        middle = 0.5 * (low + high)
        here = [(name, rule) for name, rule in rules if _between(rule)[0] <= middle <= _between(rule)[1]]
        piece = shape if len(cuts) == 2 else substring(shape, low, high, normalized=True)
        yield _segment_tags(row, here), piece


def _between(rule: Mapping[str, Any]) -> tuple[float, float]:
    ends = rule.get("between")
    if isinstance(ends, list | tuple) and len(ends) == 2:
        low, high = (0.0 if i == 0 and at is None else 1.0 if at is None else float(at) for i, at in enumerate(ends))
        if 0.0 <= low < high <= 1.0:
            return low, high
    return 0.0, 1.0


def _segment_tags(row: Row, rules: Sequence[tuple[str, Mapping[str, Any]]]) -> Tags:
    own, subclass = str(row.get("class") or "unknown"), row.get("subclass")
    flags = {flag for name, rule in rules if name.endswith("flags") for flag in rule.get("values") or []}
    tags: Tags = {}
    if row.get("subtype") == "rail":
        tags["railway"] = _RAILS.get(own, own)
    elif row.get("subtype") in (None, "road"):
        link = own in _LINKS and (subclass == "link" or "is_link" in flags)
        tags["highway"] = f"{own}_link" if link else "road" if own == "unknown" else own
    tags |= {
        tag: "yes"
        for flag, tag in (("is_bridge", "bridge"), ("is_tunnel", "tunnel"), ("is_indoor", "indoor"))
        if flag in flags
    }
    if flags & {"is_abandoned", "is_under_construction"}:
        return {}
    for name, rule in rules:
        if name == "access_restrictions" and rule.get("access_type") == "denied":
            when = {key: value for key, value in (rule.get("when") or {}).items() if value}
            if set(when) == {"heading"}:
                tags["oneway"] = "yes" if when["heading"] == "backward" else "-1"
        elif name == "width_rules" and isinstance(rule.get("value"), int | float):
            tags["width"] = f"{rule['value']:g}"
        elif name == "level_rules" and isinstance(rule.get("value"), int):
            tags["layer"] = str(rule["value"])
    return tags


def _nested(value: object) -> Any:
    """A list or dictionary, or the same as JSON text; else None."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list | dict) else None


def _truth(value: object) -> bool:
    return value is True or value == 1 or value == "true"


# -- as OpenStreetMap


class _OsmWriter:
    """Collects shapes as nodes, ways and multipolygons; lines that share a vertex share a node, as streets do."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, int, Tags]] = []  # longitude, latitude in 1e-7 degrees; numbered from 1
        self._vertices: dict[tuple[int, int], int] = {}
        self._ways: list[tuple[list[int], Tags]] = []
        self._relations: list[tuple[list[tuple[int, str]], Tags]] = []

    def add(self, shape: Any, tags: Tags) -> None:
        """Add a shape with its tags; parts of a collection one by one."""
        if shape.geom_type == "Point":
            self._nodes.append((round(shape.x * 1e7), round(shape.y * 1e7), tags))
        elif shape.geom_type in ("LineString", "LinearRing"):
            self._way(shape, tags)
        elif shape.geom_type == "Polygon":
            self._polygon(shape, tags)
        else:
            for part in getattr(shape, "geoms", ()):
                self.add(part, tags)

    def _vertex(self, x: int, y: int) -> int:
        ref = self._vertices.get((x, y))
        if ref is None:
            self._nodes.append((x, y, {}))
            ref = self._vertices[x, y] = len(self._nodes)
        return ref

    def _way(self, line: Any, tags: Tags) -> int | None:
        """The identity of the new way; None if the line has no length."""
        scaled = np.rint(shapely.get_coordinates(line) * 1e7).astype(np.int64)
        refs = [self._vertex(x, y) for x, y in scaled.tolist()]
        refs = [ref for i, ref in enumerate(refs) if i == 0 or ref != refs[i - 1]]
        if len(refs) < 2:
            return None
        self._ways.append((refs, tags))
        return len(self._ways)

    def _polygon(self, polygon: Any, tags: Tags) -> None:
        tags = tags | {"area": "yes"} if "highway" in tags else tags
        if not polygon.interiors:
            self._way(polygon.exterior, tags)
            return
        rings = [(self._way(polygon.exterior, {}), "outer"), *((self._way(r, {}), "inner") for r in polygon.interiors)]
        members = [(ref, role) for ref, role in rings if ref is not None]
        self._relations.append((members, tags | {"type": "multipolygon"}))

    def write(self, path: Path) -> None:
        """Write all of it, sorted."""
        mutable = osmium.osm.mutable
        with osmium.SimpleWriter(str(path)) as writer:
            for number, (x, y, tags) in enumerate(self._nodes, start=1):
                writer.add_node(mutable.Node(id=number, location=(x * 1e-7, y * 1e-7), tags=tags))
            for number, (refs, tags) in enumerate(self._ways, start=1):
                writer.add_way(mutable.Way(id=number, nodes=refs, tags=tags))
            for number, (members, tags) in enumerate(self._relations, start=1):
                parts = [("w", ref, role) for ref, role in members]
                writer.add_relation(mutable.Relation(id=number, members=parts, tags=tags))


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]

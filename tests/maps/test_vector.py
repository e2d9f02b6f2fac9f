"""Vector formats of GIS as maps; inputs are written here by pyogrio, pyarrow, and by hand."""

import builtins
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pyogrio
import pyproj
import pytest
import shapely

from bevfusion.maps.features import OsmMap
from bevfusion.maps.provenance import map_provenance
from bevfusion.maps.source import open_map
from bevfusion.maps.vector import read_vector
from bevfusion.structures import DataError

LON, LAT = 8.4, 49.0
STEP = 1e-3  # degrees: 73 m east, 111 m north


def line(*points: tuple[float, float]) -> shapely.LineString:
    return shapely.LineString([(LON + STEP * x, LAT + STEP * y) for x, y in points])


def box(x0: float, y0: float, x1: float, y1: float, hole: tuple[float, ...] = ()) -> shapely.Polygon:
    shape = shapely.box(LON + STEP * x0, LAT + STEP * y0, LON + STEP * x1, LAT + STEP * y1)
    if hole:
        a, b, c, d = hole
        return shape - shapely.box(LON + STEP * a, LAT + STEP * b, LON + STEP * c, LAT + STEP * d)
    return shape


STREET, CROSSING = line((-2, 0), (0, 0), (2, 0)), line((0, -2), (0, 0), (0, 2))
HOUSE, COURT = box(0.2, 0.2, 0.5, 0.5), box(1.0, 0.2, 1.5, 0.7, hole=(1.2, 0.4, 1.3, 0.5))
TREE = shapely.Point(LON - STEP, LAT + STEP)
TAGGED: Sequence[tuple[shapely.Geometry, dict[str, Any]]] = (
    (STREET, {"highway": "residential", "width": "7.5", "name": "Hauptstra\u00dfe"}),
    (CROSSING, {"highway": "tertiary", "oneway": "yes"}),
    (HOUSE, {"building": "yes", "building:levels": "3"}),
    (COURT, {"building": "apartments"}),
    (TREE, {"natural": "tree"}),
    (line((-1, -1), (1, -1)), {"barrier": "fence"}),
)


def geojson(path: Path, features: Sequence[tuple[shapely.Geometry, dict[str, Any]]], **more: Any) -> Path:
    parts = [
        {"type": "Feature", "geometry": json.loads(shapely.to_geojson(shape)), "properties": properties}
        for shape, properties in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": parts, **more}), encoding="utf-8")
    return path


def written(path: Path, features: Sequence[tuple[shapely.Geometry, dict[str, Any]]], crs: str = "EPSG:4326") -> Path:
    """A file by pyogrio, a layer a kind of geometry, its coordinates in another system."""
    turn = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    kinds = sorted({shape.geom_type for shape, _ in features})
    for kind in kinds:
        here = [(shape, properties) for shape, properties in features if shape.geom_type == kind]
        shapes = shapely.transform(
            np.array([shape for shape, _ in here]), lambda xy: np.stack(turn.transform(xy[:, 0], xy[:, 1]), axis=1)
        )
        names = sorted({name for _, properties in here for name in properties})
        columns = [np.array([properties.get(name) for _, properties in here], object) for name in names]
        pyogrio.raw.write(
            path,
            shapely.to_wkb(shapes),
            columns,
            names,
            layer=kind.lower(),
            geometry_type=kind,
            crs=crs,
            append=path.exists(),
        )
    return path


def parquet(path: Path, rows: list[dict[str, Any]], shapes: Sequence[shapely.Geometry], **geo: Any) -> Path:
    keys = {key for row in rows for key in row}
    whole = [{key: row.get(key) for key in keys} for row in rows]
    table = pyarrow.Table.from_pylist(whole).append_column("geometry", [shapely.to_wkb(np.array(shapes)).tolist()])
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB", **geo}}}
    pyarrow.parquet.write_table(table.replace_schema_metadata({"geo": json.dumps(about)}), path)
    return path


def notes(found: OsmMap, *kinds: str) -> str:
    return " | ".join(note.line() for note in found.summary.notes if note.kind in kinds)


def assert_town(found: OsmMap) -> None:
    """Street, crossing, house, court, tree and fence, each where it was drawn."""
    roads = {road.kind: road for road in found.roads}
    assert set(roads) == {"residential", "tertiary"}
    assert roads["residential"].width_m == 7.5
    assert roads["tertiary"].oneway == 1
    shared = set(roads["residential"].node_ids) & set(roads["tertiary"].node_ids)
    assert len(shared) == 1
    buildings = sorted((area for area in found.areas if area.kind == "building"), key=lambda area: len(area.holes_m))
    assert [len(area.holes_m) for area in buildings] == [0, 1]
    assert buildings[0].height_m == pytest.approx(9.0)
    for area, drawn in zip(buildings, (HOUSE, COURT), strict=True):
        degrees = np.array([found.frame.degrees_from_metres(x, y)[::-1] for x, y in area.outer_m.tolist()])
        assert shapely.Polygon(degrees).symmetric_difference(shapely.Polygon(drawn.exterior)).area < 1e-11
    assert [point.kind for point in found.points] == ["tree"]
    lat_deg, lon_deg = found.frame.degrees_from_metres(found.points[0].x_m, found.points[0].y_m)
    assert (lon_deg, lat_deg) == pytest.approx((TREE.x, TREE.y), abs=2e-7)
    assert [each.kind for each in found.lines] == ["fence"]


def test_geojson_of_tags(tmp_path: Path) -> None:
    found = read_vector(geojson(tmp_path / "town.geojson", TAGGED))
    assert found.name == "town"
    assert found.summary.source == "town.geojson"
    assert_town(found)
    assert "2 building" in notes(found, "used")
    source = open_map(tmp_path / "town.geojson")
    x_m, y_m = source.frame.metres_from_degrees(LAT, LON)
    assert source.covers(x_m, y_m)


@pytest.mark.parametrize("keys", ["tags", "other_tags", "tags as text"])
def test_tags_in_one_column(keys: str, tmp_path: Path) -> None:
    def packed(tags: dict[str, Any]) -> dict[str, Any]:
        if keys == "other_tags":
            return {"other_tags": ",".join(f'"{key}"=>"{value}"' for key, value in tags.items())}
        return {"tags": tags if keys == "tags" else json.dumps(tags), "id": 3}

    features = [(shape, packed(properties)) for shape, properties in TAGGED]
    assert_town(read_vector(geojson(tmp_path / "town.geojson", features)))


@pytest.mark.parametrize(
    ("name", "crs"),
    [
        ("town.gpkg", "EPSG:4326"),
        ("town.gpkg", "EPSG:25832"),
        ("town.gpkg", "EPSG:3857"),
        ("town.geojsonl", "EPSG:4326"),
    ],
)
def test_geopackage_and_lines_of_geojson(name: str, crs: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("l"):
        whole = json.loads(geojson(tmp_path / "whole.geojson", TAGGED).read_text())
        path.write_text("\n".join(json.dumps(feature) for feature in whole["features"]))
    else:
        written(path, TAGGED, crs)
    assert_town(read_vector(path))


def test_a_folder_of_files_is_one_map(tmp_path: Path) -> None:
    folder = tmp_path / "town"
    folder.mkdir()
    geojson(folder / "lines.geojson", [each for each in TAGGED if each[0].geom_type == "LineString"])
    written(folder / "rest.gpkg", [each for each in TAGGED if each[0].geom_type != "LineString"])
    (folder / "readme.txt").write_text("hello")
    found = read_vector(folder)
    assert found.name == "town"
    assert_town(found)
    assert open_map(folder).name == "town"


def test_multi_geometries(tmp_path: Path) -> None:
    streets = shapely.MultiLineString([STREET, CROSSING])
    houses = shapely.MultiPolygon([HOUSE, COURT])
    both = [(streets, {"highway": "service"}), (houses, {"building": "yes"})]
    found = read_vector(geojson(tmp_path / "town.geojson", both))
    assert [road.kind for road in found.roads] == ["service", "service"]
    assert sorted(len(area.holes_m) for area in found.areas) == [0, 1]


OVERTURE_SEGMENTS: Sequence[tuple[shapely.Geometry, dict[str, Any]]] = (
    (
        STREET,
        {
            "id": "a", "version": 1, "subtype": "road", "class": "residential", "connectors": [{"connector_id": "c"}],
            "width_rules": [{"value": 6.5, "between": None}],
            "road_flags": [
                {"values": ["is_tunnel"], "between": [0.75, 1.0]},
                {"values": ["is_bridge"], "between": [0.0, 0.25]},
            ],
        },
    ),
    (
        CROSSING,
        {
            "id": "b", "version": 1, "subtype": "road", "class": "primary", "subclass": "link",
            "access_restrictions": [
                {"access_type": "denied", "when": {"heading": "backward", "mode": None}},
                {"access_type": "denied", "when": {"heading": "forward", "mode": ["bus"]}},
            ],
        },
    ),
    (line((-2, 1), (2, 1)), {"id": "c", "version": 1, "subtype": "rail", "class": "standard_gauge"}),
    (line((-2, -2), (2, -2)), {"id": "d", "version": 1, "subtype": "water", "class": None}),
)  # fmt: skip
OVERTURE_BUILDINGS: Sequence[tuple[shapely.Geometry, dict[str, Any]]] = (
    (HOUSE, {"id": "e", "version": 1, "height": 11.5, "num_floors": 3, "has_parts": False, "is_underground": False}),
    (
        COURT,
        {"id": "f", "version": 1, "class": "apartments", "num_floors": 4, "has_parts": False, "is_underground": False},
    ),
    (box(-1, -1, -0.5, -0.5), {"id": "g", "version": 1, "has_parts": False, "is_underground": True}),
)


@pytest.mark.parametrize("form", ["geojson", "parquet"])
def test_overture(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "overture"
    folder.mkdir()
    for name, features in (("segment", OVERTURE_SEGMENTS), ("building", OVERTURE_BUILDINGS)):
        if form == "geojson":
            geojson(folder / f"{name}.geojson", features)
        else:
            parquet(folder / f"{name}.parquet", [row for _, row in features], [shape for shape, _ in features])
    found = read_vector(folder)
    street = [road for road in found.roads if road.kind == "residential"]
    assert [road.bridge for road in street] == [True, False]  # the tunnel is out of sight
    lengths_m = [float(np.hypot(*np.diff(road.xy_m, axis=0).T).sum()) for road in street]
    assert lengths_m == pytest.approx([73.1, 146.3], abs=0.5)
    assert {road.width_m for road in street} == {6.5}
    (link,) = (road for road in found.roads if road.kind == "primary_link")
    assert link.oneway == 1
    assert set(link.node_ids) & set(street[1].node_ids)
    assert [each.kind for each in found.lines] == ["rail"]
    buildings = {len(area.holes_m): area for area in found.areas if area.kind == "building"}
    assert (buildings[0].height_m, buildings[1].height_m) == (11.5, 12.0)
    assert sum(area.kind == "building" for area in found.areas) == 2
    assert "1 features are of no kind that is drawn: 1 water" in notes(found, "ignored")


def test_overture_base(tmp_path: Path) -> None:
    features = [
        (TREE, {"type": "land", "subtype": "tree", "class": "tree", "version": 1, "sources": []}),
        (box(-2, -2, -1, -1), {"type": "land", "subtype": "forest", "class": "forest", "version": 1}),
        (box(1, -2, 2, -1), {"type": "land_use", "subtype": "park", "class": "park", "version": 1}),
        (box(1, 1, 2, 2), {"type": "water", "subtype": "lake", "class": "lake", "version": 1}),
        (STREET, {"type": "infrastructure", "subtype": "barrier", "class": "fence", "version": 1}),
        (line((0, 1), (1, 1)), {"type": "land", "class": "x", "version": 1, "source_tags": {"barrier": "hedge"}}),
    ]
    found = read_vector(geojson(tmp_path / "base.geojson", features))
    assert sorted(area.kind for area in found.areas) == ["vegetation", "vegetation", "water"]
    assert sorted(each.kind for each in found.lines) == ["fence", "hedge"]
    assert [point.kind for point in found.points] == ["tree"]


def test_geofabriks_columns(tmp_path: Path) -> None:
    folder = tmp_path / "town"
    folder.mkdir()
    rows = {
        "gis_osm_roads_free_1": [
            (STREET, {"fclass": "residential", "oneway": "F", "bridge": "T", "tunnel": "F"}),
            (CROSSING, {"fclass": "track_grade2", "oneway": "B", "bridge": "F", "tunnel": "F"}),
            (line((-2, 1), (2, 1)), {"fclass": "primary", "oneway": "B", "bridge": "F", "tunnel": "T"}),
        ],
        "gis_osm_buildings_a_free_1": [(HOUSE, {"fclass": "building", "type": "house"})],
        "gis_osm_landuse_a_free_1": [(box(-2, -2, -1, -1), {"fclass": "forest"})],
        "gis_osm_water_a_free_1": [(box(1, -2, 2, -1), {"fclass": "water"})],
    }
    for name, features in rows.items():
        shapes, columns = [shape for shape, _ in features], sorted(features[0][1])
        pyogrio.raw.write(
            folder / f"{name}.shp",
            shapely.to_wkb(np.array(shapes)),
            [np.array([row[column] for _, row in features], object) for column in columns],
            columns,
            geometry_type=shapes[0].geom_type,
            crs="EPSG:4326",
        )
    found = read_vector(folder)
    assert {(road.kind, road.oneway, road.bridge) for road in found.roads} == {
        ("residential", 1, True),
        ("track", 0, False),
    }
    assert sorted(area.kind for area in found.areas) == ["building", "vegetation", "water"]


def test_streets_that_osmnx_has_joined(tmp_path: Path) -> None:
    street = shapely.LineString([(LON, LAT), (LON + 1e-3, LAT)])
    tags = {"highway": "['residential', 'service']", "oneway": "True", "osmid": "[1, 2]", "lanes": "['2', '1']"}
    (road,) = read_vector(geojson(tmp_path / "streets.geojson", [(street, tags)])).roads
    assert (road.kind, road.oneway, road.width_m) == ("residential", 1, 6.5)


def test_openstreetmaps_own_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "town.geojson").write_text('{"version": 0.6, "elements": []}')
    with pytest.raises(DataError, match=r"not GeoJSON: name it town\.osm\.json"):
        read_vector(tmp_path / "town.geojson")


def test_footprints_without_any_tags(tmp_path: Path) -> None:
    path = geojson(tmp_path / "footprints.geojson", [(HOUSE, {"height": 7.5, "confidence": 0.9}), (COURT, {})])
    found = read_vector(path)
    assert [area.kind for area in found.areas] == ["building", "building"]
    assert sorted((area.height_m for area in found.areas), key=str) == [7.5, None]


def test_what_is_not_understood_is_told(tmp_path: Path) -> None:
    more = [(box(-3, -3, 3, 3), {"zone": "A", "code": 7}), (TREE, {"amenity": "bench"}), (TREE, {"amenity": "bench"})]
    found = read_vector(geojson(tmp_path / "town.geojson", [*TAGGED, *more]))
    assert_town(found)
    assert "3 features are of no kind that is drawn: 2 amenity=bench, 1 without tags" in notes(found, "ignored")
    with pytest.raises(
        DataError, match=r"no roads, buildings .*without tags, with the columns zone, code.*ogr2ogr"
    ) as caught:
        read_vector(geojson(tmp_path / "zones.geojson", more[:1]))
    assert "\n" not in str(caught.value)


def test_metres_that_are_called_degrees(tmp_path: Path) -> None:
    metres = shapely.LineString([(456000, 5428000), (456100, 5428000)])
    with pytest.raises(DataError, match=r"counts degrees, and reaches to .456100, 5428000"):
        read_vector(geojson(tmp_path / "town.geojson", [(metres, {"highway": "service"})]))
    named = {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::25832"}}}
    found = read_vector(geojson(tmp_path / "town.geojson", [(metres, {"highway": "service"})], **named))
    assert found.frame.origin_lat_deg == pytest.approx(49.0035, abs=1e-3)


def test_parquet_in_metres_and_of_unknown_system(tmp_path: Path) -> None:
    turn = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True)
    shapes = [shapely.transform(STREET, lambda xy: np.stack(turn.transform(xy[:, 0], xy[:, 1]), axis=1))]
    rows = [{"highway": "residential"}]
    crs = pyproj.CRS("EPSG:25832").to_json_dict()
    found = read_vector(parquet(tmp_path / "town.parquet", rows, shapes, crs=crs))
    assert found.frame.origin_lon_deg == pytest.approx(LON, abs=1e-5)
    with pytest.raises(DataError, match="names no coordinate system"):
        read_vector(parquet(tmp_path / "town.parquet", rows, shapes, crs=None))
    found = read_vector(parquet(tmp_path / "town.parquet", rows, [STREET], crs=None))
    assert "names no coordinate system" in notes(found, "assumed")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("town.geojson", b"", "it is empty"),
        ("town.geojson", b"<html>", "begins with b'<html>'"),
        ("town.geojson", b'{"type": "FeatureCollection", "features": [{"type": "Fea', "cannot be read|no roads"),
        ("town.geojson", b'{"type": "Topology"}', "cannot be read|no roads"),
        ("town.geojson", b'{"type": "FeatureCollection", "features": []}', "no roads"),
        ("town.geojson", b"[" * 100_000, "cannot be read|no roads"),
        ("town.gpkg", b"SQLite format 3\0" + b"\0" * 90, "cannot be read"),
        ("town.gpkg", b"PK\x03\x04", "no .gpkg file"),
        ("town.parquet", b"PAR1" + b"\0" * 50, "cannot be read"),
        ("town.geojson", b"<OGRVRTDataSource><OGRVRTLayer/></OGRVRTDataSource>", "no .geojson file"),
    ],
    ids=str,
)
def test_broken_files(
    name: str, content: bytes, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_map(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_parquet_that_is_no_map(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2]}), tmp_path / "town.parquet")
    with pytest.raises(DataError, match="no GeoParquet"):
        read_vector(tmp_path / "town.parquet")


@pytest.mark.parametrize(("name", "package"), [("town.geojson", "pyogrio"), ("town.parquet", "pyarrow")])
def test_the_extra_is_named_where_it_lacks(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = geojson(tmp_path / name, TAGGED) if package == "pyogrio" else parquet(tmp_path / name, [{"a": 1}], [STREET])
    real = builtins.__import__

    def without(wanted: str, *rest: Any, **options: Any) -> Any:
        if wanted.split(".")[0] == package:
            raise ImportError(wanted)
        return real(wanted, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"need .*pip install 'bevfusion\[vector\]'"):
        read_vector(path)


def test_the_provenance_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "town"
    folder.mkdir()
    geojson(folder / "a.geojson", TAGGED)
    first = map_provenance(folder)["sha256"]
    assert map_provenance(folder)["sha256"] == first
    geojson(folder / "b.geojson", TAGGED)
    assert map_provenance(folder)["sha256"] != first

"""Route files: formats, what they may get wrong, and how it is said."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest

from bevfusion.direction.route_files import read_route
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError
from tests.direction.graphs import FRAME

LINE_M = np.array([[-20.0, 0.0], [30.0, 0.0], [60.0, 20.0]])
POSE = SE2(0.0, 1.0, 0.1)


def lon_lat(xy_m: np.ndarray = LINE_M) -> list[list[float]]:
    return [list(FRAME.degrees_from_metres(*place))[::-1] for place in xy_m.tolist()]


def written(folder: Path, content: Any, name: str = "route.geojson") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def line(coordinates: Any, kind: str = "LineString", **more: Any) -> dict[str, Any]:
    return {"type": kind, "coordinates": coordinates, **more}


def feature(geometry: dict[str, Any] | None, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def collection(*features: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features), **more}


def gpx(*parts: str) -> str:
    return f'<?xml version="1.0"?><gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">{"".join(parts)}</gpx>'


def points(kind: str, xy_m: np.ndarray = LINE_M) -> str:
    return "".join(f'<{kind} lat="{lat:.9f}" lon="{lon:.9f}"/>' for lon, lat in lon_lat(xy_m))


GOOD = {
    "line": line(lon_lat()),
    "with heights": line([[*place, 112.0] for place in lon_lat()]),
    "feature": feature(line(lon_lat()), name="home"),
    "collection": collection(feature(None), feature(line(lon_lat()))),
    "multi": line([lon_lat()[:2], lon_lat()[1:]], "MultiLineString"),
    "two features that join": collection(feature(line(lon_lat()[:2])), feature(line(lon_lat()[1:]))),
    "named crs": line(lon_lat(), crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}),
    "track": gpx(
        "<trk><trkseg>",
        points("trkpt", LINE_M[:2]),
        "</trkseg><trkseg>",
        points("trkpt", LINE_M[2:]),
        "</trkseg></trk>",
    ),
    "route": gpx("<wpt lat='1' lon='2'/><rte><name>home</name>", points("rtept"), "</rte>"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_a_route_is_read_from(tmp_path: Path, name: str):
    route = read_route(written(tmp_path, GOOD[name])).route(FRAME, POSE)
    assert route.xy_m == pytest.approx(LINE_M, abs=1e-3)
    assert not route.lane_m.any()


def test_metres_of_a_crs_that_the_file_names(tmp_path: Path):
    to_utm = pyproj.Transformer.from_crs(4326, 32632, always_xy=True)
    places = [list(to_utm.transform(*place)) for place in lon_lat()]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    route = read_route(written(tmp_path, collection(feature(line(places)), crs=crs))).route(FRAME, POSE)
    assert route.xy_m == pytest.approx(LINE_M, abs=1e-3)


FAR = np.array([[900.0, 0.0], [950.0, 0.0]])
BAD = {
    "neither": ("lat,lon\n1,2\n", "neither GeoJSON nor GPX"),
    "other JSON": ([1, 2], "no GeoJSON"),
    "other XML": ("<kml/>", "XML of <kml>"),
    "broken XML": ("<gpx><trk>", "not readable XML"),
    "points alone": (line(lon_lat()[0], "Point"), "no LineString"),
    "waypoints alone": (gpx(points("wpt")), "neither a track nor a route"),
    "two tracks": (gpx(*["<trk><trkseg>" + points("trkpt") + "</trkseg></trk>"] * 2), "2 tracks and routes"),
    "a point without place": (gpx("<rte><rtept lat='49'/></rte>"), "has no place"),
    "not numbers": (line([["a", "b"], [1, 2]]), "not those of GeoJSON"),
    "not finite": (line([[8.4, 49.0], [math.nan, 49.0]]), "neither GeoJSON nor GPX"),
    "no coordinates": (line(3), "not those of GeoJSON"),
    "one place": (line(lon_lat()[:1]), "two places"),
    "lines apart": (collection(feature(line(lon_lat())), feature(line(lon_lat(FAR)))), "do not join"),
    "metres without a crs": (line([[456000.0, 5427000.0], [456100.0, 5427000.0]]), "no longitude and latitude"),
    "unknown crs": (line(lon_lat(), crs={"type": "name", "properties": {"name": "mine"}}), "is not known"),
    "elsewhere": (line(lon_lat(FAR)), "900 m from the pose"),
    "swapped": (line([place[::-1] for place in lon_lat()]), "latitude and longitude are swapped"),
    "the other way round": (line(lon_lat()[::-1]), "leads the other way"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_in_one_line(tmp_path: Path, name: str):
    content, message = BAD[name]
    with pytest.raises(DataError, match=message) as caught:
        read_route(written(tmp_path, content)).route(FRAME, POSE)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path):
    (tmp_path / "binary.gpx").write_bytes(b"\xff\xfe\x00\x81")
    for name in ("missing.gpx", "binary.gpx"):
        with pytest.raises(DataError, match=r"cannot be read|no text in UTF-8"):
            read_route(tmp_path / name)


def nav2(edges: list[tuple[int, int]], **node: Any) -> dict[str, Any]:
    places = {0: (-20.0, 0.0), 1: (30.0, 0.0), 2: (60.0, 20.0), 3: (60.0, -20.0)}
    nodes = [feature(line(list(at), "Point"), **({"id": ref, "frame": "map"} | node)) for ref, at in places.items()]
    links = [
        feature(line([[places[a], places.get(b, (0.0, 0.0))]], "MultiLineString"), id=100 + number, startid=a, endid=b)
        for number, (a, b) in enumerate(edges)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}
    return collection(*nodes, *links, crs=crs, name="graph")


def test_a_chain_of_nav2_is_a_route_in_metres_of_the_map(tmp_path: Path):
    route = read_route(written(tmp_path, nav2([(1, 2), (0, 1)]))).route(FRAME, POSE)
    assert route.xy_m.tolist() == LINE_M.tolist()


def test_over_a_graph_of_nav2_the_way_to_a_goal_is_sought(tmp_path: Path):
    file = read_route(written(tmp_path, nav2([(0, 1), (1, 2), (1, 3)])))
    with pytest.raises(DataError, match="graph with 4 nodes"):
        file.route(FRAME, POSE)
    goal = GeoPose(*FRAME.degrees_from_metres(60.0, -18.0))
    assert file.route(FRAME, POSE, goal).xy_m[-1] == pytest.approx([59.2, -19.0], abs=2.0)
    assert len(file.route(FRAME, POSE, goal).xy_m) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nav2([(0, 9)]), "no node 9"),
        (nav2([(0, 1)], frame="odom"), "frame 'odom'"),
        (nav2([(0, 0)]), "no edge with a length"),
        (nav2([(0, 1)], id="first"), "not as nav2 has it"),
    ],
)
def test_a_broken_graph_of_nav2(tmp_path: Path, content: Any, message: str):
    with pytest.raises(DataError, match=message):
        read_route(written(tmp_path, content))


def test_a_goal_and_a_line_exclude_each_other(tmp_path: Path):
    with pytest.raises(DataError, match="is a route already"):
        read_route(written(tmp_path, GOOD["line"])).route(FRAME, POSE, GeoPose(49.0, 8.4))

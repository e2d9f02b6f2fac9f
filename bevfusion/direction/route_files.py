"""Routes from files: GeoJSON, GPX, and the graphs of nav2's route server.

* GeoJSON (RFC 7946): a LineString, or several that join end to end, in degrees; older files may name another `crs`.
* GPX 1.0 and 1.1: one track, whose segments are taken one after the other, or one route.
* nav2: a FeatureCollection of points with an `id` and edges with `startid` and `endid`, in metres of the frame `map`:
  https://docs.nav2.org/tutorials/docs/route_server_tools/route_graph_generation.html. One that is a single chain is a
  route; over any other one the way to a goal is sought.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyproj
from jaxtyping import Float

from bevfusion.direction.road_graph import Edge, RoadGraph
from bevfusion.direction.route import NEAR_M, Route, route_to
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import Road
from bevfusion.parsing import parse_json, read_text
from bevfusion.structures import DataError

_WGS84 = pyproj.CRS.from_epsg(4326)
_MAP_FRAMES = ("", "map")


@dataclass(frozen=True)
class RouteFile:
    """What a file says: a line in degrees, or a graph in metres of the map frame."""

    name: str
    lon_lat: Float[np.ndarray, "n 2"]  # empty of a graph
    nodes_m: dict[int, tuple[float, float]]  # of a graph
    edges: tuple[Edge, ...]

    def route(self, frame: LocalFrame, pose: SE2, goal: GeoPose | None = None) -> Route:
        """The route from a pose on.

        Args:
            frame: of the map.
            pose: of the vehicle, map frame.
            goal: where to go; over a graph alone.

        Raises:
            DataError: if the file does not lead on from the pose, or not to the goal.
        """
        if self.edges:
            return self._over_graph(frame, pose, goal)
        if goal is not None:
            raise DataError(f"{self.name} is a route already: a goal (--to) goes with a graph, or with the map's roads")
        route = Route.through(_metres(frame, self.lon_lat))
        if route.place_of(pose)[1] > NEAR_M:
            swapped = self.lon_lat[:, ::-1]
            if np.abs(swapped[:, 1]).max() <= 90.0:
                other = Route.through(_metres(frame, swapped))
                if other.place_of(pose)[1] <= NEAR_M:
                    raise DataError(f"{self.name}: latitude and longitude are swapped, GeoJSON has longitude first")
        route.check_near(pose, self.name)
        return route

    def _over_graph(self, frame: LocalFrame, pose: SE2, goal: GeoPose | None) -> Route:
        nodes = self.nodes_m
        road = Road("", np.zeros((2, 2)), (0, 1), width_m=0.0, oneway=1, drivable=True)
        graph = RoadGraph(nodes, dict.fromkeys(self.edges, road), name=self.name)
        if goal is not None:
            return route_to(graph, pose, goal, frame.metres_from_degrees(goal.lat_deg, goal.lon_deg))
        chain = _chain(self.edges)
        if chain is None:
            raise DataError(f"{self.name} is a graph with {len(nodes)} nodes, no single route: say where to go (--to)")
        route = Route.through(np.array([nodes[ref] for ref in chain]))
        route.check_near(pose, f"{self.name} (in metres of the map, east and north of its origin)")
        return route


def read_route(path: Path) -> RouteFile:
    """Read a route file, whatever its suffix says.

    Raises:
        DataError: if it cannot be read, is none of the formats, or holds no route or several.
    """
    text = read_text(path)
    if text.lstrip().startswith("<"):
        lon_lat = _gpx_line(text, path)
    else:
        try:
            document = parse_json(text, path.name)
        except DataError as error:
            raise DataError(f"{path} is neither GeoJSON nor GPX ({error})") from error
        if not isinstance(document, dict) or not isinstance(document.get("type"), str):
            raise DataError(f"{path} is JSON, but no GeoJSON: it has no type")
        features = [feature for feature in _features(document) if isinstance(feature, dict)]
        if any(_property(feature, "startid") is not None for feature in features):
            return _nav2_graph(features, path)
        lon_lat = _geojson_line(document, features, path)
    if np.abs(lon_lat[:, 0]).max() > 180.0 or np.abs(lon_lat[:, 1]).max() > 90.0:
        x, y = lon_lat[np.abs(lon_lat).max(axis=1).argmax()].tolist()
        raise DataError(
            f"{path}: {x:g}, {y:g} are no longitude and latitude in degrees: export it as WGS84 (EPSG:4326)"
        )
    if len(np.unique(lon_lat, axis=0)) < 2:
        raise DataError(f"{path}: a route needs two places at least")
    return RouteFile(path.name, lon_lat, {}, ())


def _metres(frame: LocalFrame, lon_lat: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """In the map frame; what lies on the other side of the globe is very far away."""
    xy_m = frame.many_metres_from_degrees(np.ascontiguousarray(lon_lat[:, ::-1]))
    return np.where(np.isfinite(xy_m), xy_m, 2e7)


# -- GeoJSON


def _features(document: dict[str, Any]) -> Sequence[Any]:
    features = document.get("features")
    return features if isinstance(features, list) else [document]


def _property(feature: dict[str, Any], key: str) -> Any:
    properties = feature.get("properties")
    return properties.get(key) if isinstance(properties, dict) else None


def _geojson_line(document: dict[str, Any], features: Sequence[dict[str, Any]], path: Path) -> np.ndarray:
    try:
        lines = [_places(line) for feature in features for line in _lines(feature)]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: its coordinates are not those of GeoJSON ({error})") from error
    lines = [line for line in lines if len(line)]
    if not lines:
        raise DataError(f"{path} holds no LineString: a route is a line")
    joined = lines[0]
    for line in lines[1:]:
        if np.abs(line[0] - joined[-1]).max() > 1e-6 * max(1.0, float(np.abs(joined).max())):
            raise DataError(f"{path} holds {len(lines)} lines that do not join end to end: a route is one line")
        joined = np.concatenate([joined, line[1:]])
    return _in_degrees(joined, document, path)


def _lines(geometry: Any) -> Iterator[Any]:
    if "geometry" in geometry:
        if geometry["geometry"]:
            yield from _lines(geometry["geometry"])
    elif geometry.get("type") == "LineString":
        yield geometry["coordinates"]
    elif geometry.get("type") == "MultiLineString":
        yield from geometry["coordinates"]
    elif geometry.get("type") == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _lines(part)


def _places(coordinates: Any) -> np.ndarray:
    places = np.array([(float(place[0]), float(place[1])) for place in coordinates]).reshape(-1, 2)
    if not np.isfinite(places).all():
        raise ValueError("a number is not finite")
    return places


def _in_degrees(xy: np.ndarray, document: dict[str, Any], path: Path) -> np.ndarray:
    """Longitude and latitude of coordinates in the CRS that the file names; WGS84 where it names none."""
    crs = document.get("crs")
    if crs is None:
        return xy
    try:
        named = pyproj.CRS.from_user_input(str(crs["properties"]["name"]))
    except (KeyError, TypeError, pyproj.exceptions.CRSError) as error:
        raise DataError(f"{path}: its crs {crs!r} is not known; export it as WGS84 (EPSG:4326)") from error
    to_wgs84 = pyproj.Transformer.from_crs(named, _WGS84, always_xy=True)
    lon_lat = np.stack(to_wgs84.transform(xy[:, 0], xy[:, 1]), axis=1)
    if not np.isfinite(lon_lat).all():
        raise DataError(f"{path}: its coordinates do not lie in its crs, {named.name}")
    return lon_lat


# -- nav2


def _nav2_graph(features: Sequence[dict[str, Any]], path: Path) -> RouteFile:
    nodes_m: dict[int, tuple[float, float]] = {}
    edges: list[Edge] = []
    try:
        for feature in features:
            if _property(feature, "startid") is not None:
                edges.append((int(_property(feature, "startid")), int(_property(feature, "endid"))))
            elif feature["geometry"]["type"] == "Point":
                frame = str(_property(feature, "frame") or "")
                if frame not in _MAP_FRAMES:
                    raise DataError(f"{path}: its nodes are in the frame {frame!r}, expected metres of the frame map")
                x_m, y_m = _places([feature["geometry"]["coordinates"]])[0].tolist()
                nodes_m[int(_property(feature, "id"))] = (x_m, y_m)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path}: a node or an edge of the graph is not as nav2 has it ({error})") from error
    missing = {ref for edge in edges for ref in edge} - nodes_m.keys()
    if missing:
        raise DataError(f"{path}: the graph has no node {min(missing)}, which an edge leads to")
    kept = [edge for edge in edges if nodes_m[edge[0]] != nodes_m[edge[1]]]
    if not kept:
        raise DataError(f"{path}: the graph has no edge with a length")
    return RouteFile(path.name, np.zeros((0, 2)), nodes_m, tuple(dict.fromkeys(kept)))


def _chain(edges: Sequence[Edge]) -> list[int] | None:
    """The nodes of edges that follow each other from one beginning to one end; None of any other graph."""
    after = dict(edges)
    starts = after.keys() - set(after.values())
    if len(after) != len(edges) or len(starts) != 1 or max(Counter(end for _, end in edges).values()) > 1:
        return None
    chain = [starts.pop()]
    while chain[-1] in after:
        chain.append(after[chain[-1]])
    return chain if len(chain) == len(edges) + 1 else None


# -- GPX


def _gpx_line(text: str, path: Path) -> np.ndarray:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not readable XML ({error})") from error
    if _tag(root) != "gpx":
        raise DataError(f"{path} is XML of <{_tag(root)}>, not GPX")
    lines = [
        _gpx_places(each, {"trk": "trkpt", "rte": "rtept"}[_tag(each)], path)
        for each in root
        if _tag(each) in ("trk", "rte")
    ]
    lines = [line for line in lines if len(line)]
    if not lines:
        raise DataError(f"{path} holds neither a track nor a route")
    if len(lines) > 1:
        raise DataError(f"{path} holds {len(lines)} tracks and routes: give a file with one")
    return lines[0]


def _gpx_places(element: ElementTree.Element, kind: str, path: Path) -> np.ndarray:
    try:
        return _places([(point.attrib["lon"], point.attrib["lat"]) for point in element.iter() if _tag(point) == kind])
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: a point has no place ({error})") from error


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]

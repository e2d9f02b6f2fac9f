"""OpenStreetMap JSON, of Overpass (`[out:json]`) and of the OSM API -> `ElementCollector`.

https://wiki.openstreetmap.org/wiki/OSM_JSON
"""

import json
import math
from collections.abc import Iterable
from io import BufferedIOBase
from typing import Any

from bevfusion.maps.elements import MISSING_NODE, Box, ElementCollector, Member


def read_json(stream: BufferedIOBase, elements: ElementCollector) -> None:
    """Read a document.

    Raises:
        ValueError: if it is no JSON, or none of OpenStreetMap's.
    """
    try:
        document = json.load(stream)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(document, dict) or not isinstance(document.get("elements"), list):
        kind = document.get("type") if isinstance(document, dict) else None
        geojson = kind in ("FeatureCollection", "Feature")
        what = f"GeoJSON ({kind}; name it .geojson)" if geojson else "JSON without `elements`"
        raise ValueError(f"it is {what}, not OpenStreetMap's")
    if "remark" in document:
        elements.remarks.append(" ".join(str(document["remark"]).split()))
    if "bounds" in document:
        elements.boxes.append(_box(document["bounds"]))
    try:
        for element in document["elements"]:
            _add(element, elements)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"an element of the JSON is not as expected: {type(error).__name__} {error}") from error


def _add(element: dict[str, Any], elements: ElementCollector) -> None:
    kind = element["type"]
    if kind not in ("node", "way", "relation"):
        return  # areas and counts of Overpass
    deleted = element.get("visible") is False or element.get("action") == "delete"
    tags = None if deleted else {str(key): str(value) for key, value in element.get("tags", {}).items()}
    ref, version = int(element["id"]), int(element.get("version", 0))
    if kind == "node":
        lon, lat = _place(element) if "lat" in element and not deleted else (math.nan, math.nan)
        elements.add_node(ref, version, lon, lat, tags)
    elif kind == "way":
        elements.add_way(ref, version, _nodes_of(element, elements), tags)
    else:
        elements.add_relation(ref, version, list(_members(element, elements)), tags)


def _members(element: dict[str, Any], elements: ElementCollector) -> Iterable[Member]:
    for member in element.get("members", []):
        yield Member(member["type"], int(member["ref"]), str(member.get("role", "")))
        if member["type"] == "way" and member.get("geometry"):
            elements.add_inlined_way(int(member["ref"]), _nodes_of(member, elements))


def _nodes_of(element: dict[str, Any], elements: ElementCollector) -> list[int]:
    """Ids of a way's nodes; its `geometry` (`out geom`) gives their places, with null where they are cut off."""
    nodes: list[int | None] = [int(node) for node in element.get("nodes", [])]
    places = element.get("geometry")
    if not places:
        return [node for node in nodes if node is not None]
    nodes = nodes or [None] * len(places)
    refs = []
    for node, place in zip(nodes, places, strict=True):
        if place is not None:
            lon, lat = _place(place)
            node = elements.add_inlined_node(node, lon, lat)
        refs.append(MISSING_NODE if node is None else node)
    return refs


def _place(element: dict[str, Any]) -> tuple[float, float]:
    lon, lat = float(element["lon"]), float(element["lat"])
    if not (-180.0 <= lon <= 180.0 and -90.0 <= lat <= 90.0):
        raise ValueError(f"a node lies at latitude {lat:g}, longitude {lon:g}, off the globe")
    return lon, lat


def _box(bounds: dict[str, Any]) -> Box:
    return Box(*(float(bounds[key]) for key in ("minlon", "minlat", "maxlon", "maxlat")))

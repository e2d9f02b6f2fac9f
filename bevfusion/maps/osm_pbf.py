"""OpenStreetMap PBF and o5m, histories among them -> `ElementCollector`, by pyosmium."""

import math
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import osmium

from bevfusion.maps.elements import Box, ElementCollector, Member, Tags

_KINDS = {"n": "node", "w": "way", "r": "relation"}


def read_binary(source: "Path | bytes", content: str, elements: ElementCollector) -> None:
    """Read a file.

    Args:
        source: the file, or what is in it.
        content: osmium's name of the format.
        elements: where they go.

    Raises:
        ValueError: if osmium cannot read it.
    """
    try:
        if isinstance(source, bytes):
            file: osmium.io.File | osmium.io.FileBuffer = osmium.io.FileBuffer(source, content)
        else:
            file = osmium.io.File(str(source), content)
        with osmium.io.Reader(file) as reader:
            box = reader.header().box()
            if box.valid():
                low, high = box.bottom_left, box.top_right
                elements.boxes.append(Box(low.lon, low.lat, high.lon, high.lat))
            _read_items(osmium.OsmFileIterator(reader), elements)
    except (RuntimeError, IndexError, OverflowError, osmium.InvalidLocationError) as error:
        raise ValueError(str(error)) from error


def _read_items(items: Iterable[Any], elements: ElementCollector) -> None:
    """Most of a file is nodes without tags, so these are gathered here and handed on at once."""
    ids, versions, lon, lat = array("q"), array("q"), array("d"), array("d")
    for item in items:
        if item.is_node() and not item.tags and not item.deleted and (place := item.location).valid():
            ids.append(item.id)
            versions.append(item.version)
            lon.append(place.lon)
            lat.append(place.lat)
        else:
            _add(item, elements)
    elements.add_bare_nodes(ids, versions, lon, lat)


def _add(item: Any, elements: ElementCollector) -> None:
    tags: Tags | None = None if item.deleted else {tag.k: tag.v for tag in item.tags}
    if item.is_node():
        place = item.location
        lon, lat = (place.lon, place.lat) if place.valid() else (math.nan, math.nan)
        elements.add_node(item.id, item.version, lon, lat, tags)
    elif item.is_way():
        elements.add_way(item.id, item.version, _refs(item.nodes, elements), tags)
    elif item.is_relation():
        members = [Member(_KINDS[member.type], member.ref, member.role) for member in item.members]
        elements.add_relation(item.id, item.version, members, tags)


def _refs(nodes: Any, elements: ElementCollector) -> list[int]:
    """Ids of a way's nodes; where the file keeps their places with the way (LocationsOnWays), these are taken, too."""
    if not len(nodes) or not nodes[0].location.valid():
        return [node.ref for node in nodes]
    return [
        elements.add_inlined_node(node.ref, node.lon, node.lat) if node.location.valid() else node.ref for node in nodes
    ]

"""JSON of Overpass and of the OSM API says the same town as XML."""

import json
from pathlib import Path
from typing import Any

import pytest

from bevfusion.structures import DataError
from tests.maps.dialects import MEMBERS, NODES, RELATION, RELATION_TAGS, TREE, WAYS, assert_is_town, place, read_text


def _node(node: int) -> dict[str, Any]:
    lat, lon = place(node)
    return {"type": "node", "id": node, "lat": lat, "lon": lon, "tags": TREE.get(node, {})}


def _way(way: int, inlined: bool = False) -> dict[str, Any]:
    nodes, tags = WAYS[way]
    element: dict[str, Any] = {"type": "way", "id": way, "nodes": list(nodes), "tags": dict(tags)}
    if inlined:
        element["geometry"] = [dict(zip(("lat", "lon"), place(node), strict=True)) for node in nodes]
    return element


def _relation(inlined: bool = False) -> dict[str, Any]:
    members = [{"type": "way", "ref": way, "role": role} for way, role in MEMBERS]
    if inlined:
        members = [
            member | {"geometry": _way(way, True)["geometry"]}
            for member, (way, _) in zip(members, MEMBERS, strict=True)
        ]
    return {"type": "relation", "id": RELATION, "members": members, "tags": RELATION_TAGS}


def _without(element: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in element.items() if k != key}


_PLAIN = [*map(_node, NODES), *map(_way, WAYS), _relation()]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"version": 0.6, "elements": _PLAIN}, id="Overpass"),
        pytest.param({"version": "0.6", "elements": _PLAIN[::-1]}, id="any order"),
        pytest.param({"elements": [_node(12), *(_way(way, True) for way in WAYS), _relation()]}, id="out geom"),
        pytest.param({"elements": [_node(12), _without(_way(21, True), "nodes"), _relation(True)]}, id="out tags geom"),
        pytest.param({"elements": [*_PLAIN, {**_way(21), "id": 50, "visible": False}]}, id="not visible"),
        pytest.param({"elements": [*_PLAIN, {"type": "count", "id": 0, "tags": {}}]}, id="a count"),
    ],
)
def test_the_same_town(document: dict[str, Any], tmp_path: Path) -> None:
    for name in ("town.json", "town.osm.json", "town.osm"):
        osm_map = read_text(json.dumps(document), tmp_path, name)
        assert_is_town(osm_map)
        assert osm_map.name == "town"


def test_bounds_of_the_api_count(tmp_path: Path) -> None:
    bounds = {"minlat": 48.99, "minlon": 8.39, "maxlat": 49.01, "maxlon": 8.41}
    osm_map = read_text(json.dumps({"bounds": bounds, "elements": _PLAIN}), tmp_path, "town.json")
    assert osm_map.bounds_m[3] == pytest.approx(1112.0, abs=2.0)


def test_remarks_and_other_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="runtime error: out of memory"):
        read_text(json.dumps({"elements": _PLAIN, "remark": "runtime error: out of memory"}), tmp_path, "town.json")
    with pytest.raises(DataError, match="GeoJSON"):
        read_text('{"type": "FeatureCollection", "features": []}', tmp_path, "town.json")
    with pytest.raises(DataError, match="without `elements`"):
        read_text("[1, 2]", tmp_path, "town.json")


def test_null_places_cut_a_way(tmp_path: Path) -> None:
    way = _way(21, True) | {"nodes": [1, 2, 3, 4, 5]}
    way["geometry"] = [way["geometry"][0], way["geometry"][1], None, *_way(22, True)["geometry"][:2]]
    roads = read_text(json.dumps({"elements": [way]}), tmp_path, "town.json").roads
    assert [road.node_ids for road in roads] == [(1, 2), (4, 5)]

"""PBF in the orders and versions that programs write, read through osmium."""

from pathlib import Path

import osmium
import pytest
from osmium.osm.mutable import Node, Relation, Way

from bevfusion.maps.osm import read_osm
from tests.maps.dialects import MEMBERS, NODES, RELATION, RELATION_TAGS, TREE, WAYS, assert_is_town, place


def _write(path: Path, order: str, sign: int = 1, history: bool = False) -> Path:
    writer = osmium.SimpleWriter(str(path))
    for kind in order:
        if kind == "n":
            for node in NODES:
                lat, lon = place(node)
                if history:  # an older place
                    writer.add_node(Node(id=sign * node, version=1, visible=True, location=(lon, lat + 0.01)))
                tags = TREE.get(node, {})
                writer.add_node(Node(id=sign * node, version=2, visible=True, location=(lon, lat), tags=tags))
        elif kind == "w":
            for way, (nodes, tags) in WAYS.items():
                refs = [sign * node for node in nodes]
                writer.add_way(Way(id=sign * way, version=1, visible=True, nodes=refs, tags=dict(tags)))
            if history:
                road = {"highway": "primary"}
                writer.add_way(Way(id=50, version=1, visible=True, nodes=[1, 2], tags=road))
                writer.add_way(Way(id=50, version=2, visible=False, nodes=[], tags={}))
        else:
            members = [("w", sign * way, role) for way, role in MEMBERS]
            writer.add_relation(Relation(id=sign * RELATION, version=1, members=members, tags=RELATION_TAGS))
    writer.close()
    return path


@pytest.mark.parametrize("order", ["nwr", "wnr", "rwn"])
@pytest.mark.parametrize("sign", [1, -1, 9_000_000_000])
def test_any_order_and_any_ids(order: str, sign: int, tmp_path: Path) -> None:
    assert_is_town(read_osm(_write(tmp_path / "town.osm.pbf", order, sign)))


def test_a_history_is_read_as_it_ended(tmp_path: Path) -> None:
    osm_map = read_osm(_write(tmp_path / "town.osh.pbf", "nwr", history=True))
    assert_is_town(osm_map)
    assert osm_map.name == "town"


def test_places_that_stand_with_the_ways(tmp_path: Path) -> None:
    plain, located = _write(tmp_path / "plain.osm.pbf", "nwr"), tmp_path / "town.osm.pbf"
    with osmium.SimpleWriter(osmium.io.File(str(located), "pbf,locations_on_ways=true")) as writer:
        for item in osmium.FileProcessor(str(plain)).with_locations():
            if not item.is_node() or item.tags:  # as `osmium add-locations-to-ways` leaves out nodes without tags
                writer.add(item)
    assert_is_town(read_osm(located))

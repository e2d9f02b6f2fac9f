"""Every dialect of OpenStreetMap XML says the same town."""

from pathlib import Path

import pytest

from bevfusion.structures import DataError
from tests.maps.dialects import (
    NODES,
    RELATION_TAGS,
    WAYS,
    assert_is_town,
    at,
    document,
    kinds_of,
    node_xml,
    notes_of,
    read_text,
    relation_xml,
    tags_xml,
    town,
    way_xml,
)

_GHOSTS = (
    '<node id="90" {0} lat="49.0002" lon="8.4002"><tag k="natural" v="tree"/></node>'
    '<way id="91" {0}><nd ref="1"/><nd ref="12"/><tag k="highway" v="primary"/></way>'
    '<way id="92" {0}><nd ref="4"/><nd ref="5"/><nd ref="12"/><nd ref="4"/><tag k="building" v="yes"/></way>'
    '<relation id="93" {0}><member type="way" ref="23" role="outer"/><tag k="type" v="multipolygon"/>'
    '<tag k="natural" v="water"/></relation>'
)
_NODES = "".join(node_xml(node) for node in NODES)
_WAYS = "".join(way_xml(way) for way in WAYS)
_MEMBERS_WITH_PLACES = (
    '<relation id="31">'
    + "".join(
        f'<member type="way" ref="{way}" role="{role}">{"".join(f"<nd {at(node)}/>" for node in WAYS[way][0])}</member>'
        for way, role in ((22, "outer"), (23, "inner"))
    )
    + tags_xml(RELATION_TAGS)
    + "</relation>"
)


_OLDER = _GHOSTS.format("version='4'")
_DIALECTS = {
    "planet": document(town()),
    "ways before nodes": document(_WAYS, relation_xml(), _NODES),
    "relations first": document(relation_xml(), _WAYS, _NODES),
    "ids descend": document(*(way_xml(way) for way in reversed(WAYS)), relation_xml(), _NODES),
    "negative ids": document(town(sign=-1)),
    "ids beyond 2^33": document(town(sign=9_000_000_000)),
    "JOSM deletes": document(town(), _GHOSTS.format("action='delete' visible='true'")),
    "JOSM modifies": document(town("action='modify' visible='true'")).replace("<osm ", "<osm upload='never' "),
    "not visible": document(_GHOSTS.format("visible='false' version='3'"), town()),
    "bodies and skeletons": document(town(), *(way_xml(way, tagged=False) for way in WAYS)),
    "nodes twice": document(_NODES, town()),
    "osmChange": document(
        f"<create>{town()}</create><delete>{_OLDER}</delete>",
        root="osmChange",
    ),
    "augmented diff": document(
        f'<action type="create">{town()}</action><action type="modify"><old>{_OLDER}</old><new/></action>'
    ),
    "out geom": document(node_xml(12), *(way_xml(way, inlined=True) for way in WAYS), relation_xml()),
    "out geom of members": document(node_xml(12), way_xml(21, inlined=True), _MEMBERS_WITH_PLACES),
    "a remark without harm": document("<remark>the area was large</remark>", town()),
}


@pytest.mark.parametrize("text", _DIALECTS.values(), ids=_DIALECTS)
def test_the_same_town(text: str, tmp_path: Path) -> None:
    assert_is_town(read_text(text, tmp_path))


def test_the_newest_version_counts(tmp_path: Path) -> None:
    history = document(
        '<node id="1" version="1" lat="49" lon="8.3993"/><node id="1" version="2" lat="49.0003" lon="8.3993"/>',
        '<node id="2" version="2" lat="49.0003" lon="8.4007"/><node id="2" version="1" lat="49" lon="8.4007"/>',
        '<node id="3" version="1" lat="49" lon="8.4"><tag k="natural" v="tree"/></node>',
        '<node id="3" version="2" visible="false"/>',
        '<way id="9" version="1"><nd ref="1"/><nd ref="2"/><tag k="highway" v="track"/></way>',
        '<way id="9" version="2"><nd ref="1"/><nd ref="2"/><tag k="highway" v="primary"/></way>',
        '<way id="8" version="1"><nd ref="1"/><nd ref="2"/><tag k="highway" v="service"/></way>',
        '<way id="8" version="2" visible="false"/>',
    )
    osm_map = read_text(history, tmp_path)
    assert kinds_of(osm_map) == (["primary"], [], [], [])
    assert osm_map.frame.origin_lat_deg == pytest.approx(49.0003)
    assert notes_of(osm_map, "versions") == [("ignored", 5, None)]
    assert notes_of(osm_map, "deleted") == [("ignored", 2, None)]


def test_vertices_that_stand_with_several_ways_are_no_versions(tmp_path: Path) -> None:
    """`out geom` repeats a node with every way that meets there."""
    osm_map = read_text(document(*(way_xml(way, inlined=True) for way in WAYS), relation_xml()), tmp_path)
    assert kinds_of(osm_map) == (["residential"], ["building"], [], [])
    assert notes_of(osm_map, "versions") == []


def test_of_two_copies_the_one_with_tags_counts(tmp_path: Path) -> None:
    bare = '<way id="22" version="1"><nd ref="4"/><nd ref="5"/><nd ref="6"/><nd ref="4"/></way>'
    tagged = bare.replace("</way>", '<tag k="building" v="yes"/></way>')
    for ways in ((bare, tagged), (tagged, bare)):
        assert kinds_of(read_text(document(_NODES, *ways), tmp_path)) == ([], ["building"], [], ["tree"])


def test_a_deletion_counts_whatever_stands_before_it(tmp_path: Path) -> None:
    changes = document(f"<create>{town()}</create><delete>{way_xml(21)}{node_xml(12)}</delete>", root="osmChange")
    osm_map = read_text(changes, tmp_path)
    assert kinds_of(osm_map) == ([], ["building"], [], [])
    assert notes_of(osm_map, "changes") == [("warning", None, None)]


def test_differences_say_that_they_are_no_map(tmp_path: Path) -> None:
    """Overpass writes them with the root of a plain file."""
    nodes = "".join(f'<action type="create">{node_xml(node)}</action>' for node in NODES)
    gone = (
        f'<action type="delete"><old>{way_xml(23)}</old><new><way id="23" version="2" visible="false"/></new></action>'
    )
    osm_map = read_text(document(nodes, f'<action type="create">{way_xml(21)}</action>', gone), tmp_path)
    assert kinds_of(osm_map) == (["residential"], [], [], ["tree"])
    assert notes_of(osm_map, "changes") == [("warning", None, None)]


def test_the_answer_of_a_server_that_stopped_early_is_no_map(tmp_path: Path) -> None:
    remark = '<remark> runtime error: Query timed out in "query" at line 3 after 26 seconds. </remark>'
    with pytest.raises(DataError, match=r"not the whole answer.*timed out"):
        read_text(document(town(), remark), tmp_path)


def test_a_cut_course_is_not_bridged(tmp_path: Path) -> None:
    """`out geom` in a box leaves out the places of vertices beyond it."""
    way = (
        f'<way id="5"><nd ref="1" {at(1)}/><nd ref="2" {at(2)}/><nd ref="3"/><nd ref="4" {at(4)}/><nd ref="5" {at(5)}/>'
    )
    osm_map = read_text(document(way, '<tag k="highway" v="service"/></way>'), tmp_path)
    assert [road.node_ids for road in osm_map.roads] == [(1, 2), (4, 5)]
    assert notes_of(osm_map, "ways") == [("ignored", 1, 1)]


def test_ways_without_ids_of_nodes_meet_where_their_vertices_do(tmp_path: Path) -> None:
    ways = (
        f'<way id="{way}"><nd {at(a)}/><nd {at(2)}/><tag k="highway" v="service"/></way>' for way, a in ((5, 1), (6, 3))
    )
    first, second = read_text(document(*ways), tmp_path).roads
    assert first.node_ids[1] == second.node_ids[1]
    assert first.node_ids[0] != second.node_ids[0]


def test_a_map_without_its_nodes_is_refused_and_one_that_lacks_few_says_so(tmp_path: Path) -> None:
    lost = "".join(
        f'<way id="{way}"><nd ref="71"/><nd ref="72"/><tag k="highway" v="service"/></way>' for way in (5, 6)
    )
    osm_map = read_text(document(town(), lost), tmp_path)
    assert_is_town(osm_map)
    assert notes_of(osm_map, "ways") == [("lost", 2, 3)]
    (note,) = osm_map.summary.of_kind("lost")
    assert "5, 6" in note.text
    with pytest.raises(DataError, match="lacks the nodes of 6 of 8"):
        read_text(document(town(), *(lost.replace('id="', f'id="{n}') for n in (1, 2, 3))), tmp_path)
    with pytest.raises(DataError, match="lacks the nodes of 2 of 2"):
        read_text(document(lost), tmp_path)

"""Turn restrictions as the OSM reader gives them."""

from pathlib import Path

import pytest

from bevfusion.maps.features import OsmMap
from bevfusion.maps.osm import read_osm
from tests.maps.osm_text import OsmText

STREET = {"highway": "residential"}


def rule(text: OsmText, members: list[tuple[str, int, str]], tags: dict[str, str]) -> None:
    text.count += 1
    inner = "".join(f'<member type="{kind}" ref="{ref}" role="{role}"/>' for kind, ref, role in members)
    text.relations.append(f'<relation id="{text.count}" version="1">{inner}{text._tags(tags)}</relation>')


def read(text: OsmText, folder: Path) -> OsmMap:
    path = folder / "map.osm"
    path.write_text(str(text))
    return read_osm(path)


class Crossing(OsmText):
    """Streets from the west, south, east and north that meet in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = self.node(0.0, 0.0)
        self.ends = {
            name: self.node(*at) for name, at in zip("wsen", ((-50, 0), (0, -50), (50, 0), (0, 50)), strict=True)
        }
        self.streets = {name: self.way([end, self.middle], STREET) for name, end in self.ends.items()}

    def turn(self, come: str, go: str, **tags: str) -> None:
        members = [("way", self.streets[come], "from"), ("node", self.middle, "via"), ("way", self.streets[go], "to")]
        rule(self, members, {"type": "restriction", **tags})


def courses(osm: OsmMap) -> list[tuple[tuple[int, ...], bool]]:
    return [(one.node_ids, one.mandatory) for one in osm.restrictions]


def test_forbidden_and_demanded_turns(tmp_path: Path):
    text = Crossing()
    text.turn("w", "n", restriction="no_left_turn")
    text.turn("s", "n", restriction="only_straight_on")
    text.turn("e", "e", restriction="no_u_turn")
    ends, middle = text.ends, text.middle
    assert courses(read(text, tmp_path)) == [
        ((ends["w"], middle, ends["n"]), False),
        ((ends["s"], middle, ends["n"]), True),
        ((ends["e"], middle, ends["e"]), False),
    ]


@pytest.mark.parametrize(
    ("tags", "count"),
    [
        ({"restriction": "no_left_turn", "except": "psv;motorcar"}, 0),
        ({"restriction": "no_left_turn", "except": "bicycle"}, 1),
        ({"restriction:hgv": "no_left_turn"}, 0),
        ({"restriction:motorcar": "no_left_turn"}, 1),
        ({"restriction:conditional": "no_left_turn @ (Mo-Fr 07:00-09:00)"}, 0),
        ({"restriction": "give_way"}, 0),
    ],
)
def test_rules_for_others_do_not_count(tmp_path: Path, tags: dict[str, str], count: int):
    text = Crossing()
    text.turn("w", "n", **tags)
    osm = read(text, tmp_path)
    assert len(osm.restrictions) == count
    told = [note for note in osm.summary.notes if note.subject == "restrictions"]
    assert bool(told) == ("restriction:conditional" in tags)


def test_a_rule_over_a_way_between_junctions(tmp_path: Path):
    text = OsmText()
    a, b, c, d = (text.node(*at) for at in ((-50, 0), (0, 0), (0, 20), (-50, 20)))
    come, between, go = text.way([a, b], STREET), text.way([c, b], STREET), text.way([c, d], STREET)
    members = [("way", come, "from"), ("way", between, "via"), ("way", go, "to")]
    rule(text, members, {"type": "restriction", "restriction": "no_u_turn"})
    assert courses(read(text, tmp_path)) == [((a, b, c, d), False)]


def test_a_rule_whose_way_is_missing_is_told(tmp_path: Path):
    text = Crossing()
    members = [("way", text.streets["w"], "from"), ("node", text.middle, "via"), ("way", 999, "to")]
    rule(text, members, {"type": "restriction", "restriction": "no_left_turn"})
    osm = read(text, tmp_path)
    assert osm.restrictions == ()
    assert [note.kind for note in osm.summary.notes if note.subject == "restrictions"] == ["lost"]


def test_roads_that_are_closed_to_most_cars(tmp_path: Path):
    text = OsmText()
    for at, tags in enumerate(({}, {"access": "private"}, {"access": "no", "motor_vehicle": "yes"}, {"vehicle": "no"})):
        text.line([(0, 10 * at), (50, 10 * at)], STREET | tags)
    assert [road.private for road in read(text, tmp_path).roads] == [False, True, False, True]

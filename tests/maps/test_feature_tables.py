"""Tables of features: the same roads, areas and lines as the objects that they were made of."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from bevfusion.maps.feature_tables import AreaTable, LineTable, RoadTable
from bevfusion.maps.features import Area, Line, Road
from bevfusion.maps.osm import read_osm
from tests.maps.osm_text import OsmText

STREET = Road("residential", np.array([[0.0, 0.0], [5.0, 1.0], [9.0, 2.0]]), (1, 2, 3), 6.5, 1, True, name="A")
PATH = Road("footway", np.array([[0.0, 3.0], [5.0, 4.0]]), (7, 2), 2.0, 0, False, bridge=True, grade=0.05)
HOUSE = Area("building", np.array([[0.0, 0.0], [8.0, 0.0], [8.0, 8.0], [0.0, 0.0]]), height_m=6.0)
COURT = Area("water", HOUSE.outer_m * 9.0, (HOUSE.outer_m + 20.0, HOUSE.outer_m + 40.0))
FENCE = Line("fence", PATH.xy_m)


def assert_equal(made: Road | Area | Line, expected: Road | Area | Line) -> None:
    assert type(made) is type(expected)
    for field in fields(expected):
        one, other = getattr(made, field.name), getattr(expected, field.name)
        if field.name == "holes_m":
            assert len(one) == len(other)
            for hole, other_hole in zip(one, other, strict=True):
                np.testing.assert_array_equal(hole, other_hole)
        elif field.name in ("xy_m", "outer_m"):
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other, field.name


@pytest.mark.parametrize(
    ("table", "items"),
    [
        (RoadTable.of((STREET, PATH, STREET)), (STREET, PATH, STREET)),
        (AreaTable.of((COURT, HOUSE)), (COURT, HOUSE)),
        (LineTable.of((FENCE,)), (FENCE,)),
        (RoadTable.of(()), ()),
        (AreaTable.of(()), ()),
        (LineTable.of(()), ()),
    ],
)
def test_items_come_back_by_number_in_slices_and_in_order(
    table: RoadTable | AreaTable | LineTable, items: tuple[Road | Area | Line, ...]
) -> None:
    assert len(table) == len(items)
    for made in (list(table), list(table[:]), [table[i - len(items)] for i in range(len(items))]):
        for one, other in zip(made, items, strict=True):
            assert_equal(one, other)
    with pytest.raises(IndexError):
        table[len(items)]


def test_a_table_of_a_table_is_the_same() -> None:
    for table in (RoadTable.of((STREET,)), AreaTable.of((COURT,)), LineTable.of((FENCE,))):
        assert type(table).of(table) is table  # type: ignore[arg-type]


def test_columns_of_roads() -> None:
    roads = RoadTable.of((STREET, PATH))
    assert roads.width_m.tolist() == [6.5, 2.0]
    assert roads.oneway.tolist() == [1, 0]
    assert roads.drivable.tolist() == [True, False]


def test_areas_are_joined_and_reordered() -> None:
    areas = AreaTable.of((HOUSE,)).followed_by(AreaTable.of((COURT, HOUSE))).taken(np.array([1, 0, 2, 1]))
    for one, other in zip(areas, (COURT, HOUSE, HOUSE, COURT), strict=True):
        assert_equal(one, other)


def test_areas_keep_the_order_of_the_file_whichever_way_they_were_read(osm_text: OsmText, tmp_path: Path) -> None:
    """Rings that are taken as they are, one that crosses itself, and a stream between them."""
    osm_text.box(-60, -60, -40, -40, {"building": "yes"})
    bow = [osm_text.node(*point) for point in ((0, 0), (20, 20), (20, 0), (0, 20))]
    osm_text.way([*bow, bow[0]], {"landuse": "grass"})
    osm_text.line([(-90, 50), (90, 50)], {"waterway": "stream"})
    osm_text.box(40, -60, 60, -40, {"building": "yes", "height": "12"})
    path = tmp_path / "town.osm"
    path.write_text(str(osm_text), encoding="utf-8")
    areas = read_osm(path).areas
    assert [area.kind for area in areas] == ["building", "vegetation", "vegetation", "water", "building"]
    assert [area.height_m for area in areas] == [None, None, None, None, 12.0]

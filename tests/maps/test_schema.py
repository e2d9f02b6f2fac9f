import pytest

from bevfusion.maps.primitives import FILLED
from bevfusion.maps.schema import LAYER_NAMES, LAYERS, PATH_WIDTHS_M, ROAD_WIDTHS_M, layer_index, layer_of_tags


def test_order_is_what_checkpoints_expect() -> None:
    assert (
        *("road", "path", "parking", "building", "vegetation", "water", "rail"),
        *("building_outline", "wall", "fence", "hedge", "kerb", "tree_row", "road_centre"),
        *("road_cos2", "road_sin2", "oneway_cos", "oneway_sin"),
        *("junction", "tree", "pole", "lamp", "sign", "signal"),
    ) == LAYER_NAMES


def test_index_and_table_agree() -> None:
    assert [layer_index(name) for name in LAYER_NAMES] == list(range(len(LAYERS)))


def test_unknown_layer_names_the_nearest() -> None:
    with pytest.raises(KeyError, match="building_outline"):
        layer_index("building_outlines")


def test_filled_layers_come_first_as_the_renderer_needs() -> None:
    assert tuple(range(len(FILLED))) == FILLED
    assert [LAYER_NAMES[i] for i in FILLED] == ["road", "path", "parking", "building", "vegetation", "water", "rail"]


def test_colours_tell_layers_apart() -> None:
    drawn = [layer.colour for layer in LAYERS if layer.geometry in ("area", "band")]
    assert len(set(drawn)) == len(drawn)


def test_every_highway_is_a_road_or_a_path() -> None:
    assert not set(ROAD_WIDTHS_M) & set(PATH_WIDTHS_M)
    for kinds, layer in ((ROAD_WIDTHS_M, "road"), (PATH_WIDTHS_M, "path")):
        for kind in kinds:
            assert layer_of_tags({"highway": kind}, frozenset({"band"})) == layer


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"building": "yes"}, "building"),
        ({"building": "no"}, None),
        ({"building": "construction"}, None),
        ({"landuse": "forest"}, "vegetation"),
        ({"landuse": "residential"}, None),
        ({"natural": "water", "landuse": "grass"}, "vegetation"),
        ({"amenity": "parking", "building": "yes"}, "building"),
        ({"amenity": "parking", "building": "no"}, "parking"),
        ({}, None),
    ],
)
def test_areas_by_tags(tags: dict[str, str], expected: str | None) -> None:
    assert layer_of_tags(tags, frozenset({"area"})) == expected


def test_a_signal_with_a_sign_is_a_signal() -> None:
    tags = {"highway": "traffic_signals", "traffic_sign": "DE:206"}
    assert layer_of_tags(tags, frozenset({"point"})) == "signal"

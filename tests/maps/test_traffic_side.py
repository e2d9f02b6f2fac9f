from pathlib import Path

import pytest
import tzfpy

from bevfusion.maps.osm import read_osm
from bevfusion.maps.traffic_side import _LEFT_HAND_ZONES, left_hand_traffic_at, tagged_left_hand_traffic


@pytest.mark.parametrize(
    ("lat_deg", "lon_deg", "left"),
    [
        *((51.5, -0.1, True), (54.6, -5.93, True), (53.35, -6.26, True), (49.01, 8.4, False), (48.85, 2.35, False)),
        *((31.605, 74.59, True), (13.655, 102.565, False), (13.66, 102.54, True), (20.455, 99.885, False)),  # borders
        *((22.54, 114.115, False), (22.5, 114.12, True), (36.14, -5.35, False), (18.43, -64.62, True)),
        *((18.46, -66.1, False), (-17.4, 15.89, True), (-17.385, 15.89, False), (35.68, 139.7, True)),
        *((-33.9, 151.2, True), (-36.85, 174.76, True), (3.38, -59.8, True), (3.36, -59.83, False)),
    ],
)
def test_side_of_a_country(lat_deg: float, lon_deg: float, left: bool) -> None:
    assert left_hand_traffic_at(lat_deg, lon_deg) is left


def test_all_zones_exist() -> None:
    assert set(tzfpy.timezonenames()) >= _LEFT_HAND_ZONES


def test_tags_of_a_region_hold_and_those_of_few_roads_do_not() -> None:
    assert tagged_left_hand_traffic(["left"], ["right", "right"]) is True
    assert tagged_left_hand_traffic([], ["left", None]) is True
    assert tagged_left_hand_traffic([], ["left", None, None]) is None
    assert tagged_left_hand_traffic([], []) is None
    assert tagged_left_hand_traffic([], ["left", "right"]) is None


@pytest.mark.parametrize(
    ("lat_deg", "lon_deg", "tag", "left"),
    [(49.0, 8.4, "", False), (49.0, 8.4, "left", True), (52.66, -8.63, "", True), (52.66, -8.63, "right", False)],
)
def test_side_of_an_extract(lat_deg: float, lon_deg: float, tag: str, left: bool, tmp_path: Path) -> None:
    side = f'<tag k="driving_side" v="{tag}"/>' if tag else ""
    path = tmp_path / "town.osm"
    path.write_text(
        f'<osm version="0.6"><node id="1" lat="{lat_deg}" lon="{lon_deg}"/><node id="2" lat="{lat_deg}" '
        f'lon="{lon_deg + 0.001}"/><way id="3"><nd ref="1"/><nd ref="2"/>'
        f'<tag k="highway" v="primary"/>{side}</way></osm>'
    )
    osm_map = read_osm(path)
    assert osm_map.left_hand_traffic is left
    (note,) = (note for note in osm_map.summary.notes if note.subject == "driving_side")
    assert note.kind == ("used" if tag else "assumed")
    assert ("left" if left else "right") in note.text

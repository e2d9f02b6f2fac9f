import gzip
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bevfusion.maps.osm import read_osm
from bevfusion.simulate.route import plan_path
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("town") / "town.osm"
    write_town(path, seed=7, size_m=800.0)
    return path


def test_file_is_valid_osm(town: Path) -> None:
    root = ElementTree.parse(town).getroot()
    assert root.tag == "osm"
    assert root.attrib["version"] == "0.6"
    order = [child.tag for child in root]
    assert order == sorted(order, key=["bounds", "node", "way", "relation"].index)
    nodes = {child.attrib["id"] for child in root.iter("node")}
    ways = {child.attrib["id"] for child in root.iter("way")}
    assert all(int(number) > 0 for number in nodes | ways)
    assert {ref.attrib["ref"] for ref in root.iter("nd")} <= nodes
    assert {member.attrib["ref"] for member in root.iter("member")} <= ways
    keys = Counter(tag.attrib["k"] for tag in root.iter("tag"))
    for key in ("highway", "building", "height", "building:levels", "lanes", "oneway", "barrier", "natural", "name"):
        assert keys[key] > 0, key


def test_reader_sees_a_town(town: Path) -> None:
    osm = read_osm(town)
    np.testing.assert_allclose(osm.bounds_m, (-400, -400, 400, 400), atol=1.0)
    kinds = Counter(area.kind for area in osm.areas)
    assert kinds["building"] > 300
    assert sum(area.height_m is not None for area in osm.areas) > 100
    assert {road.kind for road in osm.roads} >= {"residential"}
    assert Counter(point.kind for point in osm.points)["tree"] > 20
    assert plan_path(osm, 600.0, np.random.default_rng(0)).length_m >= 600.0


def test_streets_curve_and_meet_at_many_angles(town: Path) -> None:
    osm = read_osm(town)
    yaws = []
    for road in osm.roads:
        steps = np.diff(road.xy_m, axis=0)
        yaws.append(np.arctan2(steps[:, 1], steps[:, 0]))
    bends = [np.abs(np.angle(np.exp(1j * (yaw[-1] - yaw[0])))) for yaw in yaws]
    assert np.mean(np.rad2deg(bends) > 3.0) > 0.2
    folded = np.rad2deg(np.concatenate(yaws)) % 90.0
    assert np.ptp(np.percentile(folded, [10, 90])) > 15.0  # a straight grid has one direction


def test_compressed_by_name_and_deterministic(town: Path, tmp_path: Path) -> None:
    packed = tmp_path / "town.osm.gz"
    write_town(packed, seed=7, size_m=800.0)
    assert gzip.decompress(packed.read_bytes()) == town.read_bytes()
    other = tmp_path / "other.osm"
    write_town(other, seed=8, size_m=800.0)
    assert other.read_bytes() != town.read_bytes()


@pytest.mark.parametrize(("seed", "size_m"), [(-1, 800.0), (0, 10.0), (0, 1e6)])
def test_impossible_towns_are_refused(tmp_path: Path, seed: int, size_m: float) -> None:
    with pytest.raises(DataError, match="a town needs"):
        write_town(tmp_path / "town.osm", seed, size_m)
    assert not list(tmp_path.iterdir())

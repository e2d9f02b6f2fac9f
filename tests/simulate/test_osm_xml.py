from pathlib import Path

import numpy as np

from bevfusion.maps.osm import read_osm
from bevfusion.simulate.osm_xml import OsmFile
from tests.simulate.scenes import FRAME, box


def test_features_come_back_through_the_reader(tmp_path: Path) -> None:
    file = OsmFile(FRAME)
    street = np.array([[-50.0, 0.0], [0.0, 5.0], [50.0, 0.0]])
    file.way(street, {"highway": "residential", "name": 'A & "B" <Street>'})
    file.way(np.array([[0.0, 5.0], [0.0, 80.0]]), {"highway": "service"})
    file.multipolygon(box(10.0, 20.0, 40.0, 60.0), box(20.0, 30.0, 30.0, 50.0), {"building": "yes", "height": "9.5"})
    file.node(np.array([5.0, 10.0]), {"natural": "tree"})
    file.write(tmp_path / "small.osm", (-100.0, -100.0, 100.0, 100.0))
    osm = read_osm(tmp_path / "small.osm")
    shift = np.array(osm.frame.metres_from_degrees(FRAME.origin_lat_deg, FRAME.origin_lon_deg))
    assert [road.kind for road in osm.roads] == ["residential", "service"]
    assert osm.roads[0].name == 'A & "B" <Street>'
    assert osm.roads[0].node_ids[1] == osm.roads[1].node_ids[0]
    np.testing.assert_allclose(osm.roads[0].xy_m - shift, street, atol=0.02)
    (house,) = osm.areas
    assert house.height_m == 9.5
    assert len(house.holes_m) == 1
    (tree,) = osm.points
    np.testing.assert_allclose(np.array([tree.x_m, tree.y_m]) - shift, [5.0, 10.0], atol=0.02)

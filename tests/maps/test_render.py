import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import Area, Line, OsmMap, Point, Road
from bevfusion.maps.osm import read_osm
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.schema import LAYER_NAMES, LAYERS, layer_index
from tests.maps.osm_text import CENTRE, OsmText

GRID = Grid(48, 64, 0.5)
HERE = SE2()
HUB = (0.0, 0.0)


def osm_map(
    roads: tuple[Road, ...] = (),
    areas: tuple[Area, ...] = (),
    lines: tuple[Line, ...] = (),
    points: tuple[Point, ...] = (),
) -> OsmMap:
    return OsmMap(CENTRE, (-100.0, -100.0, 100.0, 100.0), roads, areas, lines, points)


def road(*xy_m: tuple[float, float], oneway: int = 0, width_m: float = 6.0, kind: str = "residential") -> Road:
    drivable = kind == "residential"
    ids = tuple(hash(point) & 0xFFFFFFFF for point in xy_m)
    return Road(kind, np.array(xy_m, np.float64), ids, width_m, oneway, drivable)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], np.float64)


def centres_in_map(grid: Grid, map_from_tile: SE2, mirrored: bool) -> np.ndarray:
    """The reference for poses: where the centre of every cell lies on the map, (h, w, 2)."""
    return map_from_tile.apply(grid.centres_m() * (1.0, -1.0 if mirrored else 1.0))


def assert_filled_where_inside(drawn: np.ndarray, shape: shapely.Geometry, centres: np.ndarray) -> None:
    inside = shapely.contains_xy(shape, centres[..., 0], centres[..., 1])
    clear = shapely.distance(shapely.boundary(shape), shapely.points(centres)) > 1e-6
    np.testing.assert_array_equal((drawn == 127)[clear], inside[clear])


@st.composite
def rings(draw: st.DrawFn) -> np.ndarray:
    """A star-shaped ring, either way round."""
    corners = draw(st.integers(3, 9))
    angles = np.sort(draw(st.lists(st.floats(0, 2 * math.pi), min_size=corners, max_size=corners, unique=True)))
    radii = np.array(draw(st.lists(st.floats(1.0, 18.0), min_size=corners, max_size=corners)))
    centre = np.array([draw(st.floats(-15, 15)), draw(st.floats(-15, 15))])
    ring = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring = np.concatenate([ring, ring[:1]])
    return ring[::-1].copy() if draw(st.booleans()) else ring


poses = st.builds(SE2, st.floats(-20, 20), st.floats(-20, 20), st.floats(-3.1, 3.1))


@settings(max_examples=60, deadline=None)
@given(st.lists(rings(), min_size=1, max_size=3), poses, st.booleans())
def test_areas_fill_exactly_the_cells_whose_centres_are_inside(
    found: list[np.ndarray], pose: SE2, mirrored: bool
) -> None:
    shapes = [shapely.Polygon(ring) for ring in found]
    union = shapely.union_all([shapely.make_valid(shape) for shape in shapes])
    drawn = OsmRenderer(osm_map(areas=tuple(Area("building", ring) for ring in found))).draw(GRID, pose, mirrored)
    assert_filled_where_inside(drawn[layer_index("building")], union, centres_in_map(GRID, pose, mirrored))
    assert not drawn[layer_index("vegetation")].any()


@pytest.mark.parametrize("reverse_outer", [False, True])
@pytest.mark.parametrize("reverse_hole", [False, True])
def test_holes_erase_only_their_own_polygon(reverse_outer: bool, reverse_hole: bool) -> None:
    outer, hole, below = box(-12, -10, 12, 10), box(-6, -5, 6, 5), box(-3, -8, 3, 2)
    outer, hole = (ring[::-1].copy() if turn else ring for ring, turn in ((outer, reverse_outer), (hole, reverse_hole)))
    renderer = OsmRenderer(osm_map(areas=(Area("water", below), Area("water", outer, (hole,)))))
    shape = shapely.union(shapely.Polygon(outer, [hole]), shapely.Polygon(below))
    for pose in (HERE, SE2(1.3, -2.2, 0.7)):
        drawn = renderer.draw(GRID, pose)[layer_index("water")]
        assert_filled_where_inside(drawn, shape, centres_in_map(GRID, pose, False))


def test_large_areas_are_cut_without_seams() -> None:
    angles = np.linspace(0, 2 * np.pi, 400)
    radius = 300 + 40 * np.sin(13 * angles)
    ring = radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring[-1] = ring[0]
    hole = box(-50, -50, 70, 20)
    renderer = OsmRenderer(osm_map(areas=(Area("vegetation", ring, (hole,)),)))
    grid = Grid(300, 300, 2.5)
    for pose in (HERE, SE2(13.0, 5.0, 0.3)):
        drawn = renderer.draw(grid, pose)[layer_index("vegetation")]
        assert_filled_where_inside(drawn, shapely.Polygon(ring, [hole]), centres_in_map(grid, pose, False))


def test_a_cell_aligned_box_fills_whole_cells() -> None:
    drawn = OsmRenderer(osm_map(areas=(Area("building", box(0.0, 1.0, 2.0, 1.5)),))).draw(Grid(8, 8, 0.5), HERE)
    expected = np.zeros((8, 8), bool)
    expected[6, 4:8] = True  # row 0 is the lowest y, column 0 the lowest x
    np.testing.assert_array_equal(drawn[layer_index("building")] == 127, expected)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=2, max_size=5, unique=True),
    st.floats(1.0, 12.0),
    poses,
    st.booleans(),
)
def test_roads_have_their_width(points: list[tuple[float, float]], width_m: float, pose: SE2, mirrored: bool) -> None:
    drawn = OsmRenderer(osm_map(roads=(road(*points, width_m=width_m),))).draw(GRID, pose, mirrored)
    distance = shapely.distance(shapely.LineString(points), shapely.points(centres_in_map(GRID, pose, mirrored)))
    half_m = 0.5 * width_m
    filled = drawn[layer_index("road")] == 127
    assert filled[distance < half_m * math.cos(math.pi / 8) - 1e-6].all()  # ends and bends are octagons
    assert not filled[distance > half_m + 1e-6].any()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("yaw_deg", [0.0, 30.0, -100.0, 180.0])
@pytest.mark.parametrize("oneway", [-1, 0, 1])
def test_directions_are_in_tile_axes(oneway: int, yaw_deg: float, mirrored: bool) -> None:
    towards_rad = math.radians(25.0)
    end = (40 * math.cos(towards_rad), 40 * math.sin(towards_rad))
    pose = SE2(2.0, -1.0, math.radians(yaw_deg))
    renderer = OsmRenderer(osm_map(roads=(road((-end[0], -end[1]), end, oneway=oneway),)))
    drawn = renderer.draw(GRID, pose, mirrored)
    on_road = drawn[layer_index("road")] == 127
    assert on_road.any()
    expected_rad = (towards_rad - pose.yaw_rad) * (-1.0 if mirrored else 1.0)
    once_rad = expected_rad + (math.pi if oneway == -1 else 0.0)
    values = {
        "road_cos2": math.cos(2 * expected_rad),
        "road_sin2": math.sin(2 * expected_rad),
        "oneway_cos": math.cos(once_rad) if oneway else 0.0,
        "oneway_sin": math.sin(once_rad) if oneway else 0.0,
    }
    for name, value in values.items():
        plane = drawn[layer_index(name)]
        assert np.abs(plane[on_road] - round(127 * value)).max() <= 1, name
        assert not plane[~on_road].any()


def test_junctions_show_the_mean_direction_of_their_arms() -> None:
    roads = (road((-30.0, 0.0), HUB, (30.0, 0.0)), road((-30.0, -30.0), HUB, (30.0, 30.0)))
    drawn = OsmRenderer(osm_map(roads=roads)).draw(GRID, HERE)
    cos2, sin2 = (drawn[layer_index(name), 24, 32] / 127 for name in ("road_cos2", "road_sin2"))
    assert math.degrees(math.atan2(sin2, cos2)) / 2 == pytest.approx(22.5, abs=1.0)


def test_paths_have_no_direction() -> None:
    drawn = OsmRenderer(osm_map(roads=(road((-30.0, 0.0), (30.0, 0.0), kind="footway", oneway=1),))).draw(GRID, HERE)
    shown = {LAYER_NAMES[i] for i in np.flatnonzero(drawn.any(axis=(1, 2)))}
    assert shown == {"path"}


def test_lines_are_one_cell_wide_and_unbroken() -> None:
    start, end = (-14.0, -9.0), (13.0, 4.0)
    drawn = OsmRenderer(osm_map(lines=(Line("wall", np.array([start, end])),))).draw(GRID, HERE)
    rows, cols = np.nonzero(drawn[layer_index("wall")])
    centres = GRID.metres_from_cells(np.stack([rows, cols], axis=1).astype(float))
    distance = shapely.distance(shapely.LineString([start, end]), shapely.points(centres))
    assert distance.max() <= 0.5 * math.hypot(0.5, 0.5) + 1e-9
    np.testing.assert_array_equal(np.sort(cols), np.arange(cols.min(), cols.max() + 1))
    assert len(cols) == pytest.approx((end[0] - start[0]) / 0.5, abs=1)


def test_rails_have_a_width_and_other_lines_have_not() -> None:
    kinds = ("wall", "fence", "hedge", "kerb", "tree_row", "rail")
    lines = tuple(Line(kind, np.array([(-10.0, 0.1), (10.0, 0.1)])) for kind in kinds)
    drawn = OsmRenderer(osm_map(lines=lines)).draw(GRID, HERE)
    thick = {kind: int((drawn[layer_index(kind), :, 32] == 127).sum()) for kind in kinds}
    assert thick == {"wall": 1, "fence": 1, "hedge": 1, "kerb": 1, "tree_row": 1, "rail": 6}


def test_points_and_outlines() -> None:
    points = tuple(
        Point(k, x, -3.0) for k, x in (("tree", -8.0), ("pole", -4.0), ("lamp", 0.0), ("sign", 4.0), ("signal", 8.0))
    )
    building = Area("building", box(-10, 2, 10, 8), (box(-2, 4, 2, 6),))
    drawn = OsmRenderer(osm_map(areas=(building,), points=points)).draw(GRID, HERE)
    for point in points:
        rows, cols = np.nonzero(drawn[layer_index(point.kind)])
        centre = GRID.metres_from_cells(np.array([rows.mean(), cols.mean()]))
        np.testing.assert_allclose(centre, (point.x_m, point.y_m), atol=0.26)
        area_m2 = 0.25 * len(rows)
        assert area_m2 == pytest.approx(math.pi * (LAYERS[layer_index(point.kind)].size_m / 2) ** 2, rel=0.5)
    rows, cols = np.nonzero(drawn[layer_index("building_outline")])
    centres = GRID.metres_from_cells(np.stack([rows, cols], axis=1).astype(float))
    outline = shapely.boundary(shapely.Polygon(building.outer_m, building.holes_m))
    assert shapely.distance(outline, shapely.points(centres)).max() <= 0.5
    assert len(rows) * 0.5 == pytest.approx(outline.length, rel=0.1)


def test_junctions_are_where_three_arms_meet() -> None:
    bend, cross = (-12.0, 0.0), (6.0, 0.0)
    roads = (road((-14.0, 8.0), bend), road(bend, cross, (14.0, 0.0)), road(cross, (6.0, 9.0)))
    drawn = OsmRenderer(osm_map(roads=roads)).draw(GRID, HERE)
    rows, cols = np.nonzero(drawn[layer_index("junction")])
    np.testing.assert_allclose(GRID.metres_from_cells(np.array([rows.mean(), cols.mean()])), cross, atol=0.3)


@pytest.fixture(scope="module")
def town(shared_data: Path) -> OsmRenderer:
    return OsmRenderer(read_osm(shared_data / "maps" / "karlsruhe-oststadt_de.osm.pbf"))


def test_mirrored_tile_is_the_flipped_tile(town: OsmRenderer) -> None:
    pose = SE2(3.123, 7.456, 0.4)
    plain, mirrored = town.draw(Grid(128, 128, 0.5), pose), town.draw(Grid(128, 128, 0.5), pose, mirrored=True)
    flipped = plain[:, ::-1].copy()
    for name in ("road_sin2", "oneway_sin"):
        flipped[layer_index(name)] *= -1
    assert plain.any(axis=(1, 2)).sum() > 15
    assert (mirrored != flipped).mean() < 1e-4  # cells on the very border of a line may fall to either side


def test_quarter_turn_is_the_turned_tile(town: OsmRenderer) -> None:
    grid = Grid(128, 128, 0.5)
    plain, turned = town.draw(grid, SE2(3.123, 7.456, 0.4)), town.draw(grid, SE2(3.123, 7.456, 0.4 + math.pi / 2))
    # what lay along the tile's y axis now lies along its x axis
    expected = np.rot90(plain, 1, axes=(1, 2)).copy()
    for name in ("road_cos2", "road_sin2"):
        expected[layer_index(name)] *= -1
    cos, sin = layer_index("oneway_cos"), layer_index("oneway_sin")
    expected[cos], expected[sin] = expected[sin].copy(), -expected[cos]
    assert (turned != expected).mean() < 1e-4


def test_real_buildings_fill_exactly(town: OsmRenderer) -> None:
    grid, pose = Grid(200, 200, 0.5), SE2(-10.0, 20.0, 1.0)
    shapes = [shapely.Polygon(a.outer_m, a.holes_m) for a in town.osm_map.areas if a.kind == "building"]
    union = shapely.union_all([shapely.make_valid(shape) for shape in shapes])
    drawn = town.draw(grid, pose)[layer_index("building")]
    assert drawn.any()
    assert_filled_where_inside(drawn, union, centres_in_map(grid, pose, False))


def test_far_away_is_empty(town: OsmRenderer) -> None:
    assert not town.draw(GRID, SE2(50_000.0, 0.0)).any()
    assert not town.covers(50_000.0, 0.0)
    assert town.covers(0.0, 0.0)


def test_a_way_to_the_other_side_of_the_world_costs_no_memory() -> None:
    roads = (road((-20.0, 0.0), (20.0, 0.0)), road((5e6, 5e6), (5e6, 5e6 + 50.0)))
    drawn = OsmRenderer(osm_map(roads=roads)).draw(GRID, HERE)
    assert drawn[layer_index("road")].any()


def test_a_map_without_roads(osm_text: OsmText, write_osm: Callable[[OsmText], Path]) -> None:
    osm_text.node(0, 0, {"natural": "tree"})
    drawn = OsmRenderer(read_osm(write_osm(osm_text))).draw(GRID, HERE)
    assert [LAYER_NAMES[i] for i in np.flatnonzero(drawn.any(axis=(1, 2)))] == ["tree"]

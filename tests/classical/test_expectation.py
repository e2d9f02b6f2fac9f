import numpy as np
import pytest

from bevfusion.classical.expectation import draw_expectation
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import Line

GRID = Grid.square(60.0, 0.5)
ORIGIN = SE2()


def at(plane, xy_m):
    row, col = np.floor(GRID.cells_from_metres(np.asarray(xy_m)) + 0.5).astype(int)
    return float(plane[row, col])


def test_outlines_attract_and_interiors_repel(street):
    planes = draw_expectation(street.source(), ORIGIN, GRID)
    house = street.houses[0].outer_m[:4]
    assert max(at(planes.wall, 0.5 * (house[0] + house[1]) + (0.0, d)) for d in (-0.5, 0.0, 0.5)) > 1.0
    assert at(planes.wall, house.mean(axis=0)) < -0.9
    assert at(planes.solid, house.mean(axis=0)) == pytest.approx(-np.log(10.0), rel=1e-5)
    assert at(planes.wall, (-50.0, 50.0)) == pytest.approx(0.0, abs=1e-6)
    assert at(planes.solid, (0.0, 0.0)) == 0.0


def test_barriers_count_less_than_houses(street):
    fenced = street.without("houses")
    fence = Line("fence", np.array([[-30.0, 30.0], [30.0, 30.0]]))
    plane = draw_expectation(type(fenced)(houses=(), fences=(fence,)).source(), ORIGIN, GRID).wall
    house_plane = draw_expectation(street.source(), ORIGIN, GRID).wall
    assert 0.3 < float(plane.max()) < float(house_plane.max())
    assert at(plane, (0.0, 30.1)) > 0.5
    assert at(plane, (0.0, 34.0)) == pytest.approx(0.0, abs=1e-6)


def test_the_road_is_where_it_is_mapped(street):
    road = draw_expectation(street.source(), ORIGIN, GRID).road
    assert at(road, (-30.0, -8.0)) == pytest.approx(1.0, abs=1e-3)
    assert at(road, (-30.0, 5.0)) == 0.0


def test_the_tile_lies_around_its_centre_in_map_axes(street):
    moved = draw_expectation(street.source(), SE2(10.0, -5.0, 1.0), GRID)
    still = draw_expectation(street.source(), ORIGIN, GRID)
    np.testing.assert_allclose(moved.road[10:-10, :-20].numpy(), still.road[:-20, 20:].numpy(), atol=1e-4)
    np.testing.assert_allclose(moved.wall[10:-10, :-20].numpy(), still.wall[:-20, 20:].numpy(), atol=1e-4)


def test_an_empty_map_expects_nothing(street):
    planes = draw_expectation(street.without("houses", "roads").source(), ORIGIN, GRID)
    assert not bool(planes.wall.any())
    assert not bool(planes.solid.any())
    assert not bool(planes.road.any())

"""Maps that other mappers would have left, by value."""

from dataclasses import replace

import numpy as np
import pytest

from bevfusion.maps.features import Area, Line, OsmMap, Point
from bevfusion.simulate.map_errors import with_invented_buildings, with_shifted_things, without_things
from bevfusion.structures import DataError
from tests.simulate.scenes import ring_map


def full_map() -> OsmMap:
    """The streets and houses of a ring, with 200 trees, hedges and meadows."""
    osm = ring_map()
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    return replace(
        osm,
        areas=(*osm.areas, *(Area("vegetation", square + number) for number in range(200))),
        lines=tuple(Line("hedge", square + number) for number in range(200)),
        points=tuple(Point("tree", float(number), 0.0) for number in range(200)),
    )


def houses(osm: OsmMap) -> list[Area]:
    return [area for area in osm.areas if area.kind == "building"]


def test_a_share_of_everything_is_missing_but_streets():
    osm = full_map()
    thin = without_things(osm, 0.3, np.random.default_rng(0))
    assert len(houses(thin)) == pytest.approx(0.7 * len(houses(osm)), abs=1)
    assert len(thin.lines) == pytest.approx(140, abs=25)
    assert len(thin.points) == pytest.approx(140, abs=25)
    assert len(thin.areas) - len(houses(thin)) == pytest.approx(140, abs=25)
    assert thin.roads is osm.roads
    assert set(thin.points) <= set(osm.points)
    bare = without_things(osm, 1.0, np.random.default_rng(0))
    assert (bare.areas, bare.lines, bare.points) == ((), (), ())


def test_things_are_shifted_by_half_a_metre_to_three():
    osm = full_map()
    moved = with_shifted_things(osm, 0.5, np.random.default_rng(1))
    away_m = [
        float(np.hypot(*(after.outer_m[0] - before.outer_m[0])))
        for before, after in zip(houses(osm), houses(moved), strict=True)
    ]
    assert sum(distance > 0.0 for distance in away_m) == pytest.approx(0.5 * len(away_m), abs=1)
    away_m += [float(np.hypot(a.x_m - b.x_m, a.y_m - b.y_m)) for a, b in zip(moved.points, osm.points, strict=True)]
    moves = [distance for distance in away_m if distance > 0.0]
    assert min(moves) >= 0.5 - 1e-9
    assert max(moves) <= 3.0 + 1e-9


def test_buildings_are_invented_and_nothing_else_changes():
    osm = full_map()
    crowded = with_invented_buildings(osm, 0.2, np.random.default_rng(2))
    new = len(crowded.areas) - len(osm.areas)
    assert 1 <= new <= 0.2 * len(houses(osm)) + 1
    assert (crowded.roads, crowded.lines, crowded.points) == (osm.roads, osm.lines, osm.points)


@pytest.mark.parametrize("change", [without_things, with_shifted_things, with_invented_buildings])
def test_with_a_share_of_nothing_all_stays_and_more_than_all_is_refused(change):
    osm = full_map()
    same = change(osm, 0.0, np.random.default_rng(3))
    assert len(same.areas) == len(osm.areas)
    assert (same.lines, same.points) == (osm.lines, osm.points)
    with pytest.raises(DataError, match="within 0 and 1"):
        change(osm, 1.2, np.random.default_rng(3))

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bevfusion.classical.evidence import gather_evidence
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError, Scan

GRID = Grid.square(40.0, 0.5)


def at(plane, x_m, y_m):
    """Value of the cell at a place of the ego frame."""
    row, col = np.floor(GRID.cells_from_metres(np.array([x_m, y_m])) + 0.5).astype(int)
    return float(plane[row, col])


def test_a_wall_stands_and_the_road_before_it_is_free(street, on_the_street):
    evidence = gather_evidence(street.scan(on_the_street), GRID)
    house = street.houses[1].outer_m
    corner_m = on_the_street.inverse().apply(house[2] * 0.5 + house[3] * 0.5)  # middle of the wall towards the road
    around = [
        at(evidence.standing, corner_m[0] + dx, corner_m[1] + dy) for dx in (-0.5, 0, 0.5) for dy in (-0.5, 0, 0.5)
    ]
    assert max(around) > 0.9
    assert at(evidence.standing, 4.0, 0.0) == 0.0
    assert at(evidence.free, 4.0, 0.0) == 1.0
    assert at(evidence.free, *(corner_m * 1.4)) == 0.0  # inside the house


def test_the_road_is_dark_and_low_beside_its_verge(street, on_the_street):
    evidence = gather_evidence(street.without("houses").scan(on_the_street), GRID)
    centres_m = on_the_street.apply(GRID.centres_m())
    main = street.roads[0].xy_m
    normal = np.array([-(main[1] - main[0])[1], (main[1] - main[0])[0]]) / np.linalg.norm(main[1] - main[0])
    away_m = np.abs((centres_m - main[0]) @ normal)
    near = (np.linalg.norm(GRID.centres_m(), axis=-1) < 15.0) & (evidence.ground.numpy() > 0)
    on_road, beside = near & (away_m < 3.0), near & (away_m > 4.0) & (away_m < 8.0)
    for plane in (evidence.darkness.numpy(), evidence.lowness.numpy()):
        assert plane[on_road].mean() > plane[beside].mean() + 0.5


def test_contrast_has_no_mean_and_stays_on_the_ground(street, on_the_street):
    evidence = gather_evidence(street.scan(on_the_street), GRID)
    for plane in (evidence.darkness, evidence.lowness, evidence.smoothness):
        assert abs(float(plane.sum()) / float(evidence.ground.sum())) < 1e-4
        assert bool((plane[evidence.ground == 0] == 0).all())


def test_gain_and_offset_of_the_reflectance_do_not_count(street, on_the_street):
    scan = street.scan(on_the_street)
    dimmed = replace(scan, intensity=0.3 * scan.intensity + 0.1)
    torch.testing.assert_close(
        gather_evidence(scan, GRID).darkness, gather_evidence(dimmed, GRID).darkness, atol=2e-2, rtol=0.0
    )


def test_a_sensor_without_reflectance_tells_nothing_of_it(street, on_the_street):
    scan = street.scan(on_the_street)
    for value in (0.0, 0.7):
        blind = replace(scan, intensity=np.full_like(scan.intensity, value))
        assert not bool(gather_evidence(blind, GRID).darkness.any())


def test_order_of_the_points_does_not_count(street, on_the_street):
    scan = street.scan(on_the_street)
    shuffled = scan.select(np.random.default_rng(1).permutation(len(scan)))
    first, second = gather_evidence(scan, GRID), gather_evidence(shuffled, GRID)
    for name in ("standing", "free", "ground", "darkness", "lowness", "smoothness"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), atol=1e-4, rtol=1e-4)


def test_height_and_tilt_of_the_sensor_do_not_count(street, on_the_street):
    scan = street.without("houses").scan(on_the_street)
    tilted = scan.xyz + np.float32(1.0) * np.array([0.0, 0.0, 1.0], np.float32)
    tilted[:, 2] += math.tan(math.radians(1.5)) * tilted[:, 0]
    level, other = gather_evidence(scan, GRID), gather_evidence(replace(scan, xyz=tilted), GRID)
    assert float((level.ground * other.ground).sum()) > 0.97 * float(level.ground.sum())
    assert float((level.lowness * other.lowness).sum()) > 0.8 * float((level.lowness**2).sum())


@pytest.mark.parametrize(
    "xyz",
    [np.zeros((0, 3)), np.array([[90.0, 0.0, 0.0]]), np.array([[0.5, 0.5, -0.3], [1.0, -1.0, 0.0]])],
    ids=["empty", "beyond", "own vehicle"],
)
def test_nothing_in_range_is_an_error(xyz):
    with pytest.raises(DataError, match=rf"none of the scan's {len(xyz)} points lies between 2 and 40 m"):
        gather_evidence(Scan(xyz.astype(np.float32), np.zeros(len(xyz), np.float32)), GRID)


def test_one_point_is_enough_to_draw():
    scan = Scan(np.array([[10.0, 0.0, 1.0]], np.float32), np.ones(1, np.float32))
    evidence = gather_evidence(scan, GRID)
    for name in ("standing", "free", "ground", "darkness", "lowness", "smoothness"):
        assert bool(torch.isfinite(getattr(evidence, name)).all())


def test_nothing_outside_the_disc(street):
    evidence = gather_evidence(street.scan(SE2(0.0, 0.0, 0.4)), GRID)
    outside = torch.from_numpy(np.linalg.norm(GRID.centres_m(), axis=-1) > 40.0)
    for name in ("standing", "free", "ground", "darkness", "lowness", "smoothness"):
        assert not bool(getattr(evidence, name)[outside].any())

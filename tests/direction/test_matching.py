"""A driven track on the roads that it was driven on."""

from itertools import pairwise

import numpy as np
import pytest

from bevfusion.direction.matching import matched
from bevfusion.geometry.se2 import SE2
from tests.direction.graphs import graph, road

GRID = {10 * row + column: (80.0 * column, 80.0 * row) for row in range(4) for column in range(4)}
LINKS = [(ref, other) for ref in GRID for other in (ref + 1, ref + 10) if other in GRID]


def track(nodes: list[int], rng: np.random.Generator, noise_m: float = 1.0, lane_m: float = -1.5) -> list[SE2]:
    """Poses a metre apart along streets, in the lane, corners cut, with noise that stays for a while."""
    places = np.array([GRID[ref] for ref in nodes])
    ticks = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(places, axis=0).T))])
    even = np.arange(15.0, ticks[-1] - 15.0, 1.0)
    line = np.stack([np.interp(even, ticks, places[:, axis]) for axis in (0, 1)], axis=1)
    kernel = np.ones(9) / 9.0
    line = np.stack([np.convolve(np.pad(line[:, axis], 4, "edge"), kernel, "valid") for axis in (0, 1)], axis=1)
    slope = np.gradient(line, axis=0)
    yaw = np.arctan2(slope[:, 1], slope[:, 0])
    knots = np.arange(0, len(line) + 30, 30)
    drift = np.interp(np.arange(len(line)), knots, rng.normal(0.0, noise_m, len(knots)))
    beside = (lane_m + drift)[:, None] * np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
    return [SE2(float(x), float(y), float(a)) for (x, y), a in zip(line + beside, yaw, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_the_edges_that_were_driven_are_found(seed: int):
    rng = np.random.default_rng(seed)
    made = graph([road(GRID, link) for link in LINKS])
    nodes = [0]
    while len(nodes) < 9:
        nodes.append(int(rng.choice([end for end in made._leaving[nodes[-1]] if end not in nodes[-2:]])))
    poses = track(nodes, rng)
    (stretch,) = matched(made, poses)
    assert list(stretch.edges) == list(pairwise(nodes))
    assert stretch.first == 0
    assert stretch.last >= len(poses) - 12
    assert (np.diff(stretch.along_m) > -2.0).all()
    places = np.array([(pose.x_m, pose.y_m) for pose in poses[: stretch.last + 1]])
    driven_m = float(np.hypot(*np.diff(places, axis=0).T).sum())
    assert stretch.along_m[-1] - stretch.along_m[0] == pytest.approx(driven_m, rel=0.1)


def test_a_track_off_the_roads_is_cut():
    made = graph([road(GRID, link) for link in LINKS])
    on, off = [SE2(float(x), -1.5, 0.0) for x in range(10, 70)], [SE2(float(x), 40.0, 0.0) for x in range(100, 140)]
    again = [SE2(float(x), 158.5, 0.0) for x in range(90, 150)]
    stretches = matched(made, [*on, *off, *again])
    assert [stretch.edges for stretch in stretches] == [((0, 1),), ((21, 22),)]
    assert [stretch.first for stretch in stretches] == [0, 100]
    assert matched(made, off) == []
    assert matched(made, []) == []


def test_a_oneway_street_is_not_matched_against_its_direction():
    made = graph([road(GRID, (0, 1), -1), road(GRID, (10, 11))])
    assert matched(made, [SE2(float(x), 0.0, 0.0) for x in range(5, 75)]) == []

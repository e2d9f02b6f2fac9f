"""What a path is scored by, against slow references and by hand."""

import math

import numpy as np
import pytest

from bevfusion.direction import metrics
from bevfusion.direction.path import straight_on

STRAIGHT = straight_on().xy_m[:8]


def moved_left(by_m: float) -> np.ndarray:
    return STRAIGHT + np.array([0.0, by_m])


def bend(radius_m: float, count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Points and directions 2 m apart along a left bend."""
    angle = 2.0 * np.arange(1, count + 1) / radius_m
    return radius_m * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1), angle


@pytest.mark.parametrize("seed", range(5))
def test_against_loops(seed: int):
    rng = np.random.default_rng(seed)
    path, driven = rng.normal(0.0, 3.0, (8, 2)), rng.normal(0.0, 3.0, (8, 2))
    distances = [math.dist(a, b) for a, b in zip(path, driven, strict=True)]
    assert metrics.final_displacement_m(path, driven) == pytest.approx(distances[-1])
    assert metrics.average_displacement_m(path, driven) == pytest.approx(sum(distances) / 8)
    assert metrics.is_hit(path, driven, 4.0) == all(distance <= 4.0 for distance in distances)
    there = max(min(math.dist(a, b) for b in driven) for a in path)
    back = max(min(math.dist(a, b) for a in path) for b in driven)
    assert metrics.hausdorff_m(path, driven) == pytest.approx(max(there, back))


def test_by_hand():
    driven, yaw_rad = bend(20.0)
    last = 20.0 * np.array([math.sin(0.8), 1.0 - math.cos(0.8)])
    assert metrics.final_displacement_m(STRAIGHT, driven) == pytest.approx(math.dist((16.0, 0.0), last))
    assert not metrics.is_hit(STRAIGHT, driven)
    assert metrics.is_hit(STRAIGHT, moved_left(2.0))
    assert not metrics.is_hit(STRAIGHT, moved_left(2.01))
    errors = metrics.direction_errors_deg(np.zeros(8), yaw_rad)
    assert errors == pytest.approx(np.degrees(yaw_rad))
    assert metrics.direction_errors_deg(np.array([math.pi - 0.1]), np.array([0.1 - math.pi])) == pytest.approx(
        [math.degrees(0.2)]
    )


def test_points_that_only_one_has_do_not_count():
    assert metrics.displacements_m(STRAIGHT[:5], STRAIGHT) == pytest.approx(np.zeros(5))
    assert metrics.final_displacement_m(STRAIGHT[:5], moved_left(1.0)) == pytest.approx(1.0)


@pytest.mark.parametrize(("turn_deg", "turning"), [(9.0, False), (11.0, True), (-11.0, True)])
def test_what_turning_is(turn_deg: float, turning: bool):
    yaw_rad = np.radians(np.linspace(0.0, turn_deg, 9)[1:])
    assert metrics.is_turning(yaw_rad) is turning


def test_an_s_bend_is_turning_though_it_ends_as_it_began():
    assert metrics.is_turning(np.radians([4.0, 8.0, 12.0, 8.0, 4.0, 0.0, 0.0, 0.0]))
    assert metrics.is_turning(np.radians([170.0, -170.0, -150.0]))  # across the cut of the circle


def test_stretches_hold_their_upper_end():
    assert [metrics.bin_of_point(index) for index in (0, 4, 5, 9, 10, 19, 20)] == [
        "0-10", "0-10", "10-20", "10-20", "20-40", "20-40", None,
    ]  # fmt: skip


def test_the_branch_that_a_path_takes():
    left, _ = bend(20.0)
    right = left * [1.0, -1.0]
    assert metrics.nearest_branch(left + 0.5, [STRAIGHT, right, left]) == 2
    assert metrics.nearest_branch(moved_left(0.4), [STRAIGHT, right, left]) == 0

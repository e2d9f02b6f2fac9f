"""Where one drives from beside a line: against a search over a fine line, and by driving."""

import math

import numpy as np
import pytest

from bevfusion.direction.way_field import RETURN_M, from_vehicle, way_field


def bend() -> tuple[np.ndarray, np.ndarray]:
    """A left bend of 20 m radius, a vertex every 2 m or so, from the origin to the east."""
    angle = np.linspace(0.0, 1.5, 16)
    return 20.0 * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1), angle


def test_beside_a_straight_line_one_drives_back_onto_it():
    line, yaw = np.array([[0.0, 0.0], [10.0, 0.0], [30.0, 0.0]]), np.zeros(3)
    told = way_field(line, yaw, np.array([[5.0, 0.0], [12.0, 3.0], [12.0, -8.0], [-20.0, 1.0], [50.0, 2.0]]))
    assert told.left_m == pytest.approx([0.0, 3.0, -8.0, 1.0, 2.0])
    assert told.along_m == pytest.approx([5.0, 12.0, 12.0, -20.0, 50.0])  # beyond its ends it goes on straight
    expected = [0.0, -math.atan(3.0 / RETURN_M), math.pi / 4.0, -math.atan(1.0 / RETURN_M), -math.atan(2.0 / RETURN_M)]
    assert told.direction_rad == pytest.approx(expected)


def test_the_nearest_point_is_found_as_by_a_search_along_a_fine_line():
    line, yaw = bend()
    rng = np.random.default_rng(3)
    places = rng.uniform([0.0, -6.0], [16.0, 10.0], (200, 2))
    told = way_field(line, yaw, places)
    share = np.linspace(0.0, 1.0, 2001)
    ticks = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    fine = np.stack([np.interp(share * ticks[-1], ticks, line[:, axis]) for axis in (0, 1)], axis=1)
    away = np.hypot(*(places[:, None] - fine[None]).transpose(2, 0, 1))
    nearest = away.argmin(1)
    inside = (nearest > 0) & (nearest < 2000)
    assert inside.sum() > 100
    assert np.abs(told.left_m)[inside] == pytest.approx(away.min(1)[inside], abs=0.02)
    assert told.along_m[inside] == pytest.approx(share[nearest][inside] * ticks[-1], abs=0.5)
    # to the left is inside of a left bend
    inner = np.hypot(*(places - [0.0, 20.0]).T) < 20.0
    assert (told.left_m[inside] > 0.0)[np.abs(told.left_m[inside]) > 0.3].tolist() == inner[inside][
        np.abs(told.left_m[inside]) > 0.3
    ].tolist()


@pytest.mark.parametrize("left_m", [4.0, -2.0])
def test_who_drives_by_the_field_comes_back_as_fast_as_the_equation_says(left_m: float):
    """d left / ds = -sin(arctan(left / R)): solved by separation, left falls by e in a little more than R."""
    line, yaw = np.array([[0.0, 0.0], [200.0, 0.0]]), np.zeros(2)
    place, step_m = np.array([0.0, left_m]), 0.01
    for _ in range(1600):
        direction = float(way_field(line, yaw, place[None]).direction_rad[0])
        place = place + step_m * np.array([math.cos(direction), math.sin(direction)])

    def passed_m(left: float) -> float:  # integral of sqrt(1 + (R / left)^2)
        size = math.hypot(left, RETURN_M)
        return size - RETURN_M * math.asinh(RETURN_M / abs(left))

    assert passed_m(left_m) - passed_m(float(place[1])) == pytest.approx(16.0, abs=0.05)
    assert place[1] * left_m > 0.0  # it does not swing over


def test_a_path_begins_at_the_vehicle_with_the_direction_of_an_arc():
    line, yaw = bend()
    path, directions = from_vehicle(line[1:], yaw[1:])
    assert path[0].tolist() == [0.0, 0.0]
    assert directions[0] == pytest.approx(0.0, abs=1e-6)
    assert from_vehicle(np.zeros((0, 2)), np.zeros(0))[1].tolist() == [0.0, 0.0]

import numpy as np
import pytest

from bevfusion.simulate import roadside
from bevfusion.simulate.surfaces import (
    BUILDING,
    NO_THING,
    Surfaces,
    ellipsoids,
    prisms,
    rectangles,
    rounds,
    upright,
)
from bevfusion.simulate.terrain import Terrain


def normals(quads: np.ndarray) -> np.ndarray:
    return np.cross(quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 0])


def test_prism_faces_point_outwards() -> None:
    centre = np.array([[3.0, -2.0]])
    quads = prisms(rectangles(centre, np.array([0.7]), 4.0, 2.0), np.array([0.0]), np.array([1.0]))
    assert quads.shape == (5, 4, 3)
    outward = quads.mean(axis=1) - np.array([3.0, -2.0, 0.5])
    assert (np.einsum("nc,nc->n", outward, normals(quads)) > 0).all()


def test_rectangles_have_their_length_along_the_yaw() -> None:
    corners = rectangles(np.zeros((1, 2)), np.array([np.pi / 2]), 4.0, 1.0)[0]
    np.testing.assert_allclose(np.ptp(corners, axis=0), [1.0, 4.0], atol=1e-9)


def test_ellipsoid_is_closed_and_points_outwards() -> None:
    quads = ellipsoids(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 1.0, 0.5]]), np.random.default_rng(0), 0.0)
    outward = quads.mean(axis=1) - np.array([1.0, 2.0, 3.0])
    halves = normals(quads) + np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 0])
    assert (np.einsum("nc,nc->n", outward, halves) > 0).all()
    np.testing.assert_allclose(halves.sum(axis=0), 0.0, atol=1e-9)


def test_rounds_keep_their_radius() -> None:
    ring = rounds(np.array([[5.0, 5.0]]), np.array([0.3]), 6)[0]
    np.testing.assert_allclose(np.hypot(*(ring - 5.0).T), 0.3)


def test_join_and_select_keep_the_order() -> None:
    wall = upright(np.zeros((1, 2)), np.ones((1, 2)), np.zeros(1), np.ones(1))
    both = Surfaces.join([Surfaces.of(wall, BUILDING, 0.2), Surfaces.of(wall + 1.0, BUILDING, 0.6)])
    assert len(both) == 2
    np.testing.assert_allclose(both.select(np.array([False, True])).reflectance, 0.6)
    assert len(Surfaces.join([])) == 0


def test_things_are_counted_over_all_parts_and_taken_away_whole() -> None:
    rng, flat = np.random.default_rng(0), Terrain.flat()
    places = np.column_stack([10.0 * np.arange(200), np.zeros(200)])
    ends = places + np.array([4.0, 1.0])
    kinds = [
        (roadside.trees(places, flat, rng), 6 + 40),
        (roadside.bushes(places, flat, rng), 40),
        (roadside.poles(places, flat, 6.0, 0.1), 6),
        (roadside.signs(places, np.zeros(200), flat), 6 + 5),
        (roadside.hedges(places, ends, flat, rng), 5),
        (roadside.walls(places, ends, flat, rng), 5),
        (roadside.fences(places, ends, flat, rng), 2 + 3 * 5),
    ]
    for surfaces, quads in kinds:
        assert np.bincount(surfaces.thing).tolist() == [quads] * 200
        middle_m = surfaces.centres_m()
        assert np.abs(middle_m[:, 0] - 10.0 * surfaces.thing - 2.0).max() < 8.0, "a quad far from its thing"
    wall = Surfaces.of(upright(np.zeros((1, 2)), np.ones((1, 2)), np.zeros(1), np.ones(1)), BUILDING, 0.2)
    world = Surfaces.join([wall, *(surfaces for surfaces, _ in kinds), wall])
    assert (world.things, world.thing[0], world.thing[-1]) == (200 * len(kinds), NO_THING, NO_THING)
    left = world.thinned(0.5, rng)
    assert (left.label == BUILDING).sum() == 2
    whole = np.bincount(world.thing[1:-1])
    rest = np.bincount(left.thing[1:-1], minlength=len(whole))
    assert np.isin(rest, [0]).sum() == (rest != whole).sum() == pytest.approx(700, abs=60)
    assert len(world.thinned(1.0, rng)) == len(world)
    assert len(world.thinned(0.0, rng)) == 2
